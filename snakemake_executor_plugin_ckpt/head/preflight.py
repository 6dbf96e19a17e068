"""What a head makes sure of before it submits anything."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from filelock import SoftFileLease, Timeout

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.engines.base import load_engine
from snakemake_executor_plugin_ckpt.errors import BadSetting, EngineError, StateError
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.schedulers.base import Scheduler
from snakemake_executor_plugin_ckpt.state import durable
from snakemake_executor_plugin_ckpt.state.folder import job_folders

#: A head on another machine that gave no sign of life for so long (s) is taken for dead.
_LEASE = 60.0


def default_state_dir(workdir: str) -> Path:
    """Where the job folders are when no ``--ckpt-state-dir`` is given."""
    return Path(workdir, ".snakemake", "ckpt")


def open_state_dir(wished: Path | None, workdir: str) -> Path:
    """The state directory, made if need be, and written to for trial.

    Raises
    ------
    BadSetting
        It cannot be written.
    """
    path = Path(os.path.abspath(os.path.expandvars(wished.expanduser()))) if wished else default_state_dir(workdir)
    try:
        durable.make_folder(path)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"ckpt")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise BadSetting(
            "--ckpt-state-dir",
            str(path),
            f"{error.strerror}; name a folder that you can write and all nodes share",
        ) from None
    return path


def check(policy: Policy, scheduler: Scheduler) -> None:
    """Refuse a scheduler or, where segments run on this machine, an engine that cannot work.

    Raises
    ------
    BadSetting, EngineError
        With what is missing and who can mend it.
    """
    if reason := scheduler.missing():
        raise BadSetting("--ckpt-scheduler", policy.scheduler, reason)
    engine = load_engine(policy.engine_place, policy.engine_options)
    if policy.scheduler != "local" or not engine.can_save:
        return
    probe = engine.probe()
    if not probe.usable:
        raise EngineError(
            "this machine cannot save jobs: " + "; ".join(probe.problems) + ". `ckpt doctor` tells more; "
            "--ckpt-engine none runs the jobs without saving them"
        )


def unfinished(state_dir: Path, workdir: str) -> dict[str, Path]:
    """The job folder that makes a file, for all files of this workflow's unfinished chains."""
    found: dict[str, Path] = {}
    for folder in job_folders(state_dir):
        job = folder.job()
        if job is not None and job.workdir == workdir and not job.acknowledged:
            found.update(dict.fromkeys(job.watched, folder.path))
    return found


def lease(state_dir: Path, workdir: str) -> SoftFileLease:
    """The right to be the head of a workflow, until `release`; renewed in the background.

    Raises
    ------
    StateError
        Another head has it.
    """
    folder = state_dir / ".heads"
    durable.make_folder(folder)
    path = folder / hashlib.sha256(workdir.encode()).hexdigest()[:16]
    who = path.with_suffix(".who")
    lock = SoftFileLease(path.with_suffix(".lock"), timeout=0, lease_duration=_LEASE)
    try:
        lock.acquire()
    except Timeout:
        other = who.read_text().strip() if who.exists() else "another process"
        raise StateError(
            f"another snakemake works on {workdir} with this state directory ({other}). End it first; if it is dead, "
            f"wait {_LEASE:.0f} s"
        ) from None
    durable.replace(who, f"process {os.getpid()} on {proc.host_name()}\n".encode())
    return lock
