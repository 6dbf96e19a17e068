"""How a segment begins: by restoring the newest good image, else by starting the payload."""

from __future__ import annotations

import errno
import itertools
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from snakemake_executor_plugin_ckpt import faults
from snakemake_executor_plugin_ckpt.engines.base import Engine, Payload, Running
from snakemake_executor_plugin_ckpt.errors import CkptError, EngineError, ImageRefused, StateError
from snakemake_executor_plugin_ckpt.images import generations
from snakemake_executor_plugin_ckpt.images.generations import Refused
from snakemake_executor_plugin_ckpt.images.manifest import Manifest, Wanted
from snakemake_executor_plugin_ckpt.images.node import node_class
from snakemake_executor_plugin_ckpt.images.outputs import rollback
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.segment.claim import outlive
from snakemake_executor_plugin_ckpt.state import durable
from snakemake_executor_plugin_ckpt.state.folder import JobFolder
from snakemake_executor_plugin_ckpt.state.records import Failure, Job, Segment
from snakemake_executor_plugin_ckpt.units import format_duration

#: Restores of one image that may fail (on different nodes where the scheduler has them), or nodes that it may not fit,
#: before the one before is tried.
TRIES = 2
#: Seconds that criu may take at least for a restore, and bytes a second that the slowest disk gives.
_RESTORE_LEAST, _RESTORE_RATE = 60.0, 5e6


def job_of(folder: JobFolder) -> Job:
    """The job of a folder.

    Raises
    ------
    OSError
        The disk is absent.
    StateError
        The folder is there and holds no job: that is a mistake.
    """
    os.stat(folder.path)
    job = folder.job()
    if job is None:
        raise StateError(f"{folder.path} is not a job folder (no job.yaml)")
    return job


class CannotBegin(CkptError):
    """The segment ends before the payload runs; `failure` is for `chain.decide`."""

    def __init__(self, failure: Failure, reason: str) -> None:
        super().__init__(reason)
        self.failure = failure


@dataclass(frozen=True)
class Begun:
    """A segment whose payload runs.

    Attributes
    ----------
    base
        The image it was restored from, if what that keeps of the outputs is sound.
    bad
        Images that were refused.
    """

    running: Running
    base: int | None = None
    bad: frozenset[int] = frozenset()


@dataclass
class _Chosen:
    """The image that will be restored, how its files are put back, why each newer one was refused, and what to tell."""

    manifest: Manifest | None = None
    plan: rollback.Plan | None = None
    sound: bool = True
    refused: Refused = field(default_factory=Refused)
    told: list[str] = field(default_factory=list)


def begin(
    folder: JobFolder,
    job: Job,
    segment: Segment,
    history: Sequence[Segment],
    engine: Engine,
    limit: float,
    insist: bool = False,
) -> Begun:
    """Restore or start the payload; what was done is noted in the segment's record.

    Parameters
    ----------
    history
        The earlier segments of this attempt.
    limit
        Seconds that a restore may take.
    insist
        Whether an older image is no substitute for one that cannot be read now.

    Raises
    ------
    CannotBegin
        Neither is possible, or starting again is not allowed.
    OSError
        Images cannot be read now, which is no reason to begin anew. Nothing was done.
    """
    outlive(folder, segment, history)
    payload = _payload(folder, job)
    start = time.monotonic()
    chosen = _choose(folder, job, history, engine)
    segment.verify = time.monotonic() - start
    if chosen.refused.unreadable and (insist or chosen.manifest is None):
        raise OSError(errno.EIO, "images cannot be read now, and nothing is begun anew: " + "; ".join(chosen.told))
    segment.warnings += chosen.told
    bad = frozenset(chosen.refused.reasons)
    if chosen.refused.elsewhere and (chosen.manifest is None or _may_fit_elsewhere(chosen, history)):
        # To go back, or to begin anew, would throw away what another node can go on with.
        raise CannotBegin("restore", f"the newest images do not fit {segment.host}: " + "; ".join(chosen.told))
    if chosen.manifest is not None and chosen.plan is not None:
        running = _restore(folder, segment, engine, payload, chosen.manifest, chosen.plan, limit)
        return Begun(running, chosen.manifest.generation if chosen.sound else None, bad)
    if history:
        _start_again(folder, Policy.from_dict(job.policy), segment, history, chosen.told)
    faults.point("launch.begin")
    try:
        running = engine.launch(payload)
    except EngineError as error:
        raise CannotBegin("error", f"the job could not be started on {segment.host}: {error}") from error
    faults.point("launch.done")
    return Begun(running, bad=bad)


