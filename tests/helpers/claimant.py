"""``claimant.py FOLDER NAME``: does in a process of its own, on a mount of its own, what it is told on a line of stdin.

Each line is a verb and its words, each answer a line of JSON. Nothing is synced: what is raced for is who was first.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_ckpt.errors import StateError
from snakemake_executor_plugin_ckpt.schedulers.base import Allocation
from snakemake_executor_plugin_ckpt.segment import claim as segment_claim
from snakemake_executor_plugin_ckpt.state import durable, lock
from snakemake_executor_plugin_ckpt.state.folder import JobFolder
from snakemake_executor_plugin_ckpt.state.records import Job, Segment

#: Lines of a file that is replaced; large enough to be caught half-written.
LINES = 5000


class Claimant:
    """One process on one mount."""

    def __init__(self, folder: str, name: str) -> None:
        self.folder = JobFolder(Path(folder))
        self.name = name
        self.segment: Segment | None = None
        self.held: lock.JobLock | None = None

    def create(self, file: str) -> bool:
        return durable.create(self.folder.path / file, self.name.encode())

    def claim(self, number: str) -> bool:
        return self.folder.claim(Segment(int(number), 1, "local", self.name, self.name, "boot", 1, 1, 1.0))

    def begin(self, number: str) -> int | None:
        """As a supervisor does it: the next segment, whichever that is."""
        job = Job("key", "rule", "", "/", 1, "print", 1.0, {})
        try:
            self.segment, _ = segment_claim.claim(self.folder, job, "local", Allocation(f"{self.name}-{number}", None))
        except StateError:
            return None
        return self.segment.number

    def end(self) -> None:
        assert self.segment is not None
        self.folder.update(replace(self.segment, outcome="saved"))

    def intend(self, _: str) -> int:
        return self.folder.intend(1, "local", self.name).number

    def lose(self, number: str) -> str | None:
        self.folder.declare_lost(int(number), self.name)
        return self.folder.lost(int(number))

    def hold(self, times: str) -> list[tuple[float, float, int]]:
        """Take the lock so many times: from when to when, and the counter, if there is one, raised meanwhile."""
        counter = self.folder.path / "counter"
        holds = []
        for _ in range(int(times)):
            with self.folder.lock():
                begun = time.monotonic()
                value = int(counter.read_text()) + 1 if counter.exists() else 0
                time.sleep(0.002)
                if value:
                    durable.replace(counter, str(value).encode())
                holds.append((begun, time.monotonic(), value))
        return holds

    def take(self, beat: str, patience: str) -> bool:
        """Take the lock and keep it."""
        lock.BEAT = float(beat)
        self.held = lock.JobLock(self.folder.path / "lock", patience=float(patience))
        self.held.acquire()
        return True

    def give(self) -> bool:
        assert self.held is not None
        self.held.release()
        return True

    def write(self, file: str, times: str) -> None:
        for number in range(1, int(times) + 1):
            durable.replace(self.folder.path / file, f"{number:012d}\n".encode() * LINES)

    def read(self, file: str, last: str) -> list[int]:
        """How often it was read, seen half-written or absent, and seen to go back, until the last one was seen."""
        reads = halves = backward = seen = 0
        while seen < int(last):
            reads += 1
            try:
                lines = (self.folder.path / file).read_bytes().splitlines()
            except FileNotFoundError:
                lines = []
            if len(lines) != LINES or len(set(lines)) != 1:
                halves += 1
                continue
            backward += int(lines[0]) < seen
            seen = int(lines[0])
        return [reads, halves, backward]


def main() -> None:
    claimant = Claimant(*sys.argv[1:])
    os.fsync = lambda _: None  # type: ignore[assignment]
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        verb, *words = line.split()
        do: Callable[..., Any] = getattr(claimant, verb)
        print(json.dumps(do(*words)), flush=True)


if __name__ == "__main__":
    main()
