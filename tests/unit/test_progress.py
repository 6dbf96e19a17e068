from __future__ import annotations

import pytest
from helpers.jobs import a_segment

from snakemake_executor_plugin_ckpt.state.progress import PATIENCE, depths, stuck, too_many
from snakemake_executor_plugin_ckpt.state.records import Segment


def saved(number: int, generation: int, useful: float, restored: int | None = None) -> Segment:
    return a_segment(
        number,
        outcome="saved",
        generation=generation,
        images={generation: useful},
        useful=useful,
        restored_from=restored,
    )


def lost(number: int, useful: float = 0.0, restored: int | None = None) -> Segment:
    return a_segment(number, useful=useful, restored_from=restored)


def test_depths_add_up_along_the_chain() -> None:
    chain = [saved(1, 1, 10), saved(2, 2, 5, 1), saved(3, 3, 2.5, 2)]
    assert depths(chain) == [10, 15, 17.5]


def test_a_segment_that_saved_nothing_reaches_nothing() -> None:
    assert depths([saved(1, 1, 10), lost(2, 99, 1), saved(3, 2, 5, 1)]) == [10, 0, 15]


def test_a_fall_back_to_an_older_image_goes_on_from_its_depth() -> None:
    assert depths([saved(1, 1, 10), saved(2, 2, 10, 1), saved(3, 3, 1, 1)]) == [10, 20, 11]


def test_a_start_from_the_beginning_goes_on_from_nothing() -> None:
    assert depths([saved(1, 1, 10), saved(2, 2, 3)]) == [10, 3]


def test_a_job_that_gets_on_is_not_stuck() -> None:
    chain = [saved(1, 1, 10)] + [saved(n, n, 0.1, n - 1) for n in range(2, 30)]
    assert all(stuck(chain[:n]) is None for n in range(len(chain) + 1))


def test_a_job_is_stuck_after_as_many_idle_segments_as_there_is_patience() -> None:
    chain = [saved(1, 1, 10)] + [lost(n, 10, 1) for n in range(2, 9)]
    verdicts = [stuck(chain[:n]) is not None for n in range(len(chain) + 1)]
    assert verdicts == [n >= 1 + PATIENCE for n in range(len(chain) + 1)]


def test_segments_that_were_lost_from_the_first_on_make_it_stuck_too() -> None:
    assert stuck([lost(n) for n in range(1, PATIENCE + 2)]) is not None


def test_the_same_depth_again_and_again_is_no_progress() -> None:
    chain = [saved(1, 1, 10), *(saved(n, n, 10) for n in range(2, 6))]
    assert stuck(chain) is not None


def test_progress_within_the_patience_starts_it_anew() -> None:
    chain = [saved(1, 1, 10), lost(2), lost(3), saved(4, 2, 1, 1), lost(5), lost(6)]
    assert stuck(chain) is None
    assert stuck([*chain, lost(7)]) is not None


def test_restores_that_failed_have_a_rule_of_their_own() -> None:
    failed = [a_segment(n, outcome="failed", failure="restore", restored_from=1) for n in range(2, 9)]
    assert stuck([saved(1, 1, 10), *failed]) is None


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"reason": "the disk is full"}, "the disk is full"),
        ({"save_given": 30.0}, "the 30.0 s that it had"),
        ({"save_given": 30.0}, "--ckpt-save-floor 60s"),
        ({"save_given": 30.0, "warnings": ["io_uring"]}, "In 3 of them the walltime ended in the middle of a save"),
        ({"warnings": ["io_uring"]}, "io_uring"),
        ({}, "more walltime"),
    ],
)
def test_the_explanation_names_what_is_known(more: dict[str, object], said: str) -> None:
    text = stuck([saved(1, 1, 10), *(a_segment(n, **more) for n in range(2, 6))])
    assert text is not None
    assert "no progress in 3 segments" in text
    assert said in text


def test_an_older_image_of_the_same_segment_has_a_depth_of_its_own() -> None:
    several = a_segment(1, outcome="saved", generation=3, images={1: 100.0, 2: 200.0, 3: 300.0}, useful=300.0)
    after = [saved(2, 4, 150, 2), saved(3, 5, 10, 4), saved(4, 6, 10, 5)]
    assert depths([several, *after]) == [300, 350, 360, 370]
    assert stuck([several, *after]) is None


def test_an_image_whose_maker_died_before_noting_it_is_as_deep_as_the_one_before() -> None:
    chain = [saved(1, 1, 1000), lost(2, restored=1), saved(3, 3, 5, 2), saved(4, 4, 5, 3), saved(5, 5, 5, 4)]
    assert depths(chain) == [1000, 0, 1005, 1010, 1015]
    assert stuck(chain) is None


def test_what_is_said_of_too_many_segments_names_the_number_and_the_way_on() -> None:
    chain = [saved(1, 1, 3600), saved(2, 2, 3600, 1)]
    assert too_many(chain, 3) is None
    text = too_many(chain, 2)
    assert text is not None
    for part in ("not done after 2 segments", "2 h 00 min", "--ckpt-max-segments 2", "run Snakemake again"):
        assert part in text
