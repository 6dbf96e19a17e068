"""Fault points strike once, at the wished time, counted over all processes; without a wish they do nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from snakemake_executor_plugin_ckpt import faults

PROGRAM = """
from pathlib import Path
from snakemake_executor_plugin_ckpt.faults import point
for step in range(3):
    try:
        point("step", Path("/any/jobs-7/0001.yaml"))
        point("other")
        print("passed")
    except OSError as error:
        print(type(error).__name__, error.errno)
"""
NAME = "step:*/*.yaml"


def run(state: Path, wanted: str | None) -> tuple[int, list[str]]:
    """The exit status of a process that reaches the point three times, and what it said."""
    environment = {**os.environ, faults.STATE: str(state)}
    environment.pop(faults.WANTED, None)
    if wanted is not None:
        environment[faults.WANTED] = wanted
    argv = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout.splitlines()


def test_nothing_happens_unless_it_is_wished(tmp_path: Path) -> None:
    assert run(tmp_path, None) == (0, ["passed"] * 3)
    assert list(tmp_path.iterdir()) == []


def test_a_trace_names_every_point_with_its_kind_of_record(tmp_path: Path) -> None:
    run(tmp_path, faults.TRACE)
    assert (tmp_path / faults.TRACE).read_text().splitlines() == [NAME, "other"] * 3


def test_the_process_is_killed_at_the_wished_time_and_none_after_it(tmp_path: Path) -> None:
    assert run(tmp_path, f"{NAME}@5") == (0, ["passed"] * 3)
    assert run(tmp_path, f"{NAME}@5")[0] == -signal.SIGKILL
    assert run(tmp_path, f"{NAME}@5") == (0, ["passed"] * 3)
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == list(range(1, 9))


def test_the_first_time_and_the_kill_are_meant_if_nothing_else_is_said(tmp_path: Path) -> None:
    assert run(tmp_path, "other")[0] == -signal.SIGKILL


@pytest.mark.parametrize(("action", "number"), [("enospc", 28), ("eio", 5)])
def test_the_disk_fails_once(tmp_path: Path, action: str, number: int) -> None:
    assert run(tmp_path, f"{NAME}@2:{action}") == (0, ["passed", f"OSError {number}", "passed"])


def test_another_point_is_passed(tmp_path: Path) -> None:
    assert run(tmp_path, "step:other/*.yaml") == (0, ["passed"] * 3)
