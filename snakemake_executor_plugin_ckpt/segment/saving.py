"""One save: engine, outputs, manifest, commit, record, in an order in which a crash between two is harmless."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.engines.base import Engine, Running, SaveStats
from snakemake_executor_plugin_ckpt.errors import EngineError, ImageRefused, StateError
from snakemake_executor_plugin_ckpt.faults import point
from snakemake_executor_plugin_ckpt.images import generations, manifest
from snakemake_executor_plugin_ckpt.images.manifest import Manifest
from snakemake_executor_plugin_ckpt.images.node import node_class
from snakemake_executor_plugin_ckpt.images.outputs import snapshot
from snakemake_executor_plugin_ckpt.images.outputs.packs import FOLDER, Packer
from snakemake_executor_plugin_ckpt.images.outputs.snapshot import Rewritten, Snapshot
from snakemake_executor_plugin_ckpt.images.outputs.table import Table
from snakemake_executor_plugin_ckpt.images.outputs.watched import Watch
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.segment import events, mistakes
from snakemake_executor_plugin_ckpt.state.folder import JobFolder
from snakemake_executor_plugin_ckpt.state.records import Job, Segment


class Saver:
    """Makes the images of one segment.

    Parameters
    ----------
    folder, job, segment
        Whose they are; the segment's record takes what was measured.
    engine
        What saves the tree.
    base
        The image that the segment began with, if what it keeps of the outputs is sound: it is not copied again.
    bad
        Generations that were refused when the segment began.
    """

    def __init__(
        self, folder: JobFolder, job: Job, segment: Segment, engine: Engine, base: int | None, bad: Collection[int]
    ) -> None:
        self.folder = folder
        self.job = job
        self.segment = segment
        self.engine = engine
        self.policy = Policy.from_dict(job.policy)
        self.watch = watch_of(folder, job, self.policy)
        self._images = folder.images_folder
        self._bad = bad
        self._careful: set[str] = set()
        self._base, self._packs = Table(), dict[str, dict[str, object]]()
        if base is not None:
            with suppress(ImageRefused, OSError):  # then everything is copied once more
                path = generations.path_of(self._images, base)
                self._packs = manifest.read(path).packs
                self._base = Table.read(path)

    def amount(self, running: Running) -> int:
        """Bytes that a save would have to handle now: what an image holds of the tree, and the outputs that changed."""
        return _resident(running) + self._changed()

    def _changed(self) -> int:
        return snapshot.changed_bytes(self.watch, self._base, self.policy.copy_limit)

    @mistakes.told()
    def save(self, running: Running, stop: bool, limit: float) -> None:
        """Save the payload as the next generation and note it in the segment's record.

        When this raises, the payload goes on and the generations are as before.

        Parameters
        ----------
        running
            The payload.
        stop
            Whether it ends with the save. If not, all that can wait is done when it runs again.
        limit
            Seconds that the engine may take.

        Raises
        ------
        Unsavable, EngineError
            See `Engine.save`.
        OSError
            The disk did not take the image.
        StateError
            The segment was declared lost meanwhile: it no longer has the right to save, and its payload none to go on.
        """
        with _while_ours(self.folder, self.segment.number, running):
            self._make(running, stop, limit)

    def _make(self, running: Running, stop: bool, limit: float) -> None:
        begin = time.monotonic()
        generation = (
            max([*generations.numbers(self._images), *self.segment.images, self.segment.restored_from or 0]) + 1
        )
        self.segment.resident = _resident(running)
        amount = self.segment.resident + self._changed()
        partial = generations.begin(self._images, generation)
        sizes = {name: int(str(entry["size"])) for name, entry in self._packs.items()}
        packer = Packer(partial, generation, self._base, sizes)
        try:
            with Snapshot(self.watch, self._base, packer, self.policy.copy_limit, self._careful) as outputs:
                stats = self._save(running, outputs, packer, partial, generation, stop, limit)
        except BaseException as error:
            if isinstance(error, Rewritten):
                self._careful.update(error.paths)
            self._clear(partial, packer.name)
            raise
        self._note(generation, amount, packer.copied, stats, time.monotonic() - begin)
        self.segment.warnings += [text for text in outputs.warnings if text not in self.segment.warnings]
        generations.retire(self._images, self.policy.keep, self._bad)

    def _save(
        self,
        running: Running,
        outputs: Snapshot,
        packer: Packer,
        partial: Path,
        generation: int,
        stop: bool,
        limit: float,
    ) -> SaveStats:
        def frozen() -> None:
            point("save.frozen")
            pids = running.pids()
            if not pids:
                raise EngineError("the payload is gone")  # its open files could not be noted
            outputs.freeze(pids)
            if not self.engine.holds(running):
                # What was noted is of a tree that ran: it does not belong to what the engine wrote.
                raise EngineError(f"{self.engine.name} died, and with it what held the payload still")
            outputs.table.write(partial)
            if stop:
                self._commit(outputs, packer, partial, generation)

        if not stop:
            outputs.survey(running.pids())
            point("save.surveyed")
        stats = self.engine.save(running, partial / generations.TREE, frozen, stop, limit)
        if not stop:
            point("save.thawed")
            self._commit(outputs, packer, partial, generation)
        return stats

    def _commit(self, outputs: Snapshot, packer: Packer, partial: Path, generation: int) -> None:
        begin = time.monotonic()
        outputs.confirm()
        packer.close()
        made = self._manifest(generation)
        live = outputs.table.live()
        made.packs = {name: entry for name, entry in self._packs.items() if name in live}
        if lost := self.folder.lost(self.segment.number):
            raise StateError(f"this segment was declared lost: {lost}")
        self.segment.bytes = generations.commit(partial, self._images, made, packer.name)
        self._base, self._packs = outputs.table, made.packs
        self.segment.commit = time.monotonic() - begin

    def _clear(self, partial: Path, pack: str) -> None:
        """Remove what is left of a save that failed, but for the engine's own logs."""
        logs = _logs(partial)
        with suppress(OSError):
            if partial.is_dir():  # not committed: its pack, if that is in its place already, is nobody's
                (self._images / FOLDER / pack).unlink(missing_ok=True)
        generations.abandon(partial)
        # Only now: on a full disk there was no space for them.
        _keep(logs, self.folder.logs_folder, self.segment.number)

    def _manifest(self, generation: int) -> Manifest:
        return Manifest(
            job=self.job.key,
            attempt=self.job.attempt,
            fingerprint=self.job.fingerprint,
            generation=generation,
            segment=self.segment.number,
            engine=self.engine.name,
            engine_version=self.engine.version(),
            node=node_class(),
            created=time.time(),
        )

    def _note(self, generation: int, amount: int, copied: int, stats: SaveStats, took: float) -> None:
        segment = self.segment
        segment.generation, segment.amount, segment.copied = generation, amount, copied
        segment.saves += 1
        segment.dump, segment.frozen, segment.took = stats.dump, stats.frozen, took
        segment.failure = segment.reason = None


