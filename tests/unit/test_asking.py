"""One question for all jobs, only about those whose records are silent, and rarely when no answer comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from helpers.jobs import a_segment

from snakemake_executor_plugin_ckpt.errors import NoAnswer, SchedulerError
from snakemake_executor_plugin_ckpt.head.asking import SETTLED, SILENT, UNHEARD, Asker, Silence
from snakemake_executor_plugin_ckpt.head.backoff import EVERY, OUTAGE, Backoff
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness
from snakemake_executor_plugin_ckpt.state.records import Segment

ALIVE, GONE, UNKNOWN = Liveness.ALIVE, Liveness.GONE, Liveness.UNKNOWN


@dataclass
class Job:
    """What is asked about."""

    job_id: str | None
    heard: float = 0.0
    last_segments: list[Segment] = field(default_factory=list)
    unanswered: bool = False

    @property
    def last(self) -> Segment | None:
        return self.last_segments[-1] if self.last_segments else None

    @property
    def between_segments(self) -> bool:
        return self.last is not None and self.last.outcome != "running"

    def batch_job_of(self, segment: Segment | None) -> str | None:
        return None if segment is None or segment.job_id == "job" else segment.job_id


class Cluster:
    """Counts its calls."""

    shared = True

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.hastened: list[dict[str, Sequence[str]]] = []
        self.answer = ALIVE
        self.unknown: set[str] = set()

    def liveness(self, job_ids: Sequence[str]) -> dict[str, Liveness]:
        self.asked.append(list(job_ids))
        return {one: UNKNOWN if one in self.unknown else self.answer for one in job_ids}

    def held(self, job_ids: Sequence[str]) -> dict[str, str]:
        return dict.fromkeys(job_ids, "why") if self.answer is ALIVE or not self.shared else {}

    def hasten(self, job_ids: Sequence[str], exclude: Mapping[str, Sequence[str]]) -> None:
        self.hastened.append({job_id: exclude[job_id] for job_id in job_ids})


class Time:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def asker(cluster: Cluster, clock: Time) -> Any:
    return Asker(cluster, clock)  # type: ignore[arg-type]


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def clock() -> Time:
    return Time()


def test_a_thousand_jobs_are_one_question(cluster: Cluster, clock: Time) -> None:
    jobs = [Job(str(number)) for number in range(1000)]
    clock.now = SILENT
    known = asker(cluster, clock).liveness(jobs)
    assert len(cluster.asked) == 1
    assert len(known) == 1000


def test_only_jobs_whose_records_are_silent_are_asked_about(cluster: Cluster, clock: Time) -> None:
    clock.now = 1000.0
    running = [a_segment(1, outcome="running")]
    saved = [a_segment(1, outcome="saved")]
    jobs = [
        Job("silent", 1000 - SILENT, running),
        Job("heard", 1001 - SILENT, running),
        Job("pending", 1000 - SILENT, []),
        Job("between", 1000 - SETTLED, saved),
        Job("just saved", 1001 - SETTLED, saved),
        Job(None, 0.0, []),
    ]
    asker(cluster, clock).liveness(jobs)
    assert cluster.asked == [["silent", "pending", "between"]]


def test_nobody_is_asked_while_all_records_speak(cluster: Cluster, clock: Time) -> None:
    assert asker(cluster, clock).liveness([Job("a"), Job("b")]) == {}
    assert cluster.asked == []


def test_the_question_is_not_repeated_in_every_round(cluster: Cluster, clock: Time) -> None:
    asks = asker(cluster, clock)
    for clock.now in range(int(SILENT), int(SILENT + 10 * EVERY)):
        asks.liveness([Job("a")])
    assert len(cluster.asked) == 10


def test_in_an_outage_it_is_asked_ever_more_rarely_and_then_as_before(cluster: Cluster, clock: Time) -> None:
    asks = asker(cluster, clock)
    cluster.answer = UNKNOWN
    for clock.now in range(int(SILENT), int(SILENT) + 7200, 5):
        asks.liveness([Job("a")])
    # 40, 80, 160, 320 s, and then every ten minutes of two hours.
    assert len(cluster.asked) == pytest.approx(5 + (7200 - 600) / OUTAGE, abs=1)
    cluster.answer = ALIVE
    cluster.asked.clear()
    begin = int(clock.now)
    for clock.now in range(begin, begin + int(OUTAGE + 5 * EVERY), 5):
        asks.liveness([Job("a")])
    assert len(cluster.asked) >= 5


def test_a_requeued_job_that_waits_is_hastened_and_kept_off_nodes_that_failed(cluster: Cluster, clock: Time) -> None:
    clock.now = SILENT
    failed = [a_segment(1, outcome="saved"), a_segment(2, outcome="failed", failure="restore", host="bad")]
    jobs = [Job("a", 0.0, [a_segment(1, outcome="saved")]), Job("b", 0.0, failed), Job("c", 0.0, [])]
    asker(cluster, clock).liveness(jobs)
    assert cluster.hastened == [{"a": (), "b": ("bad",)}]


def test_a_job_whose_id_is_not_known_now_keeps_no_other_from_being_asked_about(cluster: Cluster, clock: Time) -> None:
    class Lost(Job):
        @property
        def job_id(self) -> str | None:
            raise SchedulerError("no answer")

        @job_id.setter
        def job_id(self, _: str | None) -> None:
            pass

    clock.now = SILENT
    asker(cluster, clock).liveness([Lost("lost"), Job("a")])
    assert cluster.asked == [["a"]]


def test_a_scheduler_of_ones_own_is_asked_in_every_round(cluster: Cluster, clock: Time) -> None:
    cluster.shared = False
    asks = asker(cluster, clock)
    for _ in range(3):
        asks.liveness([Job("a")])
    assert asks.at_once(Job("b")) == {"b": ALIVE}
    assert cluster.asked == [["a"], ["a"], ["a"], ["b"]]


def test_a_job_that_is_taken_up_asks_no_cluster(cluster: Cluster, clock: Time) -> None:
    assert asker(cluster, clock).at_once(Job("a")) == {}
    assert cluster.asked == []


def test_in_an_outage_only_one_job_a_time_is_looked_up_and_nobody_is_asked(cluster: Cluster, clock: Time) -> None:
    class Lost(Job):
        looked_up = 0

        @property
        def job_id(self) -> str | None:
            Lost.looked_up += 1
            raise NoAnswer("nobody there")

        @job_id.setter
        def job_id(self, _: str | None) -> None:
            pass

    clock.now = SILENT
    asks = asker(cluster, clock)
    jobs = [Lost(None, unanswered=True) for _ in range(10)]
    asks.liveness(jobs)
    assert Lost.looked_up == 1
    assert not any(map(asks.can_step, jobs))
    assert asks.can_step(Job("a"))
    asks.liveness([Job("a")])
    assert cluster.asked == []
    clock.now += 2 * EVERY
    assert all(map(asks.can_step, jobs))
    asks.liveness([Job("a")])
    assert not asks.outage.failing


def test_the_pause_doubles_up_to_a_bound_and_a_success_forgets_it(clock: Time) -> None:
    backoff = Backoff(clock)
    assert backoff.over
    waits = []
    for _ in range(7):
        backoff.failed()
        began = clock.now
        while not backoff.over:
            clock.now += 1
        waits.append(clock.now - began)
    assert waits == [40, 80, 160, 320, 600, 600, 600]
    backoff.failed()
    backoff.succeeded()
    assert backoff.over
    assert not backoff.failing


def test_what_waits_in_vain_is_as_the_last_answer_said(cluster: Cluster, clock: Time) -> None:
    ours = asker(cluster, clock)
    clock.now = SILENT
    ours.liveness([Job("1"), Job("2")])
    assert ours.held == {"1": "why", "2": "why"}
    cluster.answer = GONE
    clock.now += EVERY
    ours.liveness([Job("1")])
    assert ours.held == {}


def test_the_batch_job_of_the_last_segment_is_in_the_same_question(cluster: Cluster, clock: Time) -> None:
    clock.now = SILENT
    first = [a_segment(1, job_id="first")]
    known = asker(cluster, clock).liveness([Job("second", 0.0, first), Job(None, 0.0, [a_segment(1, job_id="third")])])
    assert cluster.asked == [["second", "first", "third"]]
    assert set(known) == {"second", "first", "third"}


def told(asks: Any, clock: Time, jobs: Sequence[Job], seconds: float) -> list[dict[str, Silence]]:
    """What there is to tell at the end of each round of so many seconds; each thing once."""
    found: list[dict[str, Silence]] = []
    for _ in range(0, int(seconds), 5):
        asks.liveness(jobs)
        clock.now += 5
        if asks.silent and asks.silent not in found:
            found.append(asks.silent)
    return found


def test_an_outage_of_minutes_is_to_be_told_of_all_jobs_with_one_beginning(cluster: Cluster, clock: Time) -> None:
    clock.now = SILENT
    asks, jobs = asker(cluster, clock), [Job("a"), Job("b"), Job("later", SILENT + 200)]
    cluster.answer = UNKNOWN
    assert told(asks, clock, jobs, UNHEARD) == []
    (silent,) = told(asks, clock, jobs, 100)
    assert silent == dict.fromkeys(("a", "b", "later"), Silence(SILENT, 280.0))
    assert cluster.asked == [["a", "b"]] * 3 + [["a", "b", "later"]], "and nobody was asked more often for it"
    cluster.answer = ALIVE
    clock.now += OUTAGE
    asks.liveness(jobs)
    assert asks.silent == {}


def test_an_answer_that_the_next_question_brings_was_no_silence(cluster: Cluster, clock: Time) -> None:
    clock.now = SILENT
    asks = asker(cluster, clock)
    cluster.answer = UNKNOWN
    assert told(asks, clock, [Job("a")], 200) == []
    cluster.answer = ALIVE  # the next question comes after 280 s
    assert told(asks, clock, [Job("a")], 400) == []
    cluster.answer = UNKNOWN
    assert told(asks, clock, [Job("a")], 200) == []  # another outage


def test_a_job_that_is_heard_of_is_not_silent(cluster: Cluster, clock: Time) -> None:
    clock.now = SILENT
    asks, job = asker(cluster, clock), Job("a")
    cluster.answer = UNKNOWN
    for _ in range(10):
        assert told(asks, clock, [job], 200) == []
        job.heard = clock.now = int(clock.now + OUTAGE)


def test_one_job_of_which_the_scheduler_knows_nothing_is_silent_alone(cluster: Cluster, clock: Time) -> None:
    clock.now = SILENT
    asks = asker(cluster, clock)
    cluster.unknown = {"lost"}
    (first, *more) = told(asks, clock, [Job("a"), Job("lost")], UNHEARD + 2 * EVERY)
    assert first == {"lost": Silence(SILENT, UNHEARD, "why")}
    assert all(set(silent) == {"lost"} for silent in more)
    assert asks.held == {"a": "why"}, "it does not wait to be started"


def test_on_ones_own_machine_a_job_that_is_taken_up_hides_no_other(cluster: Cluster, clock: Time) -> None:
    cluster.shared = False
    cluster.answer = UNKNOWN
    asks = asker(cluster, clock)
    for clock.now in range(0, int(UNHEARD) + 5, 5):
        asks.liveness([Job("a")])
        asks.at_once(Job("b"))
    assert asks.silent == {"a": Silence(0.0, UNHEARD, "why")}