def _choose(folder: JobFolder, job: Job, history: Sequence[Segment], engine: Engine) -> _Chosen:
    """The newest image that is whole, and whose files can be put back."""
    wanted = Wanted(job.key, job.attempt, job.fingerprint, engine.name, node_class())
    newest = _newest_worth_trying(history)
    told: list[str] = []
    # When none is left: one whose copies of outputs are damaged will do if the outputs themselves still are as they
    # were. That is better than to begin again.
    looks = [(True, newest), (False, newest)]
    if newest is not None:
        looks.append((True, None))  # so is another try of one whose restores failed; `chain.decide` ends them
    for sound, bound in looks:
        chosen = _Chosen(sound=sound)
        for manifest in generations.usable(folder.images_folder, wanted, bound, chosen.refused, with_packs=sound):
            try:
                chosen.plan = rollback.plan(generations.path_of(folder.images_folder, manifest.generation))
            except (ImageRefused, OSError) as error:
                chosen.refused.add(manifest.generation, error)
                continue
            chosen.manifest = manifest
            break
        # The second look leaves out what the first one found.
        told = told or chosen.refused.lines()
        chosen.told = told
        if chosen.manifest is not None:
            break
    os.stat(folder.images_folder)  # a disk that went away meanwhile has no images either
    return chosen


def _may_fit_elsewhere(chosen: _Chosen, history: Sequence[Segment]) -> bool:
    """Whether an image newer than the chosen one fits other nodes, and not yet `TRIES` of them were tried in a row."""
    assert chosen.manifest is not None
    waits = itertools.takewhile(lambda one: one.failure == "restore" and one.restored_from is None, reversed(history))
    return max(chosen.refused.elsewhere) > chosen.manifest.generation and len(list(waits)) < TRIES


def _newest_worth_trying(history: Sequence[Segment]) -> int | None:
    """The image before the one whose restores failed `TRIES` times in a row; None: any."""
    failed: list[int] = []
    for earlier in reversed(history):
        if earlier.failure != "restore":
            break
        if earlier.restored_from is not None:  # else none fitted that node
            failed.append(earlier.restored_from)
    return failed[0] - 1 if failed and failed.count(failed[0]) >= TRIES else None


def _restore(
    folder: JobFolder,
    segment: Segment,
    engine: Engine,
    payload: Payload,
    manifest: Manifest,
    plan: rollback.Plan,
    limit: float,
) -> Running:
    image = generations.path_of(folder.images_folder, manifest.generation)
    segment.restored_from = manifest.generation
    start = time.monotonic()
    # criu can wait for ever for a process that was killed in the midst of its own restore.
    size = sum(int(entry["size"]) for entry in manifest.files.values())
    limit = min(limit, _RESTORE_LEAST + size / _RESTORE_RATE)
    try:
        faults.point("rollback.begin")
        plan.apply()
        segment.warnings += plan.reasons()
        faults.point("rollback.done")
        running = engine.restore(image / generations.TREE, payload, limit)
    except (EngineError, ImageRefused, OSError) as error:
        raise CannotBegin(
            "restore", f"image {manifest.generation} could not be restored on {segment.host}: {error}"
        ) from error
    faults.point("restore.done")
    segment.restore = time.monotonic() - start
    return running


def _start_again(
    folder: JobFolder, policy: Policy, segment: Segment, history: Sequence[Segment], refused: list[str]
) -> None:
    lost = sum(map(_computed, history))
    why = "; ".join(refused) or "nothing had been saved yet"
    if policy.on_no_image == "fail":
        raise CannotBegin("error", f"there is no image to restore ({why}), and --ckpt-on-no-image is fail")
    segment.warnings.append(
        f"started again from the beginning, up to {format_duration(lost)} of computing are lost: {why}"
    )
    faults.point("again.begin")
    if folder.payload_log.exists():
        folder.payload_log.rename(folder.logs_folder / f"payload.before-{segment.number:04d}.log")
    # What it left there is as unknown to the one that begins anew as outputs, which the in-job Snakemake removes.
    durable.remove_tree(folder.tmp_folder)
    durable.make_folder(folder.tmp_folder)


def _computed(segment: Segment) -> float:
    """Seconds that a segment computed; at most, for one whose end nobody noted."""
    if segment.outcome != "running":
        return segment.useful
    return max(0.0, min(time.time(), segment.walltime_end or math.inf) - segment.started)


def _payload(folder: JobFolder, job: Job) -> Payload:
    # Temporary files must be there on the next node too; the scheduler's own variables are of this segment only,
    # but a restored process keeps those of the first, so nothing in the payload may rest on them.
    environment = {**os.environ, "TMPDIR": str(folder.tmp_folder)}
    return Payload(["/bin/sh", str(folder.payload_script)], job.workdir, str(folder.payload_log), environment)
