"""How long a disk that is gone is outlasted, and how rarely it is tried; by a clock that only these tests move."""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Callable

import pytest

from snakemake_executor_plugin_ckpt.segment import patience


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0, "it would not wait"
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "monotonic", made.monotonic)
    monkeypatch.setattr(time, "sleep", made.sleep)
    return made


def gone_until(clock: Clock, when: float, tries: list[float]) -> Callable[[], str]:
    def action() -> str:
        tries.append(clock.now)
        if clock.now < when:
            raise OSError(errno.ESTALE, "Stale file handle")
        return "done"

    return action


def test_a_disk_that_is_gone_for_a_minute_is_outlasted_with_a_dozen_tries(clock: Clock) -> None:
    tries: list[float] = []
    until = patience.bound(math.inf, 2.0)
    assert patience.outlast(gone_until(clock, 1060.0, tries), until, "it") == "done"
    assert clock.now < 1060 + 11
    assert len(tries) <= 12


def test_the_last_try_is_at_the_bound_and_says_what_was_wrong(clock: Clock) -> None:
    tries: list[float] = []
    with pytest.raises(OSError, match="Stale"):
        patience.outlast(gone_until(clock, math.inf, tries), 1100.0, "it")
    assert tries[-1] == 1100.0


def test_other_errors_are_not_outlasted(clock: Clock) -> None:
    with pytest.raises(ZeroDivisionError):
        patience.outlast(lambda: 1 / 0, 1100.0, "it")
    assert clock.now == 1000.0


@pytest.mark.parametrize(
    ("end", "until"),
    [(math.inf, 1000 + patience.PATIENCE), (9000.0, 8998.0), (1003.0, 1005.0), (900.0, 1005.0)],
)
def test_the_walltime_less_the_grace_is_the_bound_and_half_an_hour_without_one(
    clock: Clock, end: float, until: float
) -> None:
    assert patience.bound(end, 2.0) == until
    assert patience.PATIENCE == 1800


@pytest.mark.parametrize(("end", "until"), [(math.inf, 1300.0), (9000.0, 1300.0), (1100.0, 1098.0)])
def test_while_nothing_was_computed_a_node_is_not_held_for_longer_than_minutes(
    clock: Clock, end: float, until: float
) -> None:
    assert patience.bound(end, 2.0, computed=False) == until
    assert patience.BEGINNING == 300


def test_what_is_outlasted_is_said_once(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    patience.outlast(gone_until(clock, 1060.0, []), 2000.0, "cannot write the record")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "cannot write the record" in said[0]
    assert "for up to 1000 s" in said[0]
