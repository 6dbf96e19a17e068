"""Slurm: a chain is one batch job, which requeues itself on its node after each save (``scontrol requeue``).

Tried with Slurm 22.05. Used by the head and on the node, with the clients that both have: sbatch, squeue, scancel,
scontrol, sinfo. Accounting (sacct) is not needed.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from snakemake_executor_plugin_ckpt import faults, proc
from snakemake_executor_plugin_ckpt.errors import NoAnswer, SchedulerError
from snakemake_executor_plugin_ckpt.schedulers import slurm_text
from snakemake_executor_plugin_ckpt.schedulers.base import FAILED, REQUEUE, Allocation, Liveness, Request, Scheduler
from snakemake_executor_plugin_ckpt.schedulers.commands import Finished, run
from snakemake_executor_plugin_ckpt.state import durable

_CLIENTS = ("sbatch", "squeue", "scancel", "scontrol")
#: Variables that have clients show, or submit, something else than they are asked for. Inside of a job SLURM_* are that
#: job's own, and sbatch would take its values for the new one.
_FOREIGN = ("SLURM_", "SQUEUE_", "SCANCEL_", "SINFO_", "SBATCH_ARRAY_INX", "SBATCH_WAIT", "SBATCH_CLUSTERS")
_KEPT = ("SLURM_CONF",)
#: What is said to squeue and sinfo each time. Without ``--all`` jobs whose partitions are hidden (Hidden=YES, or
#: AllowGroups without their owner, who may have left the group since; squeue(1)) are left out, for their owner too: a
#: job that runs would be taken for one that is over.
_ASKED = ("--noheader", "--all")
#: sbatch by itself tries again for a while when slurmctld is busy.
_SUBMIT_LIMIT = 120.0
_ASK_LIMIT = 60.0
#: Seconds for which a node asks for its job's end: if the walltime is known, which is then added to the start; if not.
_END_PATIENCE, _LONG_END_PATIENCE = 60.0, 300.0
#: Seconds for which a saved segment tries to be requeued; longer outages are left to the head.
_REQUEUE_PATIENCE = 1800.0
_PAUSE = 5.0
#: Seconds that a requeued job waits even when it is hastened. A node refuses to start it ("Job already killed, do not
#: launch batch job", and it has failed) in the second in which its last run ended, and clocks differ a little.
_SOON = 5
#: Seconds after which a node has heard of a cancel that was there before a requeue. SIGKILL comes later.
_SETTLED = 1.0
#: Ids on one command line.
_MANY = 500
#: What slurmctld says of a job that cannot be requeued until its owner allows it (``--no-requeue``, JobRequeue=0).
_DISABLED = "disabled"


class Slurm(Scheduler):
    """See the module."""

    name = "slurm"
    resources = slurm_text.RESOURCES
    prefixes = ("slurm_",)
    refused = slurm_text.REFUSED

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        #: What `liveness` saw last. Each look makes a new one, so who takes it once can go by it, whatever the thread.
        self._seen: dict[str, slurm_text.Row] = {}
        self._hastened: set[tuple[str, int, str]] = set()  # id, its restarts, what was asked
        self._log_begin = 0

    def missing(self) -> str | None:
        """See `Scheduler.missing`."""
        absent = [client for client in _CLIENTS if shutil.which(client) is None]
        if absent:
            return f"{', '.join(absent)} not found in PATH; this is no machine from which Slurm jobs are submitted"
        try:
            said = _run(["scontrol", "ping"])
        except NoAnswer:
            return None
        except SchedulerError as error:
            return str(error)
        # "Slurmctld(primary) at HOST is DOWN" is an outage, as is no answer: it will come back.
        return None if "Slurmctld" in said.stdout else f"Slurm is not set up here: {said.words}"

    # -- the head --------------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> str:
        """See `Scheduler.submit`. A name is used once: the record of it stands before the batch job does."""
        words = slurm_text.submission(replace(request, exclude=_node_names(request.exclude)))
        folder = self.state_dir / ".slurm"
        durable.make_folder(folder)
        if not durable.create(folder / request.name, b""):
            raise SchedulerError(f"a batch job named {request.name} was submitted before")
        faults.point("submit.begin")
        said = _run(words, _SUBMIT_LIMIT, slurm_text.script(request)).checked(slurm_text.OUTAGE)
        faults.point("submit.done")
        found = slurm_text.job_id(said.stdout)
        if found is None:
            raise NoAnswer(f"sbatch gave no job id: {said.words}")
        return found

    def check(self, request: Request) -> None:
        """See `Scheduler.check`."""
        slurm_text.submission(request)

    def find(self, name: str) -> str | None:
        """See `Scheduler.find`. A batch job that is over, and forgotten, needs not be found."""
        found = slurm_text.rows(_squeue("-O", slurm_text.COLUMNS, f"--user={os.getuid()}", f"--name={name}"))
        return min(found, key=int, default=None)

    def liveness(self, job_ids: Sequence[str]) -> dict[str, Liveness]:
        """See `Scheduler.liveness`.

        All of the user's jobs are asked for: with many ids the command line would be too long, and one that Slurm has
        forgotten makes `squeue --jobs` fail for all.
        """
        if not job_ids:
            return {}
        try:
            seen = slurm_text.rows(_squeue("-O", slurm_text.COLUMNS, f"--user={os.getuid()}"))
        except SchedulerError:
            self._seen = {}
            return dict.fromkeys(job_ids, Liveness.UNKNOWN)
        self._seen = seen
        return {one: seen[one].liveness if one in seen else Liveness.GONE for one in job_ids}

    def cancel(self, job_ids: Sequence[str]) -> None:
        """See `Scheduler.cancel`; a job between two segments does not come back either."""
        for start in range(0, len(job_ids), _MANY):
            said = _run(["scancel", "--quiet", *job_ids[start : start + _MANY]])
            if said.status != 0 and "Invalid job id" not in said.stderr:
                said.checked(slurm_text.OUTAGE)

    def hasten(self, job_ids: Sequence[str], exclude: Mapping[str, Sequence[str]]) -> None:
        """See `Scheduler.hasten`. What is known of the jobs is what `liveness` saw last.

        Only those that were requeued: a new one was just submitted with the nodes that it is to avoid, or on purpose
        without them.
        """
        seen = self._seen
        rows = {one: seen[one] for one in job_ids if one in seen}
        waiting = {one: row for one, row in rows.items() if row.state == "PENDING" and row.restarts > 0}
        with suppress(SchedulerError):
            for one, row in waiting.items():
                self._keep_off(one, row, exclude.get(one, ()))
            # Once a restart: every other time would put it off again.
            in_vain = [one for one, row in waiting.items() if row.waits_in_vain and self._is_new(one, row, "start")]
            for start in range(0, len(in_vain), _MANY):
                some = in_vain[start : start + _MANY]
                _run(["scontrol", "update", f"JobId={','.join(some)}", f"StartTime=now+{_SOON}"])
                self._hastened.update((one, waiting[one].restarts, "start") for one in some)

    def _keep_off(self, job_id: str, row: slurm_text.Row, hosts: Sequence[str]) -> None:
        what = ",".join(hosts)
        if hosts and self._is_new(job_id, row, what) and (names := _node_names(hosts)):
            # It takes the place of the list that is there, which may hold what the rule excludes.
            already = slurm_text.excluded(_squeue("-o", "%x", f"--jobs={job_id}"))
            _run(["scontrol", "update", f"JobId={job_id}", f"ExcNodeList={','.join([*already, *names])}"])
            self._hastened.add((job_id, row.restarts, what))

    def _is_new(self, job_id: str, row: slurm_text.Row, what: str) -> bool:
        return (job_id, row.restarts, what) not in self._hastened

    def held(self, job_ids: Sequence[str]) -> dict[str, str]:
        """See `Scheduler.held`. One that can never start as it was asked for is cancelled, to be asked for anew."""
        seen = self._seen
        rows = {one: seen[one] for one in job_ids if one in seen}
        found = {one: row.reason for one, row in rows.items() if row.hopeless}
        does = {one: "scontrol release" if rows[one].held else "scancel" for one in found}
        return {one: f"{why} (`{does[one]} {one}` lets the chain go on)" for one, why in found.items()}

    # -- the node --------------------------------------------------------------------------------------------------

    def allocation(self, environment: Mapping[str, str]) -> Allocation:
        """See `Scheduler.allocation`."""
        job_id = environment.get("SLURM_JOB_ID")
        if not job_id:
            raise SchedulerError("this is not a job of Slurm: SLURM_JOB_ID is not set")
        self._log_begin = os.fstat(2).st_size
        if end := environment.get("SLURM_JOB_END_TIME"):  # newer versions say it
            return Allocation(job_id, float(end))
        return Allocation(job_id, _end(job_id, environment.get(slurm_text.WALLTIME_VARIABLE)))

    def requeue(self, allocation: Allocation, began: float) -> int:
        """See `Scheduler.requeue`. SIGTERM follows within milliseconds, and SIGKILL after KillWait."""
        until = time.monotonic() + _REQUEUE_PATIENCE
        while True:
            try:
                return self._requeue_unless_cancelled(allocation.job_id)
            except SchedulerError as error:
                if time.monotonic() > until:
                    print(f"ckpt: the job is saved, but not requeued: {error}", file=sys.stderr)
                    return FAILED
            time.sleep(_PAUSE)

    def _requeue_unless_cancelled(self, job_id: str) -> int:
        if not _requeued(job_id):
            return FAILED
        # A requeue brings back a job that was cancelled a moment before: Slurm forgets the one for the other.
        time.sleep(_SETTLED)
        if slurm_text.was_cancelled(_own_log(self._log_begin)):
            _run(["scancel", job_id]).checked()
            return FAILED
        return REQUEUE

    def node_class(self, environment: Mapping[str, str], name: str) -> str | None:
        """See `Scheduler.node_class`; the property is one of the features that `name` has patterns of."""
        node = environment.get("SLURMD_NODENAME")
        if not node:
            return None
        try:
            said = _sinfo(f"--nodes={node}", "-o", "%f")
        except SchedulerError:
            return None
        return slurm_text.node_class(said.partition("\n")[0], name)


def _run(words: Sequence[str], timeout: float = _ASK_LIMIT, stdin: str | None = None) -> Finished:
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or not name.startswith(_FOREIGN)}
    return run(words, timeout, stdin, {**kept, "SLURM_TIME_FORMAT": "%s"})


def _squeue(*words: str) -> str:
    return _run(["squeue", *_ASKED, "--states=all", *words]).checked(slurm_text.OUTAGE).stdout


def _sinfo(*words: str) -> str:
    return _run(["sinfo", *_ASKED, *words]).checked(slurm_text.OUTAGE).stdout


def _node_names(hosts: Sequence[str]) -> list[str]:
    if not hosts:
        return []
    return slurm_text.node_names(_sinfo("--Node", "-O", "NodeList:256,NodeHost:256"), hosts)


def _end(job_id: str, walltime: str | None) -> float | None:
    """When this batch job's walltime ends; None: never, or, when slurmctld is silent for minutes, unknown."""
    until = time.monotonic() + (_LONG_END_PATIENCE if walltime is None else _END_PATIENCE)
    while True:
        try:
            return slurm_text.end(_squeue("-O", slurm_text.END_COLUMNS, f"--jobs={job_id}"), time.time())
        except (SchedulerError, ValueError) as error:
            if time.monotonic() > until:
                print(f"ckpt: the end of this job's time limit cannot be asked for now: {error}", file=sys.stderr)
                break
        time.sleep(_PAUSE)
    return None if walltime is None else time.time() + float(walltime) - _age()


def _own_log(begin: int) -> str:
    """What is in this batch job's log behind a place."""
    try:
        with open("/proc/self/fd/2", "rb") as log:
            log.seek(begin)
            return log.read(1 << 20).decode(errors="replace")
    except OSError:  # it is no file, or its disk is gone
        return ""


def _age() -> float:
    """Seconds that this process has run for: it is the batch job's first one."""
    own = proc.read_stat(os.getpid())
    assert own is not None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - own.start / os.sysconf("SC_CLK_TCK")


def _requeued(job_id: str) -> bool:
    """Requeue this batch job, if that is for it to do; whether it comes again."""
    seen = slurm_text.rows(_squeue("-O", slurm_text.COLUMNS, f"--jobs={job_id}")).get(job_id)
    if seen is None or not seen.needs_requeue:
        return False
    said = _run(["scontrol", "requeue", job_id])
    if said.status != 0 and _DISABLED in said.words:
        _run(["scontrol", "update", f"JobId={job_id}", "Requeue=1"]).checked()
        said = _run(["scontrol", "requeue", job_id])
    said.checked()
    return True
