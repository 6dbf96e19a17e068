"""What is next for a job, from its records and what the scheduler says: pure, and the only place that knows.

Three outcomes of a segment and no other: finished, saved, failed; a segment whose batch job is gone without one
is lost. Only the payload's own exit status means success or failure of the job. Saves, walltimes, dead nodes and
preemption cost none of Snakemake's retries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness
from snakemake_executor_plugin_ckpt.state.progress import stuck, too_many
from snakemake_executor_plugin_ckpt.state.records import Segment

#: Batch jobs in a row that ended without running anything before the job is given up.
NEVER_STARTED = 3
#: Submissions in a row that the scheduler may refuse; the head waits ever longer between them, about an hour in all.
REFUSALS = 10
#: Restores in a row that may fail: two of the newest image, two of the one before.
RESTORES = 4
#: Segments in a row that may end by a kill from outside or another error.
ERRORS = 3

Action = Literal["wait", "submit", "lost", "succeed", "fail"]


@dataclass(frozen=True)
class Step:
    """What is next.

    Attributes
    ----------
    action
        ``wait``; ``submit`` the next segment; declare the last one ``lost``, and look again; ``succeed``; ``fail``.
    reason
        For the user; what a failure means and what can be done.
    exclude
        Nodes that the next segment is to avoid.
    retry
        Whether a failure is the payload's own, so that Snakemake's ``retries`` apply as they would without us.
    """

    action: Action
    reason: str = ""
    exclude: tuple[str, ...] = ()
    retry: bool = False


def decide(
    segments: Sequence[Segment],
    lost: bool,
    exit_status: int | None,
    batch_job: Liveness | None,
    unstarted: int,
    policy: Policy,
    refusals: Sequence[str] = (),
) -> Step:
    """The next step of a job.

    Parameters
    ----------
    segments
        The records of this attempt, in order.
    lost
        Whether the last one was declared lost.
    exit_status
        The payload's own, or None.
    batch_job
        What the scheduler says of the last submitted batch job; None when none was submitted (or it is known to
        be over, or was submitted to another scheduler). One that is UNKNOWN is waited for without end, since a second
        payload would ruin both; that it takes long is told by `head.asking`.
    unstarted
        Batch jobs submitted since the last segment that is on record.
    policy
        The job's policy.
    refusals
        What the scheduler said to submissions since then that it refused, in a row, oldest first.
    """
    last = segments[-1] if segments else None
    alive = batch_job in (Liveness.ALIVE, Liveness.UNKNOWN)
    if last is not None and last.outcome == "running" and not lost:
        if alive:
            return Step("wait")
        if exit_status is None:
            return Step("lost", f"segment {last.number} on {last.host} ended without an outcome")
    if exit_status is not None:
        return _ended(exit_status, last)
    # A job that could not be saved was cut off by its walltime: to begin it again would only end the same way.
    cut_off = last is not None and lost and last.failure == "unsavable"
    if last is not None and (last.outcome == "failed" or cut_off) and (failure := _final(segments, policy)):
        return failure
    if alive:
        return Step("wait")
    if reason := stuck(segments) or too_many(segments, policy.max_segments):
        return Step("fail", reason)
    if unstarted >= NEVER_STARTED:
        return Step("fail", f"{unstarted} batch jobs in a row ended without starting; see the logs of the job folder")
    if len(refusals) >= REFUSALS:
        last_words = f"{len(refusals)} submissions in a row were refused, the last one: {refusals[-1]}"
        return Step("fail", f"{last_words}. The images are kept")
    # A second try asks for no other node: the first may have been refused because there is none.
    avoid = () if unstarted or refusals else (*excluded(segments), *([last.host] if last is not None and lost else []))
    return Step("submit", _why(last, lost), avoid)


def _ended(exit_status: int, last: Segment | None) -> Step:
    if exit_status == 0:
        return Step("succeed")
    signal = -last.exit if last is not None and last.exit is not None and last.exit < 0 else exit_status - 128
    if signal > 0:
        return Step("fail", f"the job was ended by signal {signal} (exit status {exit_status})", retry=True)
    return Step("fail", f"the job ended with exit status {exit_status}", retry=True)


def _final(segments: Sequence[Segment], policy: Policy) -> Step | None:
    """The end, if the failure of the last segment leaves nothing to try."""
    last = segments[-1]
    reason = last.reason or "no reason on record"
    match last.failure:
        case "unsavable":
            return Step("fail", f"{reason}. Nothing was restarted; images of earlier segments are kept")
        case "refused" | "walltime" | "stuck":
            return Step("fail", reason)
        case "restore" if _trailing(segments, "restore") >= RESTORES:
            tried = sorted({one.restored_from for one in segments[-RESTORES:] if one.restored_from is not None})
            which = f"images {' and '.join(map(str, tried))}" if tried else "the images"
            return Step("fail", f"{which} could not be restored, in {RESTORES} tries: {reason}. They are kept")
        case "killed" | "error" if _trailing(segments, "killed", "error") >= ERRORS:
            return Step("fail", f"{ERRORS} segments in a row failed, the last one: {reason}. The images are kept")
        case "error" if policy.on_no_image == "fail" and "--ckpt-on-no-image" in reason:
            return Step("fail", reason)
    return None


def _trailing(segments: Sequence[Segment], *failures: str) -> int:
    count = 0
    for segment in reversed(segments):
        if segment.failure not in failures:
            break
        count += 1
    return count


def excluded(segments: Sequence[Segment]) -> tuple[str, ...]:
    """Nodes on which a restore just failed: the next try is to be elsewhere."""
    hosts = []
    for segment in reversed(segments):
        if segment.failure != "restore":
            break
        hosts.append(segment.host)
    return tuple(sorted(set(hosts)))


def _why(last: Segment | None, lost: bool) -> str:
    if last is None:
        return "first segment"
    if lost:
        return f"segment {last.number} was lost"
    if last.outcome == "saved":
        return f"resumes from image {last.generation}"
    return f"segment {last.number} failed: {last.reason}"
