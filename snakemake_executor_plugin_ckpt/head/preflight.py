"""What a head makes sure of before it submits anything."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from snakemake_executor_plugin_ckpt.engines.base import load_engine
from snakemake_executor_plugin_ckpt.errors import BadSetting, EngineError
from snakemake_executor_plugin_ckpt.head.lease import Lease
from snakemake_executor_plugin_ckpt.head.watched import request_of
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.schedulers.base import Scheduler
from snakemake_executor_plugin_ckpt.state import durable
from snakemake_executor_plugin_ckpt.state.folder import JobFolder


def default_state_dir(workdir: str) -> Path:
    """Where the job folders are when no ``--ckpt-state-dir`` is given."""
    return Path(workdir, ".snakemake", "ckpt")


def state_dir_of(wished: Path | None, workdir: str) -> Path:
    """The state directory that the setting means; it may not be there yet."""
    return Path(os.path.abspath(os.path.expandvars(wished.expanduser()))) if wished else default_state_dir(workdir)


def open_state_dir(wished: Path | None, workdir: str) -> Path:
    """The state directory, made if need be, and written to for trial.

    Raises
    ------
    BadSetting
        It cannot be written.
    """
    path = state_dir_of(wished, workdir)
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


def check_resources(rule: str, policy: Policy, scheduler: Scheduler) -> None:
    """Refuse resources for the scheduler alone which it could never be told, of the first segment and of later ones.

    Raises
    ------
    BadSetting
        With the rule and the resource.
    """
    for one in (policy, policy.of_later_segments()):
        try:
            scheduler.check(request_of(one, JobFolder(scheduler.state_dir / "job"), "ckpt-job", "/"))
        except BadSetting as error:
            raise BadSetting(f"rule {rule}, {error.option}", error.value, error.remedy) from None


def lease(state_dir: Path, workdir: str, say: Callable[[str], None] = lambda _: None) -> Lease:
    """The right to be the head of a workflow; see `Lease`."""
    return Lease(state_dir, workdir, say)
