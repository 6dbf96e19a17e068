"""What an image knows of the watched files: plain data, ``outputs.json`` of the image."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from snakemake_executor_plugin_ckpt.errors import ImageRefused

NAME = "outputs.json"
_VERSION = 1

Kind = Literal["absent", "file", "folder", "link", "fifo", "other"]


class Extent(NamedTuple):
    """A piece of a file's content: where it lies in which pack, its size in bytes, its checksum."""

    pack: str
    offset: int
    size: int
    sha256: str


class Stamp(NamedTuple):
    """What tells without reading that a file is as it was; the change time (ctime) cannot be set by a program.

    The device's number is for saves alone (`was_here`). Network file systems, FUSE, btrfs and ZFS have one that each
    mount is given anew: it differs between nodes and after a reboot, and may there mean another file system.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        """From what stat(2) says."""
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev)

    def matches(self, now: os.stat_result) -> bool:
        """Whether a file was not touched since, on whatever node it is looked at."""
        return self[:-1] == Stamp.of(now)[:-1]

    def was_here(self, now: os.stat_result) -> bool:
        """Whether a file was on the same mount; if not, a save reads it."""
        return self.device == now.st_dev

    def precedes(self, now: os.stat_result) -> bool:
        """Whether a file may be the same one grown since, or not changed at all."""
        return self.inode == now.st_ino and now.st_size >= self.size


@dataclass
class Entry:
    """One watched path.

    Attributes
    ----------
    mode
        Permission bits.
    stamp
        Of a file.
    extents
        A file's content; None when it is not kept (too large).
    ends
        Of a file that is not kept: checksums of its first and last bytes.
    rigid
        Of a file that is not kept: it may be written anywhere, so any change of it speaks against the image.
    mapped
        The tree had it mapped for writing: its times do not tell that it was changed.
    fresh
        It was read so soon after its last change that another one might show the same times.
    lent
        The tree only reads it: put back if it is gone, else left alone.
    names
        What is in a folder.
    target
        Of a symbolic link.
    """

    path: str
    kind: Kind
    mode: int = 0
    stamp: Stamp | None = None
    extents: list[Extent] | None = None
    ends: list[str] | None = None
    rigid: bool = False
    mapped: bool = False
    fresh: bool = False
    lent: bool = False
    names: list[str] | None = None
    target: str | None = None

    def unchanged(self, found: os.stat_result) -> bool:
        """Whether a file is as it was, by its stamp alone."""
        trusted = not self.mapped and not self.fresh and stat.S_ISREG(found.st_mode)
        return trusted and self.stamp is not None and self.stamp.matches(found)

    def unchanged_here(self, found: os.stat_result) -> bool:
        """The same for a save: on a mount of another number it rather reads once more than trusts a stamp."""
        return self.unchanged(found) and self.stamp is not None and self.stamp.was_here(found)


@dataclass
class Table:
    """All watched paths of an image, and the patterns that were watched besides."""

    entries: dict[str, Entry] = field(default_factory=dict)
    patterns: list[str] = field(default_factory=list)

    def live(self) -> Counter[str]:
        """Bytes that are in use of each pack."""
        found: Counter[str] = Counter()
        for entry in self.entries.values():
            for extent in entry.extents or []:
                found[extent.pack] += extent.size
        return found

    def write(self, folder: Path) -> None:
        """Write ``outputs.json`` into an image in the making."""
        entries = [
            {name: value for name, value in vars(entry).items() if value not in (None, False)}
            for entry in self.entries.values()
        ]
        data = {"version": _VERSION, "patterns": self.patterns, "entries": entries}
        # Escaped: a name that is no UTF-8 is a lone surrogate in Python.
        (folder / NAME).write_text(json.dumps(data, ensure_ascii=True), encoding="ascii")

    @classmethod
    def read(cls, folder: Path) -> Table:
        """Read ``outputs.json`` of an image.

        Raises
        ------
        ImageRefused
            It is not there or does not hold what it should.
        OSError
            It cannot be read now.
        """
        try:
            data = json.loads((folder / NAME).read_text(encoding="ascii"))
            if data["version"] != _VERSION:
                raise ImageRefused(f"{NAME} has the version {data['version']}, this one knows {_VERSION}")
            entries = [_entry(one) for one in data["entries"]]
            return cls({entry.path: entry for entry in entries}, list(data["patterns"]))
        except (FileNotFoundError, ValueError, LookupError, TypeError) as error:
            raise ImageRefused(f"damaged: {NAME} cannot be read ({error})") from error


def _entry(data: dict[str, Any]) -> Entry:
    entry = Entry(**data)
    if entry.stamp is not None:
        entry.stamp = Stamp(*entry.stamp)
    if entry.extents is not None:
        entry.extents = [Extent(*one) for one in entry.extents]
    return entry
