"""One job's folder: where each thing is, and the few ways in which it may be changed."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from snakemake_executor_plugin_ckpt import faults, proc
from snakemake_executor_plugin_ckpt.errors import StateError
from snakemake_executor_plugin_ckpt.state import durable
from snakemake_executor_plugin_ckpt.state.records import Job, Segment, Submission

if TYPE_CHECKING:
    from snakemake_executor_plugin_ckpt.state.lock import JobLock

Request = Literal["checkpoint", "park", "cancel"]

_NUMBERED = re.compile(r"(\d{4,})\.yaml")


class JobFolder:
    """See the module. Layout: section 4 of the design, or `ckpt show JOB`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.job_file = path / "job.yaml"
        self.run_script = path / "run.sh"
        self.payload_script = path / "payload.sh"
        self.exit_file = path / "exit"
        self.segments_folder = path / "segments"
        self.submissions_folder = path / "submissions"
        self.images_folder = path / "images"
        self.requests_folder = path / "requests"
        self.logs_folder = path / "logs"
        self.tmp_folder = path / "tmp"
        self.payload_log = self.logs_folder / "payload.log"

    def make(self) -> None:
        """Create the folder and all in it, private to the user."""
        for folder in (
            self.path,
            self.segments_folder,
            self.submissions_folder,
            self.images_folder,
            self.requests_folder,
            self.logs_folder,
            self.tmp_folder,
        ):
            durable.make_folder(folder)

    def lock(self) -> JobLock:
        """The lock that heads take for a change of more than one file; what is true never rests on it alone.

        A dead owner delays nobody for longer than `lock.PATIENCE`.
        """
        # here, because the node has no need of it and it loads slowly
        from snakemake_executor_plugin_ckpt.state.lock import JobLock

        return JobLock(self.path / "lock")

    # -- what the job is ---------------------------------------------------------------------------------------

    def job(self) -> Job | None:
        """The job, or None when the folder is new."""
        try:
            return Job.from_dict(durable.read_yaml(self.job_file))
        except FileNotFoundError:
            return None
        except StateError as error:
            raise StateError(f"{self.job_file}: {error}") from error

    def write_job(self, job: Job) -> None:
        """Write what the job is.

        Raises
        ------
        StateError
            A path in it is no UTF-8, and would be another one when it is read.
        """
        for path in (job.workdir, *job.watched, *job.policy.get("files", [])):
            if path != durable.readable(path):
                raise StateError(f"{durable.readable(path)} cannot be kept in a record: its name is no UTF-8")
        durable.replace(self.job_file, durable.to_yaml(job.to_dict()))

    def exit_status(self) -> int | None:
        """The payload's own exit status, written from inside its tree; None while there is none."""
        try:
            return int(self.exit_file.read_text())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StateError(f"{self.exit_file} does not hold a number: {error}") from error

    # -- segments ----------------------------------------------------------------------------------------------

    def segments(self) -> list[Segment]:
        """The segment history, in order."""
        return [Segment.from_dict(data) for data in _read_numbered(self.segments_folder)]

    def segment_numbers(self) -> list[int]:
        """The numbers of all segments, in order."""
        return _numbers(self.segments_folder)

    def last_segment(self) -> Segment | None:
        """The newest record."""
        numbers = _numbers(self.segments_folder)
        return self.segment(numbers[-1]) if numbers else None

    def segment(self, number: int) -> Segment:
        """The record of one segment."""
        return Segment.from_dict(durable.read_yaml(self._segment_file(number)))

    def claim(self, segment: Segment) -> bool:
        """Become the owner of a segment number; False when somebody else is."""
        return durable.create(self._segment_file(segment.number), durable.to_yaml(segment.to_dict()))

    def update(self, segment: Segment) -> None:
        """Write one's own record anew."""
        durable.replace(self._segment_file(segment.number), durable.to_yaml(segment.to_dict()))

    def _segment_file(self, number: int) -> Path:
        return self.segments_folder / f"{number:04d}.yaml"

    def _lost_file(self, number: int) -> Path:
        return self.segments_folder / f"{number:04d}.lost"

    def declare_lost(self, number: int, reason: str) -> None:
        """Say for good that a segment's owner is gone; an owner that is not gone after all sees it and ends."""
        durable.create(self._lost_file(number), f"{reason}\n".encode())

    def lost(self, number: int) -> str | None:
        """Why a segment was declared lost, or None."""
        try:
            return self._lost_file(number).read_text(errors="replace").strip()
        except FileNotFoundError:
            return None

    def lost_before(self, number: int, later: int) -> float:
        """Seconds from when a segment was declared lost to when a later one noted something, by the disk's clock."""
        return self._segment_file(later).stat().st_mtime - self._lost_file(number).stat().st_mtime

    # -- submissions -------------------------------------------------------------------------------------------

    def submissions(self) -> list[Submission]:
        """All submissions, in order."""
        return [Submission.from_dict(data) for data in _read_numbered(self.submissions_folder)]

    def intend(self, attempt: int, scheduler: str, reason: str | None) -> Submission:
        """Say, before it is done, that a batch job will be submitted, under a name that no other one has."""
        number = (_numbers(self.submissions_folder) or [0])[-1] + 1
        while True:
            # The random end, because a folder that was removed by hand would begin to count anew.
            name = f"ckpt-{self.path.name[-8:]}-{number:04d}-{secrets.token_hex(3)}"
            submission = Submission(number, attempt, name, scheduler, time.time(), reason=reason)
            if durable.create(self._submission_file(number), durable.to_yaml(submission.to_dict())):
                return submission
            number += 1

    def submitted(self, submission: Submission, job_id: str) -> Submission:
        """Add the scheduler's answer."""
        return self._rewrite(replace(submission, job_id=job_id))

    def void(self, submission: Submission, why: str) -> Submission:
        """Add that there is no such batch job; see `Submission.void`."""
        return self._rewrite(replace(submission, void=why))

    def _rewrite(self, submission: Submission) -> Submission:
        durable.replace(self._submission_file(submission.number), durable.to_yaml(submission.to_dict()))
        return submission

    def _submission_file(self, number: int) -> Path:
        return self.submissions_folder / f"{number:04d}.yaml"

    # -- requests ----------------------------------------------------------------------------------------------

    def request(self, what: Request) -> None:
        """Ask the running segment for something."""
        durable.replace(self.requests_folder / what, f"{proc.host_name()} {os.getpid()}\n".encode())

    def requests(self) -> set[str]:
        """What is asked for."""
        with suppress(FileNotFoundError):
            return {name for name in os.listdir(self.requests_folder) if not name.startswith(".")}
        return set()

    def clear_request(self, what: str) -> None:
        """Forget a request that was met or is void."""
        (self.requests_folder / what).unlink(missing_ok=True)
        faults.point("request.cleared")

    # -- attempts ----------------------------------------------------------------------------------------------

    def begin_attempt(self, job: Job) -> None:
        """Start the job anew from its beginning: old images and the old exit status no longer count.

        The history and the logs of earlier attempts are kept.
        """
        self.discard()
        for what in self.requests():
            self.clear_request(what)
        faults.point("attempt.discarded")
        if self.exit_file.exists():
            self.exit_file.rename(self.path / f"exit.{job.attempt - 1}")
        faults.point("attempt.exit-kept")
        if self.payload_log.exists():
            self.payload_log.rename(self.logs_folder / f"payload.{job.attempt - 1}.log")
        durable.make_folder(self.tmp_folder)
        self.write_job(job)

    def discard(self) -> None:
        """Remove images and temporary files, which a job that succeeded or begins anew no longer needs."""
        for image in self.images_folder.iterdir():
            durable.remove_tree(image)
        durable.remove_tree(self.tmp_folder)


def job_folders(state_dir: Path) -> Iterator[JobFolder]:
    """All job folders of a state directory, by name."""
    if not state_dir.is_dir():
        return
    for path in sorted(state_dir.iterdir()):
        # os.path and not Path.is_file, which raises for a folder that is another user's
        if os.path.isfile(path / "job.yaml"):
            yield JobFolder(path)


def _numbers(folder: Path) -> list[int]:
    with suppress(FileNotFoundError):
        return sorted(int(found[1]) for name in os.listdir(folder) if (found := _NUMBERED.fullmatch(name)))
    return []


def _read_numbered(folder: Path) -> Iterator[dict[str, Any]]:
    for number in _numbers(folder):
        yield durable.read_yaml(folder / f"{number:04d}.yaml")
