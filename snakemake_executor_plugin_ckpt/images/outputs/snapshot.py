"""What a save keeps of the watched files: most of it before the tree is stopped, the rest while it stands still.

Three steps, so that the tree stands still only briefly:

``survey``
    While it runs: everything that changed since the image before is read, kept, and had on the disk.
``freeze``
    While it stands still: only what changed since the survey is read again. Of a large file that only grew, the new
    end is read and the rest is taken to be what it was a moment ago;
``confirm``
    which is looked at once more when the tree runs again: what is the same before and after was so in between.

A save that stops the tree has nothing to gain by this, and takes the second step alone.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

from snakemake_executor_plugin_ckpt.errors import EngineError
from snakemake_executor_plugin_ckpt.images.outputs import watched
from snakemake_executor_plugin_ckpt.images.outputs.packs import PIECE, Packer, differing
from snakemake_executor_plugin_ckpt.images.outputs.table import Entry, Extent, Stamp, Table
from snakemake_executor_plugin_ckpt.images.outputs.watched import Openers, Watch
from snakemake_executor_plugin_ckpt.state import durable
from snakemake_executor_plugin_ckpt.units import format_size

#: Seconds for which a file must have been left alone before its times alone are taken as proof: file systems have
#: coarse clocks, and a server's may differ from ours.
_SETTLED = 2.0
#: Bytes from which on a file that only grows is not read as a whole while the tree stands still.
LARGE = 16 << 20
#: Largest file, in bytes, that the tree only reads and that is kept all the same: scripts, which are often removed
#: by the one who wrote them. Inputs are the workflow's to keep.
_LENT = 1 << 20
_END = 1 << 16


class Rewritten(EngineError):
    """A file that was taken to grow only was written elsewhere during the save; the next try reads it as a whole."""

    def __init__(self, paths: list[str]) -> None:
        super().__init__(f"{paths[0]} was rewritten while the save was under way")
        self.paths = paths


class Snapshot:
    """One save's view of the watched files; a context manager.

    Parameters
    ----------
    watch
        What is watched.
    base
        The table of the image before.
    packer
        Keeps contents.
    limit
        Bytes from which on a file is not kept.
    careful
        Paths that are always read as a whole.

    Attributes
    ----------
    table
        What was noted in the freeze.
    warnings
        What is not covered, for a reader.
    """

    def __init__(self, watch: Watch, base: Table, packer: Packer, limit: int, careful: Iterable[str] = ()) -> None:
        self.table = Table(patterns=list(watch.patterns))
        self.warnings: list[str] = []
        self._watch = watch
        self._base = base
        self._packer = packer
        self._limit = limit
        self._careful = set(careful)
        self._surveyed: Table | None = None
        self._read: list[str] = []
        self._assumed: dict[str, tuple[IO[bytes], list[Extent]]] = {}
        self._open = ExitStack()

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self._packer.close()

    def survey(self, pids: Iterable[int]) -> None:
        """Read, while the tree runs, what changed since the image before, and have it on the disk."""
        openers = watched.opened(pids)
        self._surveyed = Table()
        for path in set(self._watch.expand()):
            with suppress(FileNotFoundError, NotADirectoryError, PermissionError):  # it may come and go
                found = os.lstat(path)
                if stat.S_ISREG(found.st_mode) and found.st_size <= self._limit:
                    opener, before = openers.get(path, Openers()), self._base.entries.get(path)
                    self._surveyed.entries[path] = self._file(path, found, opener, before, runs=True)
        self._read.clear()

    def freeze(self, pids: Iterable[int]) -> None:
        """Note every watched file and every file that the tree has open, while it stands still.

        Raises
        ------
        OSError
            One cannot be looked at, which does not mean that it is not there.
        """
        pids = list(pids)
        openers, declared = watched.opened(pids), {*self._watch.expand(), *watched.shadows(pids)}
        declared.update(name for path, opener in openers.items() if opener.written for name in watched.beside(path))
        for path in sorted({*declared, *openers}):
            opener = openers.get(path, Openers())
            entry = self._entry(path, opener, lent=path not in declared and not opener.written)
            if entry is not None:
                self.table.entries[path] = entry

    def confirm(self) -> None:
        """Look again at what was taken to be unchanged in the freeze, and have all that was read on the disk.

        Raises
        ------
        Rewritten
            Something of it changed; the image must not be committed.
        """
        wrong = [path for path, (file, extents) in self._assumed.items() if differing(file, extents)]
        if wrong:
            raise Rewritten(wrong)
        for path in self._read:
            _sync(path)

    # -- one path ------------------------------------------------------------------------------------------------

    def _entry(self, path: str, opener: Openers, lent: bool) -> Entry | None:
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return Entry(path, "absent")
        mode = stat.S_IMODE(found.st_mode)
        match stat.S_IFMT(found.st_mode):
            case stat.S_IFDIR if os.access(path, os.R_OK | os.X_OK):
                return Entry(path, "folder", mode, names=watched.names_in(path))
            case stat.S_IFLNK:
                return Entry(path, "link", target=os.readlink(path))
            case stat.S_IFIFO:
                return Entry(path, "fifo", mode)
            case stat.S_IFREG if lent:
                return self._lent(path, found)
            case stat.S_IFREG:
                return self._frozen_file(path, found, opener)
        return Entry(path, "other", mode)

    def _lent(self, path: str, found: os.stat_result) -> Entry | None:
        if found.st_size > _LENT or found.st_uid != os.getuid():
            return None
        entry = self._file(path, found, Openers(), self._base.entries.get(path))
        entry.lent = True
        return entry

    def _frozen_file(self, path: str, found: os.stat_result, opener: Openers) -> Entry:
        surveyed = self._surveyed.entries.get(path) if self._surveyed else None
        if surveyed is None or not surveyed.extents:
            return self._file(path, found, opener, self._base.entries.get(path))
        grew = surveyed.stamp is not None and surveyed.stamp.precedes(found) and surveyed.stamp.was_here(found)
        if grew and found.st_size > LARGE and path not in self._careful and opener.appends(found.st_size):
            return self._grown(path, found, surveyed.extents)
        return self._file(path, found, opener, surveyed)

    def _file(self, path: str, found: os.stat_result, opener: Openers, base: Entry | None, runs: bool = False) -> Entry:
        """A file as it is now, of which only that is read and written that may differ from the base."""
        entry = _plain(path, found)
        entry.mapped = opener.mapped
        if found.st_size > self._limit:
            return self._not_kept(entry, opener)
        old: list[Extent] = []
        if base is not None and base.extents is not None:
            old = base.extents
        same = base is not None and base.extents is not None and base.unchanged_here(found) and not opener.mapped
        if same and self._packer.kept(old):
            entry.extents = old
            return entry
        if runs:
            # After its times were taken: should they still be the same in the freeze, all that was read is on the disk.
            # And before it is read: its pages are clean, so that the next write through a mapping shows in its times.
            _sync(path)
        try:
            with open(path, "rb", buffering=0) as file:
                entry.extents = self._packer.pack(file, old, found.st_size)
        except PermissionError:
            return self._not_kept(entry, opener)
        self._read.append(path)
        return entry

    def _grown(self, path: str, found: os.stat_result, surveyed: list[Extent]) -> Entry:
        """A large file of which only the new end is read now."""
        entry = _plain(path, found)
        kept = surveyed if surveyed[-1].size == PIECE else surveyed[:-1]
        done = sum(extent.size for extent in kept)
        # Held open, since it may be renamed or removed before it is looked at again.
        file = self._open.enter_context(open(path, "rb", buffering=0))  # noqa: SIM115
        file.seek(done)
        entry.extents = [*kept, *self._packer.pack(file, surveyed[len(kept) :], found.st_size - done)]
        file.seek(0)
        self._assumed[path] = (file, kept)
        self._read.append(path)
        return entry

    def _not_kept(self, entry: Entry, opener: Openers) -> Entry:
        """A file without a copy: cut if it only grew, otherwise reason enough to refuse the image."""
        assert entry.stamp is not None
        with suppress(OSError):
            entry.ends = ends_of(entry.path, entry.stamp.size)
        # Written out, its pages are clean, and the next write through a mapping shows in its times.
        self._read.append(entry.path)
        entry.rigid = entry.ends is None or not opener.appends(entry.stamp.size)
        fate = "changed" if entry.rigid else "rewritten or removed"
        self.warnings.append(
            f"{entry.path} ({format_size(entry.stamp.size)}) is not kept with the images (it is larger than "
            f"--ckpt-copy-limit, or cannot be read): should it be {fate} after a save and the node then die, "
            "that image is refused"
        )
        return entry


def _plain(path: str, found: os.stat_result) -> Entry:
    fresh = max(found.st_mtime, found.st_ctime) > time.time() - _SETTLED
    return Entry(path, "file", stat.S_IMODE(found.st_mode), Stamp.of(found), fresh=fresh)


def _sync(path: str) -> None:
    """Have a file on the disk: at a restore its times are taken as proof of its content, also after a power cut."""
    with suppress(OSError):  # a file that is gone by now is in the image
        durable.fsync_path(Path(path))


def ends_of(path: str, size: int) -> list[str]:
    """Checksums of the first and the last bytes of a file's first `size` bytes."""
    with open(path, "rb") as file:
        first = file.read(min(size, _END))
        file.seek(max(0, size - _END))
        last = file.read(min(size, _END))
    return [hashlib.sha256(part).hexdigest() for part in (first, last)]


def changed_bytes(watch: Watch, base: Table, limit: int) -> int:
    """Bytes of watched files that changed since the image before, so that a save would have to read them."""
    total = 0
    with suppress(OSError):  # an estimate: the save itself will say what is wrong
        for path in set(watch.expand()):
            with suppress(FileNotFoundError):
                found = os.lstat(path)
                before = base.entries.get(path)
                kept = stat.S_ISREG(found.st_mode) and found.st_size <= limit
                if kept and (before is None or not before.unchanged_here(found)):
                    total += found.st_size
    return total
