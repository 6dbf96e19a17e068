"""Job folders with a history, written by the real state API and run by nobody."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from helpers.jobs import a_job, a_segment
from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.images import generations
from snakemake_executor_plugin_ckpt.images.manifest import Manifest
from snakemake_executor_plugin_ckpt.state.folder import JobFolder
from snakemake_executor_plugin_ckpt.state.records import Segment

#: A node that is surely not this one.
ELSEWHERE = "node7.elsewhere"


class History:
    """One job, to which things happen by method; each segment takes 100 s of the clock."""

    def __init__(self, state: Path, key: str, rule: str = "count", wildcards: str = "", **job: object) -> None:
        self.folder = JobFolder(state / key)
        self.folder.make()
        self.job = a_job(key=key, rule=rule, wildcards=wildcards, **job)
        self.folder.write_job(self.job)
        self.submit()

    def submit(self) -> None:
        """A batch job, with a log that says nothing."""
        submission = self.folder.intend(self.job.attempt, "local", None)
        self.batch = submission.name
        self.folder.submitted(submission, submission.name)
        (self.folder.logs_folder / f"batch-{submission.number:04d}.log").touch()

    def segment(self, **more: object) -> Segment:
        """The next segment, as it is when it has ended (or, without an outcome, while it runs on another node)."""
        number = (self.folder.segment_numbers() or [0])[-1] + 1
        started = 1000.0 + 100 * number
        given: dict[str, object] = {
            "attempt": self.job.attempt,
            "job_id": self.batch,
            "host": ELSEWHERE,
            "started": started,
            "ended": started + 50 if more.get("outcome") else None,
            "startup": 0.5,
        }
        made = a_segment(number, **given | more)
        assert self.folder.claim(made)
        return made

    def saved(self, useful: float = 40.0, **more: object) -> Segment:
        """A segment that ended with an image."""
        image = (generations.numbers(self.folder.images_folder) or [0])[-1] + 1
        self.image(image)
        given = {
            "useful": useful,
            "generation": image,
            "images": {image: useful},
            "saves": 1,
            "frozen": 2.0,
            "bytes": 4096,
        }
        return self.segment(outcome="saved", **given | more)

    def image(self, generation: int, size: int = 4096) -> None:
        partial = generations.begin(self.folder.images_folder, generation)
        (partial / generations.TREE / "pages.img").write_bytes(b"\0" * size)
        manifest = Manifest(self.job.key, self.job.attempt, "fp", generation, 1, "criu", "4.2", {}, 1000.0)
        generations.commit(partial, self.folder.images_folder, manifest, "pack")

    def finished(self, status: int = 0, useful: float = 40.0, **more: object) -> Segment:
        """A segment in which the payload ended."""
        self.folder.exit_file.write_text(f"{status}\n")
        return self.segment(outcome="finished", exit=status, useful=useful, **more)

    def running_here(self, **more: object) -> Segment:
        """A segment whose process is that of the test."""
        me = proc.identify(os.getpid())
        assert me is not None
        return self.segment(host=me.host, boot=me.boot, pid=me.pid, pid_start=me.start, **more)

    def begin_attempt(self) -> None:
        """A new attempt."""
        self.job = replace(self.job, attempt=self.job.attempt + 1)
        self.folder.begin_attempt(self.job)
        self.submit()


def done(state: Path, key: str = "count-a-0123456789abcdef", wildcards: str = "x=a", rule: str = "count") -> History:
    """A job of three segments that is over: 40, 30 and 20 s of computing, 4 s of saving, 6 s of restoring."""
    history = History(state, key, rule, wildcards)
    history.saved(useful=40.0)
    history.saved(useful=30.0, restored_from=1, verify=1.0, restore=2.0)
    history.finished(useful=20.0, restored_from=2, verify=1.0, restore=2.0)
    history.folder.payload_log.write_text("".join(f"line {n}\n" for n in range(1, 101)))
    return history
