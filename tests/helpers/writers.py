"""A working directory, the images of what is written in it, and live processes that write."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from snakemake_executor_plugin_ckpt.images import generations, manifest
from snakemake_executor_plugin_ckpt.images.manifest import Manifest
from snakemake_executor_plugin_ckpt.images.outputs import rollback
from snakemake_executor_plugin_ckpt.images.outputs.packs import Packer
from snakemake_executor_plugin_ckpt.images.outputs.snapshot import Snapshot
from snakemake_executor_plugin_ckpt.images.outputs.table import Table
from snakemake_executor_plugin_ckpt.images.outputs.watched import Watch

#: No file of a test is larger, unless it says so.
LIMIT = 1 << 30


class Writer:
    """A live process that has a file open as `f` and does what it is told."""

    def __init__(self, path: Path, mode: str) -> None:
        code = (
            "import mmap, os, sys\nf = open(sys.argv[1], sys.argv[2], buffering=0)\nprint(1, flush=True)\n"
            "for line in sys.stdin:\n exec(line)\n print(1, flush=True)"
        )
        argv = [sys.executable, "-c", code, str(path), mode]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._done()

    @property
    def pid(self) -> int:
        return self.process.pid

    def does(self, statement: str) -> None:
        assert self.process.stdin is not None
        print(statement, file=self.process.stdin, flush=True)
        self._done()

    def _done(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "1\n"

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def nothing() -> None:
    """What a test does between two steps of a save if it does not say."""


class Place:
    """See the module.

    Attributes
    ----------
    copied
        Bytes that the last save copied.
    warnings
        What the last save said.
    """

    def __init__(self, base: Path, limit: int = LIMIT) -> None:
        self.work = base / "work"
        self.images = base / "images"
        self.work.mkdir()
        self.images.mkdir()
        self.limit = limit
        self.writers: list[Writer] = []
        self.copied = 0
        self.warnings: list[str] = []

    def writer(self, name: str, mode: str) -> Writer:
        self.writers.append(Writer(self.work / name, mode))
        return self.writers[-1]

    def save(
        self,
        *names: str,
        patterns: tuple[str, ...] = (),
        survey: bool = False,
        before: Callable[[], object] = nothing,
        after: Callable[[], object] = nothing,
        careful: tuple[str, ...] = (),
    ) -> int:
        """Commit the next generation; something may happen between its survey, its freeze and its confirmation."""
        last = (generations.numbers(self.images) or [0])[-1]
        base, known = Table(), dict[str, dict[str, int]]()
        if last:
            path = generations.path_of(self.images, last)
            base, known = Table.read(path), manifest.read(path).packs
        watch = Watch(tuple(str(self.work / name) for name in names), tuple(str(self.work / one) for one in patterns))
        partial = generations.begin(self.images, last + 1)
        packer = Packer(partial, last + 1, base, {name: entry["size"] for name, entry in known.items()})
        always = [str(self.work / name) for name in careful]
        with Snapshot(watch, base, packer, self.limit, always) as snapshot:
            if survey:
                snapshot.survey(writer.pid for writer in self.writers)
            before()
            snapshot.freeze([writer.pid for writer in self.writers])
            snapshot.table.write(partial)
            after()
            snapshot.confirm()
        live = snapshot.table.live()
        shared = {name: entry for name, entry in known.items() if name in live}
        made = Manifest("key", 1, "fp", last + 1, 1, "criu", "4.2", {}, 1.5, packs=shared)
        generations.commit(partial, self.images, made, packer.name)
        generations.sweep(self.images)
        self.copied, self.warnings = packer.copied, snapshot.warnings
        return last + 1

    def rollback(self, generation: int = 1) -> list[str]:
        plan = rollback.plan(generations.path_of(self.images, generation))
        plan.apply()
        return plan.reasons()

    def content(self) -> dict[str, bytes | None]:
        """All that is in the working directory; None for folders."""
        return {
            str(path.relative_to(self.work)): path.read_bytes() if path.is_file() else None
            for path in self.work.rglob("*")
        }

    def end(self) -> None:
        for writer in self.writers:
            writer.end()


def append(path: Path, content: bytes) -> None:
    """Make a file longer."""
    with open(path, "ab") as file:
        file.write(content)


def overwrite(path: Path, where: int, content: bytes) -> None:
    """Change a file in place."""
    with open(path, "r+b") as file:
        file.seek(where)
        file.write(content)
