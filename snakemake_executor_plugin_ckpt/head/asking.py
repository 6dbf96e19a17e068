"""When to ask a scheduler that others use too, and about which jobs: one question for all, if records are silent.

What a job does is in its records, which cost nobody anything. The scheduler is asked whether a batch job still
lives when that would change what is next: its segment is over and no next one has begun, or nothing was heard of it
for a while. When no answer comes, the next question waits longer, and so does what else needs an answer: submissions,
and look-ups of those whose answer was lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from snakemake_executor_plugin_ckpt.chain import excluded
from snakemake_executor_plugin_ckpt.errors import CkptError, NoAnswer
from snakemake_executor_plugin_ckpt.head.backoff import EVERY, Backoff
from snakemake_executor_plugin_ckpt.head.watched import WatchedJob
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness, Scheduler

#: Seconds without a change of a job's records before its batch job is asked about; when its last segment is over.
SILENT, SETTLED = 60.0, 5.0


class Asker:
    """See the module.

    Parameters
    ----------
    scheduler
        Who is asked.
    clock
        Seconds, monotonic.

    Attributes
    ----------
    outage
        Of submissions and look-ups, of all jobs together: a client that hears nothing is waited for up to minutes.
    held
        Of the batch jobs that the last answer was about: why those that wait in vain do (`Scheduler.held`).
    """

    def __init__(self, scheduler: Scheduler, clock: Callable[[], float] = time.monotonic) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._next = 0.0
        self._questions = Backoff(clock)
        self.outage = Backoff(clock)
        self.held: dict[str, str] = {}

    def liveness(self, watched: Sequence[WatchedJob]) -> dict[str, Liveness]:
        """What is known in this round; a batch job that is not in it was not asked about."""
        asked = [one for one in watched if self._worth_asking(one)]
        now = self._clock()
        if self._scheduler.shared and (now < self._next or not self._questions.over or not self.outage.over):
            return {}
        ids = self._ids(asked)
        if not ids:
            return {}
        known = self._scheduler.liveness(list(ids))
        self._next = now + EVERY
        if all(found is Liveness.UNKNOWN for found in known.values()):
            self._questions.failed()
            return known
        self._questions.succeeded()
        self.outage.succeeded()
        self.held = self._scheduler.held(list(ids))
        self._hasten(ids, known)
        return known

    def can_step(self, watched: WatchedJob) -> bool:
        """Whether what is next for a job can be looked for now: not while its batch job cannot be looked up."""
        return not watched.unanswered or self.outage.over

    def at_once(self, watched: WatchedJob) -> dict[str, Liveness]:
        """The same for one job that is taken up: where it costs nothing. Else a later round asks for all."""
        return {} if self._scheduler.shared else self.liveness([watched])

    def _worth_asking(self, watched: WatchedJob) -> bool:
        if not self._scheduler.shared:
            return True
        quiet = self._clock() - watched.heard
        return quiet >= (SETTLED if watched.between_segments else SILENT)

    def _hasten(self, ids: Mapping[str, WatchedJob], known: Mapping[str, Liveness]) -> None:
        # Also those whose record says that they run: a scheduler requeues by itself when a node dies.
        waiting = {
            job_id: excluded(watched.last_segments)
            for job_id, watched in ids.items()
            if watched.last_segments and known.get(job_id) is Liveness.ALIVE
        }
        if waiting:
            self._scheduler.hasten(list(waiting), waiting)

    def _ids(self, watched: Sequence[WatchedJob]) -> dict[str, WatchedJob]:
        found = {}
        for one in watched:
            if not self.can_step(one):
                continue
            try:
                job_id = one.job_id
            except NoAnswer:
                self.outage.failed()
                continue
            except (CkptError, OSError):
                continue  # unknown for now
            if job_id is not None:
                found[job_id] = one
        return found
