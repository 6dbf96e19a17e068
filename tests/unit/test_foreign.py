"""A chain that goes on under another scheduler: what the one before calls a batch job is never asked of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.histories import History

from snakemake_executor_plugin_ckpt.chain import NEVER_STARTED, REFUSALS, Step
from snakemake_executor_plugin_ckpt.errors import StateError
from snakemake_executor_plugin_ckpt.head import interrupt
from snakemake_executor_plugin_ckpt.head.asking import Asker
from snakemake_executor_plugin_ckpt.head.watched import WatchedJob, stop
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness, Request
from snakemake_executor_plugin_ckpt.schedulers.local import Local

HOURS = 3600.0
pytestmark = pytest.mark.usefixtures("no_fsync")

#: A scheduler that left a chain behind, one that goes on with it, and how the first one's batch job is called: numbers
#: are another's job there.
OTHERS = [("local", "oar", "ckpt-1"), ("local", "lsf", "ckpt-1"), ("oar", "lsf", "17"), ("slurm", "local", "17")]
foreign = pytest.mark.parametrize(("left", "now", "job_id"), OTHERS, ids=[f"{left}-{now}" for left, now, _ in OTHERS])


class _Stranger(Local):
    """Fails of every question that is not about what was submitted to it."""

    def __init__(self, state_dir: Path, name: str) -> None:
        super().__init__(state_dir)
        self.name = name
        self.shared = name != "local"
        self.mine: list[str] = []

    def submit(self, request: Request) -> str:
        self.mine.append("17")  # each scheduler counts for itself
        return "17"

    def find(self, name: str) -> str | None:
        raise AssertionError(f"looked up: {name}")

    def liveness(self, job_ids: Sequence[str]) -> dict[str, Liveness]:
        assert set(job_ids) <= set(self.mine)
        return dict.fromkeys(job_ids, Liveness.ALIVE)

    def cancel(self, job_ids: Sequence[str]) -> None:
        assert set(job_ids) <= set(self.mine)


def left_by(tmp_path: Path, scheduler: str, job_id: str | None) -> History:
    """A chain whose batch job is of another scheduler; without an id, its answer was lost."""
    history = History(tmp_path, "key")
    folder = history.folder
    one = folder.submissions()[-1]
    folder.submissions_folder.joinpath("0001.yaml").unlink()
    one = folder.intend(1, scheduler, None)
    if job_id is not None:
        folder.submitted(one, job_id)
        history.batch = job_id
    return history


def asked_step(job: WatchedJob) -> Step:
    """What is next, when all was asked that an executor asks."""
    asker = Asker(job.scheduler, clock=lambda: time.monotonic() + HOURS)
    return job.next_step(asker.at_once(job) | asker.liveness([job]))


@foreign
@pytest.mark.parametrize("known", [True, False])
def test_a_chain_that_another_scheduler_saved_goes_on_under_this_one(
    tmp_path: Path, left: str, now: str, job_id: str, known: bool
) -> None:
    history = left_by(tmp_path, left, job_id if known else None)
    history.saved(scheduler=left, job_id=job_id, parked=True, submission=1)
    job = WatchedJob(history.folder, _Stranger(tmp_path, now))
    job.check_scheduler()
    step = asked_step(job)
    assert (step.action, step.reason) == ("submit", "resumes from image 1")
    job.submit(step)
    assert asked_step(job).action == "wait"
    assert job.job_ids() == ["17"]
    assert asked_step(WatchedJob(history.folder, job.scheduler)).action == "wait"


@foreign
def test_a_segment_that_another_scheduler_runs_is_told_and_neither_asked_about_nor_ended(
    tmp_path: Path, left: str, now: str, job_id: str
) -> None:
    history = left_by(tmp_path, left, job_id)
    history.segment(scheduler=left, job_id=job_id)
    job = WatchedJob(history.folder, _Stranger(tmp_path, now))
    said = f"runs under --ckpt-scheduler {left}"
    with pytest.raises(StateError, match=said):
        asked_step(job)
    with pytest.raises(StateError, match=said):
        stop([job], 1.0)
    assert history.folder.requests() == set()
    interrupt.end([job], "cancel", logging.getLogger())
    assert history.folder.requests() == {"cancel"}, "which its segment obeys"


def test_what_another_scheduler_never_started_or_refused_does_not_speak_against_this_one(tmp_path: Path) -> None:
    history = left_by(tmp_path, "slurm", "17")
    history.saved(scheduler="slurm", submission=1)
    for _ in range(NEVER_STARTED):
        history.folder.submitted(history.folder.intend(1, "slurm", None), "18")
    for _ in range(REFUSALS):
        history.folder.void(history.folder.intend(1, "slurm", None), "closed")
    job = WatchedJob(history.folder, _Stranger(tmp_path, "oar"))
    assert asked_step(job).action == "submit"


def test_who_comes_back_to_a_scheduler_finds_the_batch_job_there(tmp_path: Path) -> None:
    history = left_by(tmp_path, "slurm", "17")
    history.folder.submitted(history.folder.intend(1, "oar", None), "4")
    history.saved(scheduler="oar", job_id="4", submission=2)
    slurm = _Stranger(tmp_path, "slurm")
    slurm.mine = ["17"]
    job = WatchedJob(history.folder, slurm)
    assert job.job_ids() == ["17"]
    assert asked_step(job).action == "wait"


def test_a_number_that_two_schedulers_gave_is_not_one_batch_job(tmp_path: Path) -> None:
    history = left_by(tmp_path, "slurm", "17")
    history.saved(scheduler="slurm", submission=1)
    for number in range(NEVER_STARTED):
        history.folder.submitted(history.folder.intend(1, "oar", None), str(15 + number))
    job = WatchedJob(history.folder, _Stranger(tmp_path, "oar"))
    assert "ended without starting" in job.next_step({"17": Liveness.GONE}).reason
