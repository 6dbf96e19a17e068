"""Job folders for tests, run under the local scheduler as the head would have them run."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from helpers.waiting import wait_for
from snakemake_executor_plugin_ckpt.head.scripts import write_scripts
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness, Request, Scheduler
from snakemake_executor_plugin_ckpt.schedulers.local import Local
from snakemake_executor_plugin_ckpt.state.folder import JobFolder
from snakemake_executor_plugin_ckpt.state.records import Job, Segment

CRIU = "snakemake_executor_plugin_ckpt.engines.criu:CriuEngine"
PLAIN = "snakemake_executor_plugin_ckpt.engines.plain:Plain"
LOCAL = "snakemake_executor_plugin_ckpt.schedulers.local:Local"
HELPERS = Path(__file__).resolve().parents[1]


def a_segment(number: int = 1, **more: object) -> Segment:
    """A record with all that must be there."""
    segment = Segment(number, 1, "local", "job", "node", "boot", 1, 1, 1000.0 + number)
    return replace(segment, **more)  # type: ignore[arg-type]


def a_job(**more: object) -> Job:
    """A job's record with all that must be there."""
    job = Job("key", "rule", "", "/", 1, "fp", 1000.0, Policy().to_dict())
    return replace(job, **more)  # type: ignore[arg-type]


class LocalJob:
    """One job in a folder of its own, and the batch jobs submitted for it."""

    def __init__(self, base: Path, command: str, watched: list[str], policy: Policy) -> None:
        self.work = base / "work"
        self.work.mkdir()
        self.state = base / "state"
        self.folder = JobFolder(self.state / "job-1")
        self.folder.make()
        self.scheduler: Scheduler = Local(self.state)
        self.policy = policy
        self.ids: list[str] = []
        write_scripts(self.folder, str(self.work), command)
        script = self.folder.run_script.read_text()  # the test engines are in no installed package
        self.folder.run_script.write_text(script.replace("\nexec", f"\nexport PYTHONPATH={HELPERS}\nexec"))
        self.folder.write_job(
            Job(
                key="job-1",
                rule="rule",
                wildcards="",
                workdir=str(self.work),
                attempt=1,
                fingerprint="fp",
                created=time.time(),
                policy=policy.to_dict(),
                watched=[str(self.work / name) for name in watched],
            )
        )

    def submit(self) -> str:
        name = f"ckpt-job-{len(self.ids) + 1}"
        log = self.folder.logs_folder / "batch.log"
        request = Request(name, self.folder.run_script, log, self.policy.walltime, self.policy.grace)
        self.ids.append(self.scheduler.submit(request))
        return self.ids[-1]

    def alive(self) -> bool:
        return self.scheduler.liveness(self.ids[-1:])[self.ids[-1]] is Liveness.ALIVE

    def wait(self, limit: float = 120.0) -> list[Segment]:
        """Wait until the batch job is over; the history."""
        wait_for(lambda: not self.alive(), "the end of the batch job", limit)
        return self.folder.segments()

    def running_segment(self, number: int = 1) -> Segment:
        """Wait until a segment computes."""

        def look() -> Segment | None:
            if number not in self.folder.segment_numbers():
                return None
            segment = self.folder.segment(number)
            return segment if segment.startup is not None else None

        found = wait_for(look, f"segment {number}")
        assert found is not None
        return found

    def said(self) -> str:
        log = self.folder.payload_log
        return log.read_text() if log.exists() else ""

    def batch_log(self) -> str:
        return (self.folder.logs_folder / "batch.log").read_text()

    def end(self) -> None:
        if self.ids and self.alive():
            self.folder.request("cancel")
            self.scheduler.cancel(self.ids[-1:])
            wait_for(lambda: not self.alive(), "the cancelled batch job's end")


@contextmanager
def local_job(base: Path, command: str, watched: list[str] | None = None, **policy: object) -> Iterator[LocalJob]:
    """A job that is over with the test."""
    settings = {"engine_place": CRIU, "scheduler_place": LOCAL, "engine_options": {}, **policy}
    job = LocalJob(base, command, watched or [], Policy(**settings))  # type: ignore[arg-type]
    try:
        yield job
    finally:
        job.end()


PYTHON = sys.executable
