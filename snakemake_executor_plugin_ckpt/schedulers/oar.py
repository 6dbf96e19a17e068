"""OAR 2.5: `idempotent` jobs that end with 99 are resubmitted by OAR itself, with the same properties.

A chain of resubmissions shares one array id, that of its first job, which is the batch job's id for the head.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from snakemake_executor_plugin_ckpt import faults, proc
from snakemake_executor_plugin_ckpt.errors import NoAnswer, SchedulerError
from snakemake_executor_plugin_ckpt.schedulers import oar_text as text
from snakemake_executor_plugin_ckpt.schedulers.base import REQUEUE, Allocation, Liveness, Request, Scheduler, pauses
from snakemake_executor_plugin_ckpt.schedulers.commands import Finished, run
from snakemake_executor_plugin_ckpt.state import durable

#: Seconds for a client. Where the data base is down, oarsub and oardel try again for ever, as user oar: nobody but root
#: may kill them. An alarm set before they begin ends them all the same, since the kernel sends it. That matters most of
#: oarsub: one that waits on would submit when the data base is back, and by then another was submitted in its place.
_ANSWER = 60
_ALARMED = "import os, signal, sys; signal.alarm(int(sys.argv[1])); os.execvp(sys.argv[2], sys.argv[2:])"
#: Jobs in one query: an argument may have 128 KiB.
_AT_ONCE = 5000
#: OAR resubmits only what ran for more than this (s; NodeChangeState, hard-coded), by whole seconds of its own clock.
_SHORTEST, _ROUNDED = 60.0, 2.0
#: A job on a dead node stays Running. After its walltime OAR tries to kill it, for JOBDEL_WALLTIME (300 s) and the
#: time of a check; when it is still Running then, that says nothing any more.
_OVERDUE = 900.0
#: A job begins to count its walltime when OAR launches it, which is before it runs: connection, prologue. Kept free
#: (at most this part of the walltime) where OAR cannot be asked for the time.
_LAUNCH, _LAUNCH_SHARE = 60.0, 0.1
#: Seconds in which jobs that were cancelled are looked for again: one that ends with 99 just then has a successor.
_CANCEL = 60.0
#: oarsub makes a job in several steps, on hold until the last one. Longer than this on hold is one that died between.
_HALF_MADE = 2.0 * _ANSWER


class Oar(Scheduler):
    """See the module."""

    name = "oar"
    resources = text.RESOURCES
    prefixes = ("oar_",)

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self._on_hold: dict[str, float] = {}
        #: Batch jobs on hold at the last look, and their numbers.
        self._held: dict[str, str] = {}

    def missing(self) -> str | None:
        """See `Scheduler.missing`."""
        absent = [program for program in ("oarsub", "oarstat", "oardel") if shutil.which(program) is None]
        if absent:
            return f"{', '.join(absent)} not found: run snakemake where OAR's client programs are, on a login node"
        if os.geteuid() == 0:
            return "OAR takes no jobs of root: run snakemake as an ordinary user"
        return None

    # -- submitting ------------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> str:
        """See `Scheduler.submit`. OAR knows no unique names, so a record of the name stands before the batch job."""
        folder = self.state_dir / ".oar"
        durable.make_folder(folder)
        if not durable.create(folder / request.name, b""):
            raise SchedulerError(f"a batch job named {request.name} was submitted before")
        faults.point("submit.begin")
        done = self._oarsub(request, request.exclude)
        job_id = text.submitted_id(done.stdout)
        if job_id is None and request.exclude and _refused(done):
            # No node would be left. The one that failed is better than none.
            done = self._oarsub(request, ())
            job_id = text.submitted_id(done.stdout)
        faults.point("submit.done")
        if job_id is None:
            raise done.failure(text.OUTAGE)
        # Whatever the status: one that has an id is in the data base, and starts (9: when the central daemon is back).
        return job_id

    def check(self, request: Request) -> None:
        """See `Scheduler.check`."""
        text.submission(request, (), None)

    def _oarsub(self, request: Request, exclude: Sequence[str]) -> Finished:
        return _client(text.submission(request, exclude, os.environ.get(text.SHORTEST)))

    def find(self, name: str) -> str | None:
        """See `Scheduler.find`; jobs that are over are found too, unless that is long ago."""
        found = [job for job in self._ask(text.named(name), full=True) if job.name == name]
        if not found:
            return None
        first = found[0]
        if first.state != "Hold" or first.eventful:
            return first.chain
        since = self._on_hold.setdefault(first.job, time.monotonic())
        if time.monotonic() - since < _HALF_MADE:
            raise SchedulerError(f"OAR's job {first.job} ({name}) is only half submitted; it is waited for")
        self.cancel([first.chain])
        return None

    # -- watching ----------------------------------------------------------------------------------------------------

    def liveness(self, job_ids: Sequence[str]) -> dict[str, Liveness]:
        """See `Scheduler.liveness`.

        A chain is alive while any of its jobs is: OAR makes the successor and ends its predecessor in one transaction.
        """
        known = dict.fromkeys(job_ids, Liveness.UNKNOWN)
        on_hold: dict[str, str] = {}
        numbers = [job_id for job_id in known if job_id.isdecimal()]
        for begin in range(0, len(numbers), _AT_ONCE):
            asked = numbers[begin : begin + _AT_ONCE]
            try:
                active = self._active(asked)
            except SchedulerError:
                continue
            alive = {job.chain for job in active if not _overdue(job)}
            known |= {job_id: Liveness.ALIVE if job_id in alive else Liveness.GONE for job_id in asked}
            on_hold |= {job.chain: job.job for job in active if job.state == "Hold"}
        self._held = on_hold
        return known

    def held(self, job_ids: Sequence[str]) -> dict[str, str]:
        """See `Scheduler.held`."""
        on_hold = self._held  # another thread may look meanwhile
        found = {one: on_hold[one] for one in job_ids if one in on_hold}
        return {one: f"it is on hold (`oarresume {job}` lets the chain go on)" for one, job in found.items()}

    def _active(self, chains: Sequence[str]) -> list[text.Known]:
        wanted, found = set(chains), self._ask(text.active_of(chains))
        if not found:
            raise NoAnswer("oarstat gave no answer")  # there are jobs, so one would be in it
        return [job for job in found if job.chain in wanted and job.state in text.ACTIVE]

    def _ask(self, condition: str, full: bool = False) -> list[text.Known]:
        """The jobs that fit an SQL condition, and perhaps one more."""
        argv = ["oarstat", *(["-f"] if full else []), "-J", "--sql", text.proved(condition)]
        done = _client(argv).checked(text.OUTAGE)
        found = text.known_jobs(done.stdout)
        if not found and done.stderr.strip():
            raise done.failure(text.OUTAGE)
        return found

    # -- ending ------------------------------------------------------------------------------------------------------

    def cancel(self, job_ids: Sequence[str]) -> None:
        """See `Scheduler.cancel`."""
        numbers = [job_id for job_id in job_ids if job_id.isdecimal()]
        told: set[str] = set()
        until, pause = time.monotonic() + _CANCEL, pauses(most=2.0, first=0.3)
        while numbers and (active := self._active(numbers)):
            if new := [job.job for job in active if job.job not in told]:
                told |= set(new)
                self._oardel(new)
            elif time.monotonic() > until:
                return  # told, and not resubmitted whatever they end with; on a dead node that takes minutes
            time.sleep(next(pause))

    def _oardel(self, jobs: Sequence[str]) -> None:
        done = _client(["oardel", *jobs])
        if done.status != 0 and "REGISTERED" not in done.stdout:
            raise done.failure(text.OUTAGE)

    # -- on the node -------------------------------------------------------------------------------------------------

    def allocation(self, environment: Mapping[str, str]) -> Allocation:
        """See `Scheduler.allocation`.

        The end must never be late: OAR kills at the walltime, at once and without a signal before.
        """
        try:
            job, chain = environment["OAR_JOB_ID"], environment["OAR_ARRAY_ID"]
        except KeyError as error:
            raise SchedulerError(f"this is not a job of OAR: {error} is not set") from None
        began = time.time() - _own_age()
        said = environment.get("OAR_JOB_WALLTIME_SECONDS", "")
        walltime = float(said) if said.isdecimal() else None
        by_oar = _asked_end(job)
        if walltime is None:
            return Allocation(chain, by_oar)
        if by_oar is None:
            return Allocation(chain, began + walltime - min(_LAUNCH, _LAUNCH_SHARE * walltime))
        # By the server's clock; where that is ahead of this node's, our own beginning is the better word.
        return Allocation(chain, min(by_oar, began + walltime))

    def requeue(self, allocation: Allocation, began: float) -> int:
        """See `Scheduler.requeue`: what ran too shortly for OAR to resubmit it waits, if its walltime allows that."""
        shortest = float(os.environ.get(text.SHORTEST, _SHORTEST)) + _ROUNDED
        wait = began + shortest - time.monotonic()
        if wait <= 0:
            return REQUEUE
        if allocation.end is not None and time.time() + wait + _ROUNDED > allocation.end:
            return 0  # the head submits the next segment
        time.sleep(wait)
        return REQUEUE

    def node_class(self, environment: Mapping[str, str], name: str) -> str | None:
        """See `Scheduler.node_class`; the name is that of a property of OAR's resources."""
        path = environment.get("OAR_RESOURCE_PROPERTIES_FILE")
        try:
            return text.property_of(Path(path).read_text(errors="replace"), name) if path else None
        except OSError:
            return None


