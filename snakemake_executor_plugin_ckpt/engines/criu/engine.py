"""The four verbs of the CRIU engine."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.engines.base import Engine, Payload, Probe, Running, SaveStats
from snakemake_executor_plugin_ckpt.engines.criu import commands, locate, shm, trial, unsavable, writeback
from snakemake_executor_plugin_ckpt.engines.criu.stages import Stages
from snakemake_executor_plugin_ckpt.engines.world.namespaces import WAYS, Clocks, Way
from snakemake_executor_plugin_ckpt.engines.world.world import World, start
from snakemake_executor_plugin_ckpt.errors import BadSetting, EngineError, Halfway, Unsavable

_CLOCKS = "clocks.json"
_SHM = "shm.tar"


class CriuEngine(Engine):
    """Saves any tree by CRIU.

    Options
    -------
    criu
        Path of the program; found by itself when not given.
    criu-way
        ``auto`` or one of `WAYS`.
    tcp
        ``refuse`` (default) to save with an established TCP connection, or ``close`` it at the restore.
    """

    name = "criu"

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(options)
        wish = options.get("criu-way") or "auto"
        if wish not in ("auto", *WAYS):
            raise BadSetting("--ckpt-criu-way", wish, "use auto, " + ", ".join(WAYS))
        self._wish = wish
        self._scratch: Path | None = None

    @cached_property
    def criu(self) -> commands.Criu:
        """The program that is used, and its command lines."""
        binary, _ = locate.locate(self.options)
        return commands.Criu(binary, self.options.get("tcp") == "close")

    @cached_property
    def way(self) -> Way:
        """What the user wished, else what this user on this node most likely can; the trial of `probe` proves it."""
        for way in WAYS:
            if self._wish == way:
                return way
        if os.getuid() == 0:
            return "root" if trial.enters("root") is None else "rootless"
        if trial.enters("rootless") is not None and trial.has_file_capabilities(self.criu.binary):
            return "capabilities"
        return "rootless"

    def version(self) -> str:
        """See `Engine.version`."""
        return ".".join(map(str, locate.locate(self.options)[1]))

    def probe(self) -> Probe:
        """See `Engine.probe`."""
        try:
            taken = self.way
        except EngineError as error:
            return Probe(False, problems=[str(error)])
        return trial.probe(self, taken, self._wish)

    def launch(self, payload: Payload) -> World:
        """See `Engine.launch`."""
        return start(self.way, payload)

    def unsavable(self, running: Running) -> list[str]:
        """See `Engine.unsavable`."""
        assert isinstance(running, World)
        return unsavable.find(running.pids(), running.way, self.options.get("tcp") == "close")

    def save(self, running: Running, folder: Path, frozen: Callable[[], None], stop: bool, limit: float) -> SaveStats:
        """See `Engine.save`.

        criu calls a script when the tree is written and still stopped, and waits for it; a script that fails
        makes criu let the tree go on. So the image is committed, or the save undone, before anything is lost.
        """
        assert isinstance(running, World)
        begin = time.monotonic()
        dumped = begin

        def complete() -> None:
            nonlocal dumped
            if wrong := unsavable.silently_wrong(running.pids(), self.way):
                raise Unsavable(wrong)
            shm.save(running.init, running.way, folder / _SHM)
            (folder / _CLOCKS).write_text(json.dumps(asdict(running.clocks_now())))
            dumped = time.monotonic()
            frozen()

        with Stages(self._scratch_folder()) as stages:
            argv = self.criu.dump(running.payload, folder, stages.folder, stages.script, stop)
            command = self._command(argv, stages.folder, stages.environment)
            stages.watch(running, command, complete, limit, lambda: writeback.begin(folder))
            # From the commit of an image that is to stop the tree on, there is no way back: criu may have ended
            # a part of it already. What is left is the caller's to kill.
            done = stop and stages.accepted
            if os.WIFSIGNALED(stages.status) and not done:
                _keep_log(stages.folder, folder)
                failure = stages.error or _failure(stages.folder, "criu dump", stages.status)
                raise Halfway(str(failure)) from stages.error
            if stages.error is not None:
                raise stages.error
            if stages.status != 0 and not done:
                _keep_log(stages.folder, folder)
                failure = _failure(stages.folder, "criu dump", stages.status)
                # What /proc shows names the process, and what criu itself has no word for.
                findings = self.unsavable(running)
                raise Unsavable(findings) if findings else failure
        return SaveStats(dump=dumped - begin, frozen=time.monotonic() - begin)

    def holds(self, running: Running) -> bool:
        """See `Engine.holds`; criu holds the threads by ptrace until its last script is done."""
        return proc.held(running.pids())

    def restore(self, folder: Path, payload: Payload, limit: float) -> World:
        """See `Engine.restore`."""
        try:
            clocks = Clocks(**json.loads((folder / _CLOCKS).read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise EngineError(f"{folder} holds no image of criu: {error}") from error
        running = World(self.way, clocks, None)
        work = Path(tempfile.mkdtemp(prefix="restore-", dir=self._scratch_folder()))
        try:
            shm.restore(running.init, running.way, folder / _SHM)
            if self.way != "capabilities":
                running.ask("last_pid", commands.highest_pid(os.listdir(folder)), "last_pid")
            pidfile = work / "pid"
            argv = self.criu.restore(folder, work, pidfile)
            status = running.ask("run", self._command(argv, work, {}), "ran", limit)
            if status != 0:
                raise _failure(work, "criu restore", status)
            running.payload = int(pidfile.read_text())
            running.ask("adopt", running.payload, "adopted")
        except Exception as error:  # whatever it is: nothing half restored may go on
            # A restore that fails in one thread can hang for ever; the end of the pid namespace ends it all.
            running.kill()
            raise error if isinstance(error, EngineError) else EngineError(str(error)) from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return running

    def _command(self, argv: list[str], folder: Path, environment: dict[str, str]) -> dict[str, object]:
        # XDG_RUNTIME_DIR is where criu keeps what it learnt of the kernel: saves it 30 ms and 60 pids a run.
        environment = {"XDG_RUNTIME_DIR": str(self._scratch_folder()), **environment}
        return {"argv": argv, "output": str(folder / "criu.out"), "environment": environment}

    def _scratch_folder(self) -> Path:
        """A private folder on this node for the segment's life; not on the shared disk, which may know no fifos."""
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="ckpt-"))
            self._scratch.chmod(stat.S_IRWXU)
        return self._scratch

    def close(self) -> None:
        """Remove what the engine keeps on this node."""
        if self._scratch is not None:
            with suppress(OSError):
                shutil.rmtree(self._scratch)
            self._scratch = None


def _keep_log(work: Path, folder: Path) -> None:
    with suppress(OSError):
        shutil.copyfile(work / "criu.log", folder / "criu.log")


def _failure(work: Path, what: str, status: int) -> EngineError:
    log, output = _text(work / "criu.log"), _text(work / "criu.out")
    failure = commands.parse_failure(log)
    if failure.reasons:
        return Unsavable(failure.reasons)
    said = failure.lines or output.splitlines()[-3:]
    return EngineError(f"{what} failed (status {os.waitstatus_to_exitcode(status)}): " + " | ".join(said))


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
