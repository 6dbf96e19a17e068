from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
from helpers.jobs import a_segment

from snakemake_executor_plugin_ckpt.chain import ERRORS, NEVER_STARTED, REFUSALS, RESTORES, Step, decide
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness
from snakemake_executor_plugin_ckpt.state.records import Failure, Segment

ALIVE, GONE, UNKNOWN = Liveness.ALIVE, Liveness.GONE, Liveness.UNKNOWN


def saved(number: int, useful: float = 5.0, **more: object) -> Segment:
    return a_segment(
        number,
        outcome="saved",
        generation=number,
        images={number: useful},
        useful=useful,
        restored_from=number - 1 or None,
        **more,
    )


def running(number: int, **more: object) -> Segment:
    return a_segment(number, **more)


def failed(number: int, failure: Failure, **more: object) -> Segment:
    return a_segment(number, **{"outcome": "failed", "failure": failure, "reason": "because", **more})


def finished(number: int, status: int = 0) -> Segment:
    return a_segment(number, outcome="finished", exit=status)


def step(
    segments: Sequence[Segment] = (),
    batch: Liveness | None = GONE,
    lost: bool = False,
    exit_status: int | None = None,
    unstarted: int = 0,
    **policy: object,
) -> Step:
    return decide(segments, lost, exit_status, batch, unstarted, Policy(**policy))  # type: ignore[arg-type]


IDLE = [saved(1), *(running(n, reason="killed by a flood") for n in (2, 3, 4))]

TABLE: list[tuple[str, dict[str, Any], str, str]] = [
    ("nothing was submitted", {"batch": None}, "submit", "first segment"),
    ("the first batch job waits or starts", {"batch": ALIVE}, "wait", ""),
    ("nobody knows of the first batch job", {"batch": UNKNOWN}, "wait", ""),
    ("the first batch job ended unstarted", {"unstarted": 1}, "submit", "first"),
    ("and the second", {"unstarted": 2}, "submit", "first"),
    ("and the third", {"unstarted": 3}, "fail", "without starting"),
    ("running", {"segments": [running(1)], "batch": ALIVE}, "wait", ""),
    ("running, no answer", {"segments": [running(1)], "batch": UNKNOWN}, "wait", ""),
    ("running, batch job gone", {"segments": [running(1)]}, "lost", "segment 1 on node"),
    ("running, no batch job", {"segments": [running(1)], "batch": None}, "lost", "without an outcome"),
    ("gone, but the job ended well", {"segments": [running(1)], "exit_status": 0}, "succeed", ""),
    ("gone, but the job ended badly", {"segments": [running(1)], "exit_status": 3}, "fail", "status 3"),
    ("ended, still closing", {"segments": [running(1)], "exit_status": 0, "batch": ALIVE}, "wait", ""),
    ("declared lost", {"segments": [running(1)], "lost": True}, "submit", "segment 1 was lost"),
    ("lost, a successor waits", {"segments": [running(1)], "lost": True, "batch": ALIVE}, "wait", ""),
    ("lost, but it had ended", {"segments": [running(1)], "lost": True, "exit_status": 0}, "succeed", ""),
    ("saved, successor alive", {"segments": [saved(1)], "batch": ALIVE}, "wait", ""),
    ("saved, no answer", {"segments": [saved(1)], "batch": UNKNOWN}, "wait", ""),
    ("saved, no successor", {"segments": [saved(1)]}, "submit", "resumes from image 1"),
    ("saved, and ended in that moment", {"segments": [saved(1)], "exit_status": 0}, "succeed", ""),
    ("finished 0", {"segments": [finished(1)], "exit_status": 0}, "succeed", ""),
    ("finished 0, batch job ending", {"segments": [finished(1)], "exit_status": 0, "batch": ALIVE}, "succeed", ""),
    ("finished 3", {"segments": [finished(1, 3)], "exit_status": 3}, "fail", "exit status 3"),
    ("finished by a signal", {"segments": [finished(1, -9)], "exit_status": 137}, "fail", "signal 9"),
    ("a shell's word for a signal", {"segments": [finished(1, 143)], "exit_status": 143}, "fail", "signal 15"),
    ("unsavable", {"segments": [failed(1, "unsavable")]}, "fail", "Nothing was restarted"),
    (
        "unsavable, killed at the walltime's end",
        {"segments": [running(1, failure="unsavable", reason="because")], "lost": True},
        "fail",
        "Nothing was restarted",
    ),
    ("unsavable, batch job ending", {"segments": [failed(1, "unsavable")], "batch": ALIVE}, "fail", "because"),
    ("refused", {"segments": [failed(1, "refused")]}, "fail", "because"),
    ("the walltime of an unsaved job", {"segments": [failed(1, "walltime")]}, "fail", "because"),
    ("a failed restore", {"segments": [saved(1), failed(2, "restore")]}, "submit", "segment 2 failed"),
    ("a failed restore, requeued", {"segments": [saved(1), failed(2, "restore")], "batch": ALIVE}, "wait", ""),
    ("killed", {"segments": [failed(1, "killed")]}, "submit", "segment 1 failed: because"),
    ("an error", {"segments": [failed(1, "error")]}, "submit", "because"),
    (
        "killed and errors, mixed",
        {"segments": [failed(1, "killed"), failed(2, "error"), failed(3, "killed")]},
        "fail",
        "3 segments in a row",
    ),
    ("two errors", {"segments": [failed(1, "error"), failed(2, "error")]}, "submit", ""),
    (
        "errors with a save between",
        {"segments": [failed(1, "error"), failed(2, "error"), saved(3), failed(4, "error")]},
        "submit",
        "",
    ),
    (
        "no image, and that is to fail",
        {"segments": [failed(1, "error", reason="--ckpt-on-no-image is fail")], "on_no_image": "fail"},
        "fail",
        "on-no-image",
    ),
    (
        "no image, and that may restart",
        {"segments": [failed(1, "error", reason="--ckpt-on-no-image is fail")]},
        "submit",
        "",
    ),
    ("no progress", {"segments": IDLE, "lost": True}, "fail", "no progress in 3 segments"),
    ("no progress, but alive", {"segments": IDLE, "lost": True, "batch": ALIVE}, "wait", ""),
    ("all segments used", {"segments": [saved(1), saved(2)], "max_segments": 2}, "fail", "--ckpt-max-segments"),
    ("one segment left", {"segments": [saved(1)], "max_segments": 2}, "submit", ""),
    ("an exit status on its own", {"exit_status": 0, "batch": None}, "succeed", ""),
]


