"""One head for a workflow and a state directory. A dead head is in nobody's way for longer than a stated time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.errors import StateError
from snakemake_executor_plugin_ckpt.state import durable
from snakemake_executor_plugin_ckpt.state.lock import PATIENCE, Busy, JobLock


class Lease:
    """The right to be the head of a workflow, held until `release`.

    A head that died on this host is seen to be dead at once. Of one on another host a sign of life is awaited.

    Parameters
    ----------
    state_dir
        The state directory.
    workdir
        The workflow's working directory.
    say
        Takes a line for the user when he has to wait.
    patience
        Seconds without a sign of life after which a head on another host is taken for dead.

    Raises
    ------
    StateError
        Another head has it, and lives.
    """

    def __init__(self, state_dir: Path, workdir: str, say: Callable[[str], None], patience: float = PATIENCE) -> None:
        folder = state_dir / ".heads"
        durable.make_folder(folder)
        path = folder / hashlib.sha256(workdir.encode()).hexdigest()[:16]
        self._who = path.with_suffix(".who")
        self._lock = JobLock(path.with_suffix(".lock"), timeout=0, patience=patience)
        other = self._other()
        if other and not other.endswith(f" on {proc.host_name()}"):
            say(
                f"ckpt: the snakemake that last worked here, {other}, did not end by itself; "
                f"waiting up to {patience:.0f} s for a sign of life from it"
            )
        try:
            self._lock.acquire()
        except Busy:
            raise StateError(
                f"another snakemake works on {workdir} with this state directory "
                f"({self._other() or 'another process'}). End it first"
            ) from None
        durable.replace(self._who, f"process {os.getpid()} on {proc.host_name()}\n".encode())

    def _other(self) -> str:
        with suppress(FileNotFoundError):
            return self._who.read_text().strip()
        return ""

    def release(self) -> None:
        """Give it back."""
        with suppress(OSError):  # it only names the owner
            self._who.unlink(missing_ok=True)
        self._lock.release()
