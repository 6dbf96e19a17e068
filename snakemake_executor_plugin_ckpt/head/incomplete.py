"""Outputs that are half written because their job is not over: our chains go on with them, and nobody is asked.

Snakemake marks the outputs of a job when it starts, and refuses to build its plan when it finds a marked file that no
running head accounts for, unless it was called with ``--rerun-incomplete``. It does so before it makes the executor.
To remove our marks would be wrong: they are what keeps a Snakemake with another executor from taking half a file for
a result. So the marks stay, and for the files of our unfinished chains alone Snakemake does what the option has it do
for all files: it plans their jobs, and the executor attaches to the chains.

Nothing in the executor interface allows to say this, so one method of Snakemake's is wrapped, and only in a process
that was called with ``--executor ckpt``. Where Snakemake has no such method the option remains to be given.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from snakemake_executor_plugin_ckpt.errors import CkptError

_METHOD = "incomplete_files"
_LOGGER = logging.getLogger("snakemake.logging")  # Snakemake's own


def attach_without_asking(settings: type[Any]) -> None:
    """Have Snakemake plan the jobs of our unfinished chains as with ``--rerun-incomplete``; once in a process.

    Parameters
    ----------
    settings
        The class of our settings: only workflows that run with an instance of it are changed in any way.
    """
    # Not imported: a process without it runs no workflow, and the module can only be loaded after others.
    plan = getattr(sys.modules.get("snakemake.dag"), "DAG", None)
    found = getattr(plan, _METHOD, None)
    if not inspect.iscoroutinefunction(found) or hasattr(found, "__wrapped__"):
        return

    @functools.wraps(found)
    async def incomplete_files(dag: Any) -> list[Any]:
        files = await found(dag)
        used = dag.workflow.executor_settings
        if not files or not isinstance(used, settings) or dag.workflow.dag_settings.force_incomplete:
            return list(files)
        ours = _resumable(dag, files, used)
        dag.forcefiles.update(ours)
        return [file for file in files if file not in ours]

    setattr(plan, _METHOD, incomplete_files)


def _resumable(dag: Any, files: Sequence[Any], settings: Any) -> set[Any]:
    """Those of the files that an unfinished chain makes, and whose job would come to our executor again."""
    from snakemake_executor_plugin_ckpt.head import chains, preflight

    workdir = os.getcwd()
    try:
        found = chains.survey(preflight.state_dir_of(settings.state_dir, workdir), workdir)
    except (CkptError, OSError) as error:
        _LOGGER.warning(f"ckpt: whether unfinished jobs make what is incomplete cannot be told: {error}")
        return set()
    local = {file for job in dag.jobs if job.is_local for file in job.output}
    ours = {file for file in files if os.path.join(workdir, str(file)) in found.makers and file not in local}
    if len(ours) < len(files):  # Snakemake is about to refuse: then the executor, which would say it, is never made
        for one in found.unread:
            if one.ours:
                _LOGGER.warning(f"ckpt: whether an unfinished job makes what is incomplete cannot be told: {one.why}")
    return ours
