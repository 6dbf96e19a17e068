"""Whether a rule's `ckpt_files` would also stand for files of other jobs, which must never be."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from snakemake_executor_plugin_ckpt.errors import BadSetting


def check_files(patterns: Iterable[str], rule: str, mine: Iterable[str], jobs: Iterable[Any], workdir: str) -> None:
    """Refuse patterns that cover what another job reads or writes.

    Parameters
    ----------
    patterns
        Absolute, of one job.
    rule
        Its rule, for the message.
    mine
        Absolute paths of its own outputs, logs and benchmark files.
    jobs
        All jobs of the workflow.
    workdir
        The working directory.

    Raises
    ------
    BadSetting
        With the first file that is another job's.
    """
    patterns, own = list(patterns), set(mine)
    if not patterns:
        return
    for job in jobs:
        for path in (*job.input, *job.output, *job.log):
            full = os.path.join(workdir, str(path))
            found = next((pattern for pattern in patterns if full not in own and covers(pattern, full)), None)
            if found is not None:
                raise BadSetting(
                    f"rule {rule}, resource ckpt_files",
                    os.path.relpath(found, workdir),
                    f"it also stands for {path} of rule {job.rule.name}, which would be removed or put back with this "
                    "job's own files: make it narrower",
                )


def covers(pattern: str, path: str) -> bool:
    """Whether a pattern stands for a file, or for a folder that it is in."""
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}/*")
