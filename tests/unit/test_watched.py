"""What the head makes of a job's records; by numbers, because clocks of different machines do not agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.histories import History

from snakemake_executor_plugin_ckpt.chain import NEVER_STARTED
from snakemake_executor_plugin_ckpt.head.watched import WatchedJob
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness
from snakemake_executor_plugin_ckpt.schedulers.local import Local

HOURS = 3600.0
pytestmark = pytest.mark.usefixtures("no_fsync")


def watched(history: History) -> WatchedJob:
    return WatchedJob(history.folder, Local(history.folder.path.parent))


def action(job: WatchedJob) -> str:
    assert job.job_id is not None
    return job.next_step({job.job_id: Liveness.GONE}).action


@pytest.mark.parametrize("hours", [-5, 0, 5])
def test_the_clock_of_a_node_does_not_make_batch_jobs_seem_unstarted(tmp_path: Path, hours: float) -> None:
    history = History(tmp_path, "key")
    job = watched(history)
    for number in range(1, 2 * NEVER_STARTED):
        started = history.folder.submissions()[-1].submitted + hours * HOURS
        history.saved(started=started, submission=number, useful=10.0 * number)
        assert action(job) == "submit"
        history.submit()
        job = watched(history)


@pytest.mark.parametrize("hours", [-5, 0, 5])
def test_the_clock_of_a_node_does_not_hide_batch_jobs_that_never_start(tmp_path: Path, hours: float) -> None:
    history = History(tmp_path, "key")
    history.saved(started=history.folder.submissions()[-1].submitted + hours * HOURS, submission=1)
    for _ in range(NEVER_STARTED):
        assert action(watched(history)) == "submit"
        history.submit()
    assert action(watched(history)) == "fail"


def test_a_batch_job_whose_submission_its_node_did_not_see_yet_counts_as_started(tmp_path: Path) -> None:
    history = History(tmp_path, "key")
    for _ in range(NEVER_STARTED - 1):
        history.submit()
    history.saved(submission=1)
    assert action(watched(history)) == "submit"
    history.submit()
    assert action(watched(history)) == "submit"


def test_who_runs_the_workflow_again_is_forgiven_the_batch_jobs_that_never_started(tmp_path: Path) -> None:
    history = History(tmp_path, "key")
    history.saved(submission=1)
    for _ in range(NEVER_STARTED):
        history.submit()
    job = watched(history)
    assert action(job) == "fail"
    job.forgive()
    assert action(job) == "submit"
    for _ in range(NEVER_STARTED):
        history.submit()
    assert action(watched(history)) == "fail"


class _Cluster(Local):
    """Says of named batch jobs that they are alive, and of all others that they are gone."""

    alive: frozenset[str] = frozenset()

    def liveness(self, job_ids: Sequence[str]) -> dict[str, Liveness]:
        return {one: Liveness.ALIVE if one in self.alive else Liveness.GONE for one in job_ids}


def two_batch_jobs(history: History, *alive: str) -> str:
    """What is next when the answer to the first submission was lost, so that there was a second one."""
    history.submit()
    cluster = _Cluster(history.folder.path.parent)
    cluster.alive = frozenset(alive)
    job = WatchedJob(history.folder, cluster)
    assert job.job_id is not None
    return job.next_step(cluster.liveness([job.job_id])).action


@pytest.mark.parametrize("outcome", ["running", "saved"])
def test_of_two_batch_jobs_the_one_that_runs_the_chain_counts(tmp_path: Path, outcome: str) -> None:
    history = History(tmp_path, "key")
    first = history.batch
    if outcome == "saved":
        history.saved()
    else:
        history.segment()
    assert two_batch_jobs(history, first) == "wait"


def test_a_batch_job_that_was_submitted_for_a_lost_segment_is_waited_for(tmp_path: Path) -> None:
    history = History(tmp_path, "key")
    history.segment()
    history.folder.declare_lost(1, "its node died")
    history.submit()
    second = history.batch
    cluster = _Cluster(tmp_path)
    cluster.alive = frozenset([second])
    job = WatchedJob(history.folder, cluster)
    assert job.next_step(cluster.liveness([second])).action == "wait"
    cluster.alive = frozenset()
    assert job.next_step(cluster.liveness([second])).action == "submit"
