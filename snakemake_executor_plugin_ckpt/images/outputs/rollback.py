"""Putting the watched files back as they were at a save: everything is looked at before the first is changed.

A refusal must leave all as it was, so that an older image can be tried. What is done can be done again: a crash in
the middle is followed by the next restore, which finds what is still to do.

Folders in which something is changed are writable meanwhile; they get their permissions of the save at the end. Only
folders on record that belong to us: those of somebody else the job could not change either.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from snakemake_executor_plugin_ckpt.errors import ImageRefused
from snakemake_executor_plugin_ckpt.faults import point
from snakemake_executor_plugin_ckpt.images.outputs import packs, watched
from snakemake_executor_plugin_ckpt.images.outputs.snapshot import ends_of
from snakemake_executor_plugin_ckpt.images.outputs.table import NAME, Entry, Extent, Table

#: Seconds by which the clocks of two file servers may differ.
_SKEW = 60.0

#: What its owner needs of a folder to look into it, and to change what is in it.
_LOOK, _WRITE = stat.S_IRUSR | stat.S_IXUSR, stat.S_IRWXU


@dataclass(frozen=True)
class Change:
    """What is to be done with one path.

    Attributes
    ----------
    entry
        What it is to be.
    reason
        Why, for a reader; empty for what nobody needs to know.
    pieces
        Contents to be written into a file, each with its place in bytes.
    anew
        Whether it is to be made anew and not changed in place.
    """

    entry: Entry
    reason: str
    pieces: tuple[tuple[int, Extent], ...] = ()
    anew: bool = False


@dataclass(frozen=True)
class Plan:
    """All that is to be done.

    Attributes
    ----------
    images
        Where the contents are.
    changes
        In this order.
    folders
        Those that something is changed in, or that get their permissions back; each before what is in it.
    """

    images: Path
    changes: list[Change]
    folders: list[Entry]

    def reasons(self) -> list[str]:
        """A line for each file that has to be changed."""
        return [f"{change.entry.path}: {change.reason}" for change in self.changes if change.reason]

    def apply(self) -> None:
        """Do it.

        Raises
        ------
        OSError
            The disk or the rights do not allow it; the next try goes on from there.
        """
        made = {change.entry.path for change in self.changes if change.anew}
        for folder in self.folders:
            if folder.path not in made:  # there may be a link now in its place, or in that of one that it is in
                _open(folder.path, _WRITE)
        for change in self.changes:
            _apply(self.images, change)
            point("rollback.changed")
        for folder in reversed(self.folders):
            if _mode_of_ours(folder.path) not in (None, folder.mode):
                _set_mode(folder.path, folder.mode)


def plan(image: Path) -> Plan:
    """What has to be done to have the files as they were at the save.

    Raises
    ------
    ImageRefused
        A file cannot be put back: it was not kept and was changed otherwise than by growing, or what was kept of it
        is damaged.
    """
    table = Table.read(image)
    images = image.parent
    with ExitStack() as closing:  # also after a refusal, which changes nothing
        changes = _changes(table, closing)
        later = [Change(Entry(path, "absent"), "did not exist at the save, removed") for path in _unknown(table, image)]
    for change in changes:
        for _, extent in change.pieces:
            packs.content_of(images, extent)
    return Plan(images, later + changes, _folders(table, later + changes))


def _changes(table: Table, closing: ExitStack) -> list[Change]:
    """What has to be done with what is on record; `closing` undoes what was done to look at it."""
    found: list[Change] = []
    made: set[str] = set()
    for entry in table.entries.values():  # a folder before what is in it
        if made and not made.isdisjoint(map(str, Path(entry.path).parents)):
            change = _gone(entry)  # what has its name now is behind a link, in another folder
        else:
            if entry.kind == "folder" and (mode := _open(entry.path, _LOOK)) is not None:
                closing.callback(_set_mode, entry.path, mode)
            change = _change(entry)
        if change is not None:
            found.append(change)
            if change.anew and entry.kind == "folder":
                made.add(entry.path)
    return found


def _folders(table: Table, changes: list[Change]) -> list[Entry]:
    """The folders on record that something is made or removed in, or that have to be changed themselves."""
    entries = [change.entry for change in changes]
    touched = {entry.path for entry in entries}
    touched.update(
        os.path.dirname(change.entry.path) for change in changes if change.anew or change.entry.kind == "absent"
    )
    return [entry for entry in table.entries.values() if entry.kind == "folder" and entry.path in touched]


def _unknown(table: Table, image: Path) -> Iterator[str]:
    """What a pattern stands for now and did not at the save."""
    # glob passes over what it cannot read. What it may have missed at the save is older, by the same server's clock.
    since = os.stat(image / NAME).st_mtime - _SKEW
    for path in watched.matches(table.patterns):
        real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        if real not in table.entries and os.lstat(real).st_ctime >= since:
            yield real


def _change(entry: Entry) -> Change | None:
    try:
        now = os.lstat(entry.path)
    except (FileNotFoundError, NotADirectoryError):
        return _gone(entry)
    if entry.lent:
        return None
    kind = stat.S_IFMT(now.st_mode)
    match entry.kind:
        case "absent":
            return Change(entry, "did not exist at the save, removed")
        case "folder" if kind == stat.S_IFDIR:
            new = len(set(watched.names_in(entry.path)) - set(entry.names or []))
            if not new:
                return Change(entry, "") if _has_other_mode(entry, now) else None
            return Change(entry, f"{new} files in it did not exist at the save, removed")
        case "link" if kind == stat.S_IFLNK and os.readlink(entry.path) == entry.target:
            return None
        case "file" if entry.extents is None:
            return _cut(entry, now)
        case "file" if kind == stat.S_IFREG:
            return _rewrite(entry, now)
        case "fifo" if kind == stat.S_IFIFO:
            return None
        case "other":
            return None
    return Change(entry, "was replaced after the save, put back", _all(entry), anew=True)


def _gone(entry: Entry) -> Change | None:
    if entry.kind in ("absent", "other"):
        return None  # sockets and devices are for CRIU to make, or to miss
    if entry.kind == "file" and entry.extents is None:
        raise ImageRefused(f"the file {entry.path}, which the job had at the save, is gone and was not kept")
    return Change(entry, "was gone, put back", _all(entry), anew=True)


def _rewrite(entry: Entry, now: os.stat_result) -> Change | None:
    if entry.unchanged(now):
        return None
    assert entry.stamp is not None
    extents = entry.extents or []
    with open(entry.path, "rb", buffering=0) as file:
        pieces = tuple(packs.differing(file, extents))
    size = sum(extent.size for extent in extents)
    same = not pieces and now.st_size == size
    if same and (stat.S_IMODE(now.st_mode), now.st_mtime_ns) == (entry.mode, entry.stamp.mtime_ns):
        return None
    if now.st_ino != entry.stamp.inode:
        # A file that took this one's place may be another's too (a hard link): nothing of it is changed. The tree
        # has none such open: what it had open at the save was the file that is on record.
        return Change(entry, "" if same else "was replaced after the save, put back", _all(entry), anew=True)
    if not pieces:
        return Change(entry, "" if same else f"cut from {now.st_size} to {size} bytes")
    return Change(entry, "was changed after the save, put back", pieces)


def _cut(entry: Entry, now: os.stat_result) -> Change | None:
    """What is to be done with a file of which there is no copy: nothing but signs tell whether it was changed.

    A rename, one more link and a chmod move the change time alone: to refuse for that would cost the whole job. So
    inode, size, mtime and both ends decide. What goes unseen by that is a program that writes in the middle and then
    sets the mtime back (utime).
    """
    assert entry.stamp is not None
    size = entry.stamp.size
    same = now.st_size == size and now.st_mtime_ns == entry.stamp.mtime_ns
    grown = now.st_size > size and not entry.rigid
    known = stat.S_ISREG(now.st_mode) and entry.stamp.precedes(now) and (same or grown)
    # With its change time it was not touched: a freeze is longer than a tick of the file system's clock.
    if not known or not (entry.stamp.matches(now) or _has_ends(entry)):
        raise ImageRefused(
            f"the file {entry.path} was not kept (--ckpt-copy-limit), and was changed after the save otherwise than "
            f"by growing ({size} bytes then, {now.st_size} now)"
        )
    if grown:
        return Change(entry, f"cut from {now.st_size} to {size} bytes")
    return Change(entry, "") if _has_other_mode(entry, now) else None


def _has_ends(entry: Entry) -> bool:
    """Whether a file that was not kept begins and ends as it did, as far as it could be read then."""
    return entry.ends is None or (entry.stamp is not None and entry.ends == ends_of(entry.path, entry.stamp.size))


def _has_other_mode(entry: Entry, now: os.stat_result) -> bool:
    """Whether permissions have to be put back that we may set."""
    return _is_ours(now) and stat.S_IMODE(now.st_mode) != entry.mode


def _is_ours(now: os.stat_result) -> bool:
    return now.st_uid == os.geteuid()


def _all(entry: Entry) -> tuple[tuple[int, Extent], ...]:
    place, found = 0, []
    for extent in entry.extents or []:
        found.append((place, extent))
        place += extent.size
    return tuple(found)


# -- doing it -------------------------------------------------------------------------------------------------------


def _apply(images: Path, change: Change) -> None:
    entry, path = change.entry, Path(change.entry.path)
    if entry.kind == "absent" or change.anew:
        _remove(path)
    if change.anew:
        path.parent.mkdir(parents=True, exist_ok=True)
    match entry.kind:
        case "folder":
            _folder(entry, path)
        case "link":
            os.symlink(entry.target or "", path)
        case "fifo":
            os.mkfifo(path, entry.mode)
        case "file":
            _file(images, change, path)


def _folder(entry: Entry, path: Path) -> None:
    path.mkdir(mode=entry.mode | _WRITE, exist_ok=True)  # for what comes into it
    for name in set(watched.names_in(entry.path)) - set(entry.names or []):
        _remove(path / name)


def _file(images: Path, change: Change, path: Path) -> None:
    entry = change.entry
    assert entry.stamp is not None
    if not change.anew and not os.access(path, os.W_OK):
        path.chmod(entry.mode | stat.S_IWUSR)
    if change.pieces or change.anew:
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(opened, "wb", buffering=0) as file:
            for place, extent in change.pieces:
                file.seek(place)
                view = memoryview(packs.content_of(images, extent))
                while view:
                    view = view[file.write(view) :]
    size = entry.stamp.size if entry.extents is None else sum(extent.size for extent in entry.extents)
    if os.stat(path).st_size != size:
        os.truncate(path, size)
    if stat.S_IMODE(os.stat(path).st_mode) != entry.mode:
        path.chmod(entry.mode)
    os.utime(path, ns=(entry.stamp.mtime_ns, entry.stamp.mtime_ns))


def _remove(path: Path) -> None:
    """Remove whatever it is; a folder before it may have taken it along already."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    try:
        shutil.rmtree(path)
    except PermissionError:  # write-protected folders are in it
        _open_all(str(path))
        shutil.rmtree(path)


# -- permissions of folders -----------------------------------------------------------------------------------------


def _open_all(folder: str) -> None:
    """Make a folder writable, and all that are in it."""
    _open(folder, _WRITE)
    with os.scandir(folder) as found:
        inner = [one.path for one in found if one.is_dir(follow_symlinks=False)]
    for path in inner:
        _open_all(path)


def _open(folder: str, bits: int) -> int | None:
    """Give us permissions for a folder of ours; those that it had, if they did not do."""
    mode = _mode_of_ours(folder)
    if mode is None or not bits & ~mode:
        return None
    _set_mode(folder, mode | bits)
    return mode


def _mode_of_ours(folder: str) -> int | None:
    """Permissions of a folder, if it is there and is our own."""
    try:
        now = os.lstat(folder)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return stat.S_IMODE(now.st_mode) if stat.S_ISDIR(now.st_mode) and _is_ours(now) else None


def _set_mode(folder: str, mode: int) -> None:
    # Some file systems have permissions that nobody can set. Whether they do will be seen where they are needed.
    with suppress(PermissionError):
        os.chmod(folder, mode)
