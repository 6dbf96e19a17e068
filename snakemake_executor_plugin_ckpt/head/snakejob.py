"""What of a Snakemake job this plugin needs, as plain data. The one place that looks into Snakemake's own objects."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.state.identity import fingerprint, job_key
from snakemake_executor_plugin_ckpt.state.records import Job

_LISTED = 1000
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
#: Flags of outputs that are no files to be put back.
_NO_FILE = {"pipe", "service"}


def single_jobs(job: Any) -> list[Any]:
    """The jobs of a group, or the job itself."""
    return sorted(job.jobs, key=lambda one: str(one.name)) if job.is_group() else [job]


def wildcards_of(job: JobExecutorInterface) -> dict[str, str]:
    """The wildcards' values of a job; none for a group."""
    found = getattr(job, "wildcards_dict", None)
    return {} if job.is_group() or not found else {name: str(value) for name, value in found.items()}


def name_of(job: JobExecutorInterface) -> str:
    """The rule's name; a group's rules, without the group's own name, which is random where pipes make the group."""
    return "_".join(group_of(job)) if job.is_group() else str(job.name)


def group_of(job: JobExecutorInterface) -> list[str]:
    """The names of a group's rules; none for a job that is no group."""
    return sorted({str(one.name) for one in single_jobs(job)}) if job.is_group() else []


def key_of(job: JobExecutorInterface, workdir: str) -> str:
    """The job's stable name; see `job_key`."""
    return job_key(workdir, name_of(job), wildcards_of(job), _declared(job))


def watched_of(job: JobExecutorInterface, workdir: str) -> list[str]:
    """Absolute paths of all outputs, logs and benchmark files, those inside a group too."""
    found = set(_files(job))
    for one in single_jobs(job):
        found.update(map(str, [*one.log, *([one.benchmark] if one.benchmark else [])]))
    return sorted(os.path.join(workdir, path) for path in found)


def outputs_of(job: JobExecutorInterface, workdir: str) -> list[str]:
    """Absolute paths of all outputs that are files or folders."""
    return [os.path.join(workdir, path) for path in _files(job)]


def record_of(job: JobExecutorInterface, key: str, workdir: str, policy: Policy, hashed: str, attempt: int) -> Job:
    """What the job folder says of a job whose attempt begins now."""
    return Job(
        key=key,
        rule=name_of(job),
        wildcards=", ".join(f"{name}={value}" for name, value in wildcards_of(job).items()),
        workdir=workdir,
        attempt=attempt,
        fingerprint=hashed,
        created=time.time(),
        policy=policy.to_dict(),
        watched=watched_of(job, workdir),
    )


def give_up(job: Any) -> None:
    """Have Snakemake make no use of the job's retries: it would only fail again."""
    # Not by the property, which forgets the resources that are still to be given back.
    job._attempt = job.restart_times + 1


def outputs_exist(job: JobExecutorInterface, workdir: str) -> bool:
    """Whether all declared outputs are there, pipes and sockets apart."""
    return all(map(os.path.lexists, outputs_of(job, workdir)))


def fixed_resources(workflow: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rules that are to run, with those of their resources that are known before any job is looked at."""
    rules = {job.rule.name: job.rule for job in workflow.dag.needrun_jobs() if not job.is_local}
    for name, rule in rules.items():
        known = {key: found.value for key, found in rule.resources.items() if not found.is_evaluable()}
        yield name, {key: value for key, value in known.items() if value is not None}


def fingerprint_of(job: JobExecutorInterface, workdir: str, engine: str, made: Set[str] = frozenset()) -> str:
    """Hash of what the result depends on; an image with another one is stale. A group's is those of its jobs.

    Parameters
    ----------
    made
        Absolute paths of what the chain makes besides the job's own outputs, logs and benchmark files: whether it is
        there already says nothing of the chain's inputs.
    """
    own = {*watched_of(job, workdir), *(os.path.join(workdir, path) for path in _declared(job))}
    parts = {fingerprint({"jobs": [_parts(one, workdir, own | made)], "engine": engine}) for one in single_jobs(job)}
    return "+".join(sorted(parts))


def covers(whole: str, part: str) -> bool:
    """Whether the fingerprint of a group holds that of another group, which is what is left of it."""
    return set(part.split("+")) <= set(whole.split("+"))


def _files(job: JobExecutorInterface) -> list[str]:
    """The declared outputs that are files (or folders): a pipe cannot be put back, and is gone at the end."""
    outputs = (path for one in single_jobs(job) for path in one.output)
    return [str(path) for path in outputs if not _NO_FILE & getattr(path, "flags", {}).keys()]


def _declared(job: JobExecutorInterface) -> list[str]:
    return sorted(str(path) for one in single_jobs(job) for path in one.output)


def _parts(job: Any, workdir: str, made: Set[str]) -> dict[str, Any]:
    inputs = sorted(job.input, key=str)
    rule = job.rule
    conda = getattr(job, "conda_env", None)
    return {
        "rule": str(rule.name),
        "wildcards": {name: str(value) for name, value in (job.wildcards_dict or {}).items()},
        "shell": rule.shellcmd,
        "run": getattr(rule, "run_func_src", None),
        "script": _content(rule, "script"),
        "notebook": _content(rule, "notebook"),
        "wrapper": str(getattr(rule, "wrapper", None)),
        # Their text, as Snakemake compares them too; derived ones hold temporary paths.
        "params": sorted(map(_text, job.non_derived_params)),
        "inputs": [_stamp(path, workdir, made) for path in inputs],
        "conda": conda.content.decode(errors="replace") if conda else None,
        "container": str(job.container_img_url),
        "threads": job.threads,
    }


def _content(rule: Any, kind: str) -> str | None:
    """Checksum of a script's text; its path alone where it is no plain local file."""
    name = getattr(rule, kind, None)
    if not name:
        return None
    with suppress(OSError, AttributeError, TypeError, ValueError):
        path = Path(str(rule.basedir.join(name).get_path_or_uri(secret_free=False)))
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return str(name)


def _text(value: Any) -> str:
    """A param's text, the same for every head: sets have no order, and objects lie elsewhere in each process."""
    if isinstance(value, set | frozenset):
        return str(sorted(map(_text, value)))
    if isinstance(value, dict):
        return str([(_text(key), _text(item)) for key, item in value.items()])
    if isinstance(value, list | tuple):
        return str([_text(item) for item in value])
    return _ADDRESS.sub("", repr(value))


def _stamp(path: Any, workdir: str, made: Set[str]) -> list[Any]:
    name, full = str(path), os.path.join(workdir, str(path))
    # ancient(): whether and when it changed is to be of no effect.
    if full in made or getattr(path, "is_ancient", False):
        return [name, None]
    try:
        if os.path.isdir(full):
            return [name, sorted(_listing(os.scandir(full), made))]
        found = os.stat(full)
    except OSError:
        return [name, None]  # in a remote storage
    return [name, found.st_size, found.st_mtime_ns]


def _listing(entries: Iterable[os.DirEntry[str]], made: Set[str]) -> Iterator[tuple[str, int, int]]:
    """What is in an input folder, less what the job itself puts there."""
    for number, entry in enumerate(entries):
        if number >= _LISTED:
            return
        if not entry.name.startswith(".snakemake") and not any(
            path == entry.path or path.startswith(entry.path + "/") for path in made
        ):
            found = entry.stat(follow_symlinks=False)
            yield entry.name, found.st_size, found.st_mtime_ns
