"""Saves that fail and walltimes that are too short: the job goes on while it can, and the record says why."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from helpers.jobs import PLAIN, local_job
from helpers.saboteurs import PLACE
from helpers.waiting import wait_for, wait_for_text

from snakemake_executor_plugin_ckpt.chain import decide
from snakemake_executor_plugin_ckpt.images import generations
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness

pytestmark = pytest.mark.criu

WAITS = "echo up; until [ -e go ]; do sleep 0.02; done; echo end; exit 7"


def test_a_job_that_cannot_be_saved_runs_on_if_that_is_wished(tmp_path: Path) -> None:
    with local_job(tmp_path, WAITS, engine_place=f"{PLACE}NeverSavable", on_unsavable="run") as job:
        job.submit()
        wait_for_text(job.folder.payload_log, "up")
        os.kill(job.running_segment().pid, signal.SIGTERM)
        wait_for(lambda: job.folder.segment(1).failure == "unsavable")
        assert "plays the flute" in (job.folder.segment(1).reason or "")
        (job.work / "go").touch()
        (segment,) = job.wait()
        assert (segment.outcome, segment.exit, segment.failure, segment.generation) == ("finished", 7, None, None)
        assert any("plays the flute" in warning for warning in segment.warnings)
        assert job.said() == "up\nend\n"


def test_a_job_that_cannot_be_saved_fails_at_once_if_that_is_wished(tmp_path: Path) -> None:
    with local_job(tmp_path, WAITS, engine_place=f"{PLACE}NeverSavable", on_unsavable="fail") as job:
        job.submit()
        wait_for_text(job.folder.payload_log, "up")
        job.folder.request("checkpoint")
        (segment,) = job.wait()
        assert (segment.outcome, segment.failure) == ("failed", "unsavable")
        assert "plays the flute" in (segment.reason or "")
        assert job.folder.exit_status() is None


def test_a_full_disk_keeps_the_job_running_and_the_save_is_tried_again(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.touch()
    with local_job(tmp_path, WAITS, engine_place=f"{PLACE}FullDisk", engine_options={"full": str(full)}) as job:
        job.submit()
        wait_for_text(job.folder.payload_log, "up")
        job.folder.request("park")
        wait_for(lambda: job.folder.segment(1).failure == "error")
        assert "No space left" in (job.folder.segment(1).reason or "")
        assert job.alive()
        assert generations.numbers(job.folder.images_folder) == []
        full.unlink()
        (parked,) = job.wait()
        assert (parked.outcome, parked.failure, parked.reason) == ("saved", None, None)
        assert not list(job.folder.images_folder.glob(".*"))
        job.folder.clear_request("park")
        (job.work / "go").touch()
        job.submit()
        assert job.wait()[-1].exit == 7
        assert job.said() == "up\nend\n"


def test_a_full_disk_does_not_touch_the_image_before(tmp_path: Path) -> None:
    full = tmp_path / "full"
    with local_job(tmp_path, WAITS, engine_place=f"{PLACE}FullDisk", engine_options={"full": str(full)}) as job:
        job.submit()
        wait_for_text(job.folder.payload_log, "up")
        job.folder.request("checkpoint")
        wait_for(lambda: job.folder.segment(1).generation == 1)
        full.touch()
        job.folder.request("checkpoint")
        wait_for(lambda: any("No space left" in text for text in job.folder.segment(1).warnings))
        wait_for(lambda: "checkpoint" not in job.folder.requests(), "the answer")
        assert job.folder.segment(1).failure is None
        os.kill(job.folder.segment(1).pid, signal.SIGKILL)
        job.wait()
        assert generations.numbers(job.folder.images_folder) == [1]
        assert "checkpoint" not in job.folder.requests()
        (job.work / "go").touch()
        job.submit()
        last = job.wait()[-1]
        assert (last.restored_from, last.exit) == (1, 7)
        assert job.said() == "up\nend\n"


def test_a_save_that_stumbles_is_tried_again(tmp_path: Path) -> None:
    with local_job(tmp_path, WAITS, engine_place=f"{PLACE}Clumsy") as job:
        job.submit()
        wait_for_text(job.folder.payload_log, "up")
        job.folder.request("park")
        (parked,) = job.wait()
        assert parked.outcome == "saved"
        assert any("stumbled" in warning for warning in parked.warnings)


def test_a_walltime_that_is_too_short_is_refused_with_the_arithmetic(tmp_path: Path) -> None:
    with local_job(tmp_path, "touch began; sleep 300", walltime=3.0, floor=5.0, grace=2.0) as job:
        job.submit()
        (segment,) = job.wait()
        assert (segment.outcome, segment.failure) == ("failed", "refused")
        for part in ("saving is given 5.0 s", "grace is 2.0 s", "7.0 s before anything", "runtime"):
            assert part in (segment.reason or "")
        assert not (job.work / "began").exists()


def test_a_job_without_saving_ends_with_its_walltime_and_says_why(tmp_path: Path) -> None:
    with local_job(tmp_path, "echo up; sleep 300", engine_place=PLAIN, walltime=2.0, grace=1.0) as job:
        job.submit()
        (segment,) = job.wait()
        assert (segment.outcome, segment.failure) == ("failed", "walltime")
        assert "more runtime" in (segment.reason or "")


def test_a_job_without_saving_ends_as_it_ends(tmp_path: Path) -> None:
    with local_job(tmp_path, "echo up; exit 7", engine_place=PLAIN, walltime=60.0) as job:
        job.submit()
        (segment,) = job.wait()
        assert (segment.outcome, segment.exit, job.said()) == ("finished", 7, "up\n")


def test_a_wish_to_save_does_not_end_a_job_that_is_not_saved(tmp_path: Path) -> None:
    with local_job(tmp_path, WAITS, engine_place=PLAIN) as job:
        job.submit()
        wait_for_text(job.folder.payload_log, "up")
        job.folder.request("checkpoint")
        wait_for(lambda: "checkpoint" not in job.folder.requests(), "the answer")
        assert job.alive()
        (job.work / "go").touch()
        (segment,) = job.wait()
        assert (segment.outcome, segment.exit) == ("finished", 7)
        assert any("not saved" in warning for warning in segment.warnings)


def test_an_engine_that_cannot_be_loaded_is_said_in_the_batch_log(tmp_path: Path) -> None:
    with local_job(tmp_path, WAITS, engine_place="helpers.saboteurs:Absent") as job:
        job.submit()
        assert job.wait() == []
        assert "Absent" in job.batch_log()


def test_a_folder_that_is_no_job_is_said_and_not_made_one(tmp_path: Path) -> None:
    with local_job(tmp_path, WAITS) as job:
        job.folder.job_file.unlink()
        job.submit()
        assert job.wait() == []
        assert "is not a job folder" in job.batch_log()


def test_a_job_without_saving_does_not_outlive_its_killed_supervisor(tmp_path: Path) -> None:
    command = "setsid sh -c 'while :; do date +%s.%N > beat; sleep 0.05; done' & echo up; sleep 60"
    with local_job(tmp_path, command, engine_place=PLAIN) as job:
        job.submit()
        wait_for((job.work / "beat").exists)
        os.kill(job.running_segment().pid, signal.SIGKILL)
        wait_for(lambda: not job.alive())
        time.sleep(0.5)  # for what is to be ended; then nobody writes any more
        before = (job.work / "beat").read_text()
        time.sleep(0.5)
        assert (job.work / "beat").read_text() == before


def test_a_job_that_cannot_be_saved_is_not_begun_again_when_its_walltime_is_over(tmp_path: Path) -> None:
    with local_job(tmp_path, WAITS, engine_place=f"{PLACE}NeverSavable", walltime=5.0, floor=1.0, grace=1.0) as job:
        job.submit()
        (segment,) = job.wait()
        assert (segment.outcome, segment.failure) == ("failed", "unsavable")
        assert "plays the flute" in (segment.reason or "")
        step = decide([segment], False, job.folder.exit_status(), Liveness.GONE, 0, Policy())
        assert (step.action, step.retry) == ("fail", False)
