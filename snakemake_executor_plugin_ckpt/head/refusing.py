"""What must be sure before a job is failed: nobody writes its outputs any more, and those that images need are kept."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

from snakemake_executor_plugin_ckpt.errors import CkptError, StateError
from snakemake_executor_plugin_ckpt.head import chains, interrupt, snakejob
from snakemake_executor_plugin_ckpt.head.watched import WatchedJob
from snakemake_executor_plugin_ckpt.schedulers.base import Scheduler
from snakemake_executor_plugin_ckpt.state.folder import JobFolder


def stop_writing(
    job: JobExecutorInterface, error: Exception, scheduler: Scheduler, workdir: str, logger: Any
) -> list[WatchedJob]:
    """Have what an earlier head left running saved, as Snakemake is about to remove what it writes; the chains.

    Parameters
    ----------
    job
        The job that is to fail.
    error
        Why.
    scheduler
        Who runs its segments.
    workdir
        The workflow's working directory.
    logger
        Snakemake's.

    Raises
    ------
    WorkflowError
        Something goes on, or may. Only an end of the whole run leaves its outputs alone then.
    """
    try:
        found, files = chains.survey(scheduler.state_dir, workdir), snakejob.watched_of(job, workdir)
        doubt = found.doubt(snakejob.key_of(job, workdir), files, snakejob.group_of(job))
        if doubt is not None and not _is_of_no_use(JobFolder(doubt.path), snakejob.outputs_of(job, workdir)):
            raise StateError(doubt.why)
        paths = {found.makers[file] for file in files if file in found.makers}
        made = [WatchedJob(folder, scheduler) for folder in map(JobFolder, sorted(paths))]
        made = [watched for watched in made if watched.folder.exit_status() in (None, 0)]
        if running := [watched for watched in made if not watched.settled()]:
            interrupt.park(running, logger)
        if all(watched.settled() for watched in running):
            return made
    except (CkptError, OSError) as trouble:
        raise WorkflowError(f"{error} (and whether the job runs cannot be seen: {trouble})") from None
    raise WorkflowError(f"{error} (and the job runs on: see {running[0].folder.path})") from None


def _is_of_no_use(folder: JobFolder, outputs: list[str]) -> bool:
    """Whether a chain whose record cannot be read does not run, and left no outputs that its images could need."""
    last = folder.last_segment()
    over = last is None or last.outcome != "running" or folder.lost(last.number) is not None
    return over and not any(map(os.path.lexists, outputs))


def set_aside(made: Iterable[WatchedJob], outputs: list[str], why: str) -> None:
    """Have the outputs of a job that is about to fail, and that its images need, out of Snakemake's way.

    Raises
    ------
    StateError
        Not now. To fail it all the same would lose what was computed.
    """
    try:
        for watched in made:
            watched.set_aside(outputs)
    except OSError as error:
        raise StateError(
            f"it failed ({why}), but its outputs cannot be set aside: {error}. Snakemake would remove them, and the "
            "images need them; it is told of the failure when that is mended"
        ) from error
