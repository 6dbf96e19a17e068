"""One segment of one job, from its claim to its outcome.

Whatever happens, the next step is defined: the payload ended (finished), it was saved (saved), or neither could
be (failed, with the reason); a supervisor that dies takes the payload with it and leaves its record `running`,
which the head or the next segment finds and calls lost. The newest committed image stays in force throughout.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.engines.base import Engine, Running, load_engine
from snakemake_executor_plugin_ckpt.errors import EngineError, StateError, Unsavable
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.schedulers.base import FAILED, REQUEUE, Allocation, load_scheduler
from snakemake_executor_plugin_ckpt.segment import beginning, claim, deadline, saving
from snakemake_executor_plugin_ckpt.segment.bandwidth import write_bandwidth
from snakemake_executor_plugin_ckpt.segment.events import Events
from snakemake_executor_plugin_ckpt.state import durable
from snakemake_executor_plugin_ckpt.state.folder import JobFolder
from snakemake_executor_plugin_ckpt.state.progress import stuck, too_many
from snakemake_executor_plugin_ckpt.state.records import Failure, Job, Outcome, Segment

#: Seconds after the start when the tree is first looked at for things that cannot be saved, then how often.
_FIRST_LOOK, _LOOK = 5.0, 600.0
#: Waits between two tries of a save that failed, in seconds.
_RETRY = (0.3, 1.0, 3.0, 10.0, 30.0)


def run(path: Path) -> int:
    """Run the next segment of a job folder; the exit status of the batch job."""
    folder = JobFolder(path)
    job = folder.job()
    if job is None:
        raise StateError(f"{path} is not a job folder (no job.yaml)")
    if (status := folder.exit_status()) is not None:
        return _final_status(status)  # a requeue too many: the job is over
    policy = Policy.from_dict(job.policy)
    scheduler = load_scheduler(policy.scheduler_place, path.parent)
    allocation = scheduler.allocation(os.environ)
    engine = load_engine(policy.engine_place, policy.engine_options)
    segment, history = claim.claim(folder, job, scheduler.name, allocation)
    try:
        with Events(folder.requests_folder) as events:
            return _Supervisor(folder, job, policy, engine, segment, history, allocation, events).run()
    finally:
        engine.close()


class _Supervisor:
    def __init__(
        self,
        folder: JobFolder,
        job: Job,
        policy: Policy,
        engine: Engine,
        segment: Segment,
        history: Sequence[Segment],
        allocation: Allocation,
        events: Events,
    ) -> None:
        self.folder = folder
        self.job = job
        self.policy = policy
        self.engine = engine
        self.segment = segment
        self.history = history
        self.events = events
        # The end is turned into the monotonic clock at once: a clock that is set later moves nothing.
        self.end = math.inf if allocation.end is None else time.monotonic() + allocation.end - time.time()
        self.measured = [
            deadline.Measured(earlier.resident, earlier.frozen)
            for earlier in history
            if earlier.resident is not None and earlier.frozen is not None
        ]
        self.bandwidth: float | None = None
        self.stop_wanted = False
        self.failures = 0
        self.next_try = 0.0
        self.next_look = math.inf

    # -- from the beginning to the end ---------------------------------------------------------------------------

    def run(self) -> int:
        if reason := self.too_short():
            return self.failed("refused", reason)
        # The head asks this too; but a chain that requeues by itself may have none.
        counted = [earlier for earlier in self.history if earlier.number > (self.job.since or 0)]
        if reason := stuck(counted) or too_many(counted, self.policy.max_segments):
            return self.failed("stuck", reason)
        try:
            running = beginning.begin(
                self.folder, self.job, self.segment, self.history, self.engine, self.time_to_restore()
            )
        except beginning.CannotBegin as error:
            return self.failed(error.failure, str(error))
        self.started = self.last_saved = time.monotonic()
        self.next_look = self.started + _FIRST_LOOK
        self.segment.startup = _own_age() - (self.segment.verify or 0) - (self.segment.restore or 0)
        self.note()
        if not self.measured and self.engine.can_save:
            self.bandwidth = write_bandwidth(self.folder.path)
        try:
            return self.watch(running)
        finally:
            running.kill()

    def watch(self, running: Running) -> int:
        self.events.follow(running.fileno())
        while True:
            try:
                status = running.poll()
            except EngineError as error:
                return self.failed("killed", str(error))
            if status is not None:
                return self.finished(status)
            if self.folder.lost(self.segment.number) is not None:
                return FAILED  # somebody else has the job now; our record says no more
            code = self.act(running)
            if code is not None:
                return code
            self.events.wait(self.next_event(running))

    def act(self, running: Running) -> int | None:
        """Do what is due now; the batch job's exit status if the segment is over with it."""
        requests = self.folder.requests()
        if "cancel" in requests:
            return self.failed("killed", "cancelled on request", parked=True)
        now = time.monotonic()
        if self.events.signals() or "park" in requests or now >= self.save_at(running):
            self.stop_wanted = True
        if self.stop_wanted and now >= self.end and self.segment.failure == "unsavable":
            # The kill is a moment away, and it is better that the record says why than that the segment is lost.
            return self.failed("unsavable", self.segment.reason or "")
        # To fail at once is for a tree that CRIU itself refuses, so a save that goes on has the last word.
        trial = now >= self.next_look and self.look(running) and self.policy.on_unsavable == "fail"
        if "checkpoint" in requests and not self.engine.can_save:
            self.folder.clear_request("checkpoint")
            self.warn("a save was asked for, but the job is not saved (ckpt: 0); it goes on")
            requests.discard("checkpoint")
        periodic = now >= self.next_period(running)
        checkpoint = ("checkpoint" in requests or trial or periodic) and not self.stop_wanted
        if checkpoint or (self.stop_wanted and now >= self.next_try):
            return self.save(running, parked="park" in requests, stop=not checkpoint)
        return None

    # -- saving ----------------------------------------------------------------------------------------------------

    def save(self, running: Running, parked: bool, stop: bool) -> int | None:
        if not self.engine.can_save:
            reason = "the walltime is over, and the job is not saved (ckpt: 0): give it more runtime"
            return self.failed("walltime", reason)
        useful = time.monotonic() - self.started
        try:
            saving.save(self.folder, self.job, self.segment, self.engine, running, stop, self.time_to_save())
        except StateError:
            return FAILED
        except (EngineError, OSError) as error:
            return self.save_failed(error, stop)
        self.failures = 0
        self.segment.useful = useful
        assert self.segment.generation is not None
        self.segment.images[self.segment.generation] = useful
        self.last_saved = time.monotonic()
        if not stop:
            self.measured.append(deadline.Measured(self.segment.resident or 0, self.segment.frozen or 0.0))
            self.folder.clear_request("checkpoint")
            self.note()
            return None
        self.segment.parked = parked or None
        self.close("saved")
        return 0 if parked else REQUEUE

    def save_failed(self, error: EngineError | OSError, stop: bool) -> int | None:
        """The payload goes on; note why, and, if it must be saved, when to try again."""
        unsavable = isinstance(error, Unsavable)
        reason = f"the job could not be saved: {error}"
        if unsavable and self.policy.on_unsavable == "fail":
            return self.failed("unsavable", reason)
        if not stop:  # it was for safety only: said, and left until it is due again
            self.folder.clear_request("checkpoint")
            self.last_saved = time.monotonic()
            self.warn(reason)
            return None
        self.segment.failure = "unsavable" if unsavable else "error"
        self.segment.reason = reason
        self.warn(reason)
        self.next_try = time.monotonic() + _RETRY[min(self.failures, len(_RETRY) - 1)]
        self.failures += 1
        return None

    def look(self, running: Running) -> bool:
        """Say early what will not be saved, while there is time to do something about it; whether there is any."""
        self.next_look = time.monotonic() + _LOOK
        if not self.engine.can_save:
            return False
        findings = self.engine.unsavable(running)
        for finding in findings:
            self.warn(f"cannot be saved: {finding}")
        return bool(findings)

    def warn(self, text: str) -> None:
        if text not in self.segment.warnings:
            self.segment.warnings.append(text)
        self.note()

    def note(self) -> None:
        """Write the record while the payload runs; a full or absent disk must not end it."""
        with suppress(OSError):
            self.folder.update(self.segment)

    # -- times -------------------------------------------------------------------------------------------------------

    def reserve(self, resident: int) -> float:
        expected = deadline.save_time(self.measured, resident, self.bandwidth)
        return deadline.reserve(expected, self.policy.margin, self.policy.floor, self.policy.ceiling)

    def save_at(self, running: Running) -> float:
        if self.end == math.inf:
            return math.inf
        if not self.engine.can_save:
            return self.end - min(self.policy.grace, 1.0)
        return deadline.deadline(self.end, self.reserve(proc.resident_bytes(running.pids())), self.policy.grace)

    def next_event(self, running: Running) -> float:
        if self.stop_wanted:
            return min(self.next_try, self.next_look, max(self.end, time.monotonic() + 0.1))
        return min(self.save_at(running), self.next_look, self.next_period(running))

    def next_period(self, running: Running) -> float:
        """When the next save is due that only guards against a node's death."""
        period = self.policy.period
        if period is None or not self.engine.can_save:
            return math.inf
        if period == "auto":
            resident = proc.resident_bytes(running.pids())
            cost = deadline.save_time(self.measured, resident, self.bandwidth)
            period = deadline.auto_period(cost, self.policy.mtbf)
        return self.last_saved + period

    def too_short(self) -> str | None:
        if self.end == math.inf or not self.engine.can_save:
            return None
        last = self.history[-1] if self.history else None
        resident = (last and last.resident) or 0
        restore = max(((one.verify or 0) + (one.restore or 0) for one in self.history), default=0.0)
        return deadline.too_short(self.end - time.monotonic(), restore, self.reserve(resident), self.policy.grace)

    def time_to_save(self) -> float:
        """A save may take all that is left, and a minute where there is no end or it has passed."""
        left = self.end - time.monotonic()
        return max(60.0, left) if left != math.inf else self.policy.ceiling

    def time_to_restore(self) -> float:
        return max(30.0, min(self.end - time.monotonic(), self.policy.ceiling))

    # -- outcomes ------------------------------------------------------------------------------------------------------

    def finished(self, status: int) -> int:
        if self.folder.exit_status() is None:
            # The payload's shell was killed, or could not write: the wait status is as good.
            durable.replace(self.folder.exit_file, f"{_shell_status(status)}\n".encode())
        self.segment.exit = status if status < 0 else self.folder.exit_status()
        self.segment.useful = time.monotonic() - self.started
        self.segment.failure = self.segment.reason = None
        self.close("finished")
        if status == 0:
            # Now and not by the head, which may be gone; the in-job Snakemake has checked the outputs.
            with suppress(OSError):
                self.folder.discard()
        return _final_status(status)

    def failed(self, failure: Failure, reason: str, parked: bool = False) -> int:
        self.segment.failure, self.segment.reason = failure, reason
        self.segment.parked = parked or None
        if hasattr(self, "started"):
            self.segment.useful = time.monotonic() - self.started
        self.close("failed")
        return FAILED

    def close(self, outcome: Outcome) -> None:
        self.segment.outcome = outcome
        self.segment.ended = time.time()
        for pause in _RETRY:
            with suppress(OSError):
                self.folder.update(self.segment)
                return
            time.sleep(min(pause, 5.0))
        # The image and the exit status are on the disk already: without the record the segment counts as lost,
        # and the next one starts from them.
        self.folder.update(self.segment)


def _shell_status(status: int) -> int:
    """An exit status as shells give it: 128 + the signal's number for a death by signal."""
    return 128 - status if status < 0 else status


def _final_status(status: int) -> int:
    """The batch job's exit status when the job is over: never the one that starts another segment."""
    return FAILED if _shell_status(status) == REQUEUE else _shell_status(status)


def _own_age() -> float:
    stat = proc.read_stat(os.getpid())
    assert stat is not None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - stat.start / os.sysconf("SC_CLK_TCK")
