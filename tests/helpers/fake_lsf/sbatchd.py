"""The daemon of one job of the fake LSF: dispatches it, watches its run limit, ends, stops and requeues it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from helpers.fake_lsf.select import fits
from helpers.fake_lsf.store import Job, Store

_TICK = 0.02
#: The job file that LSF writes; its shell traps what LSF sends (page "LSB_JOB_SCRIPT_TRAP_SIGNALS").
_FILE = """#!/bin/sh
trap : 15 10 12 2 1
# LSBATCH: User input
{command}
ExitStat=$?
wait
# LSBATCH: End user input
exit $ExitStat
"""
#: Page "bsub -env": the ones that are not handed on.
_NOT_HANDED_ON = ("LSB_JOBID", "LSB_JOBINDEX", "LSB_HOSTS", "LSB_EXIT_REQUEUE", "LSB_SUSP_REASONS")


class Sbatchd:
    """See the module."""

    def __init__(self, store: Store, job_id: int) -> None:
        self.store = store
        self.job_id = job_id
        job = store.job(job_id)
        assert job is not None
        self.job: Job = job
        self.process: subprocess.Popen[bytes] | None = None
        self.since = time.monotonic()  # of the state
        self.ran = 0.0
        self.warned = self.limited = False
        self.due: list[tuple[float, int]] = []  # signals to come
        self.back: str | None = None  # the state in which it is requeued, if brequeue asked

    def serve(self) -> None:
        self.to(self.job["stat"], daemon=os.getpid())
        while self.job["stat"] not in ("DONE", "EXIT"):
            for order in self.store.take_orders(self.job_id):
                if order == "abandon":
                    self.signal(signal.SIGKILL)
                    self.to("EXIT", exit_code=137)
                    return
                self.obey(*order.split())
            self.step()
            time.sleep(_TICK)

    def to(self, stat: str, **more: object) -> None:
        """A new state."""
        now = time.monotonic()
        if self.job["stat"] == "RUN":
            self.ran += now - self.since
        self.since = now
        self.job |= {"stat": stat, "ran": self.ran, "since": time.time(), **more}
        self.store.change(self.job_id, **{name: self.job[name] for name in ("stat", "ran", "since", *more)})

    def step(self) -> None:
        if self.job["stat"] == "PEND":
            if time.monotonic() - self.since >= self.store.setting("DISPATCH") and fits(
                self.store, self.job["res_req"]
            ):
                self.dispatch()
        elif self.process is not None and self.process.poll() is not None:
            self.over(self.process.returncode)
        elif self.process is not None:
            self.limits()
            while self.due and time.monotonic() >= self.due[0][0]:
                self.signal(self.due.pop(0)[1])

    # -- running ---------------------------------------------------------------------------------------------------

    def dispatch(self) -> None:
        file = self.store.jobs / f"{self.job_id}.sh"
        file.write_text(_FILE.format(command=self.job["command"]))
        environment = {name: value for name, value in self.job["env"].items() if name not in _NOT_HANDED_ON}
        environment |= {
            "LSB_JOBID": str(self.job_id),
            "LSB_JOBINDEX": "0",
            "LSB_JOBNAME": self.job["name"],
            "LSB_QUEUE": self.job["queue"],
            "LSB_HOSTS": " ".join([self.store.setting("HOST")] * self.job["n"]),
            "LSB_JOBFILENAME": str(file),
            "LSB_EXIT_REQUEUE": " ".join(str(value) for value in self.job["requeue"]),
        }
        cwd = self.job["cwd"] if os.access(self.job["cwd"], os.X_OK) else "/tmp"  # page "bsub -cwd"
        self.output = self.store.jobs / f"{self.job_id}.out"
        self.ran, self.warned, self.limited, self.due, self.back = 0.0, False, False, [], None
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(
                ["/bin/sh", str(file)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env=environment, cwd=cwd, start_new_session=True,
            )  # fmt: skip
        self.to("RUN", pid=self.process.pid)

    def limits(self) -> None:
        """The run limit counts the time in RUN (page "Runtime limit")."""
        minute = self.store.setting("MINUTE")
        ran = self.ran + (time.monotonic() - self.since if self.job["stat"] == "RUN" else 0.0)
        limit = self.job["limit"]
        if limit is None:
            return
        if self.job["warn"] and not self.warned and ran >= (limit - self.job["warn"][1]) * minute:
            self.warned = True
            self.signal(_number(self.job["warn"][0]))
        if not self.limited and ran >= limit * minute:
            self.limited = True
            self.signal(signal.SIGUSR2)
            self.terminate(self.store.setting("AFTER_USR2") * minute)

    def over(self, status: int) -> None:
        code = 128 - status if status < 0 else status
        self.process = None
        if self.back is not None or code in self.job["requeue"]:
            # The output is not saved (page "REQUEUE_EXIT_VALUES").
            self.to(self.back or "PEND", pid=None)
            return
        with suppress(OSError), open(self.job["out"], "ab") as out:
            out.write(f"Sender: LSF System <lsfadmin>\nSubject: Job {self.job_id}: <{self.job['name']}>\n\n".encode())
            out.write(self.output.read_bytes())
        self.to("EXIT" if code else "DONE", exit_code=code, pid=None)

    # -- orders ----------------------------------------------------------------------------------------------------

    def obey(self, verb: str, *words: str) -> None:
        started = self.process is not None
        if verb == "kill" and not started:
            self.to("EXIT", exit_code=130)
        elif verb == "kill":
            self.terminate(0.0)
        elif verb == "requeue" and started:
            self.back = words[0]
            self.terminate(0.0)
        elif verb == "signal" and started:
            self.signal(_number(words[0]))
        elif verb == "stop" and not started:
            self.to("PSUSP")
        elif verb == "stop" and self.job["stat"] == "RUN":
            usual = "TSTP" if self.job["n"] > 1 else "STOP"
            self.to("USUSP")
            self.signal(_number(self.store.setting("LSB_SIGSTOP") or usual))
        elif verb == "resume" and self.job["stat"] == "PSUSP":
            self.to("PEND")
        elif verb == "resume" and self.job["stat"] == "USUSP":
            self.signal(signal.SIGCONT)
            self.to("RUN")

    def terminate(self, after: float) -> None:
        """INT, TERM and KILL, one after another (page "bkill")."""
        begin, pause = time.monotonic() + after, self.store.setting("JOB_TERMINATE_INTERVAL")
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
        self.due = [(begin + place * pause, number) for place, number in enumerate(numbers)]

    def signal(self, number: int) -> None:
        """To the job's first process, and to all process groups of what it started (OpenLava: mykillpg)."""
        if self.process is None or self.process.poll() is not None:
            return
        groups = _groups(self.process.pid)
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, number)
        for group in groups:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)


def _number(name: str) -> int:
    return int(name) if name.isdecimal() else int(signal.Signals[f"SIG{name.removeprefix('SIG')}"])


def _groups(root: int) -> set[int]:
    """The process groups of a process and all below it."""
    parents: dict[int, list[tuple[int, int]]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            words = path.read_text().rpartition(")")[2].split()
            parents.setdefault(int(words[1]), []).append((int(path.parent.name), int(words[2])))
    found, ahead = {root}, [root]
    while ahead:
        for pid, group in parents.get(ahead.pop(), []):
            found.add(group)
            ahead.append(pid)
    return found


def start(store: Store, job_id: int) -> None:
    """Start the daemon of a job; it outlives the client."""
    tests = Path(__file__).resolve().parents[2]
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from helpers.fake_lsf.sbatchd import Sbatchd, Store; "
        "from pathlib import Path; Sbatchd(Store(Path(sys.argv[2])), int(sys.argv[3])).serve()"
    )
    argv = [sys.executable, "-S", "-c", code, str(tests), str(store.folder), str(job_id)]
    with open(store.folder / "sbatchd.log", "ab") as log:
        log.write(f"{shlex.join(argv[3:])}\n".encode())
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/")