def _client(argv: Sequence[str]) -> Finished:
    if shutil.which(argv[0]) is None:
        raise SchedulerError(f"{argv[0]} not found")
    alarmed = [sys.executable, "-I", "-S", "-c", _ALARMED, str(_ANSWER), *argv]
    try:
        done = run(alarmed, timeout=_ANSWER + 10.0)
    except NoAnswer as error:
        if isinstance(error.__cause__, OSError):  # nothing was started
            raise
        done = None
    if done is None or done.status < 0:
        raise NoAnswer(f"{argv[0]} did not answer within {_ANSWER} s; is OAR's data base down?")
    return Finished(argv[0], done.status, done.stdout, done.stderr)


def _refused(done: Finished) -> bool:
    return "OAR_JOB_ID=-" in done.stdout


def _overdue(job: text.Known) -> bool:
    return job.state == "Running" and job.end is not None and time.time() > job.end + _OVERDUE


def _asked_end(job: str) -> float | None:
    """When the walltime of a job ends by OAR's own word, if the node can ask for it."""
    try:
        found = text.known_jobs(_client(["oarstat", "-f", "-J", "-j", job]).checked().stdout)
    except SchedulerError:
        return None
    return next((one.end for one in found if one.job == job), None)


def _own_age() -> float:
    """Seconds since the batch job's first process began, which this one is (each hands over by exec)."""
    stat = proc.read_stat(os.getpid())
    if stat is None:
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - stat.start / os.sysconf("SC_CLK_TCK")
