"""A segment that was declared lost and lives: it has no word in the job any more, and takes nothing from the next."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from helpers.jobs import LocalJob, a_segment, local_job
from helpers.waiting import wait_for, wait_for_text

from snakemake_executor_plugin_ckpt.images import generations

pytestmark = pytest.mark.criu

WAITS = "echo up; until [ -e go ]; do sleep 0.02; done; exit {status}"


def partitioned(job: LocalJob) -> None:
    """A segment that made an image, on a node that came back after it was declared lost."""
    job.submit()
    wait_for_text(job.folder.payload_log, "up")
    job.folder.request("checkpoint")
    wait_for(lambda: "checkpoint" not in job.folder.requests(), "the save")
    time.sleep(0.5)  # till it waits for the payload's end only, and looks at nothing else before that
    job.folder.declare_lost(1, "its node does not answer")


@pytest.mark.parametrize("status", [0, 7])
@pytest.mark.parametrize("claimed", [True, False])
def test_a_payload_that_ends_when_its_segment_was_declared_lost_has_not_ended_the_job(
    tmp_path: Path, claimed: bool, status: int
) -> None:
    with local_job(tmp_path, WAITS.format(status=status)) as job:
        partitioned(job)
        if claimed:
            assert job.folder.claim(a_segment(2, job_id="another", host="elsewhere"))
        (job.work / "go").touch()
        assert job.wait()[0].outcome == "running", "our record says no more"
        assert job.folder.exit_status() is None
        assert generations.numbers(job.folder.images_folder) == [1]
        assert job.folder.tmp_folder.is_dir()


def test_the_next_segment_ends_what_a_lost_one_only_seemed_to_end(tmp_path: Path) -> None:
    with local_job(tmp_path, WAITS.format(status=7)) as job:
        partitioned(job)
        (job.work / "go").touch()
        job.wait()
        job.submit()
        lost, last = job.wait()
        assert (lost.outcome, last.outcome, last.restored_from, last.exit) == ("running", "finished", 1, 7)
        assert job.folder.exit_status() == 7
        assert job.said() == "up\n"
