"""One head for a workflow: a living one is respected, a dead one delays the next for no longer than was said."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snakemake_executor_plugin_ckpt.errors import StateError
from snakemake_executor_plugin_ckpt.head.lease import Lease

#: A head that lives until it is killed, on a host of another name if one is given.
HEAD = """
import socket, sys, time
from pathlib import Path

if sys.argv[2]:
    socket.gethostname = lambda: sys.argv[2]
from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.head.lease import Lease
from snakemake_executor_plugin_ckpt.state import lock

if sys.argv[2]:
    proc.host_name = lambda: sys.argv[2]
lock.BEAT = 0.1
held = Lease(Path(sys.argv[1]), "/work", print)
print("held", flush=True)
time.sleep(600)
"""
StartHead = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start_head(tmp_path: Path) -> Iterator[StartHead]:
    started: list[subprocess.Popen[str]] = []

    def start(host: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", HEAD, str(tmp_path), host]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_head_that_was_killed_on_this_host_delays_nobody(tmp_path: Path, start_head: StartHead) -> None:
    other = start_head("")
    other.kill()
    other.wait()
    said: list[str] = []
    Lease(tmp_path, "/work", said.append, patience=3600.0).release()
    assert said == []


@pytest.mark.parametrize("host", ["", "elsewhere"])
def test_a_head_that_lives_is_respected_and_named(tmp_path: Path, start_head: StartHead, host: str) -> None:
    other = start_head(host)
    with pytest.raises(StateError, match=rf"process {other.pid} on {host}.*End it first"):
        Lease(tmp_path, "/work", lambda _: None, patience=3600.0)
    assert other.poll() is None


def test_a_head_that_died_on_another_host_delays_the_next_for_as_long_as_is_said(
    tmp_path: Path, start_head: StartHead
) -> None:
    other = start_head("elsewhere")
    other.kill()
    other.wait()
    said: list[str] = []
    begun = time.monotonic()
    Lease(tmp_path, "/work", said.append, patience=1.0).release()
    assert time.monotonic() - begun >= 1.0
    assert len(said) == 1
    assert f"process {other.pid} on elsewhere" in said[0]
    assert "waiting up to 1 s for a sign of life" in said[0]


def test_a_head_that_ended_in_order_delays_nobody_and_leaves_no_name(tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        Lease(tmp_path, "/work", said.append, patience=3600.0).release()
    assert said == []
    assert list((tmp_path / ".heads").glob("*.who")) == []


def test_heads_of_different_workflows_do_not_meet(tmp_path: Path) -> None:
    first = Lease(tmp_path, "/work", print)
    Lease(tmp_path, "/other", print).release()
    first.release()
