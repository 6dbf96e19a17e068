"""The checker sees what must not happen: each violation planted in a history that is right otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from helpers.jobs import a_segment

from faults import checker
from faults.zoo import Result, differences
from snakemake_executor_plugin_ckpt.state.records import Segment

#: Segment 1 is lost before its first image, 2 makes two, 3 goes on from the second.
COMMITTED = {1: 120.0, 2: 180.0}


def right() -> list[Segment]:
    again = f"{checker.AGAIN}, up to 1 s of computing are lost: nothing had been saved yet"
    return [
        a_segment(1, started=10.0, startup=0.5),
        a_segment(
            2, started=100.0, startup=0.5, ended=190.0, outcome="saved", images={1: 1.0, 2: 2.0}, warnings=[again]
        ),
        a_segment(3, started=200.0, startup=0.5, ended=290.0, outcome="finished", restored_from=2, exit=0),
    ]


def test_a_right_history_is_found_right() -> None:
    assert checker.violations(right(), 0, COMMITTED) == []
    assert checker.restarts(right()) == 1


def test_a_segment_that_never_ran_its_payload_need_not_have_restored_any() -> None:
    never = a_segment(3, started=195.0, outcome="running")
    last = replace(right()[2], number=4)
    assert checker.violations([*right()[:2], never, last], 0, COMMITTED) == []


def test_an_older_image_is_right_when_the_newest_was_refused() -> None:
    history = right()
    history[2] = replace(history[2], restored_from=1, warnings=["image 2: damaged: pages.img"])
    assert checker.violations(history, 0, COMMITTED) == []


Damage = Callable[[list[Segment]], object]
DAMAGES: list[tuple[str, Damage]] = [
    ("numbered", lambda history: history.pop(0)),
    ("began before segment 2 ended", lambda history: setattr(history[2], "started", 185.0)),
    ("finished, and others followed", lambda history: setattr(history[1], "outcome", "finished")),
    ("in the order", lambda history: history[2].images.update({2: 3.0})),
    ("which nobody had committed", lambda history: setattr(history[2], "restored_from", 3)),
    ("and not the newest", lambda history: setattr(history[2], "restored_from", 1)),
    ("began from zero although image 2", lambda history: setattr(history[2], "restored_from", None)),
]


@pytest.mark.parametrize(("words", "damage"), DAMAGES, ids=[words for words, _ in DAMAGES])
def test_what_must_not_happen_is_seen(words: str, damage: Damage) -> None:
    history = right()
    damage(history)
    assert any(words in text for text in checker.violations(history, 0, COMMITTED))


def test_a_job_without_an_exit_status_is_not_over() -> None:
    assert checker.violations(right(), None, COMMITTED) == ["there is no exit status"]


def test_an_image_that_only_the_observer_saw_counts() -> None:
    history = right()
    history[1] = replace(history[1], outcome="running", images={}, ended=None)
    history[2] = replace(history[2], restored_from=None)
    assert checker.violations(history, 0, COMMITTED) == ["segment 3 began from zero although image 2 was there"]


def test_any_difference_of_two_results_is_told() -> None:
    one = Result(0, b"said", {"a": b"1", "b": b"2"})
    assert differences(one, one) == []
    told = differences(one, Result(7, b"sad", {"a": b"3", "c": b""}))
    assert [text.split(" differs")[0] for text in told] == [
        "exit status 7 instead of 0",
        "stdout and stderr",
        "a",
        "b is missing",
        "c should not be there",
    ]
