"""Two batch jobs of one chain, because an answer was lost and the first one was not found again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from helpers.histories import History

from snakemake_executor_plugin_ckpt.errors import SchedulerError
from snakemake_executor_plugin_ckpt.head import interrupt
from snakemake_executor_plugin_ckpt.head.asking import Asker
from snakemake_executor_plugin_ckpt.head.watched import WatchedJob, stop
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness
from snakemake_executor_plugin_ckpt.schedulers.local import Local

HOURS = 3600.0
pytestmark = pytest.mark.usefixtures("no_fsync")


class _Twins(Local):
    """Of batch jobs only the first one runs, and ends with the third look; notes what it is asked."""

    shared = True
    looks = 3
    first = ""

    def __init__(self, state_dir: Path, end: Callable[[], object] = lambda: None) -> None:
        super().__init__(state_dir)
        self.end = end
        self.asked: list[tuple[str, ...]] = []
        self.cancelled: list[list[str]] = []

    def cancel(self, job_ids: Sequence[str]) -> None:
        self.cancelled.append(list(job_ids))

    def liveness(self, job_ids: Sequence[str]) -> dict[str, Liveness]:
        self.asked.append(tuple(job_ids))
        if len(self.asked) == self.looks:
            self.end()
        runs = [one for one in job_ids if self.first in ("", one) and len(self.asked) < self.looks]
        return {one: Liveness.ALIVE if one in runs else Liveness.GONE for one in job_ids}


def twins(tmp_path: Path) -> tuple[History, _Twins]:
    history, cluster = History(tmp_path, "key"), _Twins(tmp_path)
    cluster.first = history.batch
    history.segment()
    history.submit()
    return history, cluster


def test_the_first_of_two_batch_jobs_is_ended_before_its_folder_is_anothers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    history, cluster = twins(tmp_path)
    asked_for: list[set[str]] = []
    cluster.end = lambda: asked_for.append(history.folder.requests())
    stop([WatchedJob(history.folder, cluster)], 60.0)
    assert cluster.cancelled == [[cluster.first, history.batch]]
    assert len(cluster.asked) == cluster.looks
    assert asked_for == [{"cancel"}], "until the payload that could still say how it ended is gone"
    assert history.folder.requests() == set()


def test_a_batch_job_that_does_not_end_keeps_the_request_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    history, cluster = twins(tmp_path)
    cluster.looks = 10**9
    with pytest.raises(SchedulerError, match=f"batch job {cluster.first} of key did not end"):
        stop([WatchedJob(history.folder, cluster)], 0.01)
    assert history.folder.requests() == {"cancel"}


def test_both_of_two_batch_jobs_are_cancelled_with_the_workflow(tmp_path: Path) -> None:
    history, cluster = twins(tmp_path)
    interrupt.end([WatchedJob(history.folder, cluster)], "cancel", logging.getLogger())
    assert cluster.cancelled == [[cluster.first, history.batch]]


@pytest.mark.parametrize("outcome", ["running", "saved"])
def test_batch_jobs_of_chains_that_wait_for_another_try_are_in_the_one_question_for_all(
    tmp_path: Path, outcome: str
) -> None:
    cluster = _Twins(tmp_path)
    cluster.looks = 10**9
    histories = [History(tmp_path, f"key-{number}") for number in range(20)]
    now = [time.monotonic() + HOURS]
    asker = Asker(cluster, clock=lambda: now[0])
    jobs = []
    for history in histories:
        if outcome == "saved":
            history.saved(submission=1)
        else:
            history.segment(submission=1)
        history.folder.void(history.folder.intend(1, "local", None), "the account is closed")
        jobs.append(WatchedJob(history.folder, cluster))
    for _ in range(10):
        known = asker.liveness(jobs)
        assert [job.next_step(known).action for job in jobs] == ["wait"] * 20
        now[0] += 5.0
    assert set(cluster.asked) == {tuple(history.batch for history in histories)}
    assert len(cluster.asked) == 3, "one in 20 s"
    cluster.looks = 0
    now[0] += 20.0
    known = asker.liveness(jobs)
    assert {job.next_step(known).action for job in jobs} == {"submit" if outcome == "saved" else "lost"}


def test_a_batch_job_of_which_no_answer_came_gets_no_third_one(tmp_path: Path) -> None:
    history, cluster = History(tmp_path, "key"), _Twins(tmp_path)
    first = history.batch
    history.saved(submission=1)
    history.submit()
    job = WatchedJob(history.folder, cluster)
    assert job.next_step({history.batch: Liveness.GONE}).action == "wait"
    assert job.next_step({history.batch: Liveness.GONE, first: Liveness.UNKNOWN}).action == "wait"
    assert job.next_step({history.batch: Liveness.GONE, first: Liveness.GONE}).action == "submit"


@pytest.mark.parametrize(("how", "ended"), [("saved", True), ("parked", False), ("failed", False), ("earlier", False)])
def test_only_a_batch_job_that_goes_on_with_the_chain_is_ended_besides_the_newest(
    tmp_path: Path, how: str, ended: bool
) -> None:
    history, cluster = History(tmp_path, "key"), _Twins(tmp_path)
    first = history.batch
    if how == "failed":
        history.segment(outcome="failed", failure="killed")
    else:
        history.saved(parked=how == "parked" or None)
    if how == "earlier":
        history.begin_attempt()
    else:
        history.submit()
    interrupt.end([WatchedJob(history.folder, cluster)], "cancel", logging.getLogger())
    assert cluster.cancelled == [[first, history.batch] if ended else [history.batch]], "old ids may be others' by now"
