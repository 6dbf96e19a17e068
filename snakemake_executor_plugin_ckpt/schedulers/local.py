"""The scheduler that needs no cluster: each batch job is a keeper process on this machine, which outlives the head."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from snakemake_executor_plugin_ckpt import faults
from snakemake_executor_plugin_ckpt.errors import NoAnswer, SchedulerError, StateError
from snakemake_executor_plugin_ckpt.proc import ProcessId, host_name
from snakemake_executor_plugin_ckpt.schedulers.base import Allocation, Liveness, Request, Scheduler
from snakemake_executor_plugin_ckpt.schedulers.commands import SHORT
from snakemake_executor_plugin_ckpt.state import durable

_FOLDER = ".local"
_KEEPER = "snakemake_executor_plugin_ckpt.schedulers.local_keeper"
_START_LIMIT = 30.0
#: What a keeper tells its segment: the batch job, and when its walltime ends (s, monotonic clock; empty: never).
JOB_VARIABLE, END_VARIABLE = "CKPT_LOCAL_JOB", "CKPT_LOCAL_END"


class Local(Scheduler):
    """See the module. As many jobs run as Snakemake submits (``--jobs``); none waits in a queue here."""

    name = "local"
    shared = False
    exact = True
    suspends = True

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self._folder = state_dir / _FOLDER
        self._keepers: list[subprocess.Popen[bytes]] = []
        self._unseen: dict[str, str] = {}

    def missing(self) -> str | None:
        """See `Scheduler.missing`."""
        return None

    def submit(self, request: Request) -> str:
        """See `Scheduler.submit`; the id is the name."""
        durable.make_folder(self._folder)
        limits = ["" if value is None else str(value) for value in (request.walltime, request.grace)]
        argv = [
            sys.executable,
            "-P",
            "-m",
            _KEEPER,
            str(self._record(request.name)),
            str(request.script),
            *limits,
        ]
        faults.point("submit.begin")
        try:
            with open(request.log, "ab") as log:
                keeper = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
                )
        except OSError as error:
            if error.errno in SHORT:  # nothing was started, and it may be later
                raise NoAnswer(f"no keeper can be started now: {error.strerror}") from error
            raise
        self._keepers.append(keeper)
        faults.point("submit.started")
        until = time.monotonic() + _START_LIMIT
        while not self._is_kept_by(request.name, keeper.pid):
            if keeper.poll() is not None or time.monotonic() > until:
                raise SchedulerError(f"the local keeper of {request.name} did not start; see {request.log}")
            time.sleep(0.01)
        faults.point("submit.done")
        return request.name

    def _is_kept_by(self, name: str, pid: int) -> bool:
        found = self._keeper(name)
        return found is not None and (found.host, found.pid) == (host_name(), pid)

    def find(self, name: str) -> str | None:
        """See `Scheduler.find`."""
        if self.state_dir.is_dir() and not self._folder.exists():
            return None  # nothing was ever submitted
        return name if self._keeper(name) is not None else None

    def liveness(self, job_ids: Sequence[str]) -> dict[str, Liveness]:
        """See `Scheduler.liveness`; what another machine keeps cannot be seen from here."""
        self._keepers = [keeper for keeper in self._keepers if keeper.poll() is None]  # buries those that ended
        return {job_id: self._liveness(job_id) for job_id in job_ids}

    def held(self, job_ids: Sequence[str]) -> dict[str, str]:
        """See `Scheduler.held`: here none waits, but some cannot be seen."""
        return {job_id: why for job_id in job_ids if (why := self._unseen.get(job_id))}

    def _liveness(self, job_id: str) -> Liveness:
        self._unseen.pop(job_id, None)
        try:
            keeper = self._keeper(job_id)
        except (SchedulerError, OSError) as error:
            self._unseen[job_id] = str(error)
            return Liveness.UNKNOWN
        if keeper is None:
            return Liveness.GONE
        if keeper.alive():
            return Liveness.ALIVE  # also if this machine has another name by now
        if keeper.host != host_name():
            self._unseen[job_id] = self._elsewhere(job_id, keeper.host)
            return Liveness.UNKNOWN
        return Liveness.GONE

    def cancel(self, job_ids: Sequence[str]) -> None:
        """See `Scheduler.cancel`."""
        for job_id in job_ids:
            keeper = self._keeper(job_id)
            if keeper is not None and keeper.host == host_name() and keeper.alive():
                with suppress(ProcessLookupError):
                    os.kill(keeper.pid, signal.SIGTERM)

    def allocation(self, environment: Mapping[str, str]) -> Allocation:
        """See `Scheduler.allocation`."""
        try:
            job_id, end = environment[JOB_VARIABLE], environment[END_VARIABLE]
        except KeyError as error:
            raise SchedulerError(f"this is not a job of the local scheduler: {error} is not set") from None
        # Keeper and segment share a clock that nobody sets; what is made of it here is turned back at once.
        return Allocation(job_id, time.time() + float(end) - time.monotonic() if end else None)

    def _elsewhere(self, job_id: str, host: str) -> str:
        """What to do about a keeper of another machine. Without its record it counts as gone, so it must be."""
        return (
            f"it was started on {host}, and this is {host_name()}. If {host} is there, the job goes on there, and its "
            f"end is seen here; start snakemake there to see more. Only if {host} is no more, as a container that has "
            f"another name now, remove {self._record(job_id)}: the job then goes on from its last image"
        )

    def _record(self, name: str) -> Path:
        return self._folder / f"{name}.yaml"

    def _keeper(self, name: str) -> ProcessId | None:
        """Who keeps a job; None when the folder is there and holds no record of it."""
        try:
            folder = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise SchedulerError(f"the state directory cannot be read now: {error}") from error
        try:
            # By the open folder: one that comes back between two looks must not make a job seem gone.
            return ProcessId(**durable.read_yaml(Path(f"/proc/self/fd/{folder}", f"{name}.yaml")))
        except FileNotFoundError:
            return None
        except (TypeError, StateError) as error:
            raise SchedulerError(f"{self._record(name)} is not a keeper's record: {error}") from error
        except OSError as error:
            raise SchedulerError(f"the state directory cannot be read now: {error}") from error
        finally:
            os.close(folder)
