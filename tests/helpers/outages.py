"""A scheduler that is away when a test says so: ``--ckpt-scheduler away``.

It looks for files in the folder ``CKPT_TEST_OUTAGE``: ``down`` (nobody is reached), ``deaf`` (submissions are accepted,
and their answers are lost), ``hang`` (a client that never ends), ``refuse``. What it is asked is noted in ``calls``.
Its resources are read as Slurm's are, and the head waits for seconds where it waits for minutes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from snakemake_executor_plugin_ckpt.errors import NoAnswer, SchedulerError
from snakemake_executor_plugin_ckpt.schedulers import commands, slurm_text
from snakemake_executor_plugin_ckpt.schedulers.base import Request
from snakemake_executor_plugin_ckpt.schedulers.local import Local

VARIABLE = "CKPT_TEST_OUTAGE"
REFUSAL = "Invalid account or account/partition combination specified"

_ENTRY_POINT = "[snakemake_executor_plugin_ckpt.schedulers]\naway = helpers.outages:Away\n"


def install(folder: Path) -> dict[str, str]:
    """Have processes with this environment find it, as if it were installed; makes the folder of its files."""
    found = folder / "away-1.dist-info"
    found.mkdir(parents=True)
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: away\nVersion: 1\n")
    (found / "entry_points.txt").write_text(_ENTRY_POINT)
    (folder / "outage").mkdir()
    paths = [str(folder), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths)), VARIABLE: str(folder / "outage")}


class Away(Local):
    """See the module."""

    name = "away"
    resources = slurm_text.RESOURCES
    prefixes = ("slurm_",)
    refused = slurm_text.REFUSED

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        from snakemake_executor_plugin_ckpt.head import backoff

        backoff.EVERY = 0.5

    def submit(self, request: Request) -> str:
        deaf = self._is("deaf")  # as it was when the test sees the call
        self._called(f"submit {request.name}")
        if self._is("refuse"):
            raise SchedulerError(REFUSAL)
        job_id = super().submit(request)
        if deaf:
            raise NoAnswer("the answer was lost")
        return job_id

    def check(self, request: Request) -> None:
        slurm_text.submission(request)

    def find(self, name: str) -> str | None:
        self._called(f"find {name}")
        return super().find(name)

    def cancel(self, job_ids: Sequence[str]) -> None:
        self._called(f"cancel {' '.join(job_ids)}")
        super().cancel(job_ids)

    def _is(self, what: str) -> bool:
        return Path(os.environ[VARIABLE], what).exists()

    def _called(self, what: str) -> None:
        with open(Path(os.environ[VARIABLE], "calls"), "a") as file:
            file.write(f"{what}\n")
        if self._is("hang"):
            commands.run(["sleep", "600"], timeout=600.0)
        if self._is("down"):
            raise NoAnswer("Unable to contact the controller")
