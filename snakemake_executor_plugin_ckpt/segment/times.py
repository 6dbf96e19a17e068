"""The times of one segment, on the monotonic clock: when to save, and how long that and a restore may take."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.segment import deadline
from snakemake_executor_plugin_ckpt.segment.deadline import Measured
from snakemake_executor_plugin_ckpt.state.records import Segment


class Times:
    """See the module.

    Parameters
    ----------
    policy
        The job's policy.
    walltime_end
        Unix time (s) at which the walltime ends, or None.
    history
        The earlier segments of this attempt.
    """

    def __init__(self, policy: Policy, walltime_end: float | None, history: Sequence[Segment]) -> None:
        self.policy = policy
        self.history = history
        # Turned into the monotonic clock at once: a clock that is set later moves nothing.
        self.left = deadline.remaining(walltime_end, time.time(), policy.walltime)
        self.end = time.monotonic() + self.left
        self.half = (self.left - policy.grace) / 2
        self.measured = [Measured(one.amount, one.took) for one in history if one.amount and one.took is not None]
        self.cut_off = deadline.cut_off(history)
        self.bandwidth: float | None = None

    def end_at(self, walltime_end: float | None) -> None:
        """Take note of another end of the walltime (Unix time, s)."""
        self.end = time.monotonic() + deadline.remaining(walltime_end, time.time(), self.policy.walltime)

    def saved(self, amount: int, took: float) -> None:
        """Take note of a save that succeeded."""
        self.measured.append(Measured(amount, took))
        self.cut_off = []

    def expected(self, amount: int) -> float:
        """How long a save is expected to take, in seconds."""
        return deadline.save_time(self.measured, amount, self.bandwidth)

    def auto_period(self, amount: int) -> float:
        """Seconds between two saves that lose least to saves and failures together."""
        return deadline.auto_period(self.expected(amount), self.policy.mtbf)

    def reserve(self, amount: int) -> float:
        """Seconds to keep free for a save before the walltime's end."""
        policy = self.policy
        usual = deadline.reserve(self.expected(amount), policy.margin, policy.floor, policy.ceiling)
        if not self.cut_off:
            return usual
        longer = deadline.save_time([*self.measured, *self.cut_off], amount, self.bandwidth)
        # At the earliest in the middle of the segment: what is half a guess must not leave no time to compute.
        return max(usual, min(deadline.reserve(longer, policy.margin, policy.floor, policy.ceiling), self.half))

    def save_at(self, amount: int) -> float:
        """When a save must begin so that it is over before the walltime."""
        return deadline.deadline(self.end, self.reserve(amount), self.policy.grace)

    def too_short(self) -> str | None:
        """Why this segment has no time to compute in; None when it has."""
        if self.end == math.inf:
            return None
        last = self.history[-1] if self.history else None
        amount = (last and last.amount) or 0
        restore = max(((one.verify or 0) + (one.restore or 0) for one in self.history), default=0.0)
        return deadline.too_short(self.end - time.monotonic(), restore, self.reserve(amount), self.policy.grace)

    def given(self, amount: int) -> float | None:
        """Seconds that a save which begins now has before the walltime; None when that is not what ends it.

        One that begins earlier than it must was asked for, and whatever cuts it off is something else.
        """
        left = self.end - time.monotonic()
        due = max(self.half, self.reserve(amount)) + self.policy.grace
        return left if left <= due and left != math.inf else None

    def to_save(self) -> float:
        """Seconds that a save may take: all that is left, and a minute where there is no end or it has passed."""
        left = self.end - time.monotonic()
        return max(60.0, left) if left != math.inf else self.policy.ceiling

    def to_restore(self) -> float:
        """Seconds that a restore may take."""
        return max(30.0, min(self.end - time.monotonic(), self.policy.ceiling))
