"""What in a tree makes a save fail, found in /proc before the save, and named for the user.

The table of what stock CRIU can and cannot save was measured (docs/further.md, What cannot be saved).
CRIU's own refusal stays the last word; this is to say it early, and in words that name a way out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.engines.world.namespaces import Way

_DESCRIPTORS = {
    "anon_inode:[io_uring]": "uses io_uring; switch it off in the program (node: UV_USE_IO_URING=0)",
    "anon_inode:[perf_event]": "has a perf event open; do not profile a job that is to be saved",
    "anon_inode:[fanotify]": "watches files (fanotify); run it outside the job",
    "anon_inode:[userfaultfd]": "uses userfaultfd; no way out is known",
    "/dev/nvidia": "has a GPU open; GPU memory is not saved. Use the program's own checkpoints",
}
#: Mapped by criu into a tree that it saves, and left there by one that was killed: nobody uses it any more.
_LEFT = "/memfd:CRIUMFD"
#: criu saves it of a whole IPC namespace only, and jobs share that of their node.
_SYSV, _NO_SYSV = "/SYSV", "uses System V shared memory; switch it off in the program"
_NAMESPACES = ("user", "pid", "mnt", "net", "ipc", "uts")
_ESTABLISHED = "01"
_MAP = re.compile(r"^\S+ \S{3}(\S) \S+ \S+ \d+ +(.*)$", re.MULTILINE)


def find(pids: list[int], way: Way, tcp_close: bool = False) -> list[str]:
    """A line for each thing that cannot be saved, with its process and the way out."""
    found: dict[str, list[int]] = {}
    sockets = set() if tcp_close or not pids else _established(pids[0])
    for pid in pids:
        with suppress(OSError):  # it ended meanwhile, or is not ours to read: CRIU will say
            for what in _of_process(pid, pids[0], way, sockets):
                found.setdefault(what, []).append(pid)
    return [f"{_who(who)} {what}" for what, who in found.items()]


def silently_wrong(pids: list[int], way: Way) -> list[str]:
    """What CRIU would save without complaint and restore wrongly; to be asked while the tree stands still.

    Stock CRIU without map_files takes a shared mapping of a memfd for private memory: after the restore what is
    written through the descriptor, or by another process, no longer shows in the mapping (seen).
    """
    found = []
    for pid in pids if way == "rootless" else []:
        with suppress(OSError):
            shared = {path for kind, path in _maps(pid) if kind == "s" and _is_memfd(path)}
            found += [f"{_who([pid])} {_memfd(path)}" for path in sorted(shared)]
    return found


def _is_memfd(path: str) -> bool:
    return path.startswith("/memfd:") and not path.startswith(_LEFT)


def _memfd(path: str) -> str:
    return f"shares memory through {path.split(' ')[0]}; have an admin give criu capabilities (`ckpt doctor`)"


def _maps(pid: int) -> list[tuple[str, str]]:
    """Of each mapping: ``s`` (shared) or ``p``, and the path."""
    return _MAP.findall(proc.text_of(Path(f"/proc/{pid}/maps")))


def _who(pids: list[int]) -> str:
    others = f" and {len(pids) - 1} more" if len(pids) > 1 else ""
    return f"process {pids[0]} ({proc.command_line(pids[0])}){others}"


def _of_process(pid: int, first: int, way: Way, sockets: set[str]) -> Iterator[str]:
    yield from _of_status(pid, way)
    for name in _NAMESPACES:
        if os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/{first}/ns/{name}"):
            yield f"lives in a {name} namespace of its own (a container inside the job); start snakemake in it instead"
            return
    opened = set(_links(Path(f"/proc/{pid}/fd")))
    for link in sorted(opened):
        yield from (what for start, what in _DESCRIPTORS.items() if link.startswith(start))
        if link in sockets:
            yield (
                "has an established TCP connection; let it close it before the save, or give "
                "--ckpt-tcp close if the program reconnects by itself"
            )
    if way == "rootless":
        if "anon_inode:inotify" in opened and _watches(pid):
            yield "watches files (inotify), as tail -f does; use tail without -f, or poll"
        yield from _of_maps(_maps(pid))
    elif any(path.startswith(_SYSV) for _, path in _maps(pid)):
        yield _NO_SYSV


def _of_status(pid: int, way: Way) -> Iterator[str]:
    lines = proc.text_of(Path(f"/proc/{pid}/status")).split("\n")
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    if status.get("TracerPid", "0") != "0":
        yield f"is traced by process {status['TracerPid']} (a debugger or strace); end the tracer"
    if status.get("Seccomp", "0") == "2" and way != "root":
        yield "runs under a seccomp filter; start it without its sandbox"


def _of_maps(maps: list[tuple[str, str]]) -> Iterator[str]:
    said = set()
    for shared, path in maps:
        what = ""
        if path.startswith(_SYSV):
            what = _NO_SYSV
        elif path.startswith("/[aio]"):
            what = "uses Linux native asynchronous I/O; switch it off in the program"
        elif shared == "s" and _is_memfd(path):
            what = _memfd(path)
        elif path.endswith(" (deleted)") and not path.startswith(("/dev/zero", "/memfd:")):
            # The kernel shows such a mapping's file only to CAP_CHECKPOINT_RESTORE (proc_pid_map_files(5)).
            what = (
                f"maps deleted files like {_family(path)} (multiprocessing's locks do this); use threads or processes "
                "without shared locks, or have an admin give criu capabilities (`ckpt doctor`)"
            )
        if what and what not in said:
            said.add(what)
            yield what


def _family(path: str) -> str:
    """A deleted file's path without the random end, so that six locks are said once."""
    name = path.removesuffix(" (deleted)")
    return re.sub(r"(/sem\.|/pym-).*", r"\1...", name)


def _watches(pid: int) -> bool:
    """Whether an inotify descriptor of a process has a watch; one without is saved all the same."""
    infos = Path(f"/proc/{pid}/fdinfo")
    return any("inotify wd:" in _text(infos / name) for name in os.listdir(infos))


def _text(path: Path) -> str:
    try:
        return proc.text_of(path)
    except OSError:
        return ""


def _links(folder: Path) -> Iterator[str]:
    for name in os.listdir(folder):
        with suppress(OSError):
            yield os.readlink(folder / name)


def _established(pid: int) -> set[str]:
    """Links (``socket:[inode]``) of the established TCP connections in a process's network namespace."""
    found = set()
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _ESTABLISHED:
                    found.add(f"socket:[{fields[9]}]")
    return found
