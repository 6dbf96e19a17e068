"""Engines for the supervisor's tests: CRIU, but something goes wrong in a chosen way.

They live in the segment's own process, so they can also spoil what it sees of the clock and of the disk.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.engines.base import Payload, Running, SaveStats
from snakemake_executor_plugin_ckpt.engines.criu import CriuEngine
from snakemake_executor_plugin_ckpt.engines.world.world import World
from snakemake_executor_plugin_ckpt.errors import EngineError, Halfway, Unsavable
from snakemake_executor_plugin_ckpt.images import generations
from snakemake_executor_plugin_ckpt.segment import events
from snakemake_executor_plugin_ckpt.state import durable
from snakemake_executor_plugin_ckpt.state.folder import JobFolder

PLACE = "helpers.saboteurs:"


class NeverSavable(CriuEngine):
    """Every save is refused."""

    def save(self, running: Running, folder: Path, frozen: Callable[[], None], stop: bool, limit: float) -> SaveStats:
        raise Unsavable(["process 7 (tool) plays the flute; take it away"])


class FullDisk(CriuEngine):
    """Saves find no space while the file named by the option `full` exists."""

    def save(self, running: Running, folder: Path, frozen: Callable[[], None], stop: bool, limit: float) -> SaveStats:
        def complete() -> None:
            if Path(self.options["full"]).exists():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            frozen()

        return super().save(running, folder, complete, stop, limit)


class Clumsy(CriuEngine):
    """The first two saves fail for no lasting reason."""

    failures = 0

    def save(self, running: Running, folder: Path, frozen: Callable[[], None], stop: bool, limit: float) -> SaveStats:
        self.failures += 1
        if self.failures <= 2:
            raise EngineError("stumbled")
        return super().save(running, folder, frozen, stop, limit)


class CriuKilled(CriuEngine):
    """The criu of a dump is killed in its midst, once: it makes the file named by `struck`.

    The first `after` dumps are left alone; `moment` is how many steps (2 ms) of criu's are waited for.
    """

    saves = 0

    def save(self, running: Running, folder: Path, frozen: Callable[[], None], stop: bool, limit: float) -> SaveStats:
        self.saves += 1
        if self.saves > int(self.options["after"]):
            # When the first file of a process is there, criu's own code runs inside the payload.
            self._strike(lambda: any(folder.glob("*-1*.img")))
        return super().save(running, folder, frozen, stop, limit)

    def _strike(self, ready: Callable[[], bool]) -> None:
        struck = Path(self.options["struck"])
        if not struck.exists():
            words = (ready, int(self.options.get("moment", "0")), struck)
            threading.Thread(target=_kill_criu, args=words, daemon=True).start()


def _kill_criu(ready: Callable[[], bool], moment: int, struck: Path) -> None:
    while not (found := [pid for pid in proc.descendants(os.getpid()) if _is_dump(pid)]):
        time.sleep(0.001)
    struck.touch()
    while not ready() or (moment := moment - 1) >= 0:
        # In steps, between which it stands still: however busy the machine is, it does not get ahead.
        os.kill(found[0], signal.SIGCONT)
        time.sleep(0.002)
        os.kill(found[0], signal.SIGSTOP)
    os.kill(found[0], signal.SIGKILL)


def _is_dump(pid: int) -> bool:
    words = proc.command_line(pid).split()
    return words[1:2] == ["dump"] and "criu" in words[0]


class Let(CriuEngine):
    """The criu of any dump but the first is killed while it holds the tree; who would end the tree then is slow."""

    saves = 0

    def save(self, running: Running, folder: Path, frozen: Callable[[], None], stop: bool, limit: float) -> SaveStats:
        self.saves += 1
        if self.saves == 1:
            return super().save(running, folder, frozen, stop, limit)
        assert isinstance(running, World)
        init = running.init

        def complete() -> None:
            [dump] = [pid for pid in proc.descendants(os.getpid()) if _is_dump(pid)]
            os.kill(init, signal.SIGSTOP)
            os.kill(dump, signal.SIGKILL)
            time.sleep(0.3)
            try:
                frozen()
            finally:
                os.kill(init, signal.SIGCONT)

        return super().save(running, folder, complete, stop, limit)


class Torn(CriuEngine):
    """Any save but the first is killed half-way, and the last process of the tree dies of it."""

    saves = 0

    def save(self, running: Running, folder: Path, frozen: Callable[[], None], stop: bool, limit: float) -> SaveStats:
        self.saves += 1
        if self.saves == 1:
            return super().save(running, folder, frozen, stop, limit)
        tee = [pid for pid in running.pids() if proc.command_line(pid).startswith("tee ")]
        os.kill(tee[0], signal.SIGKILL)
        raise Halfway("criu was killed")


class Held(CriuEngine):
    """A save stands still, with the tree, while the file named by option `hold` exists; it makes `hold`.held."""

    def save(self, running: Running, folder: Path, frozen: Callable[[], None], stop: bool, limit: float) -> SaveStats:
        def complete() -> None:
            frozen()
            hold = Path(self.options["hold"])
            hold.with_suffix(".held").touch()
            while hold.exists():
                time.sleep(0.01)

        return super().save(running, folder, complete, stop, limit)


class Slow(CriuEngine):
    """A save takes `seconds` longer, with the tree stopped."""

    def save(self, running: Running, folder: Path, frozen: Callable[[], None], stop: bool, limit: float) -> SaveStats:
        def complete() -> None:
            time.sleep(float(self.options["seconds"]))
            frozen()

        return super().save(running, folder, complete, stop, limit)


class Ended(CriuEngine):
    """The payload ends between the decision to save and the save: the file named by option `go` makes it."""

    def save(self, running: Running, folder: Path, frozen: Callable[[], None], stop: bool, limit: float) -> SaveStats:
        Path(self.options["go"]).touch()
        while running.pids():
            time.sleep(0.01)
        return super().save(running, folder, frozen, stop, limit)


class ClockSet(CriuEngine):
    """The node's clock is set by `hours` when the payload starts; the segment's code sees it wherever it looks."""

    def launch(self, payload: Payload) -> World:
        self._set_clock()
        return super().launch(payload)

    def restore(self, folder: Path, payload: Payload, limit: float) -> World:
        self._set_clock()
        return super().restore(folder, payload, limit)

    def _set_clock(self) -> None:
        real, offset = time.time, 3600 * float(self.options["hours"])
        time.time = lambda: real() + offset


class BadDisk(CriuEngine):
    """The state directory fails by `errno` while the file named by `bad` exists; the segment looks at it often."""

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(options)
        events.IDLE = 0.05
        if code := int(options.get("errno", "0")):
            bad = Path(options["bad"])
            for what in ("lost", "requests", "update", "exit_status", "clear_request"):
                _fail_while(bad, code, JobFolder, what)
            _fail_while(bad, code, durable, "replace")
            _fail_while(bad, code, generations, "begin")


def _fail_while(bad: Path, code: int, where: object, what: str) -> None:
    real = getattr(where, what)

    def failing(*words: object) -> object:
        if bad.exists():
            raise OSError(code, os.strerror(code))
        return real(*words)

    setattr(where, what, failing)
