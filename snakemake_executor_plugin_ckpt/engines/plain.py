"""The engine of jobs that are not saved (rule resource ``ckpt: 0``): it runs them, and nothing more."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.engines.base import Engine, Payload, Probe, Running
from snakemake_executor_plugin_ckpt.errors import EngineError


class PlainRunning:
    """A payload as an ordinary child in a session of its own."""

    def __init__(self, payload: Payload) -> None:
        with open(payload.log, "ab") as log:
            self._child = subprocess.Popen(
                payload.argv,
                cwd=payload.directory,
                env=dict(payload.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._pidfd = os.pidfd_open(self._child.pid)

    def fileno(self) -> int:
        """See `Running.fileno`."""
        return self._pidfd

    def poll(self) -> int | None:
        """See `Running.poll`."""
        return self._child.poll()  # minus the signal's number already

    def pids(self) -> list[int]:
        """See `Running.pids`."""
        return [self._child.pid, *proc.descendants(self._child.pid)]

    def kill(self) -> None:
        """See `Running.kill`; stopped first, so that none starts another one while they are ended."""
        if self._child.poll() is not None:
            return  # done already: the number may be another process's by now
        stopped: set[int] = set()
        while new := set(self.pids()) - stopped:
            _send(new, signal.SIGSTOP)
            stopped |= new
        _send(stopped, signal.SIGKILL)
        self._child.wait()


def _send(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


class Plain(Engine):
    """See the module."""

    name = "none"
    can_save = False

    def probe(self) -> Probe:
        """See `Engine.probe`."""
        return Probe(True, way="runs jobs, saves nothing")

    def version(self) -> str:
        """See `Engine.version`."""
        return "1"

    def launch(self, payload: Payload) -> PlainRunning:
        """See `Engine.launch`."""
        try:
            return PlainRunning(payload)
        except OSError as error:
            raise EngineError(f"cannot start {payload.argv[0]}: {error}") from error

    def unsavable(self, running: Running) -> list[str]:
        """See `Engine.unsavable`."""
        return ["the rule has the resource ckpt=0: it is not saved. Remove it, or give the rule more walltime"]

    def save(self, running: Running, folder: Path, frozen: Callable[[], None], stop: bool, limit: float) -> NoReturn:
        """See `Engine.save`; always refused."""
        raise EngineError(self.unsavable(running)[0])

    def restore(self, folder: Path, payload: Payload, limit: float) -> NoReturn:
        """See `Engine.restore`; always refused."""
        raise EngineError("a job with ckpt=0 has no image")
