"""A batch system that suspends a job (SIGTSTP) wants its node free: the job is saved and goes back into the queue.

What cannot be saved is stopped instead, and goes on when the batch system says so (SIGCONT). A suspend by SIGSTOP is
beyond this: it stops the supervisor too, which after SIGCONT only sees that time has passed.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from snakemake_executor_plugin_ckpt.engines.base import Running
from snakemake_executor_plugin_ckpt.errors import SchedulerError
from snakemake_executor_plugin_ckpt.schedulers.base import Scheduler
from snakemake_executor_plugin_ckpt.segment.times import Times

#: Seconds in which a signal to all of a job's processes has reached the last one.
_SPREAD = 0.2
#: Looks for processes that were started while others were stopped.
_LOOKS = 3
_SUSPEND, _RESUME = signal.SIGTSTP, signal.SIGCONT
#: Said early, to leave time for a save (Slurm: up to half a minute earlier than asked).
_WARNINGS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGURG)


@dataclass(frozen=True)
class Heard:
    """Whether there is a reason to save and end now; whether the one that there was is gone."""

    save: bool
    resumed: bool = False


class Suspension:
    """What was heard of suspending, and whether the payload is stopped for it (`held`).

    Parameters
    ----------
    scheduler
        Whoever may suspend the job; of one that does not (`Scheduler.suspends`), both signals mean nothing.
    can_save
        Whether the engine saves at all.
    environment
        The batch job's.
    """

    def __init__(self, scheduler: Scheduler, can_save: bool, environment: Mapping[str, str]) -> None:
        self._scheduler = scheduler
        self._can_save = can_save
        self._environment = environment
        self._asked = False
        self._other = False
        self.held = False

    def hear(self, got: Sequence[int], running: Running, times: Times) -> Heard:
        """Take note of signals, and let the payload go on if that is wished; what they mean for the segment.

        They are in the order in which they came: of wishes to suspend and to go on, the last one counts.
        """
        wishes = [number for number in got if number in (_SUSPEND, _RESUME)] if self._scheduler.suspends else []
        # A job that is not saved has no use for a warning: it may be done before its walltime is.
        ignored = (_SUSPEND, _RESUME) if self._can_save else (_SUSPEND, _RESUME, *_WARNINGS)
        others = any(number not in ignored for number in got)
        self._other = self._other or others
        if _RESUME in wishes:
            self.release(running)
        if wishes and wishes[-1] == _RESUME:
            self._asked = False
            # To some batch systems a suspended job does not grow older; if there is no answer, the end stays.
            with suppress(SchedulerError):
                times.end_at(self._scheduler.allocation(self._environment).end)
            return Heard(save=others, resumed=not self._other)
        if others:
            self.release(running)  # whatever it is: a payload that runs is the one to be saved
        if _SUSPEND in wishes and not self.held:
            self._asked = True
            self._settle(running)
            return Heard(save=others or self._can_save)
        return Heard(save=others)

    def _settle(self, running: Running) -> None:
        if self._can_save:
            # The signal may have stopped processes of the payload, and a stopped one would be restored stopped.
            time.sleep(_SPREAD)
            _signal(running, signal.SIGCONT)
        else:
            self.hold(running)

    def hold(self, running: Running) -> None:
        """Stop the payload, if the batch system wished for that and it could not be saved."""
        if self._asked and not self.held:
            self.held = True
            for _ in range(_LOOKS):
                _signal(running, signal.SIGSTOP)

    def release(self, running: Running) -> None:
        """Let a payload that was stopped go on."""
        if self.held:
            self.held = False
            _signal(running, signal.SIGCONT)


def _signal(running: Running, number: signal.Signals) -> None:
    for pid in running.pids():
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
