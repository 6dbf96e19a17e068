"""Chains that would never end: saves that the walltime cuts off, and more segments than are allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.chains import Chain
from helpers.counting import WATCHED, assert_as_one_run, count, journal
from helpers.jobs import local_job
from helpers.saboteurs import PLACE

from snakemake_executor_plugin_ckpt.images import generations

pytestmark = pytest.mark.criu


def test_a_save_that_the_walltime_cut_off_is_begun_earlier_in_the_next_segment(tmp_path: Path) -> None:
    slow: dict[str, Any] = {"engine_place": f"{PLACE}Slow", "engine_options": {"seconds": "3.5"}}
    command = "echo up; sleep 3; until [ -e go ]; do sleep 0.02; done; exit 7"
    with local_job(tmp_path, command, walltime=10.0, grace=1.0, floor=0.8, **slow) as job:
        chain = Chain(job)
        chain.until(lambda: len(job.folder.segment_numbers()) == 3)
        (job.work / "go").touch()
        assert chain.end().reason == "the job ended with exit status 7"
        cut, saved, last = job.folder.segments()
        assert (cut.outcome, saved.outcome, last.restored_from) == ("running", "saved", 1)
        assert cut.save_given is not None
        assert 0 < cut.save_given < 3.5
        assert any("the walltime cut off a save that had" in text for text in saved.warnings)
        assert saved.ended is not None
        assert saved.walltime_end is not None
        assert saved.walltime_end - saved.ended > 0
        assert last.save_given is None
        assert job.said() == "up\n"


def test_saves_that_never_fit_into_the_walltime_are_given_up_with_the_reason(tmp_path: Path) -> None:
    slow: dict[str, Any] = {"engine_place": f"{PLACE}Slow", "engine_options": {"seconds": "60"}}
    with local_job(tmp_path, "sleep 300; exit 7", walltime=2.0, grace=0.4, floor=0.4, **slow) as job:
        step = Chain(job).end()
        assert (step.action, step.retry) == ("fail", False)
        for part in (
            "no progress in 3 segments",
            "the walltime ended in the middle of a save, which needs more than",
            "--ckpt-margin",
            "--ckpt-save-floor",
            "runtime",
            "run Snakemake again to go on",
        ):
            assert part in step.reason
        segments = job.folder.segments()
        assert len(segments) == 4
        assert all(one.save_given is not None for one in segments)
        assert all(one.outcome == "running" and job.folder.lost(one.number) for one in segments)


def test_a_chain_ends_after_the_most_segments_and_goes_on_when_it_is_run_again(tmp_path: Path) -> None:
    settings = {"walltime": 4.5, "grace": 0.5, "floor": 1.0, "max_segments": 2}
    with local_job(tmp_path, count(160), WATCHED, **settings) as job:
        chain = Chain(job)
        step = chain.end()
        assert (step.action, step.retry) == ("fail", False)
        for part in ("not done after 2 segments", "--ckpt-max-segments 2", "images are kept", "run Snakemake again"):
            assert part in step.reason
        assert generations.numbers(job.folder.images_folder) == [1, 2]
        assert len(journal(job)) <= 2
        chain.watched.forgive()
        while (step := chain.end()).action == "fail" and "--ckpt-max-segments" in step.reason:
            chain.watched.forgive()
        assert step.reason == "the job ended with exit status 7"
        assert_as_one_run(job, 160)
