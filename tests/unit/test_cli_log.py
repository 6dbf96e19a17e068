from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from snakemake_executor_plugin_ckpt.cli import log


class Steps:
    """Stands for the job: does one thing at each look, and is over after the last."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.steps = list(steps)

    def over(self) -> bool:
        if self.steps:
            self.steps.pop(0)()
        return not self.steps


def followed(path: Path, lines: int | None, *steps: Callable[[], object]) -> tuple[str, list[str]]:
    output, notes = io.BytesIO(), list[str]()
    log.follow(path, output, lines, Steps(*steps).over, notes.append, pause=0)
    return output.getvalue().decode(), notes


def append(path: Path, text: str) -> Callable[[], object]:
    def write() -> None:
        with open(path, "a") as file:
            file.write(text)

    return write


@pytest.mark.parametrize("seed", range(30))
def test_the_last_lines_are_those_that_splitting_gives(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "_BLOCK", 7)
    chance = random.Random(seed)
    content = bytes(chance.choice(b"ab\n") for _ in range(chance.randint(0, 60)))
    path = tmp_path / "log"
    path.write_bytes(content)
    for lines in (1, 2, 5, 100):
        output = io.BytesIO()
        log.copy(path, output, lines)
        assert output.getvalue() == b"".join(content.splitlines(keepends=True)[-lines:])


def test_no_lines_are_none(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("a\nb\n")
    output = io.BytesIO()
    assert log.copy(path, output, 0) == 4
    assert output.getvalue() == b""


def test_a_log_is_followed_from_its_end_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("1\n2\n3\n")
    assert followed(path, 1, lambda: None, append(path, "4\n"), append(path, "5\n")) == ("3\n4\n5\n", [])


def test_a_log_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert followed(path, 10, lambda: None, append(path, "1\n"), lambda: None) == ("1\n", [])


def test_what_a_restore_takes_back_is_said(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("1\n2\n")
    said, notes = followed(path, None, lambda: None, lambda: path.write_text("1\n"), append(path, "2\n3\n"))
    assert said == "1\n2\n2\n3\n"
    assert len(notes) == 1 and "restored" in notes[0]


def test_a_job_that_begins_anew_is_followed_in_its_new_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("1\n")

    def anew() -> None:
        path.rename(tmp_path / "before.log")
        path.write_text("one\n")

    said, notes = followed(path, None, lambda: None, anew)
    assert said == "1\none\n"
    assert len(notes) == 1 and "anew" in notes[0]
