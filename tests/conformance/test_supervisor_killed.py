"""Processes of a running job that are killed, one by one and all at once: it ends as a run without that would."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest
from helpers.chains import Chain
from helpers.counting import WATCHED, assert_as_one_run, count, journal
from helpers.jobs import LocalJob, local_job
from helpers.saboteurs import PLACE, _is_dump
from helpers.waiting import wait_for, wait_for_text

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.engines.base import Running, SaveStats
from snakemake_executor_plugin_ckpt.engines.criu import CriuEngine, locate, stages
from snakemake_executor_plugin_ckpt.engines.world.world import World
from snakemake_executor_plugin_ckpt.errors import EngineError, Halfway
from snakemake_executor_plugin_ckpt.images import generations
from snakemake_executor_plugin_ckpt.segment import events

pytestmark = pytest.mark.criu

#: Where a segment finds the engines of this file; those of other tests are in `helpers.saboteurs`.
HERE = "conformance.test_supervisor_killed:"


def checkpoint(job: LocalJob) -> None:
    """Have the job saved; it goes on."""
    job.folder.request("checkpoint")
    wait_for(lambda: "checkpoint" not in job.folder.requests(), "the save")


def init_of(job: LocalJob, number: int = 1) -> int:
    found = wait_for(lambda: job.folder.segment(number).init, "the first process of the payload's world")
    assert found is not None
    return found


def test_a_killed_init_ends_the_segment_and_the_next_one_restores(tmp_path: Path) -> None:
    with local_job(tmp_path, count(), WATCHED) as job:
        chain = Chain(job)
        chain.until(lambda: "\n10\n" in job.said())
        checkpoint(job)
        wait_for_text(job.folder.payload_log, "\n20\n")
        os.kill(init_of(job), signal.SIGKILL)
        assert chain.end().reason == "the job ended with exit status 7"
        first, second = job.folder.segments()
        assert (first.outcome, first.failure, second.restored_from) == ("failed", "killed", 1)
        assert "init process was killed" in (first.reason or "")
        assert_as_one_run(job)


@pytest.mark.parametrize("request_", ["checkpoint", "park"])
def test_an_init_that_is_killed_during_a_save_costs_nothing_that_was_saved(tmp_path: Path, request_: str) -> None:
    hold = tmp_path / "hold"
    with local_job(tmp_path, count(), WATCHED, engine_place=f"{PLACE}Held", engine_options={"hold": str(hold)}) as job:
        chain = Chain(job)
        chain.until(lambda: "\n10\n" in job.said())
        checkpoint(job)
        hold.with_suffix(".held").unlink()
        hold.touch()
        wait_for_text(job.folder.payload_log, "\n20\n")
        job.folder.request("park" if request_ == "park" else "checkpoint")
        wait_for(hold.with_suffix(".held").exists, "the save")
        os.kill(init_of(job), signal.SIGKILL)
        hold.unlink()
        wait_for(lambda: job.folder.segment(1).outcome != "running", "the record")
        for name in ("park", "checkpoint"):
            job.folder.clear_request(name)
        chain.end()
        first, second = job.folder.segments()
        # An image that was to stop the tree was committed while it stood still; one that was not, is only afterwards.
        assert (first.outcome, first.failure) == (("saved", None) if request_ == "park" else ("failed", "killed"))
        assert second.restored_from == (2 if request_ == "park" else 1)
        assert_as_one_run(job)


@pytest.mark.parametrize(("request_", "moment"), [("checkpoint", "0"), ("checkpoint", "2"), ("park", "1")])
def test_a_criu_that_is_killed_in_mid_dump_spoils_nothing(tmp_path: Path, request_: str, moment: str) -> None:
    options = {"struck": str(tmp_path / "struck"), "after": "1", "moment": moment}
    with local_job(tmp_path, count(), WATCHED, engine_place=f"{PLACE}CriuKilled", engine_options=options) as job:
        chain = Chain(job)
        chain.until(lambda: "\n5\n" in job.said())
        checkpoint(job)
        wait_for_text(job.folder.payload_log, "\n10\n")
        job.folder.request("park" if request_ == "park" else "checkpoint")
        chain.until(Path(options["struck"]).exists)
        wait_for(lambda: job.folder.segment(1).saves == 2 or job.folder.segment(1).outcome != "running", "what follows")
        for name in ("park", "checkpoint"):
            job.folder.clear_request(name)
        # Also what was saved of a tree that lived through it is as good as ever.
        if job.folder.segment(1).outcome == "running":
            os.kill(job.running_segment().pid, signal.SIGKILL)
        assert chain.end().reason == "the job ended with exit status 7"
        first, second = job.folder.segments()
        went_on = first.saves == 2
        assert second.restored_from == (2 if went_on else 1)
        assert went_on or (first.failure == "killed" and "killed in its midst" in (first.reason or ""))
        assert_as_one_run(job)


@pytest.mark.parametrize("request_", ["checkpoint", "park"])
def test_a_tree_that_runs_on_since_criu_was_killed_while_it_held_it_is_no_image(tmp_path: Path, request_: str) -> None:
    with local_job(tmp_path, count(), WATCHED, engine_place=f"{PLACE}Let") as job:
        chain = Chain(job)
        chain.until(lambda: "\n5\n" in job.said())
        checkpoint(job)
        wait_for_text(job.folder.payload_log, "\n10\n")
        job.folder.request("park" if request_ == "park" else "checkpoint")
        wait_for(lambda: job.folder.segment(1).outcome != "running", "the end of the segment")
        for name in ("park", "checkpoint"):
            job.folder.clear_request(name)
        assert chain.end().reason == "the job ended with exit status 7"
        assert [segment.restored_from for segment in job.folder.segments()] == [None, 1]
        assert_as_one_run(job)


def test_what_a_torn_tree_says_is_withdrawn_and_the_next_segment_restores(tmp_path: Path) -> None:
    with local_job(tmp_path, count(), WATCHED, engine_place=f"{PLACE}Torn") as job:
        chain = Chain(job)
        chain.until(lambda: "\n5\n" in job.said())
        checkpoint(job)
        wait_for_text(job.folder.payload_log, "\n10\n")
        job.folder.request("checkpoint")
        wait_for(lambda: job.folder.segment(1).outcome != "running", "the end of the segment")
        assert job.folder.exit_status() is None, "the rest of a pipeline ended, and its shell took that for the end"
        job.folder.clear_request("checkpoint")
        assert chain.end().reason == "the job ended with exit status 7"
        first, second = job.folder.segments()
        assert (first.failure, second.restored_from) == ("killed", 1)
        assert "newest image" in (first.reason or "")
        assert_as_one_run(job)


class Never:
    """A world that says nothing any more but what it had to say of commands before."""

    def __init__(self, *before: int) -> None:
        self.statuses = list(before)
        self.told: list[str] = []
        self._reading, self._writing = os.pipe()
        os.write(self._writing, bytes(len(before)))

    def fileno(self) -> int:
        return self._reading

    def tell(self, verb: str, value: object) -> None:
        self.told.append(verb)

    def take_command_end(self) -> int | None:
        return self.statuses.pop(0) if self.statuses and os.read(self._reading, 1) else None

    def close(self) -> None:
        os.close(self._reading)
        os.close(self._writing)


@pytest.mark.parametrize("before", [(), (signal.SIGKILL,)])
def test_a_dump_whose_end_is_never_said_is_one_that_was_killed_half_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: tuple[int, ...]
) -> None:
    monkeypatch.setattr(stages, "_DIES", 0.1)
    world = Never(*before)  # the end of an earlier one is not taken for that of this one
    with stages.Stages(tmp_path) as dump, pytest.raises(Halfway):
        dump.watch(cast(World, world), {}, lambda: None, 0.1, lambda: None)
    assert world.told == ["run", "stop_running"]
    world.close()


class Hangs(CriuEngine):
    """The criu of any dump but the first holds the tree and does not die of a kill, as one that waits for a dead disk.

    Option `accepted` is whether it hangs before or after it was told that all was done while the tree stood still.
    """

    saves = 0

    def save(self, running: Running, folder: Path, frozen: Callable[[], None], stop: bool, limit: float) -> SaveStats:
        self.saves += 1
        if self.saves == 1:
            return super().save(running, folder, frozen, stop, limit)

        def hang() -> None:
            [dump] = [pid for pid in proc.descendants(os.getpid()) if _is_dump(pid)]
            os.kill(dump, signal.SIGSTOP)
            if self.options["accepted"] == "no":
                raise EngineError("the disk is gone")
            frozen()

        tell = running.tell  # type: ignore[attr-defined]
        vars(running)["tell"] = lambda verb, value: None if verb == "stop_running" else tell(verb, value)
        stages._DIES = 0.5
        return super().save(running, folder, hang, stop, 1.0)

    def holds(self, running: Running) -> bool:
        return True


@pytest.mark.parametrize("accepted", ["no", "yes"])
def test_a_payload_that_a_hanging_criu_holds_is_ended_and_the_next_segment_restores(
    tmp_path: Path, accepted: str
) -> None:
    options = {"accepted": accepted}
    with local_job(tmp_path, count(), WATCHED, engine_place=f"{HERE}Hangs", engine_options=options) as job:
        chain = Chain(job)
        chain.until(lambda: "\n5\n" in job.said())
        checkpoint(job)
        wait_for_text(job.folder.payload_log, "\n10\n")
        job.folder.request("checkpoint")
        wait_for(lambda: job.folder.segment(1).outcome != "running", "the end of the segment")
        job.folder.clear_request("checkpoint")
        assert chain.end().reason == "the job ended with exit status 7"
        first, second = job.folder.segments()
        assert (first.failure, second.restored_from) == ("killed", 1)
        assert "a save was killed in its midst" in (first.reason or "")
        assert_as_one_run(job)


class Waits(CriuEngine):
    """A save waits, and the tree runs on, while the file named by option `hold` exists; it makes `hold`.held."""

    def save(self, running: Running, folder: Path, frozen: Callable[[], None], stop: bool, limit: float) -> SaveStats:
        events.IDLE = 0.05
        hold = Path(self.options["hold"])
        hold.with_suffix(".held").touch()
        while hold.exists():
            time.sleep(0.01)
        return super().save(running, folder, frozen, stop, limit)


def test_a_payload_that_is_disowned_while_its_save_takes_long_does_not_go_on(tmp_path: Path) -> None:
    hold, lines = tmp_path / "hold", 200
    options = {"hold": str(hold)}
    with local_job(tmp_path, count(lines), WATCHED, engine_place=f"{HERE}Waits", engine_options=options) as job:
        job.submit()
        wait_for_text(job.folder.payload_log, "\n5\n")
        checkpoint(job)
        hold.with_suffix(".held").unlink()
        hold.touch()
        job.folder.request("checkpoint")
        wait_for(hold.with_suffix(".held").exists, "the save")
        job.folder.declare_lost(1, "its node does not answer")
        wait_for(lambda: not proc.children(init_of(job)), "the end of the payload", 5.0)
        assert hold.exists(), "the save is still under way"
        hold.unlink()
        (lost,) = job.wait()
        assert (lost.outcome, lost.exit, lost.generation) == ("running", None, 1), "our record says no more"
        job.folder.clear_request("checkpoint")
        assert Chain(job).end().reason == "the job ended with exit status 7"
        assert job.folder.segment(2).restored_from == 1
        assert_as_one_run(job, lines)


#: A criu of which the first restore is killed some steps after its beginning; stopped between the steps, so that it
#: does not get ahead, however busy the machine is.
KILLED_RESTORE = """#!{python}
import os, pathlib, signal, subprocess, sys, time
struck = pathlib.Path({struck!r})
if sys.argv[1] != "restore" or struck.exists():
    os.execv({criu!r}, [{criu!r}, *sys.argv[1:]])
