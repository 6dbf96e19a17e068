"""The times of a segment: what its history makes of them."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace

import pytest
from helpers.jobs import a_segment

from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.segment.times import Times
from snakemake_executor_plugin_ckpt.state.records import Segment

POLICY = Policy(walltime=1000.0, margin=1.5, floor=2.0, ceiling=3600.0, grace=10.0)


def times(*history: Segment, left: float = 1000.0) -> Times:
    return Times(POLICY, time.time() + left, history)


def cut(number: int, given: float) -> Segment:
    return a_segment(number, save_given=given, save_amount=1 << 20)


def test_each_save_that_was_cut_off_makes_the_next_one_begin_at_least_twice_as_early() -> None:
    history: list[Segment] = []
    reserved = [times().reserve(1 << 20)]
    for number in range(1, 4):
        history.append(cut(number, reserved[-1] + POLICY.grace))
        reserved.append(times(*history).reserve(1 << 20))
    assert all(later >= 2 * earlier for earlier, later in itertools.pairwise(reserved))


def test_it_begins_in_the_middle_of_the_segment_at_the_earliest() -> None:
    late = times(*(cut(number, 900.0) for number in (1, 2, 3)))
    assert late.reserve(1 << 20) == pytest.approx((1000 - 10) / 2, abs=1.0)
    assert late.too_short() is None


def test_a_save_that_was_cut_off_counts_no_more_when_one_succeeded() -> None:
    usual = times().reserve(1 << 20)
    ours = times(cut(1, 100.0))
    assert ours.reserve(1 << 20) > usual
    ours.saved(1 << 20, 1.0)
    assert ours.reserve(1 << 20) == usual


def test_what_a_save_has_is_noted_when_the_walltime_made_it_begin() -> None:
    history = cut(1, 100.0)
    ours = times(history)
    assert ours.given(1 << 20) is None, "it was asked for: there is all the time"
    ours.end = time.monotonic() + 300.0
    assert ours.given(1 << 20) == pytest.approx(300.0, abs=1.0)
    assert Times(Policy(), None, [history]).given(1 << 20) is None


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_clock_that_is_hours_wrong_leaves_the_walltime(hours: float) -> None:
    wrong = times(left=1000 + 3600 * hours)
    assert wrong.end - time.monotonic() == pytest.approx(1000.0, abs=1.0)
    assert wrong.too_short() is None


def test_a_later_segment_may_be_longer_than_the_first_one() -> None:
    longer = replace(POLICY, later={"runtime": "60"})
    assert Times(longer.of_later_segments(), time.time() + 3600.0, [cut(1, 1.0)]).left == pytest.approx(3600.0, abs=1)
    assert Times(longer, time.time() + 3600.0, []).left == 1000.0, "of the first one that is the clock's mistake"


def test_saves_are_as_far_apart_as_their_cost_and_the_nodes_deaths_make_it_worth() -> None:
    ours = Times(Policy(mtbf=200.0), None, [a_segment(amount=1 << 20, took=1.0)])
    assert ours.auto_period(1 << 20) == pytest.approx(math.sqrt(2 * 200.0) - 1)
    assert ours.auto_period(1 << 30) == 200.0


def test_a_job_without_walltime_has_no_deadline() -> None:
    endless = Times(Policy(), None, [])
    assert endless.end == endless.save_at(1 << 30) == math.inf
    assert endless.too_short() is None
