"""The files that a job writes, as they were at a save: noted with the image, put back before a restore.

What was written after the save must not survive a restore: the restored program would write it again. A file
that only grows is cut to its size at the save; one that is or may be written in place is copied into the image;
one that did not exist is removed, also from a folder that is an output.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from snakemake_executor_plugin_ckpt.errors import ImageRefused
from snakemake_executor_plugin_ckpt.state import durable

NAME = "outputs.yaml"
_COPIES = "outputs"
_TAIL = 1 << 16
_FICLONE = 0x40049409  # linux/fs.h
_NOT_OURS = ("/proc/", "/sys/", "/dev/")

#: A shared mapping of a file that may be written; the descriptor may be closed already.
_MAPPED = re.compile(r"^\S+ .w.s \S+ \S+ \d+ +(/.*)$", re.MULTILINE)

Method = Literal["absent", "cut", "copy", "folder"]


@dataclass(frozen=True)
class _Opener:
    """One descriptor through which a file is written."""

    in_place: bool
    position: int


def snapshot(watched: Iterable[str], pids: list[int], folder: Path) -> None:
    """Note, while the tree is stopped, every watched file and every file that it has open for writing.

    Parameters
    ----------
    watched
        Absolute paths of declared outputs, logs and benchmark files; folders stand for all files in them.
    pids
        The tree.
    folder
        The image in the making; takes ``outputs.yaml`` and copies of files that are written in place.
    """
    openers = _open_for_writing(pids)
    entries: list[dict[str, Any]] = []
    for path in sorted({*_expand(map(os.path.realpath, watched)), *openers}):
        if not _is_special(path):
            entries.append(_note(path, openers.get(path, []), folder, len(entries)))
    (folder / NAME).write_bytes(durable.to_yaml({"files": entries}))
    for path in openers:
        with suppress(OSError):  # the payload's own files must be on the disk before the image counts
            durable.fsync_path(Path(path))


def rollback(folder: Path) -> list[str]:
    """Put the files back as they were at the save; a line for each that had to be changed.

    Raises
    ------
    ImageRefused
        A file cannot be put back: it is gone, or was changed otherwise than by growing.
    """
    entries = durable.read_yaml(folder / NAME)["files"]
    # All are looked at before the first is changed: a refusal must leave everything as it was.
    undo = [(entry, reason) for entry in entries if (reason := _difference(entry, folder))]
    for entry, _ in undo:
        _put_back(entry, folder)
    return [f"{entry['path']}: {reason}" for entry, reason in undo]


def _note(path: str, openers: list[_Opener], folder: Path, index: int) -> dict[str, Any]:
    try:
        found = os.stat(path)
    except OSError:
        return {"path": path, "method": "absent"}
    if stat.S_ISDIR(found.st_mode):
        return {"path": path, "method": "folder", "names": sorted(os.listdir(path))}
    entry: dict[str, Any] = {
        "path": path,
        "method": "cut",
        "size": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        "inode": found.st_ino,
    }
    if all(not one.in_place or one.position == found.st_size for one in openers):
        entry["tail"] = _tail(path, found.st_size)
        return entry
    copy = Path(_COPIES, f"{index:06d}")
    (folder / _COPIES).mkdir(exist_ok=True)
    _copy(Path(path), folder / copy)
    return {**entry, "method": "copy", "copy": str(copy)}


def _difference(entry: dict[str, Any], folder: Path) -> str | None:
    path = entry["path"]
    if entry["method"] == "absent":
        return "did not exist at the save, removed" if os.path.lexists(path) else None
    try:
        now = os.stat(path)
    except OSError:
        if entry["method"] == "copy" and (folder / entry["copy"]).exists():
            return "was gone, put back from the image"
        raise ImageRefused(f"the file {path}, which the job had at the save, is gone") from None
    if entry["method"] == "folder":
        new = len(set(os.listdir(path)) - set(entry["names"]))
        return f"{new} files in it did not exist at the save, removed" if new else None
    if (now.st_size, now.st_mtime_ns, now.st_ino) == (entry["size"], entry["mtime_ns"], entry["inode"]):
        return None
    if entry["method"] == "copy":
        return "was changed after the save, put back from the image"
    # Written since without growing: what stands before the tail may be anything.
    rewritten = now.st_size == entry["size"] > _TAIL and now.st_mtime_ns != entry["mtime_ns"]
    if now.st_size < entry["size"] or rewritten or _tail(path, entry["size"]) != entry["tail"]:
        raise ImageRefused(
            f"the file {path} was changed after the save otherwise than by growing "
            f"({entry['size']} bytes then, {now.st_size} now)"
        )
    return f"cut from {now.st_size} to {entry['size']} bytes" if now.st_size > entry["size"] else None


def _put_back(entry: dict[str, Any], folder: Path) -> None:
    path = Path(entry["path"])
    if entry["method"] == "absent":
        _remove(path)
    elif entry["method"] == "folder":
        for name in set(os.listdir(path)) - set(entry["names"]):
            _remove(path / name)
    elif entry["method"] == "cut":
        os.truncate(path, entry["size"])
        os.utime(path, ns=(entry["mtime_ns"], entry["mtime_ns"]))  # as it was, also for another restore
    else:
        # Into the same file where there is one: other names and open readers keep meaning it.
        _copy(folder / entry["copy"], path)


def _remove(path: Path) -> None:
    """Remove whatever it is; a folder before it may have taken it along already."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_special(path: str) -> bool:
    """Whether it has no content of its own (and to read a pipe would take from it): pipe, device, dangling link."""
    try:
        kind = os.stat(path).st_mode
    except OSError:
        return os.path.islink(path)
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))


