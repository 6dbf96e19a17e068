"""What a save that fails leaves behind: its own reason, the engine's logs, and nothing else."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from helpers.jobs import a_job, a_segment

from snakemake_executor_plugin_ckpt.engines.base import Running, SaveStats
from snakemake_executor_plugin_ckpt.engines.criu import CriuEngine
from snakemake_executor_plugin_ckpt.errors import EngineError, Halfway, StateError
from snakemake_executor_plugin_ckpt.images import generations, manifest
from snakemake_executor_plugin_ckpt.images.outputs.packs import FOLDER
from snakemake_executor_plugin_ckpt.segment import events
from snakemake_executor_plugin_ckpt.segment.saving import Saver
from snakemake_executor_plugin_ckpt.state.folder import JobFolder


class Payload:
    def __init__(self) -> None:
        self.ended = threading.Event()

    def pids(self) -> list[int]:
        return [os.getpid()]

    def shm(self) -> Path | None:
        return None

    def end(self) -> None:
        self.ended.set()


class Told(CriuEngine):
    """Writes a log, does something, and then raises what it is told to; else the save succeeds."""

    name = "told"
    error: Exception | None = None
    meanwhile: Callable[[], object] | None = None

    def save(self, running: Running, folder: Path, frozen: Callable[[], None], stop: bool, limit: float) -> SaveStats:
        (folder / "criu.log").write_text("Error (x): y")
        if self.meanwhile is not None:
            self.meanwhile()
        if self.error is not None:
            raise self.error
        frozen()
        return SaveStats(0.1, 0.1)

    def holds(self, running: Running) -> bool:
        return True

    def version(self) -> str:
        return "1"


class Job:
    """A job with one output, and the means to save it."""

    def __init__(self, base: Path) -> None:
        self.output = base / "output"
        self.output.write_bytes(os.urandom(100_000))
        self.folder = JobFolder(base / "job")
        self.folder.make()
        self.engine = Told({})
        job = a_job(watched=[str(self.output)])
        self.saver = Saver(self.folder, job, a_segment(), self.engine, None, [])
        self.payload = Payload()

    def save(self) -> None:
        self.saver.save(cast(Running, self.payload), False, 60.0)

    def left(self) -> list[str]:
        """Files and folders in the images folder."""
        return sorted(str(path.relative_to(self.folder.images_folder)) for path in self.folder.images_folder.iterdir())


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def test_a_save_that_fails_keeps_the_engines_log_only(job: Job) -> None:
    job.engine.error = Halfway("criu was killed")
    with pytest.raises(Halfway):
        job.save()
    assert job.left() == []
    assert (job.folder.logs_folder / "0001-failed-criu.log").read_text() == "Error (x): y"


def test_a_log_that_cannot_be_kept_hides_nothing_and_leaves_nothing(job: Job) -> None:
    job.engine.error = Halfway("criu was killed")
    shutil.rmtree(job.folder.logs_folder)
    with pytest.raises(Halfway, match="criu was killed"):
        job.save()
    assert job.left() == []


def test_a_full_disk_has_room_for_the_log_when_the_image_is_gone(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    job.engine.error = OSError(errno.ENOSPC, "full")
    write = Path.write_bytes

    def on_a_full_disk(path: Path, content: bytes) -> int:
        if job.left():
            raise OSError(errno.ENOSPC, "full")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", on_a_full_disk)
    with pytest.raises(OSError, match="full"):
        job.save()
    assert (job.folder.logs_folder / "0001-failed-criu.log").exists()


def test_kept_outputs_of_a_save_that_fails_at_its_end_are_removed(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    job.save()
    (pack,) = (job.folder.images_folder / FOLDER).iterdir()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    job.output.write_bytes(os.urandom(200_000))
    with monkeypatch.context() as patched:
        patched.setattr(manifest, "write", full)
        with pytest.raises(OSError, match="full"):
            job.save()
    assert job.left() == ["0001", FOLDER]
    assert list((job.folder.images_folder / FOLDER).iterdir()) == [pack]
    job.save()
    assert generations.numbers(job.folder.images_folder) == [1, 2]
    assert len(list((job.folder.images_folder / FOLDER).iterdir())) == 2


@pytest.mark.parametrize(
    "mistake", [UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "bad"), LookupError("x"), AssertionError()]
)
def test_a_mistake_of_ours_is_a_save_that_failed(job: Job, mistake: Exception) -> None:
    job.engine.error = mistake
    with pytest.raises(EngineError, match="please report it: " + type(mistake).__name__):
        job.save()
    assert job.left() == []


def test_a_segment_that_was_declared_lost_is_told_from_a_mistake(job: Job) -> None:
    job.folder.declare_lost(1, "its node is gone")
    with pytest.raises(StateError, match="declared lost"):
        job.save()
    assert job.left() == []


@pytest.mark.parametrize("error", [None, EngineError("the payload is gone"), OSError(errno.EIO, "gone")])
def test_a_payload_that_is_disowned_in_the_midst_of_a_long_save_is_ended_at_once(
    job: Job, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    def goes_on_till_it_is_ended() -> None:
        job.folder.declare_lost(1, "its node does not answer")
        job.payload.ended.wait(5.0)

    monkeypatch.setattr(events, "IDLE", 0.01)
    job.engine.meanwhile, job.engine.error = goes_on_till_it_is_ended, error
    with pytest.raises(StateError, match="declared lost: its node does not answer"):
        job.save()
    assert job.payload.ended.is_set(), "a successor may run by now"
    assert job.left() == []


def test_a_disk_that_is_gone_in_the_midst_of_a_save_disowns_nobody(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = threading.Semaphore(0)
    lost = JobFolder.lost

    def gone(folder: JobFolder, number: int) -> str | None:
        if threading.current_thread() is threading.main_thread():
            return lost(folder, number)
        looked.release()
        raise OSError(errno.EIO, "gone")

    monkeypatch.setattr(events, "IDLE", 0.01)
    monkeypatch.setattr(JobFolder, "lost", gone)
    job.engine.meanwhile = lambda: [looked.acquire(timeout=20.0) for _ in range(3)]
    job.save()
    assert generations.numbers(job.folder.images_folder) == [1]
    assert not job.payload.ended.is_set()


def test_nobody_is_ended_when_the_save_is_over(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer, over = threading.Event(), threading.Event(), threading.Event()
    lost = JobFolder.lost

    def slow(folder: JobFolder, number: int) -> str | None:
        if threading.current_thread() is threading.main_thread():
            return lost(folder, number)
        asked.set()
        answer.wait(20.0)
        threading.Timer(0.05, over.set).start()
        return "its node does not answer"

    monkeypatch.setattr(events, "IDLE", 0.01)
    monkeypatch.setattr(JobFolder, "lost", slow)
    job.engine.meanwhile = lambda: asked.wait(20.0)
    job.save()
    answer.set()
    assert over.wait(20.0)
    assert not job.payload.ended.is_set()
