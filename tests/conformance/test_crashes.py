"""A crash between two saves changes no byte, in whatever way the program writes its files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import steps
from helpers.chains import Chain
from helpers.jobs import LocalJob, local_job
from helpers.steps import BEHAVIOURS, STEPS
from helpers.waiting import wait_for

from snakemake_executor_plugin_ckpt import faults

pytestmark = pytest.mark.criu

#: What a rule would declare; the rest is covered by its `ckpt_files`, or needs nothing.
DECLARED = ["out", "folder"]
UNDECLARED = ["part-*", "stage-*", "out.part"]


def files_in(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def uninterrupted(behaviour: str, base: Path) -> tuple[dict[str, bytes | None], str]:
    """The files and the output of a run without any save."""
    gates, work = base / "open-gates", base / "reference"
    gates.mkdir()
    work.mkdir()
    for step in range(STEPS):
        (gates / str(step)).touch()
    argv = [sys.executable, steps.__file__, behaviour, str(gates)]
    done = subprocess.run(argv, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    return files_in(work), done.stdout


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize(("saved", "crashed"), [(0, STEPS - 1), (2, 3)], ids=["long after", "soon after"])
def test_a_crash_after_a_save_changes_no_byte(tmp_path: Path, behaviour: str, saved: int, crashed: int) -> None:
    gates = tmp_path / "gates"
    gates.mkdir()
    command = f"{sys.executable} {steps.__file__} {behaviour} {gates}"
    files = [str(tmp_path / "work" / pattern) for pattern in UNDECLARED]
    with local_job(tmp_path, command, watched=DECLARED, files=files) as job:

        def let_run_to(step: int) -> None:
            for earlier in range(step):
                (gates / str(earlier)).touch()
            wait_for(lambda: (gates / f"done-{step}").exists(), f"step {step}")

        job.submit()
        let_run_to(saved)
        job.folder.request("checkpoint")
        wait_for(lambda: job.folder.segment(1).generation == 1, "the save")
        let_run_to(crashed)
        os.kill(job.folder.segment(1).pid, signal.SIGKILL)
        job.wait()
        for step in range(STEPS):
            (gates / str(step)).touch()
        job.submit()
        last = job.wait()[-1]
        assert (last.restored_from, last.exit) == (1, 0), (last, job.said())
        assert (files_in(job.work), job.said()) == uninterrupted(behaviour, tmp_path)


@contextmanager
def crashed(base: Path, first: str, then: str, *watched: str) -> Iterator[LocalJob]:
    """A job that was saved between its two parts, and whose supervisor was killed after the second one."""
    half, saved, done, end = (base / name for name in ("half", "saved", "done", "end"))
    command = f"{first}; touch {half}; {until(saved)}; {then}; touch {done}; {until(end)}"
    with local_job(base, command, watched=list(watched)) as job:
        job.submit()
        wait_for(half.exists, "the first part")
        job.folder.request("checkpoint")
        wait_for(lambda: job.folder.segment(1).generation == 1, "the save")
        saved.touch()
        wait_for(done.exists, "the second part")
        os.kill(job.folder.segment(1).pid, signal.SIGKILL)
        job.wait()
        end.touch()
        yield job


def until(path: Path) -> str:
    return f"until [ -e {path} ]; do sleep 0.1; done"


def test_an_input_that_the_job_linked_to_its_output_outlives_a_crash(tmp_path: Path) -> None:
    """`ln -f input output`: what is put back is the output, and not the file that it is by then."""
    with crashed(tmp_path, "printf PRECIOUS > input; printf PRE > out", "ln -f input out", "out") as job:
        (tmp_path / "saved").unlink()
        job.submit()
        assert job.running_segment(2).restored_from == 1
        assert files_in(job.work) == {"input": b"PRECIOUS", "out": b"PRE"}
        (tmp_path / "saved").touch()
        assert job.wait()[-1].exit == 0
        assert files_in(job.work) == {"input": b"PRECIOUS", "out": b"PRECIOUS"}


def test_a_rollback_that_is_killed_between_two_files_is_finished_by_the_next_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ["a", "b", "c"]
    with crashed(tmp_path, "echo one | tee a b c", "echo two | tee -a a b c", *files) as job:
        monkeypatch.setenv(faults.WANTED, "rollback.changed@2")
        monkeypatch.setenv(faults.STATE, str(tmp_path))
        job.submit()
        assert [segment.startup for segment in job.wait()[1:]] == [None]
        assert list(files_in(job.work).values()).count(b"one\n") == 1
        job.submit()
        last = job.wait()[-1]
        assert (last.restored_from, last.exit) == (1, 0), (last, job.said())
        assert files_in(job.work) == dict.fromkeys(files, b"one\ntwo\n")
        assert job.said() == "one\ntwo\n"


def test_a_named_pipe_that_was_removed_between_two_segments_is_there_again(tmp_path: Path) -> None:
    """As Snakemake removes those between the jobs of a group, when the group's chain failed and is to be resumed."""
    command = (
        "mkfifo stream; (n=0; while [ $n -lt 20 ]; do n=$((n + 1)); echo $n; sleep 0.1; done) > stream & "
        "while read line; do echo got $line; done < stream"
    )
    with local_job(tmp_path, command) as job:
        chain = Chain(job)
        chain.until(lambda: "got 3\n" in job.said())
        job.folder.request("park")
        wait_for(lambda: job.folder.segment(1).outcome == "saved", "the save")
        (job.work / "stream").unlink()
        job.folder.clear_request("park")
        assert chain.end().action == "succeed"
        assert job.folder.segment(2).restored_from == 1
        assert job.said() == "".join(f"got {number}\n" for number in range(1, 21))