def _expand(watched: Iterable[str]) -> Iterator[str]:
    for path in watched:
        if os.path.isdir(path):
            for root, _, names in os.walk(path):
                yield root
                yield from (os.path.join(root, name) for name in names)
        else:
            yield path


def _open_for_writing(pids: list[int]) -> dict[str, list[_Opener]]:
    found: dict[str, list[_Opener]] = {}
    for pid in pids:
        with suppress(OSError):
            for number in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    _add_opener(found, pid, number)
            for path in set(_MAPPED.findall(Path(f"/proc/{pid}/maps").read_text())):
                with suppress(OSError):
                    _add(found, path, _Opener(in_place=True, position=-1))
    return found


def _add_opener(found: dict[str, list[_Opener]], pid: int, number: str) -> None:
    info = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/fdinfo/{number}").read_text().splitlines() if ":\t" in line
    )
    flags = int(info["flags"], 8)
    if flags & os.O_ACCMODE == os.O_RDONLY:
        return
    # Who also reads may go back and write anew (HDF5, SQLite, zip), wherever the position is just now.
    position = -1 if flags & os.O_ACCMODE == os.O_RDWR else int(info["pos"])
    opener = _Opener(in_place=not flags & os.O_APPEND, position=position)
    _add(found, os.readlink(f"/proc/{pid}/fd/{number}"), opener)


def _add(found: dict[str, list[_Opener]], path: str, opener: _Opener) -> None:
    # An unlinked file has no path, travels in the image, and nobody else can change it.
    if not path.startswith("/") or path.startswith(_NOT_OURS) or path.endswith(" (deleted)"):
        return
    if stat.S_ISREG(os.stat(path).st_mode):
        found.setdefault(path, []).append(opener)


def _tail(path: str, size: int) -> str:
    """Checksum of the last bytes before a position: tells a file that grew from one that was written anew."""
    with open(path, "rb") as file:
        file.seek(max(0, size - _TAIL))
        return hashlib.sha256(file.read(min(size, _TAIL))).hexdigest()


def _copy(source: Path, target: Path) -> None:
    """Copy a file's content, sharing the blocks where the file system can."""
    with open(source, "rb") as reading, open(target, "r+b" if target.exists() else "xb") as writing:
        try:
            fcntl.ioctl(writing.fileno(), _FICLONE, reading.fileno())
        except OSError:
            size, done = os.fstat(reading.fileno()).st_size, 0
            while done < size:
                copied = os.sendfile(writing.fileno(), reading.fileno(), done, min(size - done, 1 << 30))
                if copied == 0:
                    break
                done += copied
        writing.truncate(os.fstat(reading.fileno()).st_size)
