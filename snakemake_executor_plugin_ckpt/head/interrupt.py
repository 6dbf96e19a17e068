"""What becomes of running jobs when the head is interrupted."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from snakemake_executor_plugin_ckpt.errors import CkptError, NoAnswer
from snakemake_executor_plugin_ckpt.head.watched import WatchedJob

#: Seconds beyond the time reserved for a save after which a job that does not park is left to itself.
_SPARE = 30.0


def end(jobs: list[WatchedJob], how: str | None, logger: Any) -> None:
    """Park, leave or cancel jobs. A second Ctrl-C while jobs are being saved leaves at once, without harm to them."""
    if not jobs:
        return
    if how == "detach":
        logger.info(f"ckpt: {_count(jobs)} left running; start snakemake again to attach to them")
    elif how == "cancel":
        _cancel(jobs, logger)
    else:
        try:
            park(jobs, logger)
        except KeyboardInterrupt:
            logger.info("ckpt: leaving at once; the jobs go on saving, and stop when they are saved")


def park(jobs: list[WatchedJob], logger: Any) -> None:
    """Have jobs saved and stopped, and wait for that as long as it goes on."""
    logger.info(f"ckpt: saving {_count(jobs)} (Ctrl-C again: leave at once; they save themselves)")
    for job in jobs:
        try:
            job.folder.request("park")
        except OSError as error:  # all others are asked all the same
            logger.warning(f"ckpt: {job.job.key} cannot be asked to save now: {error}")
    limit = max(job.policy.floor for job in jobs) + _SPARE
    waiting, until, progress = list(jobs), time.monotonic() + limit, len(jobs)
    while waiting and time.monotonic() < until:
        time.sleep(0.2)
        waiting = [job for job in waiting if not _is_settled(job)]
        if len(waiting) < progress:  # as long as jobs get saved there is reason to wait for the others
            progress, until = len(waiting), time.monotonic() + limit
    for job in waiting:
        logger.warning(f"ckpt: {job.job.key} is not saved yet; it was asked to, and goes on until it is")
    logger.info(f"ckpt: {len(jobs) - len(waiting)} of {_count(jobs)} saved or over. Start snakemake again to resume")


def _is_settled(job: WatchedJob) -> bool:
    try:
        return job.settled()
    except (CkptError, OSError):  # not known now
        return False


def _cancel(jobs: list[WatchedJob], logger: Any) -> None:
    logger.info(f"ckpt: ending {_count(jobs)}; the next run goes on from their last images, where there are any")
    for job in jobs:
        with suppress(OSError):
            job.folder.request("cancel")
    ids = _ids(jobs, logger)
    if not ids:
        return
    try:
        jobs[0].scheduler.cancel(ids)
    except (CkptError, OSError) as error:
        logger.warning(f"ckpt: not all jobs could be cancelled: {error}")


def _ids(jobs: list[WatchedJob], logger: Any) -> list[str]:
    """The batch jobs of jobs. Where the scheduler does not answer, none is looked up after the first."""
    found: list[str | None] = []
    silent = False
    for job in jobs:
        try:
            found.append(job.at_work())
            if not silent or not job.unanswered:
                found.append(job.job_id)
        except (CkptError, OSError) as error:
            silent = silent or isinstance(error, NoAnswer)
            logger.warning(f"ckpt: whether {job.job.key} was submitted is not known: {error}")
    return [one for one in dict.fromkeys(found) if one is not None]


def _count(jobs: list[WatchedJob]) -> str:
    return f"{len(jobs)} job" + ("s" if len(jobs) != 1 else "")
