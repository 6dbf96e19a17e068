"""LSF 10.1: a chain is one batch job, which LSF puts back into its queue when a segment ends with 99 (``bsub -Q``).

Written from IBM's documentation, and tried only with a fake of LSF's clients: see `docs/lsf.md`.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from snakemake_executor_plugin_ckpt import faults, proc
from snakemake_executor_plugin_ckpt.errors import NoAnswer, SchedulerError
from snakemake_executor_plugin_ckpt.schedulers import lsf_text as text
from snakemake_executor_plugin_ckpt.schedulers.base import REQUEUE, Allocation, Liveness, Request, Scheduler, pauses
from snakemake_executor_plugin_ckpt.schedulers.commands import Finished, run
from snakemake_executor_plugin_ckpt.state import durable

_CLIENTS = ("bsub", "bjobs", "bkill")
#: Seconds for a client. Where LSF is down they try again for ever ("LSF is down. Please wait ..."), unless LSB_NTRIES
#: says how often; but each try may take LSB_API_CONNTIMEOUT and more, so they are also ended.
_ANSWER, _SUBMIT_LIMIT = 60.0, 120.0
_TRIES = "3"
#: Ids in one query.
_MANY = 2000
#: Seconds after a submission in which LSF's answer that there is no such job is not believed: queries are answered by a
#: copy of mbatchd, which is renewed after MBD_REFRESH_TIME (5 s) or later, and a lost submission may still arrive.
_FRESH = 30.0
#: Seconds in which jobs that were cancelled are looked for again. INT, TERM and KILL come 10 s apart
#: (JOB_TERMINATE_INTERVAL); whether one that ends with 99 meanwhile is requeued is not documented.
_CANCEL, _PAUSE = 40.0, 0.5
#: Seconds for which a node asks for its job's end.
_END_PATIENCE = 60.0
#: Seconds for which a segment that hands itself back as suspended waits to be ended.
_HANDED_BACK = 60.0


class Lsf(Scheduler):
    """See the module."""

    name = "lsf"
    suspends = True
    resources = text.RESOURCES
    prefixes = ("lsf_",)
    refused = text.REFUSED

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self._held: set[str] = set()

    def missing(self) -> str | None:
        """See `Scheduler.missing`."""
        absent = [client for client in _CLIENTS if shutil.which(client) is None]
        if absent:
            return f"{', '.join(absent)} not found in PATH; source LSF's profile.lsf, on a host that submits LSF jobs"
        return None

    # -- the head --------------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> str:
        """See `Scheduler.submit`. LSF knows no unique names, so a record of the name stands before the batch job."""
        words = text.submission(request)
        durable.make_folder(self._folder)
        if not durable.create(self._folder / request.name, b""):
            raise SchedulerError(f"a batch job named {request.name} was submitted before")
        faults.point("submit.begin")
        said = _run(words, _SUBMIT_LIMIT)
        faults.point("submit.done")
        job_id = text.submitted_id(f"{said.stdout}\n{said.stderr}")
        if job_id is None and said.status == 0:
            raise NoAnswer(f"bsub gave no job id: {said.words}")
        if job_id is None:
            raise said.failure(text.OUTAGE)
        return job_id

    def check(self, request: Request) -> None:
        """See `Scheduler.check`."""
        text.submission(request)

    @property
    def _folder(self) -> Path:
        return self.state_dir / ".lsf"

    def find(self, name: str) -> str | None:
        """See `Scheduler.find`. A batch job that is over, and forgotten (CLEAN_PERIOD, 1 h), needs not be found."""
        said = _run(["bjobs", "-a", "-noheader", "-o", text.COLUMNS, "-J", name])
        found = text.seen(said.stdout, "")
        if found:
            return min(found, key=int)
        if said.status != 0 and not text.found_nothing(said.stderr):
            said.checked(text.OUTAGE)
        if self._is_fresh(name):
            raise SchedulerError(f"LSF does not know {name} yet; it is waited for")
        return None

    def _is_fresh(self, name: str) -> bool:
        try:
            return time.time() - (self._folder / name).stat().st_mtime < _FRESH
        except FileNotFoundError:
            return False
        except OSError as error:
            raise SchedulerError(f"the state directory cannot be read now: {error}") from error

    def liveness(self, job_ids: Sequence[str]) -> dict[str, Liveness]:
        """See `Scheduler.liveness`.

        By their ids, since then LSF says of each that is absent that it is: a list may be incomplete.
        """
        known, stopped = dict.fromkeys(job_ids, Liveness.UNKNOWN), set()
        for some in _portions(job_ids):
            with suppress(SchedulerError):
                said = _look(some)
                stopped |= text.held(said.stdout)
                known |= {one: found for one, found in text.seen(said.stdout, said.stderr).items() if one in known}
        self._held = stopped
        return known

    def held(self, job_ids: Sequence[str]) -> dict[str, str]:
        """See `Scheduler.held`."""
        stopped = self._held  # another thread may look meanwhile
        return {one: f"PSUSP (`bresume {one}` lets the chain go on)" for one in job_ids if one in stopped}

    def cancel(self, job_ids: Sequence[str]) -> None:
        """See `Scheduler.cancel`; one that asked to go on just then is cancelled once more."""
        for some in _portions(job_ids):
            _kill(some)
            until, pause = time.monotonic() + _CANCEL, pauses(most=4 * _PAUSE, first=_PAUSE)
            while time.monotonic() < until:
                said = _look(some)
                found = text.seen(said.stdout, said.stderr)
                if not any(found.get(one) is Liveness.ALIVE for one in some):
                    break
                if back := [one for one in some if one in text.pending(said.stdout)]:
                    _kill(back)
                time.sleep(next(pause))

    # -- the node --------------------------------------------------------------------------------------------------

    def allocation(self, environment: Mapping[str, str]) -> Allocation:
        """See `Scheduler.allocation`."""
        job_id = environment.get("LSB_JOBID", "")
        if not job_id.isdecimal() or environment.get("LSB_JOBINDEX", "0") != "0":
            raise SchedulerError("this is not a job of LSF: LSB_JOBID is not set, or it is one of an array")
        return Allocation(job_id, _end(job_id, text.walltime_of(environment)))

    def requeue(self, allocation: Allocation, began: float) -> int:
        """See `Scheduler.requeue`. A job that its user stopped (USUSP) goes back to wait for `bresume` (PSUSP).

        If it only ended with 99 it would be PEND, and start again at once.
        """
        with suppress(SchedulerError):
            if text.states(_look([allocation.job_id]).stdout).get(allocation.job_id) == ["USUSP"]:
                _run(["brequeue", "-H", allocation.job_id]).checked()
                time.sleep(_HANDED_BACK)  # it ends us, with the same signals as bkill
        return REQUEUE

    def node_class(self, environment: Mapping[str, str], name: str) -> str | None:
        """See `Scheduler.node_class`: ``type``, ``model``, or a boolean resource that `name` has patterns of."""
        hosts = environment.get("LSB_HOSTS", "").split()
        if not hosts:
            return None
        try:
            said = _run(["lshosts", "-w", hosts[0]]).checked()
        except SchedulerError:
            return None
        lines = [line for line in said.stdout.splitlines() if line.split()[:1] == [hosts[0]]]
        return text.node_class(lines[0], name) if lines else None


def _portions(job_ids: Sequence[str]) -> list[list[str]]:
    numbers = [job_id for job_id in job_ids if job_id.isdecimal()]
    return [numbers[begin : begin + _MANY] for begin in range(0, len(numbers), _MANY)]


def _run(words: Sequence[str], timeout: float = _ANSWER) -> Finished:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(text.FOREIGN)}
    return run(words, timeout, environment={**kept, "LSB_NTRIES": _TRIES, "LSB_HMS_TIME_FORMAT": "N"})


def _look(job_ids: Sequence[str]) -> Finished:
    """What LSF says of jobs by their ids; it fails when one is absent, and says so."""
    return _run(["bjobs", "-noheader", "-o", text.COLUMNS, *job_ids])


def _kill(job_ids: Sequence[str]) -> None:
    said = _run(["bkill", *job_ids])
    if text.unkilled(f"{said.stdout}\n{said.stderr}") or not (said.stdout.strip() or said.stderr.strip()):
        raise said.failure(text.OUTAGE)


def _end(job_id: str, walltime: float | None) -> float | None:
    """When this batch job's run limit ends; None: never, or, when LSF is silent for a minute, unknown."""
    until = time.monotonic() + _END_PATIENCE
    while True:
        try:
            asked = time.time()
            found = text.left(_run(["bjobs", "-noheader", "-o", text.END_COLUMNS, job_id], 20.0).stdout)
        except SchedulerError:
            found = text.Left(known=False)
        if found.known:
            return None if found.seconds is None else asked + found.seconds
        if time.monotonic() > until or shutil.which("bjobs") is None:
            break
        time.sleep(5 * _PAUSE)
    if walltime is None:
        print("ckpt: LSF does not say when this job's run limit ends", file=sys.stderr)
        return None
    return time.time() + walltime - _age()


def _age() -> float:
    """Seconds that this process has run for: it is the batch job's first one, by exec."""
    own = proc.read_stat(os.getpid())
    assert own is not None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - own.start / os.sysconf("SC_CLK_TCK")
