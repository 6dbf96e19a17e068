"""A node whose clock is hours wrong, or is set in the middle of a segment: no walltime is missed, no chain fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.chains import Chain
from helpers.counting import WATCHED, assert_as_one_run, count
from helpers.jobs import local_job
from helpers.saboteurs import PLACE

from snakemake_executor_plugin_ckpt.cli.facts import read
from snakemake_executor_plugin_ckpt.cli.timeline import timeline
from snakemake_executor_plugin_ckpt.cli.view import segments as views

pytestmark = pytest.mark.criu


@pytest.mark.parametrize("hours", ["5", "-5"])
def test_a_clock_that_is_set_moves_no_deadline(tmp_path: Path, hours: str) -> None:
    settings = {"engine_place": f"{PLACE}ClockSet", "engine_options": {"hours": hours}}
    with local_job(tmp_path, count(50), WATCHED, walltime=3.2, grace=0.4, floor=1.3, **settings) as job:
        step = Chain(job).end()
        assert step.reason == "the job ended with exit status 7"
        segments = job.folder.segments()
        assert len(segments) >= 2
        assert [one.outcome for one in segments[:-1]] == ["saved"] * (len(segments) - 1)
        assert abs((segments[0].ended or 0.0) - segments[0].started) > 4 * 3600, "the clock was not set"
        assert len(job.folder.submissions()) == 1
        assert_as_one_run(job, 50)
        shown = views(read(job.folder), segments[-1].started)
        assert all(one.computing_seconds >= 0 and one.lost_seconds >= 0 for one in shown)
        assert len(timeline(shown, 80)) >= len(segments)
