"""Outlasting a state directory that is gone, or fails, for a while: tried again, ever more rarely, up to a bound."""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

#: Seconds that an absence may last where no walltime sets the bound; and while nothing was computed yet.
PATIENCE = 1800.0
BEGINNING = 300.0
#: Seconds that are tried even when the walltime leaves none.
_LEAST = 5.0
#: Waits between two tries, in seconds; the last one again and again.
_PAUSES = (0.3, 1.0, 3.0, 10.0)

T = TypeVar("T")


def outlast(action: Callable[[], T], until: float, what: str) -> T:
    """Do something as soon as the disk lets it be done.

    Parameters
    ----------
    action
        What to do; it may be done again when it failed half-way.
    until
        When to give up (s, monotonic clock).
    what
        Its name, for the batch job's log.

    Raises
    ------
    OSError
        That of the last try.
    """
    for pause in itertools.chain(_PAUSES, itertools.repeat(_PAUSES[-1])):
        try:
            return action()
        except OSError as error:
            left = until - time.monotonic()
            if left <= 0:
                raise
            if pause == _PAUSES[0]:
                _say(f"ckpt: {what}: {error}; trying again for up to {left:.0f} s")
        time.sleep(min(pause, left))
    raise AssertionError


def bound(end: float, grace: float, computed: bool = True) -> float:
    """When to give up waiting for the disk (s, monotonic clock).

    Parameters
    ----------
    end
        The walltime's end on that clock, or infinite.
    grace
        The scheduler's grace, s.
    computed
        Whether there is something to lose.
    """
    now = time.monotonic()
    latest = now + PATIENCE if end == math.inf else max(end - grace, now + _LEAST)
    return latest if computed else min(latest, now + BEGINNING)


def _say(text: str) -> None:
    with suppress(OSError):  # the log may be on the very disk that is gone
        print(text, file=sys.stderr, flush=True)
