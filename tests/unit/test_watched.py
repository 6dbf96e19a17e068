"""What the head makes of a job's records; by numbers, because clocks of different machines do not agree."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from helpers.histories import History

from snakemake_executor_plugin_ckpt.chain import NEVER_STARTED, REFUSALS, Step
from snakemake_executor_plugin_ckpt.errors import NoAnswer, SchedulerError
from snakemake_executor_plugin_ckpt.head import interrupt
from snakemake_executor_plugin_ckpt.head.watched import WatchedJob, stop
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness, Request
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


class _Away(Local):
    """Does what it is told to next: raise, or know batch jobs by their names."""

    error: Exception | None = None
    found: str | None = None

    def submit(self, request: Request) -> str:
        if self.error:
            raise self.error
        return "id"

    def find(self, name: str) -> str | None:
        if self.error:
            raise self.error
        return self.found


def _away(history: History) -> tuple[WatchedJob, _Away]:
    cluster = _Away(history.folder.path.parent)
    return WatchedJob(history.folder, cluster), cluster


def test_submissions_that_nobody_heard_are_no_batch_jobs_that_did_not_start(tmp_path: Path) -> None:
    history = History(tmp_path, "key")
    history.saved(submission=1, restored_from=None)
    job, cluster = _away(history)
    for _ in range(2 * NEVER_STARTED):
        step = job.next_step({history.batch: Liveness.GONE})
        assert step.action == "submit"
        cluster.error = NoAnswer("nobody there")
        with pytest.raises(NoAnswer):
            job.submit(step)
        with pytest.raises(NoAnswer):
            job.next_step({})  # nothing is submitted before the name was looked up
        cluster.error = None
        assert job.unanswered
    assert job.job_id is None
    assert [one.void for one in history.folder.submissions()] == [None, *[""] * 2 * NEVER_STARTED]
    assert WatchedJob(history.folder, cluster).next_step({}).action == "submit"


def test_a_submission_whose_answer_was_lost_is_found_by_its_name(tmp_path: Path) -> None:
    history = History(tmp_path, "key")
    history.saved(submission=1)
    job, cluster = _away(history)
    cluster.error = NoAnswer("the answer was lost")
    with pytest.raises(NoAnswer):
        job.submit(job.next_step({history.batch: Liveness.GONE}))
    cluster.error, cluster.found = None, "17"
    assert job.next_step({"17": Liveness.ALIVE}).action == "wait"
    assert history.folder.submissions()[-1].job_id == "17"
    assert history.folder.submissions()[-1].void is None


def test_what_is_refused_again_and_again_ends_the_chain_with_the_last_reason(tmp_path: Path) -> None:
    history = History(tmp_path, "key")
    history.saved(submission=1)
    job, cluster = _away(history)
    for number in range(REFUSALS):
        step = job.next_step({history.batch: Liveness.GONE})
        assert step.action == "submit", step
        cluster.error = SchedulerError(f"the account is closed ({number})")
        with pytest.raises(SchedulerError, match="account"):
            job.submit(step)
        assert not job.refused.over
        cluster.error = None
    step = job.next_step({})
    assert step.action == "fail"
    assert f"the account is closed ({REFUSALS - 1})" in step.reason
    job.forgive()
    assert job.next_step({}).action == "submit"


def test_an_accepted_submission_makes_refusals_before_it_void(tmp_path: Path) -> None:
    history = History(tmp_path, "key")
    history.saved(submission=1)
    job, cluster = _away(history)
    for number in range(REFUSALS):
        cluster.error = SchedulerError("closed") if number != 2 else None
        with suppress(SchedulerError):
            job.submit(Step("submit"))
        cluster.error = None
        assert job.job_id == ("id" if number == 2 else None)
    assert job.refused.failing
    assert job.next_step({}).action == "submit"


class _Slow(Local):
    """Batch jobs that end after so many looks; notes what it is asked."""

    shared = True
    looks = 6

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self.asked: list[tuple[str, ...]] = []
        self.cancelled: list[list[str]] = []

    def cancel(self, job_ids: Sequence[str]) -> None:
        self.cancelled.append(list(job_ids))

    def liveness(self, job_ids: Sequence[str]) -> dict[str, Liveness]:
        self.asked.append(tuple(job_ids))
        gone = len(self.asked) >= self.looks
        return dict.fromkeys(job_ids, Liveness.GONE if gone else Liveness.ALIVE)


def test_many_jobs_are_stopped_by_one_cancel_and_one_question_a_round_ever_more_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = _Slow(tmp_path)
    histories = [History(tmp_path, f"key-{number}") for number in range(5)]
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    stop([WatchedJob(history.folder, cluster) for history in histories], 60.0)
    ids = [history.batch for history in histories]
    assert cluster.cancelled == [ids]
    assert cluster.asked == [tuple(ids)] * cluster.looks
    assert pauses == sorted(pauses)
    assert pauses[-1] > 4 * pauses[0]
    assert [history.folder.requests() for history in histories] == [set()] * 5


def test_a_cancelled_workflow_is_one_cancel(tmp_path: Path) -> None:
    cluster = _Slow(tmp_path)
    histories = [History(tmp_path, f"key-{number}") for number in range(5)]
    interrupt.end([WatchedJob(history.folder, cluster) for history in histories], "cancel", logging.getLogger())
    assert cluster.cancelled == [[history.batch for history in histories]]
    assert [history.folder.requests() for history in histories] == [{"cancel"}] * 5


def test_a_cancelled_workflow_looks_up_one_job_in_an_outage(tmp_path: Path) -> None:
    class Silent(_Slow):
        found = 0

        def find(self, name: str) -> str | None:
            self.found += 1
            raise NoAnswer("nobody there")

    cluster = Silent(tmp_path)
    histories = [History(tmp_path, f"key-{number}") for number in range(4)]
    for history in histories[:3]:
        history.folder.intend(1, "local", None)
    interrupt.end([WatchedJob(history.folder, cluster) for history in histories], "cancel", logging.getLogger())
    assert cluster.found == 1
    assert cluster.cancelled == [[histories[3].batch]]
