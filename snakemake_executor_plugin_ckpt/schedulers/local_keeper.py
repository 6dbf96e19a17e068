"""What keeps one batch job of the local scheduler: runs its segments one after the other, each under the walltime.

It is to a segment what a batch system's node daemon is: SIGTERM at the walltime, SIGKILL after the grace, and
the next segment when the exit status asks for it. SIGTERM to the keeper cancels the job.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from snakemake_executor_plugin_ckpt import faults, proc
from snakemake_executor_plugin_ckpt.schedulers.base import FAILED, REQUEUE
from snakemake_executor_plugin_ckpt.schedulers.local import END_VARIABLE, JOB_VARIABLE
from snakemake_executor_plugin_ckpt.state import durable

_PR_SET_PDEATHSIG = 1
#: A script that asks to be requeued at once, again and again, must not use up the machine.
_SHORTEST = 0.5
#: Seconds that the state directory, and with it the script, may be gone between two segments.
_ABSENCE = 300.0
#: Exit statuses of a shell for a script that cannot be run or is not there.
_NO_SCRIPT = (126, 127)
_AWAITED = {signal.SIGCHLD, signal.SIGTERM}


def main(arguments: list[str]) -> int:
    """Keep a job: ``RECORD SCRIPT WALLTIME GRACE`` (s; an empty walltime is none); the last segment's status."""
    record, script = Path(arguments[0]), arguments[1]
    walltime, grace = (float(text) if text else None for text in arguments[2:4])
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    me = proc.identify(os.getpid())
    assert me is not None
    if not durable.create(record, durable.to_yaml(asdict(me))):
        print(f"ckpt: {record} has another keeper", file=sys.stderr)
        return 1
    while True:
        began = time.monotonic()
        faults.point("keeper.segment-begin")
        status, cancelled = _segment(record.stem, script, walltime, grace or 0.0)
        faults.point("keeper.segment-over")
        vanished = status in _NO_SCRIPT and not os.path.exists(script)  # in the moment of its start
        if cancelled or (status != REQUEUE and not vanished):
            return status if status >= 0 else 128 - status
        time.sleep(max(0.0, _SHORTEST - (time.monotonic() - began)))
        if _cancelled_while_absent(script):
            return FAILED


def _cancelled_while_absent(script: str) -> bool:
    """Wait for a script that is gone, with the disk that it is on; whether the job was cancelled meanwhile."""
    until = time.monotonic() + _ABSENCE
    while not os.path.exists(script) and time.monotonic() < until:
        got = signal.sigtimedwait(_AWAITED, 1.0)
        if got is not None and got.si_signo == signal.SIGTERM:
            return True
    return False


def _segment(name: str, script: str, walltime: float | None, grace: float) -> tuple[int, bool]:
    """Run one segment; its exit status, and whether the job was cancelled meanwhile."""
    end = None if walltime is None else time.monotonic() + walltime
    pid = _start(script, {JOB_VARIABLE: name, END_VARIABLE: "" if end is None else repr(end)})
    status, cancelled = _wait(pid, walltime)
    if status is None:
        os.kill(pid, signal.SIGTERM)
        status, again = _wait(pid, grace)
        cancelled = cancelled or again
    if status is None:
        os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status, cancelled


def _wait(pid: int, limit: float | None) -> tuple[int | None, bool]:
    """Wait for a child's end; None when the limit (s) passes or a cancel comes first."""
    until = None if limit is None else time.monotonic() + limit
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), False
        left = 3600.0 if until is None else until - time.monotonic()
        if left <= 0:
            return None, False
        got = signal.sigtimedwait(_AWAITED, left)
        if got is not None and got.si_signo == signal.SIGTERM:
            return None, True


def _start(script: str, environment: dict[str, str]) -> int:
    keeper = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become(script, environment, keeper)
    return pid


def _become(script: str, environment: dict[str, str], keeper: int) -> NoReturn:
    with suppress(OSError):
        # As with a batch system: the job does not outlive who answers for it.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != keeper:  # it died before the kernel knew that this one must not outlive it
            os._exit(127)
        os.setsid()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.execve(script, [script], {**os.environ, **environment})
    os._exit(127)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
