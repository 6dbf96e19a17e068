"""The processes of a trial, told apart by their role, and killed by number and start only."""

from __future__ import annotations

import ctypes
import os
import re
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from snakemake_executor_plugin_ckpt import proc

Role = Literal["head", "keeper", "supervisor", "init", "criu", "payload", "other"]

_PR_SET_CHILD_SUBREAPER = 36
#: The first number of a payload's process in its own namespace; what is below is init's and criu's.
_FIRST_PID = 1000
_NUMBERS = re.compile(r"^NSpid:\s+(.*)$", re.MULTILINE)
_WORDS: list[tuple[bytes, Role]] = [
    (b"faults.head", "head"),
    (b"local_keeper", "keeper"),
    (b"snakemake_executor_plugin_ckpt.segment", "supervisor"),
]


@dataclass(frozen=True)
class Member:
    """One process of the trial; `world` is the init of the private world that it is in, None outside of all."""

    pid: int
    start: int
    role: Role
    world: int | None


def adopt_orphans() -> None:
    """Have everything that the caller starts stay below it, whoever dies in between (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def members() -> list[Member]:
    """All processes below this one that run."""
    found: list[Member] = []
    ahead: list[tuple[int, int | None]] = [(pid, None) for pid in proc.children(os.getpid())]
    while ahead:
        pid, world = ahead.pop()
        with suppress(OSError):  # it is gone by now
            stat = proc.read_stat(pid)
            if stat is not None:
                member = _member(stat, world)
                ahead += [(child, member.world) for child in proc.children(pid)]
                if stat.state not in "ZX":
                    found.append(member)
    return found


def _member(stat: proc.Stat, world: int | None) -> Member:
    numbers = _NUMBERS.search(Path(f"/proc/{stat.pid}/status").read_text())
    inside = [int(word) for word in numbers[1].split()[1:]] if numbers else []
    if not inside:
        return Member(stat.pid, stat.start, _role(stat.pid), None)
    if inside[-1] == 1:
        return Member(stat.pid, stat.start, "init", stat.pid)
    # criu's own children are restored processes in the making: to kill one is to kill the payload's.
    if stat.name == "criu" and stat.parent == world:
        return Member(stat.pid, stat.start, "criu", world)
    return Member(stat.pid, stat.start, "payload" if inside[-1] >= _FIRST_PID else "other", world)


def _role(pid: int) -> Role:
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    return next((role for word, role in _WORDS if word in command), "other")


def worlds(found: list[Member]) -> set[int]:
    """The private worlds in which a payload lives, by their init."""
    return {member.world for member in found if member.role == "payload" and member.world is not None}


def kill(member: Member, number: int = signal.SIGKILL) -> bool:
    """Send a signal to this very process; whether it was there."""
    stat = proc.read_stat(member.pid)
    if stat is None or stat.start != member.start or stat.state in "ZX":
        return False
    with suppress(ProcessLookupError):
        os.kill(member.pid, number)
        return True
    return False


def bury(spared: int | None) -> None:
    """Take leave of orphans that ended; not of the child that somebody else waits for."""
    for pid in proc.children(os.getpid()):
        if pid != spared:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def end_all() -> None:
    """End everything below this process."""
    while left := members():
        for member in left:
            kill(member)
        bury(None)
