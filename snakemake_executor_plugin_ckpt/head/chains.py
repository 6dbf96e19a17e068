"""Which chain makes a file, by the job folders of a state directory that other workflows may use too.

A record that cannot be read (empty, or of a newer version) is in the way of those jobs alone whose it may be.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from snakemake_executor_plugin_ckpt.errors import StateError
from snakemake_executor_plugin_ckpt.state import durable
from snakemake_executor_plugin_ckpt.state.folder import JobFolder, job_folders

_NAMED = 3
#: A key whose readable part is longer may have been cut; see `job_key`.
_LONG = 50


@dataclass(frozen=True)
class Unread:
    """A job folder whose record cannot be read.

    Attributes
    ----------
    path
        The folder.
    why
        What is wrong, with the file's name.
    ours
        Whether it may be of this workflow.
    files
        What it makes, if that can be told all the same.
    """

    path: Path
    why: str
    ours: bool
    files: frozenset[str] | None = None

    def may_be(self, key: str, files: Collection[str], group: Collection[str]) -> bool:
        """Whether it may be the chain of a job; see `Survey.doubt`."""
        if self.path.name == key:
            return True
        if not self.ours:
            return False
        if self.files is not None:
            return not self.files.isdisjoint(files)
        # Of a larger group, of which this one is left. Its key begins with the names of its rules.
        readable = self.path.name.rpartition("-")[0]
        return bool(group) and (len(readable) > _LONG or all(_plain(rule) in _plain(readable) for rule in group))


@dataclass(frozen=True)
class Survey:
    """What is in a state directory.

    Attributes
    ----------
    makers
        The job folder that makes a file, for all files of this workflow's unfinished chains.
    unread
        The job folders of which that cannot be told.
    """

    makers: dict[str, Path]
    unread: list[Unread]

    def doubt(self, key: str, files: Collection[str], group: Collection[str]) -> Unread | None:
        """The job folder that cannot be read and may be the chain of a job, if there is one.

        Parameters
        ----------
        key
            The job's.
        files
            Absolute paths of what it makes.
        group
            The names of a group's rules; empty for a single job, whose chain is always that of its key.
        """
        own = all(file in self.makers and self.makers[file].name == key for file in files)
        return next((one for one in self.unread if one.may_be(key, files, () if own else group)), None)

    def known(self, key: str, files: Collection[str], group: Collection[str]) -> dict[str, Path]:
        """Its makers, if no other chain may make files of a job; see `doubt`.

        Raises
        ------
        StateError
            One may.
        """
        if one := self.doubt(key, files, group):
            raise StateError(
                f"{one.why}. It may be of a chain that makes this job's files: mend it, or move its folder"
            )
        return self.makers

    def passed_over(self) -> str:
        """One message on all that cannot be read; empty when all can."""
        named = "; ".join(one.why for one in self.unread[:_NAMED])
        more = f"; and {len(self.unread) - _NAMED} more" if len(self.unread) > _NAMED else ""
        return f"passed over, but for jobs of the same key or files: {named}{more}" if self.unread else ""


def survey(state_dir: Path, workdir: str) -> Survey:
    """Look at all job folders of a state directory for the workflow of a working directory."""
    found = Survey({}, [])
    for folder in job_folders(state_dir):
        try:
            job = folder.job()
        except (StateError, OSError) as error:
            found.unread.append(_unread(folder, workdir, error))
            continue
        if job is not None and job.workdir == workdir and not job.acknowledged:
            found.makers.update(dict.fromkeys(job.watched, folder.path))
    return found


def _unread(folder: JobFolder, workdir: str, error: StateError | OSError) -> Unread:
    text = str(error.strerror or error) if isinstance(error, OSError) else str(error)
    why = " ".join(f"{folder.job_file}: {text.replace(str(folder.job_file), '').lstrip(': ')}".split())
    data = {}
    with suppress(StateError, OSError):  # a newer version's is a mapping too, and has most of what we know
        data = durable.read_yaml(folder.job_file)
    place, files = data.get("workdir"), data.get("watched")
    ours = place == workdir if isinstance(place, str) else _may_work_in(folder, workdir)
    return Unread(folder.path, why, ours, frozenset(map(str, files)) if isinstance(files, list) else None)


def _may_work_in(folder: JobFolder, workdir: str) -> bool:
    """Whether a chain may be of a workflow, by its script: a job folder is for one working directory only."""
    try:
        script = folder.payload_script.read_text(errors="surrogateescape")
    except FileNotFoundError:
        return False  # it was never submitted
    except OSError:
        return True
    return "\ncd " not in script or f"\ncd {shlex.quote(workdir)} " in script


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "", text)
