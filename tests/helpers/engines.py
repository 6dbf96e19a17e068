"""The engines that are registered, in every way in which they can be tried by whoever runs the tests."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from uuid import uuid4

import pytest

from helpers.waiting import LIMIT, processes_with, wait_for_text
from snakemake_executor_plugin_ckpt.engines.base import (
    Engine,
    Payload,
    Running,
    SaveStats,
    engine_names,
    find_engine,
    load_engine,
)


def variants(saving: bool) -> list[object]:
    """Parameters for tests of all engines: ``name`` or ``name-way``; only those that save if so wished."""
    found: list[object] = []
    for name in engine_names():
        if name == "criu":
            found.append(pytest.param("criu-rootless", marks=pytest.mark.criu))
            if os.getuid() == 0:
                found.append(pytest.param("criu-root", marks=[pytest.mark.criu, pytest.mark.root]))
        elif not saving or make_engine(name).can_save:
            found.append(name)
    return found


def make_engine(variant: str, **options: str) -> Engine:
    """A registered engine."""
    name, _, way = variant.partition("-")
    if way:
        options["criu-way"] = way
    return load_engine(find_engine(name), options)


class Trial:
    """One test's payloads: a context manager that leaves nothing running.

    Attributes
    ----------
    marker
        A word in the environment of all that the payload starts, to find it by in /proc.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.marker = f"ckpt-test-{uuid4().hex}"
        self.log = folder / "payload.log"
        self.engines: list[Engine] = []
        self.running: list[Running] = []
        self.images = 0

    def __enter__(self) -> Trial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for running in self.running:
            running.kill()
        for engine in self.engines:
            engine.close()

    def engine(self, variant: str, **options: str) -> Engine:
        made = make_engine(variant, **options)
        self.engines.append(made)
        return made

    def payload(self, argv: list[str], **environment: str) -> Payload:
        named = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        whole = {**named, "CKPT_TEST": self.marker, **environment}
        return Payload(argv, str(self.folder), str(self.log), whole)

    def shell(self, script: str, **environment: str) -> Payload:
        return self.payload(["/bin/bash", "-c", script], **environment)

    def python(self, code: str, *words: str, **environment: str) -> Payload:
        return self.payload([sys.executable, "-u", "-c", code, *words], **environment)

    def launch(self, engine: Engine, payload: Payload) -> Running:
        running = engine.launch(payload)
        self.running.append(running)
        return running

    def image(self) -> Path:
        """A new, empty folder for an image."""
        self.images += 1
        folder = self.folder / f"image-{self.images}"
        folder.mkdir(mode=0o700)
        return folder

    def save(
        self,
        engine: Engine,
        running: Running,
        stop: bool = True,
        frozen: Callable[[], None] = lambda: None,
        folder: Path | None = None,
    ) -> tuple[Path, SaveStats]:
        folder = folder or self.image()
        stats = engine.save(running, folder, frozen, stop, LIMIT)
        if stop:
            self.end(running)
        return folder, stats

    def restore(self, engine: Engine, folder: Path, payload: Payload, limit: float = LIMIT) -> Running:
        running = engine.restore(folder, payload, limit)
        self.running.append(running)
        return running

    def cycle(self, engine: Engine, running: Running, payload: Payload) -> Running:
        """Save and stop, then restore."""
        folder, _ = self.save(engine, running)
        return self.restore(engine, folder, payload)

    def end(self, running: Running) -> None:
        running.kill()
        self.running = [one for one in self.running if one is not running]

    def wait(self, running: Running, limit: float = LIMIT) -> int:
        """The exit status of a payload."""
        until = time.monotonic() + limit
        while (status := running.poll()) is None:
            left = until - time.monotonic()
            assert left > 0, f"the payload did not end; its log: {self.said()}"
            select.select([running.fileno()], [], [], left)
        return status

    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_said(self, text: str) -> str:
        return wait_for_text(self.log, text)

    def alive(self) -> list[int]:
        """Processes of this test's payloads."""
        return [pid for pid in processes_with(self.marker) if pid != os.getpid()]
