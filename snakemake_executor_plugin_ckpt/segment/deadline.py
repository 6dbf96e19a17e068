"""When a save must start so that it is over before the walltime: pure arithmetic.

Reserve = 90 % quantile of this job's measured saves, each scaled to the memory it has now, times the margin;
before the first save: what an image would hold over the measured bandwidth of the state directory, plus a base. The
deadline is the walltime's end less the reserve and the scheduler's grace, which is left for the end of the batch job.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from snakemake_executor_plugin_ckpt.state.records import Segment

#: Seconds that a save takes whatever its size (freezing, small files, manifest, records).
BASE = 0.5
#: A save that the walltime cut off is taken to need so many times what it had.
_CUT_OFF = 2.0
_QUANTILE = 0.9


@dataclass(frozen=True)
class Measured:
    """One save that was made: the memory (bytes) and how long it took from freeze to committed image (s)."""

    resident: int
    seconds: float


def save_time(measured: Sequence[Measured], resident: int, bandwidth: float | None) -> float:
    """How long a save of `resident` bytes is expected to take, in seconds."""
    if measured:
        scaled = sorted(BASE + max(0.0, one.seconds - BASE) * _ratio(resident, one.resident) for one in measured)
        return scaled[math.ceil(_QUANTILE * len(scaled)) - 1]
    return BASE + (resident / bandwidth if bandwidth else 0.0)


def _ratio(resident: int, then: int) -> float:
    # A smaller tree than then is not taken to be quicker: the measured time may have been the disk's latency.
    return max(1.0, resident / then) if then > 0 else 1.0


def reserve(expected: float, margin: float, floor: float, ceiling: float) -> float:
    """Seconds to keep free for a save that is expected to take `expected` seconds."""
    return min(max(expected * margin, floor), ceiling)


def fully_counted(history: Sequence[Segment]) -> list[Segment]:
    """A history in which no image held more than its save had counted before.

    Earlier versions did not count /dev/shm, swapped memory, and open files without a name. Their amounts would make
    that of now seem many times more than what was saved then, and the reserve as long as the segment.
    """
    return [replace(one, amount=max(one.amount, one.bytes or 0)) if one.amount else one for one in history]


def cut_off(history: Sequence[Segment]) -> list[Measured]:
    """Saves in the middle of which the walltime ended, each as the time that it may have needed.

    They count until a later save succeeds, which then says what saves really take.
    """
    found: list[Measured] = []
    for segment in reversed(history):
        if segment.generation is not None and segment.outcome != "running":
            break
        if segment.save_given is not None and segment.outcome == "running":
            found.append(Measured(segment.save_amount or 0, BASE + _CUT_OFF * max(0.0, segment.save_given)))
    return found


def remaining(end: float | None, now: float, walltime: float | None) -> float:
    """Seconds until the walltime's end; infinite without one.

    The end is the scheduler's word in Unix time, and this node's clock may be wrong by hours. What no clock can be
    right about is seen: more than the whole walltime left, or nothing, in a segment that has just begun.

    Parameters
    ----------
    end
        Unix time (s) at which the walltime ends, or None.
    now
        Unix time by this node's clock.
    walltime
        What was asked for (s), or None.
    """
    if end is None:
        return math.inf
    left = end - now
    if walltime is None:
        return left
    return walltime if left <= 0 else min(left, walltime)


def deadline(end: float, reserved: float, grace: float) -> float:
    """When the save must start (s, on the clock of `end`)."""
    return end - reserved - grace


def over_before(save_at: float, begin: float, takes: float) -> bool:
    """Whether a save after which the job goes on leaves the one that the walltime makes its time.

    If not, it is left to that one, which follows so soon that little can be lost till then; cut off by the walltime,
    it would lose the whole segment.

    Parameters
    ----------
    save_at
        When the walltime's save must begin (s, on any clock).
    begin, takes
        When the other one would begin, and the seconds that it is given.
    """
    return begin + takes <= save_at


def auto_period(cost: float, mtbf: float) -> float:
    """Time between two saves that loses least to saves and failures together, in seconds.

    Daly's first-order optimum, sqrt(2 C M) - C for a save that takes C and a mean time between failures M
    (J. T. Daly, Future Gener. Comput. Syst. 22, 2006, eq. 9), which is Young's (1974) for C far below M. Where a
    save takes a quarter of M or more, nothing is optimal any more, and M is taken.
    """
    if cost >= mtbf / 4:
        return mtbf
    return math.sqrt(2 * cost * mtbf) - cost


def too_short(remaining: float, restore: float, reserved: float, grace: float) -> str | None:
    """The arithmetic, if a segment has no time to restore, to compute for a moment, and to save; else None."""
    need = restore + reserved + grace
    if remaining > need:
        return None
    return (
        f"the walltime leaves {remaining:.1f} s, but restoring takes {restore:.1f} s, saving is given {reserved:.1f} s "
        f"and the scheduler's grace is {grace:.1f} s: {need:.1f} s before anything is computed. "
        "Give the rule more time (runtime, --ckpt-walltime)"
    )
