"""When a segment saves and ends by itself: as the settings of this very segment say."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from helpers.chains import Chain
from helpers.counting import WATCHED
from helpers.jobs import local_job
from helpers.waiting import wait_for

pytestmark = pytest.mark.criu

#: Counts until it is told to end.
COUNT = "n=0; until [ -e go ]; do n=$((n + 1)); echo $n; echo $n >> appended; sleep 0.05; done | tee -a copied; exit 7"


def test_a_period_that_is_worked_out_saves_again_and_again(tmp_path: Path) -> None:
    mtbf, least = 4.0, 1.5  # seconds; of a save that takes the half second which every save is taken to need
    with local_job(tmp_path, COUNT, WATCHED, period="auto", mtbf=mtbf) as job:
        job.submit()
        wait_for(lambda: job.folder.segment_numbers() and job.folder.segment(1).saves >= 2, "two saves")
        os.kill(job.running_segment().pid, signal.SIGKILL)
        (first,) = job.wait()
        assert first.images[2] - first.images[1] >= least
        job.submit()
        again = job.running_segment(2)
        (job.work / "go").touch()
        _, second = job.wait()
        assert again.restored_from == second.restored_from == first.generation
        assert (second.outcome, second.exit) == ("finished", 7)
        said = job.said()
        assert said == "".join(f"{number}\n" for number in range(1, len(said.split()) + 1))
        assert (job.work / "appended").read_text() == (job.work / "copied").read_text() == said


def test_later_segments_that_are_given_more_time_use_it(tmp_path: Path) -> None:
    command = "echo up; until [ -e go ]; do sleep 0.02; done; exit 7"
    with local_job(tmp_path, command, walltime=4.0, grace=0.5, floor=1.0, later={"runtime": "0.5"}) as job:
        chain = Chain(job)
        chain.until(lambda: 2 in job.folder.segment_numbers())
        second = job.running_segment(2)
        assert second.walltime_end is not None
        assert second.walltime_end - second.started > 20.0
        chain.until(lambda: time.time() > second.started + 6.0)
        (job.work / "go").touch()
        chain.end()
        assert [one.outcome for one in job.folder.segments()] == ["saved", "finished"]
        assert job.folder.exit_status() == 7
