"""What in a state directory is no longer needed, as `ckpt gc` removes it. Nothing is changed here."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.cli import verify
from snakemake_executor_plugin_ckpt.cli.facts import Facts
from snakemake_executor_plugin_ckpt.errors import StateError
from snakemake_executor_plugin_ckpt.images import generations
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.state import durable
from snakemake_executor_plugin_ckpt.state.folder import JobFolder

LINK = "it is a link, or lies behind one: links are not followed"

_HALF_MADE = re.compile(r"\.\d{4,}\.partial|\..+\.removed\..+\.\d+")
_STALE = "a write that was interrupted"
#: Folders in which schedulers that know no unique names keep those that were used, each an empty file.
_NAMES = (".lsf", ".oar", ".slurm")
_NAME = re.compile(r"ckpt-.+-\d{4,}-[0-9a-f]{6}")
#: Folders of the state directory that are of no single job.
_NOT_OF_ONE = (".local", ".heads", *_NAMES)


@dataclass(frozen=True)
class Thing:
    """What can be removed: its size in bytes, why, and of which job it is (its key), if of one."""

    path: str
    bytes: int
    reason: str
    job: str | None = None


@dataclass(frozen=True)
class Keeper:
    """The record of a keeper of the local scheduler; `gone` only if that can be seen from here."""

    path: Path
    gone: bool

    def thing(self) -> Thing:
        """As something to remove."""
        return Thing(str(self.path), size(self.path), "its keeper is gone, and no unfinished job is its")


# -- how a job is -------------------------------------------------------------------------------------------------


def finished(known: Facts) -> bool:
    """Whether a job ended well: only then it needs no image. One that failed keeps what it has."""
    return known.exit == 0 or bool(known.job.acknowledged)


def running(known: Facts) -> bool:
    """Whether a segment of a job runs, as far as that can be told from here; when in doubt, it does."""
    open_ones = [one for one in known.segments if one.outcome == "running"]
    here = [one for one in open_ones if one.host == proc.host_name()]
    if any(proc.ProcessId(one.host, one.boot, one.pid, one.pid_start).alive() for one in here):
        return True  # also one that was declared lost: whoever did so may be wrong
    last = known.segments[-1] if known.segments else None
    if last is None or last.outcome != "running" or last in here:
        return False
    # Snakemake was told of a success only after the batch job was gone.
    return last.number not in known.lost and not known.job.acknowledged


def disposable(known: Facts, older_than: float, now: float) -> bool:
    """Whether the whole folder of a job can go.

    One of whose success no Snakemake was told is still needed: the next one learns it from the folder, and would
    else compute it all again.

    Parameters
    ----------
    known
        What is on record of it.
    older_than
        Seconds for which nothing must have happened to it.
    now
        Unix time, s.
    """
    if not known.job.acknowledged:
        return False
    folder = JobFolder(known.folder)
    times = [known.job.created, *(one.ended or one.started for one in known.segments)]
    for path in (folder.job_file, folder.exit_file):
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return now - max(times) > older_than


# -- links --------------------------------------------------------------------------------------------------------


def refused(root: Path, path: Path) -> str | None:
    """Why a path is none of the state directory's own; None if neither it nor a folder above it is a link.

    Parameters
    ----------
    root
        The state directory, itself without links.
    path
        What is to be removed.
    """
    try:
        parts = path.relative_to(root).parts
    except ValueError:
        return "it is not in the state directory"
    if not parts or ".." in parts:
        return "it is not in the state directory"
    return LINK if any(root.joinpath(*parts[: n + 1]).is_symlink() for n in range(len(parts))) else None


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; links count as themselves."""
    total = 0
    with suppress(OSError):
        total = 0 if path.is_dir() and not path.is_symlink() else os.lstat(path).st_size
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


# -- what is not needed -------------------------------------------------------------------------------------------


