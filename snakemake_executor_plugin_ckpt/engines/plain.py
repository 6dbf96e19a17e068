"""The engine of jobs that are not saved (rule resource ``ckpt: 0``): it runs them, and nothing more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from snakemake_executor_plugin_ckpt.engines.base import Engine, Payload, Probe, Running
from snakemake_executor_plugin_ckpt.engines.world.namespaces import Way
from snakemake_executor_plugin_ckpt.engines.world.world import start
from snakemake_executor_plugin_ckpt.errors import EngineError

#: The one that makes no namespaces, so that it works everywhere.
_WAY: Way = "capabilities"


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

    def launch(self, payload: Payload) -> Running:
        """See `Engine.launch`; under an init process too, since a job must not outlive its supervisor."""
        return start(_WAY, payload)

    def unsavable(self, running: Running) -> list[str]:
        """See `Engine.unsavable`."""
        return ["the rule has the resource ckpt=0: it is not saved. Remove it, or give the rule more walltime"]

    def save(self, running: Running, folder: Path, frozen: Callable[[], None], stop: bool, limit: float) -> NoReturn:
        """See `Engine.save`; always refused."""
        raise EngineError(self.unsavable(running)[0])

    def holds(self, running: Running) -> bool:
        """See `Engine.holds`."""
        return False

    def restore(self, folder: Path, payload: Payload, limit: float) -> NoReturn:
        """See `Engine.restore`; always refused."""
        raise EngineError("a job with ckpt=0 has no image")
