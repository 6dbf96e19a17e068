"""Segments of a real job folder under the local scheduler: whatever ends them, the result is that of one run."""

from __future__ import annotations

import itertools
import os
import signal
import time
from pathlib import Path

import pytest
from helpers.jobs import CRIU, PLAIN, LocalJob, local_job
from helpers.waiting import processes_with, wait_for, wait_for_text

from snakemake_executor_plugin_ckpt.images import generations
from snakemake_executor_plugin_ckpt.state.records import Segment

pytestmark = pytest.mark.criu

#: Two processes that write 90 lines in about 5 s, in ways that a careless restore would spoil.
COUNT = (
    "n=0; while [ $n -lt 90 ]; do n=$((n + 1)); echo $n; echo $n >> appended; sleep 0.05; done | tee -a copied; exit 7"
)
LINES = "".join(f"{number}\n" for number in range(1, 91))
#: Says a line, and the next when it is allowed to.
STEPS = "for n in 1 2 3; do echo step $n; until [ -e go-$n ]; do sleep 0.02; done; done; echo end; exit 7"


def assert_as_one_run(job: LocalJob) -> None:
    assert job.folder.exit_status() == 7
    assert (job.work / "appended").read_text() == LINES
    assert (job.work / "copied").read_text() == LINES
    assert job.said() == LINES


def alive(segment: Segment) -> bool:
    return Path(f"/proc/{segment.pid}").exists()


def test_a_job_in_many_segments_ends_as_one_run_would(tmp_path: Path) -> None:
    with local_job(tmp_path, COUNT, ["appended", "copied"], walltime=4.2, grace=0.5, floor=1.5) as job:
        job.submit()
        segments = job.wait()
        assert len(segments) >= 3, [one.to_dict() for one in segments]
        assert [one.outcome for one in segments[:-1]] == ["saved"] * (len(segments) - 1)
        assert_as_one_run(job)
        assert (segments[-1].outcome, segments[-1].exit) == ("finished", 7)
        for before, after in itertools.pairwise(segments):
            assert after.restored_from == before.generation
            assert after.number == before.number + 1
            assert before.walltime_end is not None
            assert before.ended is not None
            assert before.ended < before.walltime_end
            for measure in (before.bytes, before.frozen, before.dump, before.commit, before.resident):
                assert measure is not None
                assert measure > 0
            assert before.useful > 0
        assert len(generations.numbers(job.folder.images_folder)) <= 2


def test_park_saves_and_stops_and_the_next_batch_job_goes_on(tmp_path: Path) -> None:
    with local_job(tmp_path, STEPS) as job:
        job.submit()
        wait_for_text(job.folder.payload_log, "step 1\n")
        job.folder.request("park")
        (parked,) = job.wait()
        assert (parked.outcome, parked.parked, parked.generation) == ("saved", True, 1)
        assert job.folder.exit_status() is None
        job.folder.clear_request("park")
        for step in (1, 2, 3):
            (job.work / f"go-{step}").touch()
        job.submit()
        assert job.wait()[-1].exit == 7
        assert job.said() == "step 1\nstep 2\nstep 3\nend\n"


def test_checkpoint_saves_and_the_job_goes_on(tmp_path: Path) -> None:
    with local_job(tmp_path, STEPS) as job:
        job.submit()
        for step in (1, 2, 3):
            wait_for_text(job.folder.payload_log, f"step {step}\n")
            job.folder.request("checkpoint")
            wait_for(lambda: "checkpoint" not in job.folder.requests(), "the save")
            (job.work / f"go-{step}").touch()
        (segment,) = job.wait()
        assert (segment.outcome, segment.exit, segment.saves, segment.generation) == ("finished", 7, 3, 3)
        assert job.said() == "step 1\nstep 2\nstep 3\nend\n"
        assert generations.numbers(job.folder.images_folder) == [2, 3]


@pytest.mark.parametrize("engine", ["criu", "none"])
def test_cancel_ends_the_job_with_all_its_processes(tmp_path: Path, engine: str) -> None:
    place = PLAIN if engine == "none" else CRIU
    marker = f"ckpt-test-{os.getpid()}-{time.monotonic_ns()}"
    with local_job(tmp_path, f"MARK={marker} sleep 300 & MARK={marker} sleep 300; wait", engine_place=place) as job:
        job.submit()
        wait_for(lambda: len(processes_with(marker)) >= 2)
        job.folder.request("cancel")
        (segment,) = job.wait()
        assert (segment.outcome, segment.failure, segment.parked) == ("failed", "killed", True)
        wait_for(lambda: not list(processes_with(f"MARK={marker}\0")), "the end of all processes")


def test_a_signal_is_a_wish_to_save(tmp_path: Path) -> None:
    with local_job(tmp_path, STEPS) as job:
        job.submit()
        wait_for_text(job.folder.payload_log, "step 1\n")
        first = job.running_segment()
        os.kill(first.pid, signal.SIGUSR2)
        os.kill(first.pid, signal.SIGUSR2)
        second = job.running_segment(2)
        assert second.restored_from == 1
        for step in (1, 2, 3):
            (job.work / f"go-{step}").touch()
        segments = job.wait()
        assert [one.outcome for one in segments] == ["saved", "finished"]
        assert job.said() == "step 1\nstep 2\nstep 3\nend\n"


