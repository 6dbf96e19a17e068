"""The time that the walltime's save is left: all that it will hold is counted, and no other save takes it away."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from helpers.engines import Trial
from helpers.jobs import a_job, a_segment, local_job
from helpers.waiting import wait_for_text

from snakemake_executor_plugin_ckpt.engines.base import Running
from snakemake_executor_plugin_ckpt.engines.criu import CriuEngine
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.schedulers.base import Allocation
from snakemake_executor_plugin_ckpt.schedulers.local import Local
from snakemake_executor_plugin_ckpt.segment.amounts import Amount
from snakemake_executor_plugin_ckpt.segment.deadline import Measured
from snakemake_executor_plugin_ckpt.segment.events import Events
from snakemake_executor_plugin_ckpt.segment.saving import Saver
from snakemake_executor_plugin_ckpt.segment.supervisor import _Supervisor
from snakemake_executor_plugin_ckpt.segment.suspending import Suspension
from snakemake_executor_plugin_ckpt.state.folder import JobFolder

MIB, GIB = 1 << 20, 1 << 30

# -- what there is to save ---------------------------------------------------------------------------------------------

HOLDS = f"""
import mmap, os, signal, sys, tempfile, time
def wait(name):
    print(name, flush=True)
    while not os.path.exists(name): time.sleep(0.02)
def fill(file, mib):
    for _ in range(mib): file.write(os.urandom({MIB}))
wait("empty")
with open("/dev/shm/named", "wb", buffering=0) as file: fill(file, 48)
with open("/dev/shm/named", "r+b") as file: named = mmap.mmap(file.fileno(), 0)
removed = open("removed", "w+b", buffering=0)
fill(removed, 24)
os.unlink("removed")
removed_shm = open("/dev/shm/removed", "w+b", buffering=0)
fill(removed_shm, 12)
os.unlink("/dev/shm/removed")
if os.fork() == 0:
    sum(named[::4096])
    wait("child")
    os._exit(0)
sum(named[::4096])
wait("parent")
"""


@pytest.mark.criu
def test_what_a_save_counts_before_is_what_the_image_holds_after(trial: Trial, tmp_path: Path) -> None:
    engine = trial.engine("criu-rootless")
    running = trial.launch(engine, trial.python(HOLDS))
    trial.wait_said("empty")
    saver = Saver(JobFolder(tmp_path / "job"), a_job(), a_segment(), engine, None, [])
    before = saver.amount(running)
    (trial.folder / "empty").touch()
    for name in ("child", "parent"):
        trial.wait_said(name)
    counted = saver.amount(running)
    folder, _ = trial.save(engine, running)
    held = sum(path.stat().st_size for path in folder.iterdir())
    assert held > 84 * MIB
    assert 84 * MIB <= counted - before < (84 + 16) * MIB
    assert 0.9 * held < counted < 1.2 * held


# -- when which save begins --------------------------------------------------------------------------------------------


class Quiet:
    def signals(self) -> list[int]:
        return []


class Decided:
    """A supervisor of a job of 1 GiB, of which saves take 600 s, hence given 900; it only says what it would save.

    Attributes
    ----------
    saved
        For each save whether it was to stop the job.
    """

    def __init__(self, base: Path, left: float, monkeypatch: pytest.MonkeyPatch, **policy: object) -> None:
        settings = replace(Policy(walltime=left, margin=1.5, grace=10.0), **policy)  # type: ignore[arg-type]
        self.folder = JobFolder(base / "job")
        self.folder.make()
        history = [a_segment(1, outcome="saved", generation=1, amount=GIB, took=600.0, useful=600.0)]
        engine = CriuEngine({})
        self.running = cast(Running, object())
        self.supervisor = _Supervisor(
            self.folder,
            a_job(),
            settings,
            engine,
            a_segment(2),
            history,
            Allocation("1", time.time() + left),
            cast(Events, Quiet()),
            Suspension(Local(base), True, {}),
        )
        self.supervisor.amount = cast(Amount, lambda _: GIB)
        self.supervisor.started = self.supervisor.last_saved = time.monotonic() - 1000.0
        self.saved: list[bool] = []
        monkeypatch.setattr(self.supervisor, "save", self._save)

    def _save(self, running: Running, parked: bool, stop: bool) -> None:
        self.saved.append(stop)

    def acts(self) -> list[bool]:
        assert self.supervisor.act(self.running) is None
        return self.saved

    def sleeps(self) -> float:
        """Seconds until it looks again, if nothing happens."""
        return self.supervisor.next_event(self.running) - time.monotonic()


@pytest.mark.parametrize("request_", ["", "checkpoint"])
def test_a_save_that_would_take_the_time_of_the_last_one_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_: str
) -> None:
    decided = Decided(tmp_path, 1500.0, monkeypatch, period=math.inf if request_ else 100.0)
    if request_:
        decided.folder.request("checkpoint")
    assert decided.acts() == []
    assert decided.sleeps() == pytest.approx(1500.0 - 900.0 - 10.0, abs=5.0), "it neither spins nor oversleeps"
    # Somebody gave the segment more time.
    decided.supervisor.times.end += 1000.0
    assert decided.sleeps() <= 0.0
    assert decided.acts() == [False]


@pytest.mark.parametrize("request_", ["", "checkpoint"])
def test_a_save_that_is_over_before_the_last_one_begins_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_: str
) -> None:
    decided = Decided(tmp_path, 2000.0, monkeypatch, period=math.inf if request_ else 100.0)
    if request_:
        decided.folder.request("checkpoint")
    assert decided.acts() == [False]


def test_the_last_save_is_made_whatever_else_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decided = Decided(tmp_path, 900.0, monkeypatch, period=100.0)
    decided.folder.request("checkpoint")
    assert decided.acts() == [True]


def test_a_segment_that_must_save_early_for_a_cut_before_still_saves_as_often_as_it_is_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided = Decided(tmp_path, 20000.0, monkeypatch, period=100.0, ceiling=1e6)
    decided.supervisor.times.cut_off = [Measured(GIB, 50000.0)]
    assert decided.supervisor.save_at(decided.running) - time.monotonic() == pytest.approx(10000.0, abs=20.0)
    assert decided.acts() == [False]


@pytest.mark.criu
def test_a_save_that_was_asked_for_is_answered_by_one_that_ends_the_segment(tmp_path: Path) -> None:
    with local_job(tmp_path, "echo up; until [ -e go ]; do sleep 0.02; done; exit 7") as job:
        job.submit()
        wait_for_text(job.folder.payload_log, "up")
        # The supervisor is woken by both, and may see the first one alone: the save is long enough for the other.
        job.folder.request("park")
        job.folder.request("checkpoint")
        (parked,) = job.wait()
        assert (parked.outcome, parked.saves) == ("saved", 1)
        assert job.folder.requests() == {"park"}
