"""A job, or one of its processes, that ends in the very moment of a save: it is over by its own word, or saved."""

from __future__ import annotations

import os
import random
import signal
import time
from functools import partial
from pathlib import Path

import pytest
from helpers.chains import Chain
from helpers.jobs import LocalJob, local_job
from helpers.saboteurs import PLACE
from helpers.waiting import wait_for, wait_for_text

pytestmark = pytest.mark.criu

WAITS = "echo up; until [ -e go ]; do sleep 0.02; done; echo end; exit 7"


@pytest.mark.parametrize("on_unsavable", ["run", "fail"])
@pytest.mark.parametrize("what", ["park", "checkpoint"])
def test_a_job_that_ends_before_the_save_takes_hold_has_finished(tmp_path: Path, what: str, on_unsavable: str) -> None:
    options = {"go": str(tmp_path / "work" / "go")}
    with local_job(
        tmp_path, WAITS, engine_place=f"{PLACE}Ended", engine_options=options, on_unsavable=on_unsavable
    ) as job:
        job.submit()
        wait_for_text(job.folder.payload_log, "up")
        job.folder.request("park" if what == "park" else "checkpoint")
        (segment,) = job.wait()
        assert (segment.outcome, segment.exit, segment.failure, segment.reason) == ("finished", 7, None, None)
        assert (segment.saves, job.folder.exit_status()) == (0, 7)
        assert job.said() == "up\nend\n"


def test_whenever_a_job_ends_around_its_save_it_has_finished_or_is_saved(tmp_path: Path) -> None:
    chance = random.Random(7)
    # Saved in the moment between the job's last word, on the disk, and its end: then that word counts.
    allowed = (["finished"], ["saved", "finished"], ["saved"])
    for number in range(6):
        base = tmp_path / str(number)
        base.mkdir()
        with local_job(base, "echo up; read -r word < go; echo end; exit 7", on_unsavable="fail") as job:
            os.mkfifo(job.work / "go")
            opened = os.open(job.work / "go", os.O_RDWR)
            chain = Chain(job)
            chain.round()
            wait_for_text(job.folder.payload_log, "up")
            os.kill(job.running_segment().pid, signal.SIGUSR2)
            time.sleep(chance.uniform(0.0, 0.08))
            os.write(opened, b"word\n")
            assert chain.end().reason == "the job ended with exit status 7"
            os.close(opened)
            segments = job.wait()
            assert [one.outcome for one in segments] in allowed, [one.to_dict() for one in segments]
            assert job.said() == "up\nend\n"


def has_saves(job: LocalJob, number: int) -> bool:
    return job.folder.segment(1).saves >= number


def test_a_tree_whose_processes_end_all_the_time_is_saved_by_trying_again(tmp_path: Path) -> None:
    command = "echo up; until [ -e go ]; do /bin/true; done; exit 7"
    with local_job(tmp_path, command) as job:
        job.submit()
        wait_for_text(job.folder.payload_log, "up")
        for number in (1, 2, 3):
            job.folder.request("checkpoint")
            wait_for(partial(has_saves, job, number), "the save")
            wait_for(lambda: "checkpoint" not in job.folder.requests())
        (job.work / "go").touch()
        (segment,) = job.wait()
        assert (segment.outcome, segment.exit) == ("finished", 7)


def test_a_save_for_safety_that_stumbles_is_tried_again_soon(tmp_path: Path) -> None:
    with local_job(tmp_path, WAITS, engine_place=f"{PLACE}Clumsy") as job:
        job.submit()
        wait_for_text(job.folder.payload_log, "up")
        job.folder.request("checkpoint")
        wait_for(lambda: job.folder.segment(1).saves == 1, "the third try")
        wait_for(lambda: "checkpoint" not in job.folder.requests())
        assert any("stumbled" in warning for warning in job.folder.segment(1).warnings)
        (job.work / "go").touch()
        (segment,) = job.wait()
        assert (segment.outcome, segment.exit) == ("finished", 7)