def _resident(running: Running) -> int:
    return proc.resident_bytes(running.pids(), running.shm())


@contextmanager
def _while_ours(folder: JobFolder, number: int, running: Running) -> Iterator[None]:
    """Look, while a save goes on, whether the segment is declared lost, as is looked between events: saves can be long.

    In a thread of its own, since a save waits for disks. All that it does is to end the payload.

    Raises
    ------
    StateError
        It was, and the payload is ended, whatever became of the save.
    """
    over, striking = threading.Event(), threading.Lock()
    lost: list[str] = []

    def look() -> None:
        while not over.wait(events.IDLE):
            why = None
            with suppress(OSError):  # a disk that is gone says nothing
                why = folder.lost(number)
            with striking:  # never after the save, when the payload's number may be another's
                if why is not None and not over.is_set():
                    lost.append(why)
                    running.end()
                    return

    thread = threading.Thread(target=look, daemon=True)  # one that waits for the disk is not waited for
    thread.start()
    try:
        yield
    finally:
        with striking:
            over.set()
        if lost:
            raise StateError(f"this segment was declared lost: {lost[0]}")


def watch_of(folder: JobFolder, job: Job, policy: Policy) -> Watch:
    """What of a job is watched: what its rule declares, what its log takes, and its temporary files."""
    return Watch((*job.watched, str(folder.payload_log), str(folder.tmp_folder)), tuple(policy.files))


def _logs(partial: Path) -> dict[str, bytes]:
    """An engine's own logs of a save that failed, by their names."""
    found: dict[str, bytes] = {}
    with suppress(OSError):  # why the save failed is more than its log
        for log in (partial / generations.TREE).glob("*.log"):
            found[log.name] = log.read_bytes()
    return found


def _keep(logs: dict[str, bytes], folder: Path, number: int) -> None:
    with suppress(OSError):
        for name, content in logs.items():
            (folder / f"{number:04d}-failed-{name}").write_bytes(content)