struck.touch()
restore = subprocess.Popen([{criu!r}, *sys.argv[1:]])
for _ in range({steps}):
    restore.send_signal(signal.SIGSTOP)
    time.sleep(0.002)
    restore.send_signal(signal.SIGCONT)
    time.sleep(0.001)
restore.kill()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("steps", [0, 3])
def test_a_criu_that_is_killed_in_mid_restore_is_run_again_in_the_next_segment(tmp_path: Path, steps: int) -> None:
    criu, struck = tmp_path / "criu", tmp_path / "struck"
    real, _ = locate.locate({})
    criu.write_text(KILLED_RESTORE.format(python=sys.executable, struck=str(struck), criu=real, steps=steps))
    criu.chmod(0o700)
    with local_job(tmp_path, count(), WATCHED, engine_options={"criu": str(criu)}) as job:
        chain = Chain(job)
        chain.until(lambda: "\n10\n" in job.said())
        os.kill(job.running_segment().pid, signal.SIGUSR2)
        chain.end()
        saved, failed, last = job.folder.segments()
        assert (saved.outcome, failed.failure, last.outcome) == ("saved", "restore", "finished")
        assert (failed.restored_from, last.restored_from) == (1, 1)
        assert_as_one_run(job)


def test_a_node_that_is_gone_with_all_on_it_costs_no_more_than_a_period(tmp_path: Path) -> None:
    lines, period, slack = 115, 0.8, 1.2
    command = count(lines, 0.07).replace("sleep", "date +%s.%N >> times; sleep")
    with local_job(tmp_path, command, WATCHED, period=period) as job:
        chain = Chain(job)
        chain.round()
        took: dict[int, float] = {}

        def due() -> bool:
            """Whether it has run, in its own time, for far longer than what may be lost."""
            written = times(job)
            if not written:
                return False
            segment = job.folder.segment(1)
            took.update({segment.generation or 0: segment.took or 0.0})
            return written[-1] - written[0] > 3 * (period + slack) and between_saves(job)

        wait_for(due, "the moment to die in")
        first = job.running_segment()
        keeper = proc.read_stat(first.pid)
        assert keeper is not None
        killed = time.time()
        for pid in (keeper.parent, first.pid, init_of(job)):
            with suppress(ProcessLookupError):  # each of them takes the next along
                os.kill(pid, signal.SIGKILL)
        newest = generations.numbers(job.folder.images_folder)[-1]
        before = times(job)
        chain.end()
        first, second = job.folder.segments()
        assert (first.outcome, second.outcome) == ("running", "finished")
        assert "ended without an outcome" in (job.folder.lost(1) or "")
        assert second.restored_from == newest
        most = max(took.values()) + period + slack
        again = journal(job)[1][0]
        assert 0 < killed - before[again - 1] < most, "more than the period was lost"
        apart = [later - earlier for earlier, later in itertools.pairwise([0.0, *first.images.values()])]
        assert max(apart) < most, "more than the period would have been lost a moment before"
        assert_as_one_run(job, lines)


def times(job: LocalJob) -> list[float]:
    """When each line was written (Unix time, s)."""
    path = job.work / "times"
    return [float(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def between_saves(job: LocalJob) -> bool:
    """Whether something was computed since the last save, and none is under way, whose time would be unknown."""
    images = job.folder.images_folder
    newest = generations.path_of(images, generations.numbers(images)[-1])
    return time.time() - newest.stat().st_mtime > 0.3 and not list(images.glob(".*"))
