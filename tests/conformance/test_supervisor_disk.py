"""A state directory that is gone, or fails, for a while: nothing is lost by it, and nothing is started twice."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from helpers.chains import Chain
from helpers.counting import WATCHED, assert_as_one_run, count
from helpers.jobs import LocalJob, local_job
from helpers.saboteurs import PLACE
from helpers.waiting import processes_with, wait_for, wait_for_text

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness
from snakemake_executor_plugin_ckpt.state.records import Segment

pytestmark = pytest.mark.criu

WAITS = "echo up; until [ -e go ]; do sleep 0.02; done; exit 7"
KINDS = {"gone": 0, "stale": errno.ESTALE, "broken": errno.EIO, "forbidden": errno.EACCES}


class Disk:
    """Takes the state directory away and gives it back."""

    def __init__(self, job: LocalJob, base: Path, code: int) -> None:
        self.bad = base / "bad"
        self.state = job.state
        self.aside = base / "aside"
        self.code = code

    @contextmanager
    def away(self) -> Iterator[None]:
        if self.code:
            self.bad.touch()
        else:
            self.state.rename(self.aside)
        try:
            yield
        finally:
            if self.code:
                self.bad.unlink()
            else:
                self.aside.rename(self.state)


@contextmanager
def disk_job(base: Path, kind: str, command: str, **policy: object) -> Iterator[tuple[LocalJob, Disk]]:
    options = {"bad": str(base / "bad"), "errno": str(KINDS[kind])}
    with local_job(base, command, WATCHED, engine_place=f"{PLACE}BadDisk", engine_options=options, **policy) as job:
        yield job, Disk(job, base, KINDS[kind])


def alive(segment: Segment) -> bool:
    return Path(f"/proc/{segment.pid}").exists()


def wakes(pid: int) -> Callable[[], bool]:
    """Whether a process woke up some more times since: the segment looked at its folder."""

    def switches() -> int:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("voluntary_ctxt_switches")))

    before = switches()
    return lambda: switches() > before + 10


@pytest.mark.parametrize("kind", ["gone", "stale"])
def test_a_disk_that_is_gone_while_the_job_computes_costs_nothing(tmp_path: Path, kind: str) -> None:
    with disk_job(tmp_path, kind, count()) as (job, disk):
        job.submit()
        wait_for_text(job.folder.payload_log, "\n10\n")
        first = job.running_segment()
        with disk.away():
            wait_for(wakes(first.pid), "some looks at the folder")
        job.folder.request("checkpoint")
        (segment,) = job.wait()
        assert (segment.outcome, segment.saves) == ("finished", 1)
        assert_as_one_run(job)


@pytest.mark.parametrize("kind", ["gone", "broken"])
def test_a_save_that_is_due_while_the_disk_is_gone_is_made_when_it_is_back(tmp_path: Path, kind: str) -> None:
    with disk_job(tmp_path, kind, count(60)) as (job, disk):
        job.submit()
        wait_for_text(job.folder.payload_log, "\n10\n")
        first = job.running_segment()
        with disk.away():
            os.kill(first.pid, signal.SIGUSR2)
            wait_for(wakes(first.pid), "some tries")
        segments = job.wait()
        assert [one.outcome for one in segments] == ["saved", "finished"]
        assert_as_one_run(job, 60)


@pytest.mark.parametrize("kind", KINDS)
def test_an_exit_status_is_not_lost_with_the_disk_gone_at_the_end(tmp_path: Path, kind: str) -> None:
    marker = f"ckpt-test-{uuid4().hex}"
    with disk_job(tmp_path, kind, f"export MARK={marker}; {WAITS}") as (job, disk):
        job.submit()
        wait_for_text(job.folder.payload_log, "up")
        first = job.running_segment()
        with disk.away():
            (job.work / "go").touch()
            wait_for(lambda: not processes_with(marker), "the end of the job")
            assert alive(first)
        (segment,) = job.wait()
        assert (segment.outcome, segment.exit, job.folder.exit_status()) == ("finished", 7, 7)
        assert job.said() == "up\n"


def test_a_head_whose_disk_is_gone_waits_and_starts_nothing_twice(tmp_path: Path) -> None:
    with disk_job(tmp_path, "gone", count(60)) as (job, disk):
        chain = Chain(job)
        chain.until(lambda: "\n10\n" in job.said())
        for _ in range(20):
            with disk.away():
                step = chain.round()
                assert step is None or step.action == "wait"
            step = chain.round()
            assert step is not None
            assert step.action == "wait"
        assert chain.end().reason == "the job ended with exit status 7"
        assert [one.outcome for one in job.folder.segments()] == ["finished"]
        assert len(job.folder.submissions()) == 1
        assert_as_one_run(job, 60)


def test_a_segment_that_is_to_begin_waits_for_its_disk(tmp_path: Path) -> None:
    with disk_job(tmp_path, "gone", count()) as (job, disk):
        job.submit()
        wait_for_text(job.folder.payload_log, "\n10\n")
        first = job.running_segment()
        own = proc.read_stat(first.pid)
        assert own is not None
        # Stopped, the keeper does not begin the next segment before the disk is gone.
        os.kill(own.parent, signal.SIGSTOP)
        try:
            os.kill(first.pid, signal.SIGUSR2)
            wait_for(
                lambda: (ended := proc.read_stat(first.pid)) and ended.state == "Z", "the end of the first segment"
            )
        except BaseException:
            os.kill(own.parent, signal.SIGCONT)
            raise
        with disk.away():
            os.kill(own.parent, signal.SIGCONT)
            time.sleep(1.0)  # the next segment is due by now
            assert Path(f"/proc/{own.parent}").exists(), "the keeper gave up"
            assert job.scheduler.liveness(job.ids)[job.ids[0]] is Liveness.UNKNOWN
        assert [one.outcome for one in job.wait()] == ["saved", "finished"]
        assert_as_one_run(job)
