"""A batch system that suspends a job (SIGTSTP, as LSF's bstop does) has its node free, or at least the job standing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.chains import Chain
from helpers.jobs import PLAIN, PYTHON, LocalJob, local_job
from helpers.mistaken import PLACE as MISTAKEN
from helpers.saboteurs import PLACE
from helpers.waiting import processes_with, wait_for, wait_for_text

from snakemake_executor_plugin_ckpt import proc

pytestmark = pytest.mark.criu

UNSAVABLE = f"{PLACE}NeverSavable"
#: Works in a process group of its own, which the kernel stops; one without any other in its session it would not.
STEPS = """
import os, sys, time
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    for step in (1, 2):
        print("step", step, flush=True)
        while not os.path.exists(f"go-{step}"):
            time.sleep(0.02)
    os._exit(7)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@contextmanager
def stepping(base: Path) -> Iterator[LocalJob]:
    """A job that does its first step."""
    with local_job(base, f"exec {PYTHON} steps.py") as job:
        (job.work / "steps.py").write_text(STEPS)
        job.submit()
        wait_for_text(job.folder.payload_log, "step 1\n")
        yield job


def assert_as_one_run(job: LocalJob) -> None:
    """Let the job go on, to its end."""
    (job.work / "go-1").touch()
    (job.work / "go-2").touch()
    assert [one.outcome for one in job.wait()] == ["saved", "finished"]
    assert job.said() == "step 1\nstep 2\n"
    assert job.folder.exit_status() == 7


def suspend(job: LocalJob) -> None:
    """As LSF does it: SIGTSTP to the first process, then to the process groups of all below it."""
    first = job.running_segment().pid
    groups = {os.getpgid(pid) for pid in proc.descendants(first)}
    os.kill(first, signal.SIGTSTP)
    for group in groups - {os.getpgid(first)}:
        os.killpg(group, signal.SIGTSTP)


def states(marker: str) -> set[str]:
    """Of the payload's processes that have a word in their environment."""
    found = set()
    for pid in processes_with(f"MARK={marker}\0"):
        if (stat := proc.read_stat(pid)) is not None:  # None: it has ended since
            found.add(stat.state)
    return found


def test_a_suspended_job_is_saved_and_goes_back_into_the_queue(tmp_path: Path) -> None:
    with stepping(tmp_path) as job:
        suspend(job)
        assert job.running_segment(2).restored_from == 1
        assert_as_one_run(job)  # no process came back as a stopped one


@pytest.mark.parametrize("engine", [UNSAVABLE, PLAIN], ids=["unsavable", "not saved"])
def test_what_cannot_be_saved_stands_still_until_it_is_resumed(tmp_path: Path, engine: str) -> None:
    marker = f"ckpt-test-{os.getpid()}-{time.monotonic_ns()}"
    command = f"MARK={marker} sh -c 'echo up; until [ -e go ]; do sleep 0.02; done; exit 7'"
    with local_job(tmp_path, command, engine_place=engine) as job:
        job.submit()
        wait_for_text(job.folder.payload_log, "up")
        first = job.running_segment()
        suspend(job)
        wait_for(lambda: states(marker) == {"T"}, "a payload that stands still")
        (job.work / "go").touch()
        time.sleep(1.0)
        assert states(marker) == {"T"}
        assert job.folder.exit_status() is None
        os.kill(first.pid, signal.SIGCONT)
        (segment,) = job.wait()
        assert (segment.outcome, segment.exit) == ("finished", 7)


def test_a_save_that_failed_before_a_resume_is_no_reason_to_give_up_when_the_node_dies_later(tmp_path: Path) -> None:
    marker, unsavable = f"ckpt-test-{os.getpid()}-{time.monotonic_ns()}", tmp_path / "unsavable"
    command = f"MARK={marker} sh -c 'echo up; until [ -e go ]; do sleep 0.02; done; exit 7'"
    options = {"unsavable": str(unsavable)}
    with local_job(tmp_path, command, engine_place=f"{MISTAKEN}Moody", engine_options=options) as job:
        chain = Chain(job)
        chain.round()
        wait_for_text(job.folder.payload_log, "up")
        job.folder.request("checkpoint")
        wait_for(lambda: "checkpoint" not in job.folder.requests(), "the save")
        unsavable.touch()
        suspend(job)
        wait_for(lambda: states(marker) == {"T"}, "a payload that stands still")
        wait_for(lambda: job.folder.segment(1).failure == "unsavable", "the record")
        first = job.running_segment().pid
        os.kill(first, signal.SIGCONT)
        wait_for(lambda: job.folder.segment(1).failure is None, "a record that says no more of it")
        assert job.folder.segment(1).reason is None
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: not states(marker), "the end of all that it kept")
        (job.work / "go").touch()
        assert chain.end().reason == "the job ended with exit status 7"
        assert [one.restored_from for one in job.folder.segments()] == [None, 1]


def test_a_job_that_stands_still_can_be_cancelled(tmp_path: Path) -> None:
    marker = f"ckpt-test-{os.getpid()}-{time.monotonic_ns()}"
    with local_job(tmp_path, f"MARK={marker} sh -c 'echo up; sleep 300 & wait'", engine_place=UNSAVABLE) as job:
        job.submit()
        wait_for_text(job.folder.payload_log, "up")
        suspend(job)
        wait_for(lambda: states(marker) == {"T"}, "a payload that stands still")
        job.folder.request("cancel")
        (segment,) = job.wait()
        assert (segment.outcome, segment.failure) == ("failed", "killed")
        wait_for(lambda: not states(marker), "the end of all processes")


def test_a_job_that_stood_still_is_suspended_again(tmp_path: Path) -> None:
    marker = f"ckpt-test-{os.getpid()}-{time.monotonic_ns()}"
    command = f"MARK={marker} sh -c 'echo up; until [ -e go ]; do sleep 0.02; done; exit 7'"
    with local_job(tmp_path, command, engine_place=UNSAVABLE) as job:
        job.submit()
        wait_for_text(job.folder.payload_log, "up")
        first = job.running_segment()
        for _ in range(2):
            suspend(job)
            wait_for(lambda: states(marker) == {"T"}, "a payload that stands still")
            os.kill(first.pid, signal.SIGCONT)
            wait_for(lambda: "T" not in states(marker), "a payload that goes on")
        (job.work / "go").touch()
        (segment,) = job.wait()
        assert segment.exit == 7


def test_a_warning_signal_that_payloads_ignore_is_a_wish_to_save(tmp_path: Path) -> None:
    """LSF's warning goes to all of a job's processes, so it is one that ends none: SIGURG."""
    with stepping(tmp_path) as job:
        first = job.running_segment().pid
        for pid in [*proc.descendants(first), first]:
            os.kill(pid, signal.SIGURG)
        assert job.running_segment(2).restored_from == 1
        assert_as_one_run(job)
