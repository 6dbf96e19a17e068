"""Reads what is on record of jobs, in a state directory and its job folders. Nothing is changed, no scheduler asked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.errors import CkptError, StateError
from snakemake_executor_plugin_ckpt.images import generations, manifest
from snakemake_executor_plugin_ckpt.state.folder import JobFolder, job_folders
from snakemake_executor_plugin_ckpt.state.records import Job, Segment, Submission

#: Names the state directory where no option does.
VARIABLE = "CKPT_STATE_DIR"
_CANDIDATES = 20


class UsageError(CkptError):
    """The command line names something that is not there, or not just one thing."""


@dataclass(frozen=True)
class Image:
    """A committed image: its size (bytes), and when it was made (Unix time, s; None: it has no manifest)."""

    generation: int
    size: int
    created: float | None


@dataclass(frozen=True)
class Lost:
    """Why a segment was declared lost, and when (Unix time, s)."""

    reason: str
    declared: float


@dataclass(frozen=True)
class Facts:
    """All that is on record of one job.

    Attributes
    ----------
    segments
        Of all attempts, in order.
    lost
        Segments that were declared lost, by number.
    exit
        The payload's own exit status in the current attempt, or None.
    earlier_exits
        The same of earlier attempts, by attempt.
    alive
        Whether the process of the last segment lives; None where it cannot be seen (it is on another host).
    """

    folder: Path
    job: Job
    segments: list[Segment] = field(default_factory=list)
    submissions: list[Submission] = field(default_factory=list)
    lost: dict[int, Lost] = field(default_factory=dict)
    images: list[Image] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    exit: int | None = None
    earlier_exits: dict[int, int] = field(default_factory=dict)
    alive: bool | None = None


def state_dir(wished: str | None) -> Path:
    """The state directory by option, else by environment, else that of a workflow in the current directory.

    The path is absolute; whether it exists is not looked at.
    """
    named = wished or os.environ.get(VARIABLE)
    if named:
        return Path(os.path.abspath(os.path.expanduser(os.path.expandvars(named))))
    from snakemake_executor_plugin_ckpt.head.preflight import default_state_dir  # imports slowly

    return default_state_dir(os.getcwd())


def existing_state_dir(wished: str | None) -> Path:
    """The state directory, which must be there.

    Raises
    ------
    UsageError
        It is not.
    """
    path = state_dir(wished)
    if not path.is_dir():
        raise UsageError(
            f"there is no state directory {path}: go to the workflow's directory, "
            f"or name it with --state-dir or {VARIABLE}"
        )
    return path


def read_all(path: Path) -> tuple[list[Facts], dict[str, str]]:
    """The jobs of a state directory by name, and why folders that cannot be read cannot."""
    found, unreadable = [], {}
    for folder in job_folders(path):
        try:
            found.append(read(folder))
        except (CkptError, OSError) as error:
            unreadable[str(folder.path)] = str(error)
    return found, unreadable


def read(folder: JobFolder) -> Facts:
    """What is on record of one job.

    Raises
    ------
    StateError, OSError
        A record cannot be read.
    """
    job = folder.job()
    if job is None:
        raise StateError(f"{folder.path} is not a job folder (no job.yaml)")
    segments = folder.segments()
    return Facts(
        folder=folder.path,
        job=job,
        segments=segments,
        submissions=folder.submissions(),
        lost=dict(_lost(folder, segments)),
        images=list(_images(folder.images_folder)),
        requests=sorted(folder.requests()),
        exit=folder.exit_status(),
        earlier_exits=dict(_earlier_exits(folder, job.attempt)),
        alive=_alive(segments[-1]) if segments else None,
    )


def _lost(folder: JobFolder, segments: list[Segment]) -> Iterator[tuple[int, Lost]]:
    for segment in segments:
        reason = folder.lost(segment.number) if segment.outcome == "running" else None
        if reason is not None:
            declared = (folder.segments_folder / f"{segment.number:04d}.lost").stat().st_mtime
            yield segment.number, Lost(reason, declared)


def _images(folder: Path) -> Iterator[Image]:
    for generation in generations.numbers(folder):
        path = generations.path_of(folder, generation)
        created = None
        with suppress(OSError):
            created = (path / manifest.NAME).stat().st_mtime
        yield Image(generation, _size(path), created)


def _size(folder: Path) -> int:
    size = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # images are retired while they are looked at
                size += os.lstat(os.path.join(root, name)).st_size
    return size


def _earlier_exits(folder: JobFolder, attempt: int) -> Iterator[tuple[int, int]]:
    for earlier in range(1, attempt):
        with suppress(OSError, ValueError):
            yield earlier, int((folder.path / f"exit.{earlier}").read_text())


def _alive(last: Segment) -> bool | None:
    if last.host != proc.host_name():
        return None
    return proc.ProcessId(last.host, last.boot, last.pid, last.pid_start).alive()


def name_of(job: Job) -> str:
    """A job for a reader: its rule and wildcards."""
    return f"{job.rule} ({job.wildcards})" if job.wildcards else job.rule


def find_job(wished_state_dir: str | None, text: str) -> JobFolder:
    """The one job that a user means: by key, start of the key, path of its folder, or part of rule and wildcards.

    Raises
    ------
    UsageError
        None, or more than one; the message lists the candidates.
    """
    if os.sep in text and (Path(text) / "job.yaml").is_file():
        return JobFolder(Path(os.path.abspath(text)))
    path = existing_state_dir(wished_state_dir)
    folders = list(job_folders(path))
    for folder in folders:
        if folder.path.name == text:
            return folder
    hits: dict[Path, JobFolder] = {}
    for matching in _matches(folders, text):
        if len(matching) == 1:
            return matching[0]
        hits |= {folder.path: folder for folder in matching}
    if hits:
        raise UsageError(f"{text!r} means {len(hits)} jobs; name one by its key:" + _listed(list(hits.values())))
    if not folders:
        raise UsageError(f"there are no jobs in {path}")
    raise UsageError(f"no job matches {text!r} in {path}; there are:" + _listed(folders))


def _matches(folders: list[JobFolder], text: str) -> Iterator[list[JobFolder]]:
    """The jobs that a text may mean, the closest kind of match first."""
    yield [folder for folder in folders if folder.path.name.startswith(text)]
    names = [(folder, _names(folder)) for folder in folders]
    yield [folder for folder, known in names if text in known]
    yield [folder for folder, known in names if any(text in name for name in known)]


def _names(folder: JobFolder) -> list[str]:
    job = _job(folder)
    if job is None:
        return [folder.path.name]
    wildcards = [one.strip() for one in job.wildcards.split(",") if one.strip()]
    return [job.key, job.rule, job.wildcards, name_of(job), f"{job.rule} {job.wildcards}", *wildcards]


def _job(folder: JobFolder) -> Job | None:
    with suppress(CkptError, OSError):
        return folder.job()
    return None


def _listed(folders: list[JobFolder]) -> str:
    lines = []
    for folder in folders[:_CANDIDATES]:
        job = _job(folder)
        lines.append(f"\n  {folder.path.name}" + (f"  {name_of(job)}" if job else ""))
    if len(folders) > _CANDIDATES:
        lines.append(f"\n  and {len(folders) - _CANDIDATES} more (see `ckpt list`)")
    return "".join(lines)
