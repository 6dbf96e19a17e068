"""One segment of one job, from its claim to its outcome.

Whatever happens, the next step is defined: the payload ended (finished), it was saved (saved), or neither could
be (failed, with the reason); a supervisor that dies takes the payload with it and leaves its record `running`,
which the head or the next segment finds and calls lost. The newest committed image stays in force throughout.
"""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.engines.base import Engine, Running, load_engine
from snakemake_executor_plugin_ckpt.errors import EngineError, Halfway, StateError, Unsavable
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.schedulers.base import FAILED, REQUEUE, Allocation, load_scheduler
from snakemake_executor_plugin_ckpt.segment import beginning, claim, closing, deadline, mistakes, patience, saving, tree
from snakemake_executor_plugin_ckpt.segment.amounts import Amount
from snakemake_executor_plugin_ckpt.segment.bandwidth import write_bandwidth
from snakemake_executor_plugin_ckpt.segment.events import Events
from snakemake_executor_plugin_ckpt.segment.suspending import Suspension
from snakemake_executor_plugin_ckpt.segment.times import Times
from snakemake_executor_plugin_ckpt.state.folder import JobFolder
from snakemake_executor_plugin_ckpt.state.progress import stuck, too_many
from snakemake_executor_plugin_ckpt.state.records import Failure, Job, Outcome, Segment

#: Seconds after the start when the tree is first looked at for things that cannot be saved, then how often.
_FIRST_LOOK, _LOOK = 5.0, 600.0
#: Seconds for which a newest image that the disk does not give is waited for, before an older one will do.
_INSIST = 60.0
#: Waits between two tries of a save that failed, in seconds.
_RETRY = (0.3, 1.0, 3.0, 10.0, 30.0)
#: Tries of a save for safety while the disk fails, which it may do for some minutes.
_DISK_TRIES = 12


