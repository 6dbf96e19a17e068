"""Engines for the supervisor's tests: CRIU, but its saves fail in a chosen way."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from snakemake_executor_plugin_ckpt.engines.base import Running, SaveStats
from snakemake_executor_plugin_ckpt.engines.criu import CriuEngine
from snakemake_executor_plugin_ckpt.errors import EngineError, Unsavable

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
