"""A chain that dies, or whose disk fails, at any one of the named points ends as if nothing had been.

The points are found by a chain that is only traced, so a new one needs no change here. Each is tried at the first
and at the last time that it is reached in turn; with ``CKPT_FAULTS=all``, at every time until it is reached no more
(`make faults`).
"""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from faults.campaign import JOBS, run_trial
from faults.outcome import Outcome
from faults.plan import Plan
from faults.zoo import Result, differences, run_uninterrupted, zoo
from snakemake_executor_plugin_ckpt import faults

pytestmark = pytest.mark.criu

_ALL = os.environ.get("CKPT_FAULTS") == "all"
#: Every so manyth point is tried with an error of the disk, where not all are.
_SAMPLE = 12
_ANIMAL = zoo(60, 0.05)["changing"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("points")


@pytest.fixture(scope="module")
def expected(base: Path) -> Result:
    return run_uninterrupted(_ANIMAL, base / "reference")


@pytest.fixture(scope="module")
def points(base: Path, expected: Result) -> Counter[str]:
    """How often each point is reached in a chain of at least three segments, the first of which is lost."""
    plan, outcome = _chain(base, faults.TRACE)
    assert _wrong(expected, outcome) == []
    assert outcome.segments >= 3
    assert outcome.images >= 3
    return Counter((plan.struck / faults.TRACE).read_text().splitlines())


def test_the_points_surround_every_kind_of_change(points: Counter[str]) -> None:
    for kind in ("segments/*.yaml", "segments/*.lost", "submissions/*.yaml", ".local/*.yaml", "*/job.yaml", "images/*"):
        assert any(point.endswith(f":{kind}") for point in points), (kind, sorted(points))
    for step in ("claim.begin", "launch.begin", "rollback.begin", "restore.done", "keeper.segment-over"):
        assert step in points


def test_a_chain_that_is_killed_at_any_point_ends_as_if_nothing_had_been(
    base: Path, expected: Result, points: Counter[str]
) -> None:
    assert _failures(base, expected, points, points, "kill") == []


@pytest.mark.parametrize("action", ["enospc", "eio"])
def test_a_disk_that_fails_at_any_point_changes_nothing_in_the_result(
    base: Path, expected: Result, points: Counter[str], action: str
) -> None:
    chosen = [point for point in sorted(points) if _ALL or zlib.crc32(f"{action} {point}".encode()) % _SAMPLE == 0]
    assert chosen
    assert _failures(base, expected, points, chosen, action) == []


def _failures(base: Path, expected: Result, points: Counter[str], chosen: Iterable[str], action: str) -> list[str]:
    with ThreadPoolExecutor(JOBS) as pool:
        done = pool.map(lambda point: _strike(base, expected, point, action, points[point]), chosen)
        return [failure for failures in done for failure in failures]


def _strike(base: Path, expected: Result, point: str, action: str, reached: int) -> list[str]:
    """What went wrong in the trials of one point."""
    found = []
    times = range(1, 100) if _ALL else [1 if zlib.crc32(point.encode()) % 2 else reached]
    for nth in times:
        _, outcome = _chain(base, f"{point}@{nth}:{action}")
        found += [f"{point}@{nth}:{action}: {text}" for text in _wrong(expected, outcome)]
        if nth not in outcome.struck:
            # A chain that is cut elsewhere reaches a point less often; but the first time must come.
            found += [f"{point}@{nth} was not reached"] if nth == 1 else []
            break
    return found


def _chain(base: Path, fault: str) -> tuple[Plan, Outcome]:
    name = "".join(letter if letter.isalnum() else "-" for letter in fault)
    plan = Plan(base / name, _ANIMAL, {"period": 0.6}, stay=1.0, victims=(1, 3), fault=fault)
    return plan, run_trial(plan)


def _wrong(expected: Result, outcome: Outcome) -> list[str]:
    return [*outcome.trouble, *differences(expected, outcome.result)]
