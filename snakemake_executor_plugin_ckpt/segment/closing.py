"""How a segment ends on the disk: the payload's exit status and the segment's outcome."""

from __future__ import annotations

import os
import time
from contextlib import suppress

from snakemake_executor_plugin_ckpt.engines.base import Running
from snakemake_executor_plugin_ckpt.images import generations
from snakemake_executor_plugin_ckpt.schedulers.base import FAILED, REQUEUE
from snakemake_executor_plugin_ckpt.segment import patience
from snakemake_executor_plugin_ckpt.state import durable
from snakemake_executor_plugin_ckpt.state.folder import JobFolder
from snakemake_executor_plugin_ckpt.state.records import Outcome, Segment


def exit_status(folder: JobFolder, segment: Segment, status: int, until: float) -> int | None:
    """Have the payload's own exit status on the disk; a computation is lost with it.

    None when the segment was declared lost: another one speaks for the job then, and goes on from an image.

    Parameters
    ----------
    folder, segment
        The job's, and its segment.
    status
        How the payload's first process ended (minus a signal's number).
    until
        When to give up (s, monotonic clock).

    Raises
    ------
    OSError
        The disk did not take it until then.
    """

    def write() -> int | None:
        if _overruled(folder, segment):
            return None
        own = folder.exit_status()
        if own is None:
            # The payload's shell was killed, or could not write: the wait status is as good.
            own = shell_status(status)
            durable.replace(folder.exit_file, f"{own}\n".encode())
        return own

    return patience.outlast(write, until, "cannot write the exit status")


def _overruled(folder: JobFolder, segment: Segment) -> bool:
    """Whether a segment was declared lost; what its payload wrote as its exit status is taken back."""
    os.stat(folder.segments_folder)  # an absent disk says nothing
    if folder.lost(segment.number) is None and not _later(folder, segment):
        return False
    _take_back(folder, segment)
    return True


def _later(folder: JobFolder, segment: Segment) -> list[int]:
    return [number for number in folder.segment_numbers() if number > segment.number]


def _take_back(folder: JobFolder, segment: Segment) -> None:
    """Remove the exit status, unless it is the word of a later segment."""
    later = _later(folder, segment)
    if not later or folder.segment(later[-1]).outcome != "finished":
        folder.exit_file.unlink(missing_ok=True)


def newest_image(folder: JobFolder, until: float) -> int:
    """The number of the newest image, of which there is at least one, as soon as the disk gives it (see `outlast`)."""

    def look() -> int:
        os.stat(folder.images_folder)
        return generations.numbers(folder.images_folder)[-1]

    return patience.outlast(look, until, "cannot read the images")


def withdraw(folder: JobFolder, segment: Segment, running: Running, until: float) -> None:
    """End a tree whose newest image counts from now on, and not what the tree, or a rest of it, said since."""
    running.kill()
    with suppress(OSError):  # a disk that was gone all the time holds no such word either
        patience.outlast(lambda: _take_back(folder, segment), until, "cannot withdraw the exit status")


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
