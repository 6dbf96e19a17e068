"""The two scripts of a job folder. They hold all they need: the head and its temporary folder may be gone."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from snakemake_executor_plugin_ckpt.state import durable
from snakemake_executor_plugin_ckpt.state.folder import JobFolder

_RUN = """#!/bin/sh
# What the scheduler runs, once a segment. exec: schedulers such as OAR signal only the first process.
exec {python} -P -m snakemake_executor_plugin_ckpt.segment {folder}
"""

_PAYLOAD = """#!/bin/sh
# What is computed, and saved as a whole: this shell is the root of the tree.
cd {workdir} || exit 1
( {command} )
status=$?
# The only word that counts: on the disk under another name first, so that no half of it is ever read.
# If the disk is gone, the supervisor writes it instead: complaints do not belong into the job's own output.
{{ printf '%s\\n' "$status" > {partial} && sync {partial} && mv {partial} {exit} && sync {folder}; }} 2> /dev/null
exit "$status"
"""


def write_scripts(folder: JobFolder, workdir: str, command: str) -> None:
    """Write ``run.sh`` and ``payload.sh``.

    Parameters
    ----------
    folder
        The job's folder.
    workdir
        The workflow's working directory.
    command
        The in-job Snakemake's command line, shell code as Snakemake formats it.
    """
    quoted = {
        "python": shlex.quote(sys.executable),
        "folder": shlex.quote(str(folder.path)),
        "workdir": shlex.quote(workdir),
        "partial": shlex.quote(str(folder.exit_file.with_name(".exit.partial"))),
        "exit": shlex.quote(str(folder.exit_file)),
    }
    _write(folder.payload_script, _PAYLOAD.format(command=command, **quoted))
    _write(folder.run_script, _RUN.format(**quoted))


def _write(path: Path, text: str) -> None:
    durable.replace(path, text.encode())
    path.chmod(0o700)  # the command may hold secrets from the environment
