"""When to ask again who did not answer, or refused: ever more rarely."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds between two questions; at most, in an outage.
EVERY, OUTAGE = 20.0, 600.0


class Backoff:
    """See the module.

    Parameters
    ----------
    clock
        Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pause = EVERY
        self._next: float | None = None

    @property
    def failing(self) -> bool:
        """Whether the last try failed."""
        return self._next is not None

    @property
    def over(self) -> bool:
        """Whether it may be tried now."""
        return self._next is None or self._clock() >= self._next

    def failed(self) -> None:
        """A try failed: the next one waits twice as long as this one did."""
        self._pause = min(2 * self._pause, OUTAGE)
        self._next = self._clock() + self._pause

    def succeeded(self) -> None:
        """A try did not fail."""
        self._pause, self._next = EVERY, None
