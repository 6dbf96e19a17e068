from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest
from helpers.histories import History, done

from snakemake_executor_plugin_ckpt.cli import facts, view
from snakemake_executor_plugin_ckpt.cli.timeline import Bar, draw, timeline


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written here need not outlive a power cut, and shared disks are slow."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def inside(line: str) -> str:
    return line.split("|")[1]


def lines_of(history: History, width: int = 80) -> list[str]:
    return timeline(view.segments(facts.read(history.folder), 5000.0), width)


def test_bars_are_in_proportion_and_follow_each_other() -> None:
    lines = draw([Bar("1", [("=", 30.0)]), Bar("2", [("=", 10.0)])], 1 + 40 + 6)
    assert [inside(line) for line in lines] == ["=" * 30 + " " * 10, " " * 30 + "=" * 10]


def test_a_short_part_is_drawn_all_the_same() -> None:
    (line,) = draw([Bar("1", [("R", 0.001), ("=", 5000.0), ("S", 0.2)])], 60)
    assert inside(line).strip() == "R" + "=" * (len(inside(line)) - 2) + "S"


def test_parts_of_no_length_are_not_drawn() -> None:
    (line,) = draw([Bar("1", [("R", 0.0), ("=", 1.0)])], 40)
    assert set(inside(line)) == {"="}


def test_a_bar_of_no_length_is_empty() -> None:
    assert inside(draw([Bar("1", [("=", 0.0)])], 40)[0]).strip() == ""


@pytest.mark.parametrize("seed", range(20))
def test_no_line_is_wider_than_the_page_and_every_part_keeps_its_order(seed: int) -> None:
    chance = random.Random(seed)
    bars = [
        Bar(str(n), [(c, chance.choice([0.0, 0.001, 1.0, 1e5])) for c in ".R=Sx"], chance.choice(["", "saved"]))
        for n in range(1, chance.randint(2, 60))
    ]
    width = chance.randint(40, 120)
    for bar, line in zip(bars, draw(bars, width), strict=True):
        assert len(line) <= width
        drawn = inside(line).strip()
        assert "".join(sorted(drawn, key=".R=Sx".index)) == drawn
        assert set(drawn) == {c for c, seconds in bar.parts if seconds > 0}


def test_computing_saving_and_restoring_are_told_apart_in_bars_and_legend(tmp_path: Path) -> None:
    first, second, third, legend, total = lines_of(done(tmp_path))
    assert re.fullmatch(r"\.=+S *", inside(first))
    assert re.fullmatch(r" +\.R+=+S+ *", inside(second))
    assert re.fullmatch(r" +\.R+=+", inside(third))
    assert legend == ". starting   R restoring   = computing   S saving"
    assert total.startswith("1 min 42 s in all")  # 90 computing, 4 saving, 6 restoring, 1.5 starting


def test_computing_in_vain_has_a_character_of_its_own(tmp_path: Path) -> None:
    history = History(tmp_path, "count-a-0123456789abcdef")
    history.segment(outcome="failed", failure="killed", reason="oom", useful=40.0)
    history.finished(useful=40.0)
    first, second, legend, _ = lines_of(history)
    assert "x" in inside(first) and "=" not in inside(first)
    assert "=" in inside(second) and "x" not in inside(second)
    assert "x computed, but lost" in legend


def test_waiting_between_segments_is_said_and_not_drawn(tmp_path: Path) -> None:
    first, second, *_ = lines_of(done(tmp_path))
    assert first.endswith("saved")
    assert second.endswith("saved, after a wait of 50.0 s")


def test_a_job_without_segments_has_no_timeline(tmp_path: Path) -> None:
    assert lines_of(History(tmp_path, "count-a-0123456789abcdef")) == []
