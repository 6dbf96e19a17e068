"""How a segment begins: by restoring the newest good image, else by starting the payload."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence

from snakemake_executor_plugin_ckpt.engines.base import Engine, Payload, Running
from snakemake_executor_plugin_ckpt.errors import CkptError, EngineError, ImageRefused
from snakemake_executor_plugin_ckpt.images import generations, outputs
from snakemake_executor_plugin_ckpt.images.manifest import Manifest, Wanted
from snakemake_executor_plugin_ckpt.images.node import node_class
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.state.folder import JobFolder
from snakemake_executor_plugin_ckpt.state.records import Failure, Job, Segment
from snakemake_executor_plugin_ckpt.units import format_duration

#: Restores of one image that may fail (on different nodes where the scheduler has them) before the one before is tried.
TRIES = 2


class CannotBegin(CkptError):
    """The segment ends before the payload runs; `failure` is for `chain.decide`."""

    def __init__(self, failure: Failure, reason: str) -> None:
        super().__init__(reason)
        self.failure = failure


def begin(
    folder: JobFolder, job: Job, segment: Segment, history: Sequence[Segment], engine: Engine, limit: float
) -> Running:
    """Restore or start the payload; what was done is noted in the segment's record.

    Parameters
    ----------
    history
        The earlier segments of this attempt.
    limit
        Seconds that a restore may take.

    Raises
    ------
    CannotBegin
        Neither is possible, or starting again is not allowed.
    """
    payload = _payload(folder, job)
    manifest, refused = _choose(folder, job, segment, history, engine)
    segment.warnings += refused
    if manifest is not None:
        return _restore(folder, segment, engine, payload, manifest, limit)
    if history:
        _start_again(folder, Policy.from_dict(job.policy), segment, history, refused)
    try:
        return engine.launch(payload)
    except EngineError as error:
        raise CannotBegin("error", f"the job could not be started on {segment.host}: {error}") from error


def _choose(
    folder: JobFolder, job: Job, segment: Segment, history: Sequence[Segment], engine: Engine
) -> tuple[Manifest | None, list[str]]:
    start = time.monotonic()
    wanted = Wanted(job.key, job.attempt, job.fingerprint, engine.name, node_class())
    chosen = generations.choose(folder.images_folder, wanted, _newest_worth_trying(history))
    segment.verify = time.monotonic() - start
    return chosen


def _newest_worth_trying(history: Sequence[Segment]) -> int | None:
    """The image before the one whose restores failed `TRIES` times in a row; None: any."""
    failed: list[int] = []
    for earlier in reversed(history):
        if earlier.failure != "restore" or earlier.restored_from is None:
            break
        failed.append(earlier.restored_from)
    return failed[0] - 1 if failed and failed.count(failed[0]) >= TRIES else None


def _restore(
    folder: JobFolder, segment: Segment, engine: Engine, payload: Payload, manifest: Manifest, limit: float
) -> Running:
    image = generations.path_of(folder.images_folder, manifest.generation)
    segment.restored_from = manifest.generation
    start = time.monotonic()
    try:
        segment.warnings += outputs.rollback(image)
        running = engine.restore(image / generations.TREE, payload, limit)
    except (EngineError, ImageRefused, OSError) as error:
        raise CannotBegin(
            "restore", f"image {manifest.generation} could not be restored on {segment.host}: {error}"
        ) from error
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
    if folder.payload_log.exists():
        folder.payload_log.rename(folder.logs_folder / f"payload.before-{segment.number:04d}.log")


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
