"""The right to run a segment: one number, one owner, and never two payloads of one job."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress

from snakemake_executor_plugin_ckpt import faults, proc
from snakemake_executor_plugin_ckpt.errors import StateError
from snakemake_executor_plugin_ckpt.images.node import node_summary
from snakemake_executor_plugin_ckpt.schedulers.base import Allocation
from snakemake_executor_plugin_ckpt.segment.events import IDLE
from snakemake_executor_plugin_ckpt.state.folder import JobFolder
from snakemake_executor_plugin_ckpt.state.mounts import file_system
from snakemake_executor_plugin_ckpt.state.records import Job, Segment

#: Seconds in which a supervisor sees that its segment was declared lost (it looks every `IDLE`), and has ended its
#: payload; how much later a file system shows it what is new (nfs(5): acdirmax).
_SEES, _SHOWN = IDLE + 5.0, {"nfs": 60.0, "nfs4": 60.0}
#: Seconds that a killed supervisor and its payload may take to vanish; a process that waits for a disk takes longer.
_END = 30.0


def claim(folder: JobFolder, job: Job, scheduler: str, allocation: Allocation) -> tuple[Segment, list[Segment]]:
    """Own the next segment; its record, and the earlier segments of this attempt.

    Raises
    ------
    StateError
        The segment before may still be alive, or somebody else was quicker. Nothing was changed.
    """
    faults.point("claim.begin")
    me = proc.identify(os.getpid())
    assert me is not None
    history = folder.segments()
    if history and history[-1].outcome == "running" and _owner(history[-1]) == me:
        # An earlier try of this process made the record, and the disk failed behind it.
        *history, mine = history
        return mine, [one for one in history if one.attempt == job.attempt]
    if history:
        _end_of(folder, history[-1], scheduler, allocation)
    submissions = folder.submissions()
    known = folder.job()
    if folder.exit_status() is not None or (known is not None and known.acknowledged):
        # The one before was at its end a moment ago, and its images may be gone by now.
        raise StateError(f"{job.key} is over: nothing is left to run")
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
        submission=submissions[-1].number if submissions else None,
    )
    if not folder.claim(segment):
        raise StateError(f"segment {segment.number} of {job.key} has another owner")
    return segment, [one for one in history if one.attempt == job.attempt]


def outlive(folder: JobFolder, segment: Segment, history: Sequence[Segment]) -> None:
    """Wait until the segment before, if it was declared lost and lives on all the same, has seen that and ended.

    That is on another node, which nobody can ask: Slurm, for one, starts a job again when only the daemon of its node
    is silent (slurm.conf(5), SlurmdTimeout). What its payload still writes would come behind the rollback.
    """
    last = history[-1] if history else None
    if last is not None and last.outcome == "running" and last.host != segment.host:
        needs = _SEES + _SHOWN.get(file_system(folder.path), 0.0)
        time.sleep(max(0.0, needs - folder.lost_before(last.number, segment.number)))


def _end_of(folder: JobFolder, last: Segment, scheduler: str, allocation: Allocation) -> None:
    """Make sure that the segment before is over, or refuse."""
    if last.outcome != "running":
        return
    here = last.host == proc.host_name()
    if (last.scheduler, last.job_id) == (scheduler, allocation.job_id):
        # One batch job runs once at a time: it was requeued, so its run before is dead.
        folder.declare_lost(last.number, "its batch job was started again")
    elif here and not _owner(last).alive() and not folder.lost(last.number):
        folder.declare_lost(last.number, f"its process {last.pid} on {last.host} is gone")
    if folder.lost(last.number):
        # Whoever called it lost may have been wrong; here that can be seen, and made true.
        if here:
            _make_sure(last)
        return
    raise StateError(
        f"segment {last.number} (batch job {last.job_id} on {last.host}) has no outcome and may still be alive; "
        "the head decides when it is lost"
    )


def _owner(segment: Segment) -> proc.ProcessId:
    return proc.ProcessId(segment.host, segment.boot, segment.pid, segment.pid_start)


def _make_sure(lost: Segment) -> None:
    """End the supervisor of a lost segment, and wait for its payload, which the kernel ends with it.

    The first process of the payload's world is waited for: it is gone only after all others there, and one of
    those may take its time, in the midst of writing to a disk that does not answer.
    """
    owner = _owner(lost)
    first = None
    if lost.init is not None and lost.init_start is not None:
        first = proc.ProcessId(lost.host, lost.boot, lost.init, lost.init_start)
    until = time.monotonic() + _END
    while owner.alive() or (first is not None and first.alive()):
        if owner.alive():
            with suppress(ProcessLookupError):
                os.kill(owner.pid, signal.SIGKILL)
        if time.monotonic() > until:
            raise StateError(f"process {owner.pid} of a segment that was declared lost, or its payload, does not end")
        time.sleep(0.05)
