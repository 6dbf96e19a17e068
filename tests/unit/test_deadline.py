from __future__ import annotations

import math
import time

import pytest
from helpers.jobs import a_segment

from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.segment.deadline import (
    BASE,
    Measured,
    auto_period,
    cut_off,
    deadline,
    fully_counted,
    over_before,
    remaining,
    reserve,
    save_time,
    too_short,
)
from snakemake_executor_plugin_ckpt.segment.times import Times

GIB = 1 << 30


def test_the_first_save_takes_memory_over_bandwidth_and_a_base() -> None:
    assert save_time([], 4 * GIB, GIB) == BASE + 4


@pytest.mark.parametrize("bandwidth", [None, 0.0])
def test_an_unknown_bandwidth_leaves_the_base(bandwidth: float | None) -> None:
    assert save_time([], GIB, bandwidth) == BASE


def test_a_measured_save_counts_instead_of_the_bandwidth() -> None:
    assert save_time([Measured(GIB, 3.0)], GIB, 1.0) == 3.0


def test_a_measured_save_is_scaled_to_more_memory() -> None:
    assert save_time([Measured(GIB, BASE + 2)], 3 * GIB, None) == BASE + 6


def test_less_memory_is_not_taken_to_be_quicker() -> None:
    assert save_time([Measured(GIB, 3.0)], 1, None) == 3.0


def test_the_slow_saves_count_and_not_the_usual_ones() -> None:
    measured = [Measured(GIB, 1.0 + n) for n in range(10)]
    assert save_time(measured, GIB, None) == 9.0
    assert save_time(measured[:3], GIB, None) == 3.0


@pytest.mark.parametrize("measured", [Measured(0, 2.0), Measured(GIB, 0.0)])
def test_senseless_measurements_do_no_harm(measured: Measured) -> None:
    assert save_time([measured], GIB, None) >= BASE


@pytest.mark.parametrize(("expected", "reserved"), [(10, 15), (0.1, 2), (4000, 3600), (0, 2), (1e12, 3600)])
def test_the_reserve_is_the_margin_between_floor_and_ceiling(expected: float, reserved: float) -> None:
    assert reserve(expected, 1.5, 2.0, 3600.0) == reserved


def test_the_deadline_leaves_reserve_and_grace() -> None:
    assert deadline(1000.0, 30.0, 5.0) == 965.0


@pytest.mark.parametrize(
    ("remaining", "refused"), [(10.0, True), (9.0, True), (-5.0, True), (10.01, False), (1e9, False)]
)
def test_a_walltime_is_too_short_when_nothing_is_left_to_compute_in(remaining: float, refused: bool) -> None:
    assert (too_short(remaining, 3.0, 5.0, 2.0) is not None) == refused


def test_a_refusal_shows_the_arithmetic_and_the_way_out() -> None:
    text = too_short(9.0, 3.0, 5.0, 2.0)
    assert text is not None
    for part in ("9.0 s", "3.0 s", "5.0 s", "2.0 s", "10.0 s", "--ckpt-walltime", "runtime"):
        assert part in text


def test_the_best_period_follows_daly() -> None:
    assert auto_period(60.0, 86400.0) == pytest.approx(math.sqrt(2 * 60 * 86400) - 60)


def test_no_period_beats_another_when_saves_take_as_long_as_nodes_live() -> None:
    assert auto_period(3600.0, 7200.0) == 7200.0


@pytest.mark.parametrize("cost", [0.5, 5.0, 50.0, 500.0])
def test_the_best_period_loses_less_than_half_or_double_of_it(cost: float) -> None:
    mtbf = 5 * 86400.0

    def lost(period: float) -> float:
        return cost / (period + cost) + (period + cost) / (2 * mtbf)

    best = auto_period(cost, mtbf)
    assert lost(best) < min(lost(best / 2), lost(best * 2))


HOUR = 3600.0


@pytest.mark.parametrize(
    ("end", "walltime", "left"),
    [
        (1000.0 + 600, 600.0, 600.0),
        (1000.0 + 400, 600.0, 400.0),
        (1000.0 + 600 + 5 * HOUR, 600.0, 600.0),  # the clock of the node is hours behind
        (1000.0 + 600 - 5 * HOUR, 600.0, 600.0),  # or ahead
        (1000.0 + 5 * HOUR, None, 5 * HOUR),
        (None, 600.0, math.inf),
        (None, None, math.inf),
    ],
)
def test_what_is_left_is_never_more_than_the_walltime_nor_nothing(
    end: float | None, walltime: float | None, left: float
) -> None:
    assert remaining(end, 1000.0, walltime) == left


def test_a_save_that_the_walltime_cut_off_counts_as_twice_what_it_had() -> None:
    assert cut_off([a_segment(1, save_given=10.0, save_amount=GIB)]) == [Measured(GIB, BASE + 20.0)]
    assert cut_off([a_segment(1, save_given=10.0)]) == [Measured(0, BASE + 20.0)]


def test_segments_that_were_not_cut_off_in_a_save_do_not_count() -> None:
    assert cut_off([a_segment(1), a_segment(2, outcome="failed", failure="killed")]) == []


def test_a_save_that_succeeded_later_says_what_saves_take() -> None:
    cut = a_segment(1, save_given=10.0)
    saved = a_segment(2, outcome="saved", generation=1)
    assert cut_off([cut, saved]) == []
    assert len(cut_off([saved, cut, a_segment(3)])) == 1


def test_amounts_that_left_out_most_of_the_image_make_no_save_seem_hopeless() -> None:
    """A version that did not count /dev/shm saw 0.1 GiB where it saved 50, in 60 s; this one sees 50."""
    history = [a_segment(amount=GIB // 10, bytes=50 * GIB, took=60.0)]
    policy = Policy(walltime=2 * HOUR, margin=1.5, grace=10.0)
    now = Times(policy, time.time() + 2 * HOUR, fully_counted(history)).reserve(50 * GIB)
    assert now == pytest.approx(90.0, abs=1.0)
    assert Times(policy, time.time() + 2 * HOUR, history).reserve(50 * GIB) == policy.ceiling


def test_amounts_that_counted_all_stay_what_they_are() -> None:
    history = [a_segment(1), a_segment(2, amount=3 * GIB, bytes=GIB), a_segment(3, amount=GIB), a_segment(4, bytes=1)]
    assert fully_counted(history) == history


@pytest.mark.parametrize(("begin", "over"), [(0.0, True), (70.0, True), (70.1, False), (101.0, False)])
def test_a_save_is_over_in_time_if_all_that_it_is_given_is_before_the_next(begin: float, over: bool) -> None:
    assert over_before(100.0, begin, 30.0) == over


def test_without_a_walltime_there_is_time_for_any_save() -> None:
    assert over_before(math.inf, 1e9, 1e9)
