"""The right to run a segment: one number, one owner, and never two payloads of one job."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.errors import StateError
from snakemake_executor_plugin_ckpt.images.node import node_summary
from snakemake_executor_plugin_ckpt.schedulers.base import Allocation
from snakemake_executor_plugin_ckpt.state.folder import JobFolder
from snakemake_executor_plugin_ckpt.state.records import Job, Segment

#: Seconds that a killed supervisor may take to vanish.
_END = 10.0


def claim(folder: JobFolder, job: Job, scheduler: str, allocation: Allocation) -> tuple[Segment, list[Segment]]:
    """Own the next segment; its record, and the earlier segments of this attempt.

    Raises
    ------
    StateError
        The segment before may still be alive, or somebody else was quicker. Nothing was changed.
    """
    history = folder.segments()
    if history:
        _end_of(folder, history[-1], scheduler, allocation)
    me = proc.identify(os.getpid())
    assert me is not None
    segment = Segment(
        number=history[-1].number + 1 if history else 1,
        attempt=job.attempt,
        scheduler=scheduler,
        job_id=allocation.job_id,
        host=me.host,
        boot=me.boot,
        pid=me.pid,
        pid_start=me.start,
        started=time.time(),
        walltime_end=allocation.end,
        node=node_summary(),
    )
    if not folder.claim(segment):
        raise StateError(f"segment {segment.number} of {job.key} has another owner")
    return segment, [one for one in history if one.attempt == job.attempt]


def _end_of(folder: JobFolder, last: Segment, scheduler: str, allocation: Allocation) -> None:
    """Make sure that the segment before is over, or refuse."""
    if last.outcome != "running":
        return
    owner = proc.ProcessId(last.host, last.boot, last.pid, last.pid_start)
    if (last.scheduler, last.job_id) == (scheduler, allocation.job_id):
        # One batch job runs once at a time: it was requeued, so its run before is dead.
        folder.declare_lost(last.number, "its batch job was started again")
    if folder.lost(last.number):
        # Whoever called it lost may have been wrong; here that can be seen, and made true.
        if last.host == proc.host_name():
            _make_sure(owner)
        return
    if last.host == proc.host_name() and not owner.alive():
        folder.declare_lost(last.number, f"its process {last.pid} on {last.host} is gone")
        return
    raise StateError(
        f"segment {last.number} (batch job {last.job_id} on {last.host}) has no outcome and may still be alive; "
        "the head decides when it is lost"
    )


def _make_sure(owner: proc.ProcessId) -> None:
    """End the supervisor of a lost segment; the kernel ends its payload with it."""
    until = time.monotonic() + _END
    while owner.alive():
        with suppress(ProcessLookupError):
            os.kill(owner.pid, signal.SIGKILL)
        if time.monotonic() > until:
            raise StateError(f"process {owner.pid} of a segment that was declared lost cannot be ended")
        time.sleep(0.05)
