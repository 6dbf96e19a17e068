"""When to ask a scheduler that others use too, and about which jobs: one question for all, if records are silent.

What a job does is in its records, which cost nobody anything. The scheduler is asked whether a batch job still
lives when that would change what is next: its segment is over and no next one has begun, or nothing was heard of it
for a while. When no answer comes, the next question waits longer, and so does what else needs an answer: submissions,
and look-ups of those whose answer was lost. A job is waited for as long as that takes; what is silent for minutes is
to be told to the user.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from snakemake_executor_plugin_ckpt.chain import excluded
from snakemake_executor_plugin_ckpt.errors import CkptError, NoAnswer
from snakemake_executor_plugin_ckpt.head.backoff import EVERY, Backoff
from snakemake_executor_plugin_ckpt.head.watched import WatchedJob
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness, Scheduler

#: Seconds without a change of a job's records before its batch job is asked about; when its last segment is over.
SILENT, SETTLED = 60.0, 5.0
#: Seconds between the first and the last of several questions without an answer before the user is told of them. In an
#: outage that is the fourth question, after 280 s (see `Backoff`).
UNHEARD = 240.0


@dataclass(frozen=True)
class Silence:
    """That nothing is known of a batch job, although it was asked about again and again.

    Attributes
    ----------
    since
        When it was first asked about in vain; in an outage, when anything was (s, the asker's clock).
    lasted
        Seconds from then to the last question.
    why
        What the scheduler says of that (`Scheduler.held`), with the way out, or nothing.
    """

    since: float
    lasted: float
    why: str = ""


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
    silent
        Of the batch jobs that the last questions were about: those of which nothing was heard for too long.
    """

    def __init__(self, scheduler: Scheduler, clock: Callable[[], float] = time.monotonic) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._next = 0.0
        self._questions = Backoff(clock)
        self.outage = Backoff(clock)
        self.held: dict[str, str] = {}
        self.silent: dict[str, Silence] = {}
        #: When a batch job was first asked about in vain; when all were. Never changed in place, as two threads ask.
        self._unheard: dict[str, float] = {}
        self._outage_since: float | None = None

    def liveness(self, watched: Sequence[WatchedJob]) -> dict[str, Liveness]:
        """What is known in this round; a batch job that is not in it was not asked about."""
        asked = [one for one in watched if self._worth_asking(one)]
        now = self._clock()
        if self._scheduler.shared and (now < self._next or not self._questions.over or not self.outage.over):
            return {}
        ids = self._ids(asked)
        if not ids:
            self._outage_since = None
        self._unheard = {one: since for one, since in self._unheard.items() if one in ids}
        self.silent = {one: silence for one, silence in self.silent.items() if one in ids}
        return self._ask(ids)

    def _ask(self, ids: Mapping[str, WatchedJob]) -> dict[str, Liveness]:
        if not ids:
            return {}
        now = self._clock()
        self._next = now + EVERY
        known = self._scheduler.liveness(list(ids))
        unknown = [one for one, found in known.items() if found is Liveness.UNKNOWN]
        self._note(known, unknown, now)
        if len(unknown) == len(known):
            self._questions.failed()
            return known
        self._questions.succeeded()
        self.outage.succeeded()
        self.held = self._scheduler.held([one for one, found in known.items() if found is not Liveness.UNKNOWN])
        self._hasten(ids, known)
        return known

    def _note(self, known: Mapping[str, Liveness], unknown: Sequence[str], now: float) -> None:
        """Keep in mind since when nothing is known of batch jobs; `now` is when they were asked about."""
        nobody = self._scheduler.shared and len(unknown) == len(known)
        first = now if self._outage_since is None else self._outage_since
        self._outage_since = first if nobody else None
        since = {one: self._unheard.get(one, first if nobody else now) for one in unknown}
        self._unheard = {one: then for one, then in self._unheard.items() if one not in known} | since
        late = [one for one in unknown if now - since[one] >= UNHEARD]
        whys = self._scheduler.held(late) if late else {}
        told = {one: Silence(since[one], now - since[one], whys.get(one, "")) for one in late}
        self.silent = {one: silence for one, silence in self.silent.items() if one not in known} | told

    def can_step(self, watched: WatchedJob) -> bool:
        """Whether what is next for a job can be looked for now: not while its batch job cannot be looked up."""
        return not watched.unanswered or self.outage.over

    def at_once(self, watched: WatchedJob) -> dict[str, Liveness]:
        """The same for one job that is taken up: where it costs nothing. Else a later round asks for all."""
        return {} if self._scheduler.shared else self._ask(self._ids([watched]))

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
        found: dict[str, WatchedJob] = {}
        for one in watched:
            if not self.can_step(one):
                continue
            try:
                both = (one.job_id, one.batch_job_of(one.last))
            except NoAnswer:
                self.outage.failed()
                continue
            except (CkptError, OSError):
                continue  # unknown for now
            found |= {job_id: one for job_id in both if job_id is not None}
        return found
