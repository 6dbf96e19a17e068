"""CRIU's command lines and what it says: pure functions of text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

#: 4.1 fails on newer kernels as soon as a TCP socket exists (SO_PASSCRED on inet sockets); seen on 6.18.
OLDEST = (4, 2)

_COMMON = [
    "-v2",
    "--manage-cgroups=ignore",  # the batch system owns the cgroups
    "--file-locks",
    "--link-remap",
    "--ghost-limit=1G",  # unlinked files travel in the image up to this size
    "--cpu-cap=ins",  # refuse a node whose CPU lacks instructions that the program may have chosen
]


@dataclass(frozen=True)
class Criu:
    """A criu program and how it is to be run."""

    binary: str
    tcp_close: bool = False

    def _argv(self, verb: str, folder: Path, work: Path) -> list[str]:
        return [
            self.binary,
            verb,
            *_COMMON,
            # Connections come back closed and the program sees a reset: only for programs that reconnect.
            *(["--tcp-close"] if self.tcp_close else []),
            # Also for root: it keeps criu from touching what a batch job must leave alone, and the clocks
            # are then ours to set in every way alike.
            "--unprivileged",
            f"--images-dir={folder}",
            # Logs and statistics go elsewhere: criu still writes them when the image is sealed already.
            f"--work-dir={work}",
            "--log-file=criu.log",
        ]

    def dump(self, pid: int, folder: Path, work: Path, script: Path, stop: bool) -> list[str]:
        """Save the tree of a process; `script` is called at each stage with CRTOOLS_SCRIPT_ACTION set."""
        stay = [] if stop else ["--leave-running"]
        return [*self._argv("dump", folder, work), f"--tree={pid}", f"--action-script={script}", *stay]

    def restore(self, folder: Path, work: Path, pidfile: Path) -> list[str]:
        """Bring a tree back, detached, its root's number written to `pidfile`.

        Detached, because a foreground ``criu restore`` returns 0 whatever the payload's status was.
        """
        return [*self._argv("restore", folder, work), "--restore-detached", f"--pidfile={pidfile}"]


def parse_version(text: str) -> tuple[int, ...]:
    """The version in the output of ``criu --version``; empty when there is none."""
    found = re.search(r"Version:\s*([\d.]+)", text)
    return tuple(int(part) for part in found[1].split(".") if part) if found else ()


def highest_pid(names: list[str]) -> int:
    """The highest process number among an image's ``core-PID.img`` files; 0 when there is none."""
    found = (re.fullmatch(r"core-(\d+)\.img", name) for name in names)
    return max((int(match[1]) for match in found if match), default=0)


#: What CRIU says of things it cannot save, and what a user can do about it.
_REASONS: list[tuple[str, str]] = [
    (r"anon_inode:\[io_uring\]|io_uring", "io_uring: switch it off in the program (node: UV_USE_IO_URING=0)"),
    (
        r"deleted.*sem\.|/dev/shm/(sem\.|pym-).*\(deleted\)|Can't (?:open|stat) map_files|map_files",
        "a mapping of a deleted file (Python's multiprocessing locks do this): use threads or processes without "
        "shared locks, or have an admin give criu capabilities (`ckpt doctor`; --ckpt-criu-way capabilities)",
    ),
    (
        r"Connected TCP socket",
        "an established TCP connection: let the program close it, or give --ckpt-tcp close if it reconnects by itself",
    ),
    (r"half of stream unix connection", "a unix socket to a process outside the job (nscd, dbus, an agent)"),
    (
        r"Can't dump nested (user|pid|uts|ipc|net|mnt|time)",
        "a container inside the job: run snakemake inside it instead",
    ),
    (r"seccomp", "a seccomp filter: needs criu as root"),
    (r"SysVIPC", "System V shared memory: switch it off in the program"),
    (r"anon_inode:\[perf_event\]|perf_event", "a perf event: do not profile a job that is to be saved"),
    (
        r"ptraced|seized|Unable to interrupt task.*\(Operation not permitted\)",
        "a debugger or tracer on the job",
    ),
    (r"inotify|fanotify|irmap|Can't find suitable path", "a file watch (inotify), such as tail -f"),
    (r"aio ring|AIO", "Linux native asynchronous I/O"),
    (
        r"Ghost file size|ghost file .*too big|Can't dump ghost file",
        "an unlinked open file larger than 1 GiB",
    ),
]


@dataclass(frozen=True)
class Failure:
    """Why criu failed: its own last error lines, and the known reasons found in them."""

    lines: list[str]
    reasons: list[str]


def parse_failure(log: str) -> Failure:
    """Read a criu log of a dump or restore that failed."""
    errors = [line.partition("Error ")[2].partition("): ")[2] for line in log.splitlines() if "Error (" in line]
    errors = [line for line in errors if line and not _HARMLESS.search(line)]
    reasons = [text for pattern, text in _REASONS if any(re.search(pattern, line) for line in errors)]
    return Failure(errors[-4:], reasons)


#: Said at every rootless run, and without meaning (measured).
_HARMLESS = re.compile(r"net: Unexpected error|RLIMIT_NOFILE|Dumping FAILED|Restoring FAILED|kerndat")