def run(path: Path) -> int:
    """Run the next segment of a job folder; the exit status of the batch job."""
    folder = JobFolder(path)
    began = time.monotonic()
    job = patience.outlast(lambda: beginning.job_of(folder), began + patience.BEGINNING, f"cannot begin in {path}")
    if (status := folder.exit_status()) is not None:
        return closing.final_status(status)  # a requeue too many: the job is over
    policy = Policy.from_dict(job.policy)
    scheduler = load_scheduler(policy.scheduler_place, path.parent)
    allocation = scheduler.allocation(os.environ)
    engine = load_engine(policy.engine_place, policy.engine_options)
    segment, history = patience.outlast(
        lambda: claim.claim(folder, job, scheduler.name, allocation),
        began + patience.BEGINNING,
        "cannot begin the next segment",
    )
    first = not any(earlier.number > (job.since or 0) for earlier in history)  # as the head has it
    policy = policy if first else policy.of_later_segments()
    if policy.node_property:
        segment.node["class"] = scheduler.node_class(os.environ, policy.node_property)
    try:
        with Events(folder.requests_folder) as events:
            suspension = Suspension(scheduler, engine.can_save, os.environ)
            status = _Supervisor(folder, job, policy, engine, segment, history, allocation, events, suspension).run()
            if status != REQUEUE:
                return status
            if policy.later and first:
                return 0  # a requeue would keep the resources of this one: the head submits the next
            # After all else, and while signals are still only events: Slurm sends SIGTERM at once.
            return scheduler.requeue(allocation, began)
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
        suspension: Suspension,
    ) -> None:
        self.folder = folder
        self.job = job
        self.policy = policy
        self.engine = engine
        self.segment = segment
        self.history = history
        self.events = events
        self.suspension = suspension
        self.times = Times(policy, allocation.end, deadline.fully_counted(history))
        self.stop_wanted = False
        self.save_due = False
        self.failures = 0
        self.next_try = 0.0
        self.next_look = math.inf

    # -- from the beginning to the end ---------------------------------------------------------------------------

    def run(self) -> int:
        if self.engine.can_save and (reason := self.times.too_short()):
            return self.failed("refused", reason)
        # The head asks this too; but a chain that requeues by itself may have none.
        counted = [earlier for earlier in self.history if earlier.number > (self.job.since or 0)]
        if reason := stuck(counted) or too_many(counted, self.policy.max_segments):
            return self.failed("stuck", reason)
        try:
            begun = patience.outlast(self.begin, self.bound(), "cannot begin")
        except beginning.CannotBegin as error:
            return self.failed(error.failure, str(error))
        except OSError as error:
            return self.failed("error", f"the job could not be begun on {self.segment.host}: {error}")
        self.saver = saving.Saver(self.folder, self.job, self.segment, self.engine, begun.base, begun.bad)
        self.amount = Amount(self.saver.amount, self.warn)
        self.started = self.last_saved = time.monotonic()
        self.next_look = self.started + _FIRST_LOOK
        self.segment.startup = tree.own_age() - (self.segment.verify or 0) - (self.segment.restore or 0)
        self.segment.init, self.segment.init_start = tree.only_child()
        if self.times.cut_off:
            had = max(earlier.save_given or 0.0 for earlier in self.history)
            self.warn(f"the walltime cut off a save that had {had:.1f} s; this segment saves earlier")
        self.note()
        if not self.times.measured and self.engine.can_save:
            self.times.bandwidth = write_bandwidth(self.folder.path)
        try:
            return self.watch(begun.running)
        finally:
            begun.running.kill()

    def begin(self) -> beginning.Begun:
        os.stat(self.folder.images_folder)  # an absent disk is not a job without images
        insist = tree.own_age() < _INSIST
        limit = self.times.to_restore()
        return beginning.begin(self.folder, self.job, self.segment, self.history, self.engine, limit, insist)

    def watch(self, running: Running) -> int:
        self.events.follow(running.fileno())
        while True:
            code = self.news(running)
            if code is None and self.disowned():
                return FAILED  # somebody else has the job now; our record says no more
            code = self.act(running) if code is None else code
            if code is not None:
                return code
            self.events.wait(self.next_event(running))

    def news(self, running: Running) -> int | None:
        """The batch job's exit status, if the payload is over."""
        try:
            status = running.poll()
        except EngineError as error:
            return self.failed("killed", str(error))
        return None if status is None else self.finished(status)

    def disowned(self) -> bool:
        with suppress(OSError):  # a disk that is gone says nothing
            return self.folder.lost(self.segment.number) is not None
        return False

    def requests(self) -> set[str]:
        with suppress(OSError):
            return self.folder.requests()
        return set()

    def answered(self, request: str) -> None:
        with suppress(OSError):  # then it is answered once more
            self.folder.clear_request(request)

    def act(self, running: Running) -> int | None:
        """Do what is due now; the batch job's exit status if the segment is over with it."""
        requests = self.requests()
        if "cancel" in requests:
            return self.failed("killed", "cancelled on request", parked=True)
        heard = self.suspension.hear(self.events.signals(), running, self.times)
        if heard.resumed or "park" in requests:
            self.suspension.release(running)
        if heard.resumed:
            self.resumed()
        if self.suspension.held:
            return None
        now = time.monotonic()
        if not self.stop_wanted and (heard.save or "park" in requests or now >= self.save_at(running)):
            self.stop_wanted = True
            self.failures, self.next_try = 0, 0.0  # of saves that were for safety only
        if self.stop_wanted and now >= self.times.end and self.segment.failure == "unsavable":
            # The kill is a moment away, and it is better that the record says why than that the segment is lost.
            return self.failed("unsavable", self.segment.reason or "")
        # To fail at once is for a tree that CRIU itself refuses, so a save that goes on has the last word.
        trial = now >= self.next_look and self.look(running) and self.policy.on_unsavable == "fail"
        if "checkpoint" in requests and not self.engine.can_save:
            self.answered("checkpoint")
            self.warn("a save was asked for, but the job is not saved (ckpt: 0); it goes on")
            requests.discard("checkpoint")
        if trial or "checkpoint" in requests or now >= self.next_period(running):
            self.save_due = True
        due = self.stop_wanted or (self.save_due and self.leaves_time(running, now))
        if due and now >= self.next_try:
            return self.save(running, parked="park" in requests, stop=self.stop_wanted)
        return None

    def resumed(self) -> None:
        """The wish to save and end is gone, and with it what became of it: the chain would take that for the end."""
        self.stop_wanted = False
        if self.segment.failure is not None:
            self.segment.failure = self.segment.reason = None
            self.note()

    # -- saving ----------------------------------------------------------------------------------------------------

    def save(self, running: Running, parked: bool, stop: bool) -> int | None:
        if not self.engine.can_save:
            reason = "the walltime is over, and the job is not saved (ckpt: 0): give it more runtime"
            return self.failed("walltime", reason)
        useful = time.monotonic() - self.started
        before, self.segment.commit = self.segment.generation, None
        before_it = [found for pid in running.pids() if (found := proc.identify(pid)) is not None]
        if stop:
            self.announce(running)
        try:
            self.saver.save(running, stop, self.times.to_save())
        except StateError:
            return FAILED
        except (EngineError, OSError) as error:
            if not self.made_image(before, stop):
                halfway = isinstance(error, Halfway) or tree.died(running)
                if halfway and (code := self.torn(running, before_it)) is not None:
                    return code
                return self.save_failed(running, error, stop)
            self.warn(f"image {self.segment.generation} is good, but then: {error}")
        self.failures, self.next_try, self.save_due = 0, 0.0, False
        self.amount.forget()
        self.segment.save_given = self.segment.save_amount = None
        self.segment.useful = useful
        assert self.segment.generation is not None
        self.segment.images[self.segment.generation] = useful
        self.last_saved = time.monotonic()
        if not stop:
            self.times.saved(self.segment.amount or 0, self.segment.took or 0.0)
            self.answered("checkpoint")
            self.note()
            return None
        closing.withdraw(self.folder, self.segment, running, self.bound())
        self.segment.parked = parked or None
        self.close("saved")
        self.answered("checkpoint")  # which this save did as well: the next segment need not begin with one
        return 0 if parked else REQUEUE

    def made_image(self, before: int | None, stop: bool) -> bool:
        """Whether a save that raised had committed its image, so that what went wrong came afterwards.

        If it was to stop the tree, that has been ended, or is now: it is no exit of the job.
        """
        if stop and self.segment.commit is not None and self.segment.generation == before:
            self.segment.generation = closing.newest_image(self.folder, self.bound())
            self.segment.saves += 1
        return self.segment.generation != before

    def announce(self, running: Running) -> None:
        """Note how long this save has: if the walltime cuts it off, the next segment begins its own earlier."""
        given = self.times.given(amount := self.amount(running))
        if given is not None:
            self.segment.save_given, self.segment.save_amount = given, amount
            self.note()

    def save_failed(self, running: Running, error: EngineError | OSError, stop: bool) -> int | None:
        """The payload goes on, or has ended meanwhile; note why, and when to try again."""
        self.segment.save_given = self.segment.save_amount = None
        unsavable = isinstance(error, Unsavable)
        reason = f"the job could not be saved: {error}"
        if (over := self.news(running)) is not None:
            return over  # it ended in the moment of the save, which is why that failed
        if unsavable and self.policy.on_unsavable == "fail" and not tree.ending(running):
            return self.failed("unsavable", reason)
        self.warn(reason)
        self.next_try = time.monotonic() + _RETRY[min(self.failures, len(_RETRY) - 1)]
        self.failures += 1
        if stop:
            self.segment.failure = "unsavable" if unsavable else "error"
            self.segment.reason = reason
            self.suspension.hold(running)
            self.note()
        elif unsavable or not self.worth_repeating(error):
            # It was for safety only: left until it is due again.
            self.answered("checkpoint")
            self.save_due, self.failures, self.next_try = False, 0, 0.0
            self.last_saved = time.monotonic()
        return None

    def worth_repeating(self, error: EngineError | OSError) -> bool:
        """Whether a save for safety may soon succeed: a process ended in its midst, or the disk is gone."""
        if isinstance(error, OSError):
            return error.errno not in (errno.ENOSPC, errno.EDQUOT) and self.failures < _DISK_TRIES
        return self.failures < len(_RETRY)

    def torn(self, running: Running, before: Sequence[proc.ProcessId]) -> int | None:
        """After a save that was killed half-way: the payload goes on only if all of it lived through that."""
        wrong = tree.torn(running, before)
        if wrong is None:
            return None
        closing.withdraw(self.folder, self.segment, running, self.bound())
        reason = f"a save was killed in its midst, and {wrong}: the job goes back to its newest image"
        return self.failed("killed", reason)

    def look(self, running: Running) -> bool:
        """Say early what will not be saved, while there is time to do something about it; whether there is any."""
        self.next_look = time.monotonic() + _LOOK
        if not self.engine.can_save:
            return False
        try:
            with mistakes.told():
                findings = self.engine.unsavable(running)
        except (EngineError, OSError) as error:
            findings = []
            self.warn(f"what cannot be saved could not be looked at: {error}")
        for finding in findings:
            self.warn(f"cannot be saved: {finding}")
        return bool(findings)

    def warn(self, text: str) -> None:
        if text not in self.segment.warnings:
            self.segment.warnings.append(text)
        self.note()

    def note(self) -> None:
        """Write the record while the payload runs; a full or absent disk must not end it."""
        with suppress(OSError, EngineError), mistakes.told():
            self.folder.update(self.segment)

    # -- times -------------------------------------------------------------------------------------------------------

    def save_at(self, running: Running) -> float:
        if self.times.end == math.inf:
            return math.inf
        if not self.engine.can_save:
            return self.times.end - min(self.policy.grace, 1.0)
        return self.times.save_at(self.amount(running))

    def next_event(self, running: Running) -> float:
        if self.suspension.held:
            return math.inf
        if self.stop_wanted:
            return min(self.next_try, self.next_look, max(self.times.end, time.monotonic() + 0.1))
        due = max(self.next_try if self.save_due else self.next_period(running), time.monotonic())
        due = due if self.leaves_time(running, due) else math.inf
        return min(self.save_at(running), self.next_look, due)

    def leaves_time(self, running: Running, begin: float) -> bool:
        """Whether a save after which the payload goes on may begin then, or is left to that of the walltime."""
        # Without what `reserve` adds after a cut: that is twice a guess, and should this one be late, it has the time.
        takes = self.policy.margin * self.times.expected(self.amount(running))
        return deadline.over_before(self.save_at(running), begin, takes)

    def next_period(self, running: Running) -> float:
        """When the next save is due that only guards against a node's death."""
        period = self.policy.period
        if period is None or not self.engine.can_save:
            return math.inf
        if period == "auto":
            period = self.times.auto_period(self.amount(running))
        return self.last_saved + period

    # -- outcomes ------------------------------------------------------------------------------------------------------

    def finished(self, status: int) -> int:
        self.segment.useful = time.monotonic() - self.started
        own = closing.exit_status(self.folder, self.segment, status, self.bound())
        if own is None:
            return FAILED  # declared lost: this is no word of the job, and its images are another's
        self.segment.exit = status if status < 0 else own
        self.segment.failure = self.segment.reason = None
        self.close("finished")
        if status == 0:
            # Now and not by the head, which may be gone; the in-job Snakemake has checked the outputs.
            with suppress(OSError):
                self.folder.discard()
        return closing.final_status(status)

    def failed(self, failure: Failure, reason: str, parked: bool = False) -> int:
        self.segment.failure, self.segment.reason = failure, reason
        self.segment.parked = parked or None
        if hasattr(self, "started"):
            self.segment.useful = time.monotonic() - self.started
        self.close("failed")
        return FAILED

    def close(self, outcome: Outcome) -> None:
        closing.close(self.folder, self.segment, outcome, self.bound())

    def bound(self) -> float:
        """Until when a disk that is gone is waited for: short before anything was computed, else as long as it goes."""
        return patience.bound(self.times.end, self.policy.grace, computed=hasattr(self, "started"))