@pytest.mark.parametrize(("case", "action", "reason"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_next_step(case: dict[str, object], action: str, reason: str) -> None:
    found = step(**case)  # type: ignore[arg-type]
    assert found.action == action
    assert reason in found.reason


def test_only_the_payloads_own_failure_costs_a_retry() -> None:
    for _, case, _, _ in TABLE:
        found = step(**case)
        own = found.action == "fail" and case.get("exit_status") is not None
        assert found.retry == own


def test_failures_without_an_ended_job_say_that_the_images_are_kept() -> None:
    for case in ({"segments": IDLE, "lost": True}, {"segments": [saved(1)], "max_segments": 1}):
        assert "images are kept" in step(**case).reason  # type: ignore[arg-type]


def test_a_failed_restore_excludes_the_nodes_where_it_failed_since() -> None:
    history = [
        saved(1),
        failed(2, "restore", host="old"),
        saved(3),
        failed(4, "restore", host="b"),
        failed(5, "restore", host="a"),
    ]
    assert step(history).exclude == ("a", "b")
    assert step([*history, saved(6)]).exclude == ()


def test_the_node_of_a_lost_segment_is_avoided_once() -> None:
    history = [saved(1), running(2, host="dead")]
    assert step(history, lost=True).exclude == ("dead",)
    assert step([*history, saved(3)]).exclude == ()


def test_where_there_is_no_other_node_the_second_try_takes_any() -> None:
    history = [saved(1), running(2, host="dead")]
    again = step(history, lost=True, unstarted=1)
    assert (again.action, again.exclude) == ("submit", ())
    assert step([saved(1), failed(2, "restore", host="only")], unstarted=1).exclude == ()


def test_restores_are_given_up_after_two_images_with_both_named() -> None:
    history = [saved(1), saved(2)]
    images = [2, 2, 1, 1]
    assert len(images) == RESTORES
    for number, image in enumerate(images, start=3):
        assert step(history).action == "submit"
        history.append(failed(number, "restore", restored_from=image))
    found = step(history)
    assert found.action == "fail"
    assert "images 1 and 2" in found.reason


def test_a_job_whose_images_fit_no_node_is_given_up_and_never_begun_anew() -> None:
    history = [saved(1)]
    for number in range(2, 2 + RESTORES):
        found = step(history)
        assert (found.action, found.exclude) == (
            "submit",
            () if number == 2 else tuple(f"n{n}" for n in range(2, number)),
        )
        history.append(failed(number, "restore", host=f"n{number}"))
    found = step(history)
    assert found.action == "fail"
    assert "the images could not be restored" in found.reason and "kept" in found.reason


def test_one_good_restore_starts_the_count_anew() -> None:
    tries = [failed(n, "restore", restored_from=1) for n in range(2, 2 + RESTORES - 1)]
    assert step([saved(1), *tries, saved(9), failed(10, "restore")]).action == "submit"


# -- every small history ---------------------------------------------------------------------------------------------

KINDS: list[dict[str, object]] = [
    {},
    {"outcome": "saved", "generation": 1, "useful": 1.0},
    {"outcome": "finished", "exit": 0},
    *(
        dict[str, object](outcome="failed", failure=f)
        for f in ("unsavable", "refused", "restore", "killed", "walltime", "error")
    ),
]


def histories() -> list[list[Segment]]:
    found: list[list[Segment]] = []
    for length in range(4):
        for kinds in itertools.product(KINDS, repeat=length):
            found += [[a_segment(number, **kind) for number, kind in enumerate(kinds, start=1)]]
    return found


@pytest.mark.parametrize("batch", [None, *Liveness])
def test_whatever_the_history_nothing_runs_twice_and_success_is_the_payloads_word(batch: Liveness | None) -> None:
    policy = Policy(max_segments=3)
    for segments, lost, status, unstarted in itertools.product(
        histories(), (False, True), (None, 0, 1, 137), (0, NEVER_STARTED)
    ):
        found = decide(segments, lost, status, batch, unstarted, policy)
        where = (segments, lost, status, unstarted, found)
        if found.action == "submit":
            assert batch in (None, GONE), where
            assert status is None, where
            assert len(segments) < policy.max_segments, where
            assert unstarted < NEVER_STARTED, where
            assert not segments or lost or segments[-1].outcome != "running", where
        if found.action == "succeed":
            assert status == 0, where
        if found.action == "fail":
            assert status != 0, where
            assert found.reason, where
        if found.action == "lost":
            assert segments[-1].outcome == "running", where
            assert not lost, where
            assert batch in (None, GONE), where
        if found.action == "wait":
            assert batch in (ALIVE, UNKNOWN), where


# -- whole chains ----------------------------------------------------------------------------------------------------


class Cluster:
    """A chain on a cluster where anything happens."""

    def __init__(self, seed: int, policy: Policy) -> None:
        self.random = random.Random(seed)
        self.policy = policy
        self.segments: list[Segment] = []
        self.lost = False
        self.exit: int | None = None
        self.batch: Liveness | None = None
        self.unstarted = 0
        self.submitted = 0

    def happen(self) -> None:
        """What happens to a batch job while the head waits."""
        last = self.segments[-1] if self.segments else None
        if last is None or last.outcome != "running" or self.lost:
            if self.random.random() < 0.15:
                self.batch = GONE  # it never started
                return
            self.segments.append(running(len(self.segments) + 1))
            self.lost, self.unstarted, self.batch = False, 0, ALIVE
            return
        match self.random.choice(["on", "silence", "saved", "ended", "died", "failed", "requeued"]):
            case "silence":
                self.batch = UNKNOWN
            case "saved" | "requeued" as what:
                last.outcome, last.generation = "saved", last.number
                last.useful = self.random.choice([0.0, 3.0])
                last.restored_from = last.number - 1 or None
                self.batch = GONE if what == "saved" else ALIVE
            case "ended":
                if self.random.random() < 0.3:
                    self.exit = self.random.choice([0, 0, 1, 137])
                    if self.random.random() < 0.7:
                        last.outcome, last.exit = "finished", self.exit
                    self.batch = GONE
            case "died":
                self.batch = GONE
            case "failed":
                last.outcome = "failed"
                last.failure = self.random.choice(["restore", "killed", "error", "restore", "walltime"])
                self.batch = GONE

    def run(self) -> Step:
        for _ in range(100_000):
            found = decide(self.segments, self.lost, self.exit, self.batch, self.unstarted, self.policy)
            match found.action:
                case "succeed" | "fail":
                    return found
                case "wait":
                    self.happen()
                case "lost":
                    self.lost = True
                case "submit":
                    assert self.batch is not ALIVE
                    self.submitted += 1
                    self.unstarted += 1
                    self.batch = ALIVE
        raise AssertionError("the chain did not end")


@pytest.mark.parametrize("most", [1, 5, 40])
def test_every_chain_ends_within_its_segments_and_as_the_payload_ended(most: int) -> None:
    endings = set()
    for seed in range(400):
        cluster = Cluster(seed, Policy(max_segments=most))
        end = cluster.run()
        endings.add(end.action)
        assert (end.action == "succeed") == (cluster.exit == 0)
        assert cluster.submitted <= most * NEVER_STARTED
    assert endings == {"succeed", "fail"}


def test_the_limits_are_those_that_the_documentation_names() -> None:
    assert (NEVER_STARTED, RESTORES, ERRORS) == (3, 4, 3)


def test_refusals_end_the_chain_after_an_hour_and_ask_for_any_node() -> None:
    segments = [saved(1), running(2, host="dead")]
    few = decide(segments, True, None, None, 0, Policy(), ["full"] * (REFUSALS - 1))
    assert (few.action, few.exclude) == ("submit", ())
    many = decide(segments, True, None, None, 0, Policy(), [*["full"] * (REFUSALS - 1), "no such account"])
    assert many.action == "fail"
    assert "no such account" in many.reason
    assert "images are kept" in many.reason
