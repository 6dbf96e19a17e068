"""That nothing is known of a batch job is told: once, after minutes, with the way out. It is never an answer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from helpers.histories import ELSEWHERE, History

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.chain import Step
from snakemake_executor_plugin_ckpt.head.asking import UNHEARD, Asker
from snakemake_executor_plugin_ckpt.head.narrate import Narrator
from snakemake_executor_plugin_ckpt.head.watched import WatchedJob
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness
from snakemake_executor_plugin_ckpt.schedulers.local import Local
from snakemake_executor_plugin_ckpt.state import durable

pytestmark = pytest.mark.usefixtures("no_fsync")
#: Seconds; longer than the longest pause between two questions.
LONG = 800


class Cluster(Local):
    """One of many users' machines; names of batch jobs are told as unknown, or all of them."""

    name = "cluster"
    shared = True
    unheard: frozenset[str] = frozenset()
    away = False

    def liveness(self, job_ids: Sequence[str]) -> dict[str, Liveness]:
        return {one: Liveness.UNKNOWN if self.away or one in self.unheard else Liveness.ALIVE for one in job_ids}

    def find(self, name: str) -> str | None:
        raise AssertionError(name)


class Head:
    """What an executor does about silence, with a clock of its own."""

    def __init__(self, scheduler: Local, jobs: list[WatchedJob], caplog: pytest.LogCaptureFixture) -> None:
        self.now = jobs[0].heard + LONG
        self.jobs = jobs
        self.asker = Asker(scheduler, lambda: self.now)
        self.narrator = Narrator(logging.getLogger("ckpt"))
        self.caplog = caplog

    def rounds(self, seconds: float) -> list[str]:
        """What was said in all rounds of so many seconds."""
        self.caplog.clear()
        for _ in range(int(seconds / 20)):
            known = self.asker.liveness(self.jobs)
            self.narrator.waits_in_vain(self.jobs, self.asker.held, self.asker.silent)
            self.steps = [job.next_step(known) for job in self.jobs]
            self.now += 20
        return [record.getMessage() for record in self.caplog.records]


def jobs_of(tmp_path: Path, scheduler: Local, count: int, name: str = "cluster") -> list[WatchedJob]:
    found = []
    for number in range(1, count + 1):
        history = History(tmp_path, f"key-{number}", wildcards=f"x={number}")
        one = history.folder.submissions()[-1]
        durable.replace(
            history.folder.submissions_folder / "0001.yaml",
            durable.to_yaml(replace(one, scheduler=name, job_id=str(number)).to_dict()),
        )
        history.segment(scheduler=name, job_id=str(number), submission=1)
        found.append(WatchedJob(history.folder, scheduler))
    return found


def test_an_outage_while_nothing_is_submitted_is_told_once_for_all_jobs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster(tmp_path)
    cluster.away = True
    head = Head(cluster, jobs_of(tmp_path, cluster, 7), caplog)
    (said,) = head.rounds(2 * LONG)
    assert "cluster does not say since " in said
    assert f"1 of count (x=1) (on {ELSEWHERE}), 2 of count (x=2)" in said
    assert "5 of count" in said and "6 of count" not in said and "and 2 more" in said
    assert "end the batch job yourself: its chain then goes on from its last image" in said
    assert [step.action for step in head.steps] == ["wait"] * 7
    cluster.away = False
    assert head.rounds(LONG) == []
    cluster.away = True
    assert len(head.rounds(LONG)) == 1, "another outage"


def test_an_outage_of_a_few_minutes_is_not_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster(tmp_path)
    head = Head(cluster, jobs_of(tmp_path, cluster, 2), caplog)
    for _ in range(3):
        cluster.away = True
        assert head.rounds(UNHEARD) == []
        cluster.away = False  # the next question comes after that
        assert head.rounds(LONG) == []


def test_one_job_of_which_a_scheduler_knows_nothing_is_told_once_with_its_host(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster(tmp_path)
    cluster.unheard = frozenset({"2"})
    head = Head(cluster, jobs_of(tmp_path, cluster, 3), caplog)
    assert head.rounds(UNHEARD) == []
    (said,) = head.rounds(LONG)
    assert f"2 of count (x=2) (on {ELSEWHERE}). " in said
    assert "x=1" not in said and "x=3" not in said


def keeper_elsewhere(tmp_path: Path, job_id: str) -> Path:
    kept = tmp_path / ".local" / f"{job_id}.yaml"
    kept.parent.mkdir(exist_ok=True)
    kept.write_bytes(durable.to_yaml(asdict(proc.ProcessId(ELSEWHERE, "its boot", 4711, 1))))
    return kept


def test_a_job_that_another_machine_keeps_is_told_once_and_goes_on_by_the_way_out_that_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    local = Local(tmp_path)
    jobs = jobs_of(tmp_path, local, 2, "local")
    kept = [keeper_elsewhere(tmp_path, job_id) for job_id in ("1", "2")]
    head = Head(local, jobs, caplog)
    assert head.rounds(UNHEARD) == []
    assert [step.action for step in head.steps] == ["wait"] * 2
    said = head.rounds(LONG)
    assert len(said) == 2
    for number, text in enumerate(said, start=1):
        assert f"count (x={number}): whether batch job {number} still runs is not known since" in text
        assert f"it was started on {ELSEWHERE}" in text
        assert f"remove {kept[number - 1]}" in text
    kept[0].unlink()
    assert head.rounds(LONG) == []
    assert [step.action for step in head.steps] == ["lost", "wait"]


@pytest.mark.parametrize(
    ("outcome", "alive", "said"),
    [
        ("running", Liveness.ALIVE, "was found: it still runs"),
        ("running", None, f"was found: it ran on {ELSEWHERE}; whether it still does is not known yet"),
        ("saved", Liveness.ALIVE, "was found: its next batch job is submitted"),
        ("saved", None, "was found: its last segment is over; whether its next batch job waits is not known yet"),
    ],
)
def test_what_was_not_asked_is_not_told_of_a_job_that_was_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, outcome: str, alive: Liveness | None, said: str
) -> None:
    history = History(tmp_path, "key")
    if outcome == "saved":
        history.saved(submission=1)
    else:
        history.segment(submission=1)
    job = WatchedJob(history.folder, Local(tmp_path))
    step = job.next_step({} if alive is None else {history.batch: alive})
    assert step == Step("wait")
    caplog.set_level(logging.INFO)
    Narrator(logging.getLogger("ckpt")).attached(job, step)
    assert [record.getMessage() for record in caplog.records] == [f"ckpt: count {said}"]


def test_a_batch_job_on_hold_is_told_also_if_it_is_the_first_of_two(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Held(Cluster):
        def held(self, job_ids: Sequence[str]) -> dict[str, str]:
            return {one: "it is on hold" for one in job_ids if one == "1"}

        def liveness(self, job_ids: Sequence[str]) -> dict[str, Liveness]:
            return {one: Liveness.ALIVE if one == "1" else Liveness.GONE for one in job_ids}

    cluster = Held(tmp_path)
    (job,) = jobs_of(tmp_path, cluster, 1)
    job.folder.submitted(job.folder.intend(1, "cluster", None), "2")
    head = Head(cluster, [WatchedJob(job.folder, cluster)], caplog)
    assert head.rounds(LONG) == ["ckpt: count (x=1): batch job 1 does not start by itself: it is on hold"]
