"""Which files are watched: the declared ones, patterns, and what the tree has open."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from snakemake_executor_plugin_ckpt import proc

_NOT_OURS = ("/proc/", "/sys/", "/dev/")
#: What an NFS client makes of an open file that was removed; it goes by itself (nfs(5), "silly rename").
_SILLY = ".nfs"

_SHADOW = re.compile(r"/.*/\.snakemake/shadow/[^/]+")

#: A shared mapping of a file that may be written; the descriptor may be closed already.
_MAPPED = re.compile(r"^\S+ .w.s \S+ \S+ \d+ +(/.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Watch:
    """What of a job is watched besides what its tree has open.

    Attributes
    ----------
    paths
        Absolute paths of declared outputs, logs and benchmark files, and of temporary folders; a folder stands for
        all that is in it.
    patterns
        Absolute glob patterns of other files and folders that the job alone writes.
    """

    paths: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()

    def expand(self) -> Iterator[str]:
        """All paths, links on the way to them resolved; those that are not there too, if they were named."""
        for path in {*self.paths, *matches(self.patterns)}:
            real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
            yield from _all_of(real)
            yield from beside(real)


def beside(path: str) -> Iterator[str]:
    """What SQLite has beside a data base while it works (sqlite.org, "Temporary Files Used By SQLite").

    One that a crash left is taken for unfinished work by the next who opens the data base, and played back into it.
    """
    for ending in ("-journal", "-wal", "-shm"):
        yield path + ending


def matches(patterns: Iterable[str]) -> Iterator[str]:
    """What is there that a pattern stands for; ``**`` stands for any folders."""
    for pattern in patterns:
        for path in glob.iglob(pattern, recursive=True):
            yield path.rstrip("/")


def _all_of(path: str) -> Iterator[str]:
    yield path
    if os.path.islink(path):
        real = os.path.realpath(path)
        if not os.path.islink(real):  # it would be, if it leads in a circle
            yield from _all_of(real)
    elif os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK):
        for name in _names_if_there(path):
            inner = os.path.join(path, name)
            if os.path.islink(inner) or not os.path.isdir(inner):
                yield inner
            else:
                yield from _all_of(inner)


def _names_if_there(folder: str) -> list[str]:
    with suppress(FileNotFoundError):  # removed since it was looked at
        return names_in(folder)
    return []


def names_in(folder: str) -> list[str]:
    """What is in a folder, in order.

    Raises
    ------
    OSError
        It cannot be read, which does not mean that it is empty.
    """
    return sorted(name for name in os.listdir(folder) if not name.startswith(_SILLY))


@dataclass
class Openers:
    """How the tree has a file open.

    Attributes
    ----------
    written
        Whether any of it is for writing.
    in_place
        Whether it can be written elsewhere than at its end: also by who just stands there, since he may go back.
    mapped
        Whether it is mapped for writing.
    positions
        Of descriptors that write without O_APPEND.
    """

    written: bool = False
    in_place: bool = False
    mapped: bool = False
    positions: list[int] = field(default_factory=list)

    def appends(self, size: int) -> bool:
        """Whether, by all signs, it only grows: every writer stands at its end."""
        return not self.in_place and not self.mapped and all(position == size for position in self.positions)


def opened(pids: Iterable[int]) -> dict[str, Openers]:
    """Every file and fifo that a tree has open, by its path; to be asked while the tree stands still."""
    found: dict[str, Openers] = {}
    for pid in pids:
        with suppress(OSError):
            for number in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    _add_descriptor(found, pid, number)
            for path in set(_MAPPED.findall(proc.text_of(Path(f"/proc/{pid}/maps")))):
                if _is_ours(path) and os.path.isfile(path):
                    opener = found.setdefault(path, Openers())
                    opener.written = opener.mapped = True
    return found


def shadows(pids: Iterable[int]) -> Iterator[str]:
    """The private working directories that Snakemake made for the processes of a tree (its rules' ``shadow``)."""
    found = set()
    for pid in pids:
        with suppress(OSError):
            if inside := _SHADOW.match(os.readlink(f"/proc/{pid}/cwd")):
                found.add(inside[0])
    for folder in found:
        yield from _all_of(folder)


def _add_descriptor(found: dict[str, Openers], pid: int, number: str) -> None:
    path = os.readlink(f"/proc/{pid}/fd/{number}")
    if not _is_ours(path):
        return
    mode = os.stat(path).st_mode
    if stat.S_ISFIFO(mode):
        # criu opens it by its name; Snakemake removes one that it made between two jobs when they fail.
        found.setdefault(path, Openers())
    if not stat.S_ISREG(mode):
        return
    flags, position = _info(Path(f"/proc/{pid}/fdinfo/{number}").read_text())
    opener = found.setdefault(path, Openers())
    if flags & os.O_ACCMODE == os.O_RDONLY:
        return
    opener.written = True
    # Who also reads may go back and write anew (HDF5, SQLite, zip), wherever the position is just now.
    if flags & os.O_ACCMODE == os.O_RDWR and not flags & os.O_APPEND:
        opener.in_place = True
    elif not flags & os.O_APPEND:
        opener.positions.append(position)


def _is_ours(path: str) -> bool:
    # An unlinked file has no path, travels in the image, and nobody else can change it.
    return path.startswith("/") and not path.startswith(_NOT_OURS) and not path.endswith(" (deleted)")


def _info(text: str) -> tuple[int, int]:
    """Flags and position of a descriptor; proc_pid_fdinfo(5)."""
    info = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    return int(info["flags"], 8), int(info["pos"])
