"""What the kernel says of processes (Linux ``/proc``), read without a library so that a segment starts fast.

psutil is not used here: it computes a start time from the boot time, which moves when the clock is set;
the ticks of ``/proc/PID/stat`` together with the boot id name one process for ever (proc_pid_stat(5)).
"""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_NUMBERS = re.compile(r"^NSpid:\s+(.*)$", re.MULTILINE)
_TRACED = re.compile(r"^State:\s+(?P<state>.).*^TracerPid:\s+(?P<tracer>\d+)$", re.MULTILINE | re.DOTALL)
_RESIDENT = re.compile(r"^Rss(?:Anon|Shmem):\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True)
class ProcessId:
    """One process, told apart from every other one that had or will have its number.

    Attributes
    ----------
    host, boot
        Host name and boot id of the kernel it runs under.
    pid, start
        Its number, and its start in clock ticks after the boot.
    """

    host: str
    boot: str
    pid: int
    start: int

    def alive(self) -> bool:
        """Whether it still runs; meaningful on its own host only (a zombie does not run)."""
        if self.boot != boot_id():
            return False
        stat = read_stat(self.pid)
        return stat is not None and stat.start == self.start and stat.state not in "ZX"


@dataclass(frozen=True)
class Stat:
    """The fields of ``/proc/PID/stat`` that are used here."""

    pid: int
    name: str
    state: str
    parent: int
    start: int


def text_of(path: Path) -> str:
    """What the kernel says there; names in it may be of any bytes, and comm(2) is cut in the midst of a letter.

    Raises
    ------
    OSError
        It cannot be read; the process may be gone.
    """
    return os.fsdecode(path.read_bytes())


def host_name() -> str:
    """The node's name as the kernel has it."""
    return os.uname().nodename


def boot_id() -> str:
    """The kernel's random id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> ProcessId | None:
    """The identity of a process of this host, or None when there is none of that number."""
    stat = read_stat(pid)
    return None if stat is None else ProcessId(host_name(), boot_id(), pid, stat.start)


def read_stat(pid: int) -> Stat | None:
    """``/proc/PID/stat``, or None when the process is gone."""
    try:
        text = text_of(Path(f"/proc/{pid}/stat"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in parentheses and may itself hold spaces and parentheses.
    left, _, right = text.rpartition(")")
    fields = right.split()
    return Stat(pid, left.partition("(")[2], fields[0], int(fields[1]), int(fields[19]))


def children(pid: int) -> list[int]:
    """The children of a process, of all its threads."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def descendants(pid: int) -> list[int]:
    """All processes below one, parents before their children."""
    found, ahead = [], [pid]
    while ahead:
        below = children(ahead.pop())
        found += below
        ahead += below
    return found


def end_below(pid: int) -> None:
    """End all processes below one; stopped first, so that none starts another one meanwhile."""
    stopped: set[int] = set()
    while new := set(descendants(pid)) - stopped:
        _send(new, signal.SIGSTOP)
        stopped |= new
    _send(stopped, signal.SIGKILL)


def _send(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def held(pids: list[int]) -> bool:
    """Whether a tracer holds every thread of these processes (proc_pid_status(5), TracerPid).

    A tracer that dies lets all its threads go in the same moment (ptrace(2)), so who is held now stood still since he
    was stopped. Zombies are nobody's to hold, but say nothing alone.
    """
    try:
        threads = [_traced(thread) for pid in pids for thread in sorted(Path(f"/proc/{pid}/task").iterdir())]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return True in threads and False not in threads


def _traced(thread: Path) -> bool | None:
    """Whether a thread has a tracer; None for a zombie."""
    found = _TRACED.search(text_of(thread / "status"))
    assert found is not None
    return None if found["state"] in "ZX" else int(found["tracer"]) != 0


def number_inside(pid: int) -> int | None:
    """The number of a process in its own, innermost pid namespace (proc_pid_status(5), NSpid)."""
    try:
        found = _NUMBERS.search(text_of(Path(f"/proc/{pid}/status")))
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(found[1].split()[-1]) if found else pid


def resident_bytes(pids: list[int]) -> int:
    """Memory of these processes that an image would carry, in bytes: anonymous and shared, not that of files."""
    return sum(_resident_kib(pid) for pid in pids) * 1024


def _resident_kib(pid: int) -> int:
    try:
        status = text_of(Path(f"/proc/{pid}/status"))
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(kib) for kib in _RESIDENT.findall(status))


def command_line(pid: int) -> str:
    """The command of a process for a message, cut to a readable length."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return "?"
    text = b" ".join(words).decode(errors="replace").strip()
    return text if len(text) <= 60 else text[:57] + "..."
