"""A head without Snakemake: it does to a job what the executor's rounds do."""

from __future__ import annotations

import time
from collections.abc import Callable

from helpers.jobs import LocalJob
from snakemake_executor_plugin_ckpt.chain import Step
from snakemake_executor_plugin_ckpt.errors import CkptError
from snakemake_executor_plugin_ckpt.head.watched import WatchedJob

_ROUND = 0.1


class Chain:
    """The chain of a job in a test.

    Attributes
    ----------
    trouble
        What made rounds fail; each was followed by another, as in the executor.
    """

    def __init__(self, job: LocalJob) -> None:
        self.job = job
        self.watched = WatchedJob(job.folder, job.scheduler)
        self.trouble: list[str] = []

    def round(self) -> Step | None:
        """One look, and what follows from it; None when nothing could be known."""
        try:
            return self._round()
        except (CkptError, OSError) as error:
            self.trouble.append(str(error))
            return None

    def _round(self) -> Step:
        step = self._look()
        if step.action == "lost":
            self.job.folder.declare_lost(self.watched.segments()[-1].number, step.reason)
            step = self._look()
        if step.action == "submit":
            self.watched.submit(step)
        if self.watched.job_id is not None and self.watched.job_id not in self.job.ids:
            self.job.ids.append(self.watched.job_id)
        return step

    def _look(self) -> Step:
        job_id = self.watched.job_id
        return self.watched.next_step(self.job.scheduler.liveness([job_id]) if job_id else {})

    def until(self, look: Callable[[], object], limit: float = 120.0) -> Step | None:
        """Rounds until something is true, or the chain is over; the last step."""
        end = time.monotonic() + limit
        while True:
            step = self.round()
            if look() or (step is not None and step.action in ("succeed", "fail")):
                return step
            assert time.monotonic() < end, f"waited {limit:.0f} s in vain; {step}; trouble: {self.trouble[-3:]}"
            time.sleep(_ROUND)

    def end(self, limit: float = 120.0) -> Step:
        """Rounds until the chain is over; the last step."""
        step = self.until(lambda: False, limit)
        assert step is not None
        return step