def test_a_supervisor_that_is_killed_takes_its_payload_along_and_its_successor_restores(tmp_path: Path) -> None:
    with local_job(tmp_path, COUNT, ["appended", "copied"]) as job:
        job.submit()
        wait_for_text(job.folder.payload_log, "\n10\n")
        job.folder.request("checkpoint")
        wait_for(lambda: "checkpoint" not in job.folder.requests(), "the save")
        wait_for_text(job.folder.payload_log, "\n40\n")
        first = job.running_segment()
        os.kill(first.pid, signal.SIGKILL)
        assert [one.outcome for one in job.wait()] == ["running"]
        appended = (job.work / "appended").read_bytes()
        time.sleep(0.3)
        assert (job.work / "appended").read_bytes() == appended, "the payload lives on"
        assert job.folder.exit_status() is None
        job.submit()
        segments = job.wait()
        assert job.folder.lost(1) is not None
        assert [one.outcome for one in segments] == ["running", "finished"]
        assert segments[1].restored_from == 1
        assert any("cut from" in warning for warning in segments[1].warnings)
        assert_as_one_run(job)


def test_a_job_that_was_killed_before_its_first_save_starts_again_and_says_so(tmp_path: Path) -> None:
    with local_job(tmp_path, "echo up; until [ -e go ]; do sleep 0.02; done; exit 7") as job:
        job.submit()
        wait_for_text(job.folder.payload_log, "up")
        os.kill(job.running_segment().pid, signal.SIGKILL)
        job.wait()
        (job.work / "go").touch()
        job.submit()
        last = job.wait()[-1]
        assert last.exit == 7
        assert any("started again from the beginning" in warning for warning in last.warnings)
        assert job.said() == "up\n"


def test_a_job_that_was_killed_before_its_first_save_fails_if_that_is_wished(tmp_path: Path) -> None:
    with local_job(tmp_path, "echo up; sleep 300", on_no_image="fail") as job:
        job.submit()
        wait_for_text(job.folder.payload_log, "up")
        os.kill(job.running_segment().pid, signal.SIGKILL)
        job.wait()
        job.submit()
        last = job.wait()[-1]
        assert (last.outcome, last.failure) == ("failed", "error")
        assert "--ckpt-on-no-image" in (last.reason or "")


def test_a_damaged_newest_image_is_passed_over_with_the_reason(tmp_path: Path) -> None:
    with local_job(tmp_path, COUNT, ["appended", "copied"]) as job:
        job.submit()
        for line in (10, 30):
            wait_for_text(job.folder.payload_log, f"\n{line}\n")
            job.folder.request("checkpoint" if line == 10 else "park")
            wait_for(lambda: "checkpoint" not in job.folder.requests(), "the save")
        job.wait()
        job.folder.clear_request("park")
        pages = next(generations.path_of(job.folder.images_folder, 2).rglob("pages-*.img"))
        with open(pages, "r+b") as file:
            file.seek(5000)
            file.write(b"damage")
        job.submit()
        last = job.wait()[-1]
        assert last.restored_from == 1
        assert any(warning.startswith("image 2: damaged") for warning in last.warnings)
        assert_as_one_run(job)


def test_two_batch_jobs_of_one_job_do_not_run_two_payloads(tmp_path: Path) -> None:
    with local_job(tmp_path, "echo up; until [ -e go ]; do sleep 0.02; done; exit 7") as job:
        job.submit()
        wait_for_text(job.folder.payload_log, "up")
        job.submit()
        job.wait()
        assert [one.outcome for one in job.folder.segments()] == ["running"]
        assert "may still be alive" in job.batch_log()
        (job.work / "go").touch()
        wait_for(lambda: job.folder.exit_status() == 7)
        wait_for(lambda: job.folder.segment(1).outcome == "finished")
        assert job.said() == "up\n"


def test_a_batch_job_too_many_finds_the_job_over(tmp_path: Path) -> None:
    with local_job(tmp_path, "exit 7") as job:
        job.submit()
        job.wait()
        job.submit()
        assert [one.number for one in job.wait()] == [1]
        assert job.folder.exit_status() == 7


def test_a_supervisor_without_anything_to_do_wakes_up_rarely(tmp_path: Path) -> None:
    with local_job(tmp_path, "exec sleep 300") as job:
        job.submit()
        segment = job.running_segment()
        time.sleep(6.0)  # past the first look at what cannot be saved
        before = _switches(segment.pid)
        time.sleep(12.0)
        assert _switches(segment.pid) - before <= 2


def _switches(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("voluntary_ctxt_switches")))


def test_a_program_that_exits_with_the_requeue_status_is_not_started_for_ever(tmp_path: Path) -> None:
    with local_job(tmp_path, "echo up; exit 99") as job:
        job.submit()
        (segment,) = job.wait(30)
        assert (segment.outcome, segment.exit) == ("finished", 99)
        assert job.folder.exit_status() == 99
        assert job.said() == "up\n"


def test_a_death_of_the_jobs_shell_by_signal_is_on_record(tmp_path: Path) -> None:
    with local_job(tmp_path, "true) ; kill -9 $$; (true") as job:
        job.submit()
        (segment,) = job.wait()
        assert (segment.outcome, segment.exit) == ("finished", -9)
        assert job.folder.exit_status() == 137


def test_periodic_saves_let_a_dead_node_cost_no_more_than_a_period(tmp_path: Path) -> None:
    with local_job(tmp_path, COUNT, ["appended", "copied"], period=0.5) as job:
        job.submit()
        wait_for(lambda: job.folder.segment_numbers() and job.folder.segment(1).saves >= 2, "two saves")
        os.kill(job.running_segment().pid, signal.SIGKILL)
        job.wait()
        assert job.folder.exit_status() is None
        job.submit()
        first, second = job.wait()
        assert second.restored_from is not None and second.restored_from >= 2
        assert first.outcome == "running" and len(first.images) >= 2
        assert_as_one_run(job)
