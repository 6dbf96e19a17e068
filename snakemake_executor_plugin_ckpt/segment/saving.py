"""One save: engine, outputs, manifest, commit, record, in an order in which a crash between two is harmless."""

from __future__ import annotations

import time
from pathlib import Path

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.engines.base import Engine, Running
from snakemake_executor_plugin_ckpt.errors import StateError
from snakemake_executor_plugin_ckpt.images import generations, outputs
from snakemake_executor_plugin_ckpt.images.manifest import Manifest
from snakemake_executor_plugin_ckpt.images.node import node_class
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.state.folder import JobFolder
from snakemake_executor_plugin_ckpt.state.records import Job, Segment


def save(
    folder: JobFolder, job: Job, segment: Segment, engine: Engine, running: Running, stop: bool, limit: float
) -> None:
    """Save the payload as the next generation and note it in the segment's record.

    When this raises, the payload goes on and the generations are as before.

    Raises
    ------
    Unsavable, EngineError
        See `Engine.save`.
    OSError
        The disk did not take the image.
    StateError
        The segment was declared lost meanwhile: it no longer has the right to save.
    """
    generation = (generations.numbers(folder.images_folder) or [0])[-1] + 1
    pids = running.pids()
    resident = proc.resident_bytes(pids)
    partial = generations.begin(folder.images_folder, generation)
    took: dict[str, float] = {}

    def commit() -> None:
        begin = time.monotonic()
        if lost := folder.lost(segment.number):
            raise StateError(f"this segment was declared lost: {lost}")
        outputs.snapshot([*job.watched, str(folder.payload_log)], running.pids(), partial)
        segment.bytes = generations.commit(partial, folder.images_folder, _manifest(job, segment, engine, generation))
        took["commit"] = time.monotonic() - begin

    try:
        stats = engine.save(running, partial / generations.TREE, commit, stop, limit)
    except BaseException:
        _keep_logs(partial, folder.logs_folder, segment.number)
        generations.abandon(partial)
        raise
    segment.generation, segment.resident = generation, resident
    segment.saves += 1
    segment.dump, segment.frozen, segment.commit = stats.dump, stats.frozen, took["commit"]
    segment.failure = segment.reason = None
    generations.retire(folder.images_folder, Policy.from_dict(job.policy).keep)


def _manifest(job: Job, segment: Segment, engine: Engine, generation: int) -> Manifest:
    return Manifest(
        job=job.key,
        attempt=job.attempt,
        fingerprint=job.fingerprint,
        generation=generation,
        segment=segment.number,
        engine=engine.name,
        engine_version=engine.version(),
        node=node_class(),
        created=time.time(),
    )


def _keep_logs(partial: Path, logs: Path, number: int) -> None:
    """An engine's own logs of a save that failed outlive the folder."""
    for log in (partial / generations.TREE).glob("*.log"):
        (logs / f"{number:04d}-failed-{log.name}").write_bytes(log.read_bytes())
