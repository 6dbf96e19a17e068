"""Engines for the supervisor's tests that make mistakes of the program, not of the node, or change their minds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from snakemake_executor_plugin_ckpt.engines.base import Running, SaveStats
from snakemake_executor_plugin_ckpt.engines.criu import CriuEngine
from snakemake_executor_plugin_ckpt.errors import Unsavable
from snakemake_executor_plugin_ckpt.images.outputs import snapshot
from snakemake_executor_plugin_ckpt.images.outputs.table import Table
from snakemake_executor_plugin_ckpt.images.outputs.watched import Watch
from snakemake_executor_plugin_ckpt.segment import supervisor

PLACE = "helpers.mistaken:"
_CHANGED_BYTES = snapshot.changed_bytes


class Mistaken(CriuEngine):
    """What cannot be saved can never be looked at, how much there is not at first; the first save goes wrong too."""

    saves = 0

    def __init__(self, options: Mapping[str, str]) -> None:
        super().__init__(options)
        supervisor._FIRST_LOOK = 0.2
        snapshot.changed_bytes = self._changed_bytes

    def _changed_bytes(self, watch: Watch, base: Table, limit: int) -> int:
        snapshot.changed_bytes = _CHANGED_BYTES
        raise LookupError("out of range")

    def unsavable(self, running: Running) -> list[str]:
        b"\xe9".decode()
        return []

    def save(self, running: Running, folder: Path, frozen: Callable[[], None], stop: bool, limit: float) -> SaveStats:
        def complete() -> None:
            self.saves += 1
            assert self.saves > 1, "a wrong turn"
            frozen()

        return super().save(running, folder, complete, stop, limit)


class Moody(CriuEngine):
    """What is in the tree cannot be saved while the file named by option `unsavable` exists."""

    def save(self, running: Running, folder: Path, frozen: Callable[[], None], stop: bool, limit: float) -> SaveStats:
        if Path(self.options["unsavable"]).exists():
            raise Unsavable(["process 7 (tool) plays the flute; take it away"])
        return super().save(running, folder, frozen, stop, limit)