def of_job(root: Path, known: Facts) -> tuple[list[Thing], list[Path]]:
    """What a job that does not run no longer needs, and the links in it, which are left alone.

    Parameters
    ----------
    root
        The state directory.
    known
        What is on record of the job.
    """
    folder, key = JobFolder(known.folder), known.job.key
    things: list[Thing] = []
    links = [path for path in (folder.images_folder, folder.tmp_folder) if path.is_symlink()]
    for path in _entries(folder.images_folder):
        if path.is_symlink():
            links.append(path)
        elif _HALF_MADE.fullmatch(path.name):
            things.append(Thing(str(path), size(path), "an image that was never finished", key))
    things += [Thing(str(path), size(path), reason, key) for path, reason in _images(known, folder)]
    if not folder.images_folder.is_symlink():
        idle = generations.idle_packs(folder.images_folder)
        things += [Thing(str(path), size(path), "copies of outputs that no image needs", key) for path in idle]
    if finished(known) and folder.tmp_folder.is_dir():
        things.append(Thing(str(folder.tmp_folder), size(folder.tmp_folder), "temporary files of a finished job", key))
    for path in _entries(folder.path):
        if _HALF_MADE.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            things.append(Thing(str(path), size(path), "the rest of a folder that was being removed", key))
    for place in (folder.path, folder.segments_folder, folder.submissions_folder, folder.requests_folder):
        things += [Thing(str(path), size(path), _STALE, key) for path in _stale(place)]
    return [thing for thing in things if refused(root, Path(thing.path)) is None], links


def of_state_dir(root: Path) -> Iterator[Thing]:
    """What is no longer needed of the state directory itself.

    Parameters
    ----------
    root
        The state directory.
    """
    for path in _entries(root):
        if _HALF_MADE.fullmatch(path.name) and path.is_dir() and not path.is_symlink() and _writer_gone(path.name):
            yield Thing(str(path), size(path), "the rest of a folder that was being removed")
    for place in (root, *(root / name for name in _NOT_OF_ONE)):
        for path in _stale(place):
            yield Thing(str(path), size(path), _STALE)


def _images(known: Facts, folder: JobFolder) -> Iterator[tuple[Path, str]]:
    numbers = [] if folder.images_folder.is_symlink() else generations.numbers(folder.images_folder)
    paths = {number: generations.path_of(folder.images_folder, number) for number in numbers}
    if finished(known):
        for path in paths.values():
            if path.is_dir():
                yield path, "an image of a finished job"
        return
    keep, good = max(1, Policy.from_dict(known.job.policy).keep), 0
    if len(numbers) <= keep:
        return
    for number in reversed(numbers):
        # Only what comes after so many images that were just verified goes: never the last good one.
        if good >= keep:
            if paths[number].is_dir():
                yield paths[number], f"{keep} newer images are good, and no more are kept"
        elif not paths[number].is_symlink() and verify.examine(known, paths[number], number)[0] is None:
            good += 1


def keepers(root: Path) -> list[Keeper]:
    """All records of keepers of the local scheduler.

    Parameters
    ----------
    root
        The state directory.
    """
    folder = root / ".local"
    if folder.is_symlink():
        return []
    found = []
    for path in _entries(folder):
        if path.suffix == ".yaml" and not path.name.startswith(".") and not path.is_symlink():
            with suppress(FileNotFoundError):
                found.append(Keeper(path, _keeper_gone(path)))
    return found


def names(root: Path) -> list[Path]:
    """All names under which batch jobs were submitted to schedulers that know no unique names.

    Parameters
    ----------
    root
        The state directory.
    """
    found = (path for folder in _NAMES for path in _entries(root / folder))
    return [path for path in found if _NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink()]


def _keeper_gone(path: Path) -> bool:
    try:
        keeper = proc.ProcessId(**durable.read_yaml(path))
        return keeper.host == proc.host_name() and not keeper.alive()
    except (StateError, TypeError):
        return False


def _stale(folder: Path) -> Iterator[Path]:
    """Temporary files of `durable` whose writer, a process of this host, is gone."""
    for path in _entries(folder):
        with suppress(OSError):
            if stat.S_ISREG(os.lstat(path).st_mode) and path.name.startswith(".") and _writer_gone(path.name):
                yield path


def _writer_gone(name: str) -> bool:
    """Whether a name ends in host and number of a process of this host that is no more."""
    front, _, number = name.rpartition(".")
    if not front.endswith(f".{proc.host_name()}") or not (number.isascii() and number.isdigit()):
        return False
    return proc.read_stat(int(number)) is None


def _entries(folder: Path) -> list[Path]:
    """What is in a folder; nothing if it is a link or not there."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(folder.iterdir())
