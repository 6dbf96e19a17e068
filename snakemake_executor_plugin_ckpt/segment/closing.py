"""How a segment ends on the disk: the payload's exit status and the segment's outcome."""

from __future__ import annotations

import time
from contextlib import suppress

from snakemake_executor_plugin_ckpt.engines.base import Running
from snakemake_executor_plugin_ckpt.schedulers.base import FAILED, REQUEUE
from snakemake_executor_plugin_ckpt.segment import patience
from snakemake_executor_plugin_ckpt.state import durable
from snakemake_executor_plugin_ckpt.state.folder import JobFolder
from snakemake_executor_plugin_ckpt.state.records import Outcome, Segment


def exit_status(folder: JobFolder, status: int, until: float) -> int:
    """Have the payload's own exit status on the disk; a computation is lost with it.

    Parameters
    ----------
    folder
        The job's.
    status
        How the payload's first process ended (minus a signal's number).
    until
        When to give up (s, monotonic clock).

    Raises
    ------
    OSError
        The disk did not take it until then.
    """

    def write() -> int:
        own = folder.exit_status()
        if own is None:
            # The payload's shell was killed, or could not write: the wait status is as good.
            own = shell_status(status)
            durable.replace(folder.exit_file, f"{own}\n".encode())
        return own

    return patience.outlast(write, until, "cannot write the exit status")


def withdraw(folder: JobFolder, running: Running, until: float) -> None:
    """End a tree whose newest image counts from now on, and not what the tree, or a rest of it, said since."""
    running.kill()
    with suppress(OSError):  # a disk that was gone all the time holds no such word either
        patience.outlast(lambda: folder.exit_file.unlink(missing_ok=True), until, "cannot withdraw the exit status")


def close(folder: JobFolder, segment: Segment, outcome: Outcome, until: float) -> None:
    """Write the record of a segment that is over; if the disk does not take it until then (s, monotonic), leave it.

    The image and the exit status are on the disk already: without the record the segment counts as lost, and the
    next one starts from them. So the batch job may end as if it were written.
    """
    segment.outcome = outcome
    segment.ended = time.time()
    segment.save_given = segment.save_amount = None
    with suppress(OSError):
        patience.outlast(lambda: folder.update(segment), until, "cannot write the record")


def shell_status(status: int) -> int:
    """An exit status as shells give it: 128 + the signal's number for a death by signal."""
    return 128 - status if status < 0 else status


def final_status(status: int) -> int:
    """The batch job's exit status when the job is over: never the one that starts another segment."""
    return FAILED if shell_status(status) == REQUEUE else shell_status(status)
