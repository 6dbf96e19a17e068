"""What the kernel says of processes (Linux ``/proc``), read without a library so that a segment starts fast.

psutil is not used here: it computes a start time from the boot time, which moves when the clock is set;
the ticks of ``/proc/PID/stat`` together with the boot id name one process for ever (proc_pid_stat(5)).
"""

from __future__ import annotations

import os
import re
import signal
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_NUMBERS = re.compile(r"^NSpid:\s+(.*)$", re.MULTILINE)
_TRACED = re.compile(r"^State:\s+(?P<state>.).*^TracerPid:\s+(?P<tracer>\d+)$", re.MULTILINE | re.DOTALL)
_MEMORY = re.compile(r"^(RssAnon|RssShmem|VmSwap):\s+(\d+) kB$", re.MULTILINE)
_DELETED = " (deleted)"
#: A mapping of what has no name (any more): ends of the addresses, offset, device and inode; proc_pid_maps(5).
_NAMELESS = re.compile(r"^(\w+)-(\w+) \S+ (\w+) (\w+):(\w+) (\d+) +/.* \(deleted\)$", re.MULTILINE)


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
        tracers = {tracer for pid in pids for tracer in _tracers(pid)} - {None}
    except (FileNotFoundError, ProcessLookupError):
        return False
    return bool(tracers) and 0 not in tracers


def held_from_outside(pids: list[int]) -> bool:
    """Whether a tracer that is none of these processes holds a thread of theirs."""
    found: set[int | None] = set()
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            found |= _tracers(pid)
    return bool(found - {0, None, *pids})


def _tracers(pid: int) -> set[int | None]:
    """The tracers of a process's threads: 0 for one that has none, None for a zombie."""
    return {_tracer(thread) for thread in sorted(Path(f"/proc/{pid}/task").iterdir())}


def _tracer(thread: Path) -> int | None:
    found = _TRACED.search(text_of(thread / "status"))
    assert found is not None
    return None if found["state"] in "ZX" else int(found["tracer"])


def number_inside(pid: int) -> int | None:
    """The number of a process in its own, innermost pid namespace (proc_pid_status(5), NSpid)."""
    try:
        found = _NUMBERS.search(text_of(Path(f"/proc/{pid}/status")))
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(found[1].split()[-1]) if found else pid


def resident_bytes(pids: list[int], shm: Path | None = None) -> int:
    """Bytes of these processes that an image would carry: an estimate that reads no page and walks no folder.

    That is the private memory of each, swapped or not; what has no name and is shared memory or an open file, once,
    however many have it; and a whole /dev/shm. Not the pages of files with names, which are opened again.

    Parameters
    ----------
    pids
        The processes; one that ends meanwhile counts for nothing.
    shm
        Where a /dev/shm is seen that is theirs alone, if it is.
    """
    private = shared = 0
    mapped: dict[tuple[int, int], int] = {}
    opened: dict[tuple[int, int], int] = {}
    for pid in pids:
        with suppress(OSError):
            memory = dict(_MEMORY.findall(text_of(Path(f"/proc/{pid}/status"))))
            private += 1024 * (int(memory.get("RssAnon", 0)) + int(memory.get("VmSwap", 0)))
            opened |= _nameless_opened(pid)
            if part := 1024 * int(memory.get("RssShmem", 0)):
                for file, end in _nameless_mapped(pid).items():
                    mapped[file] = max(end, mapped.get(file, 0))
                shared += part
    device, used = _used(shm)
    # What of it is shared shows in the memory of each, and what the mapped files are large may not all be in use: there
    # is no more of it than the smaller of the two. What is counted as open, or with /dev/shm, is not counted again.
    at_most = sum(end for file, end in mapped.items() if file not in opened and file[0] != device)
    return private + used + min(shared, at_most) + sum(size for file, size in opened.items() if file[0] != device)


def _nameless_mapped(pid: int) -> dict[tuple[int, int], int]:
    """Of each file without a name that a process has mapped, by device and inode: the end of what is mapped (bytes)."""
    found: dict[tuple[int, int], int] = {}
    for begin, end, offset, major, minor, inode in _NAMELESS.findall(text_of(Path(f"/proc/{pid}/maps"))):
        file = os.makedev(int(major, 16), int(minor, 16)), int(inode)
        found[file] = max(int(offset, 16) + int(end, 16) - int(begin, 16), found.get(file, 0))
    return found


def _nameless_opened(pid: int) -> dict[tuple[int, int], int]:
    """Of each file without a name that a process has open, by device and inode: the bytes in it, holes left out."""
    found: dict[tuple[int, int], int] = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):  # closed meanwhile
            link = f"/proc/{pid}/fd/{name}"
            if os.readlink(link).endswith(_DELETED):
                info = os.stat(link)
                if stat.S_ISREG(info.st_mode) and info.st_nlink == 0:  # else criu finds it under another name
                    found[info.st_dev, info.st_ino] = info.st_blocks * 512
    return found


def _used(shm: Path | None) -> tuple[int | None, int]:
    """The device of a /dev/shm, and the bytes that are used in it, swapped or not."""
    if shm is not None:
        with suppress(OSError):  # it goes with the processes
            found = os.statvfs(shm)
            return os.stat(shm).st_dev, (found.f_blocks - found.f_bfree) * found.f_frsize
    return None, 0


def command_line(pid: int) -> str:
    """The command of a process for a message, cut to a readable length."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return "?"
    text = b" ".join(words).decode(errors="replace").strip()
    return text if len(text) <= 60 else text[:57] + "..."
