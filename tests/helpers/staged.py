"""A scheduler and an engine that stop where a test wants to look, or to kill somebody: ``--ckpt-scheduler staged``.

They wait at gates: as long as the file ``RULE.GATE`` is in the folder ``CKPT_TEST_GATES``, the rule's job stays where
it is, and ``RULE.GATE.reached`` tells that it is there.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from snakemake_executor_plugin_ckpt.engines.base import Running, SaveStats
from snakemake_executor_plugin_ckpt.engines.criu import CriuEngine
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness, Request
from snakemake_executor_plugin_ckpt.schedulers.local import Local

VARIABLE = "CKPT_TEST_GATES"

_ENTRY_POINTS = """\
[snakemake_executor_plugin_ckpt.schedulers]
staged = helpers.staged:Staged
[snakemake_executor_plugin_ckpt.engines]
staged = helpers.staged:StagedCriu
"""

_START = """\
#!/bin/sh
if [ -e {gate} ]; then touch {gate}.reached; fi
while [ -e {gate} ]; do sleep 0.05; done
exec {script}
"""


def install(folder: Path) -> dict[str, str]:
    """Have processes with this environment find the two, as if they were installed; makes the folder of gates."""
    found = folder / "staged-1.dist-info"
    found.mkdir(parents=True)
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: staged\nVersion: 1\n")
    (found / "entry_points.txt").write_text(_ENTRY_POINTS)
    gates = folder / "gates"
    gates.mkdir()
    paths = [str(folder), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths)), VARIABLE: str(gates)}


def _gate(job_folder: Path, name: str) -> Path:
    """The gate of a job, whose folder begins with its rule."""
    return Path(os.environ[VARIABLE], f"{job_folder.name.partition('-')[0]}.{name}")


def _pass(gate: Path) -> None:
    if gate.exists():
        gate.with_name(f"{gate.name}.reached").touch()
        while gate.exists():
            time.sleep(0.05)


class Staged(Local):
    """Gates: ``intended``, ``submitted``, ``asked``; ``start-N`` for the Nth batch job; ``find`` hides batch jobs."""

    name = "staged"

    def submit(self, request: Request) -> str:
        folder = request.script.parent
        _pass(_gate(folder, "intended"))
        number = len(list((folder / "submissions").glob("*.yaml")))
        script = folder / f"staged-{number}.sh"
        gate = _gate(folder, f"start-{number}")
        script.write_text(_START.format(gate=shlex.quote(str(gate)), script=shlex.quote(str(request.script))))
        script.chmod(0o700)
        job_id = super().submit(replace(request, script=script))
        _pass(_gate(folder, "submitted"))
        return job_id

    def find(self, name: str) -> str | None:
        hidden = list(Path(os.environ[VARIABLE]).glob("*.find"))
        return None if hidden else super().find(name)

    def liveness(self, job_ids: Sequence[str]) -> dict[str, Liveness]:
        for gate in list(Path(os.environ[VARIABLE]).glob("*.asked")):
            _pass(gate)
        return super().liveness(job_ids)


class StagedCriu(CriuEngine):
    """Gate ``save``: the tree is frozen, and the image not complete."""

    def save(self, running: Running, folder: Path, frozen: Callable[[], None], stop: bool, limit: float) -> SaveStats:
        def complete() -> None:
            _pass(_gate(folder.parents[2], "save"))
            frozen()

        return super().save(running, folder, complete, stop, limit)
