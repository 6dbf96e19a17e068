"""What `ckpt verify-fs` has each of its processes do: create, lock, write and read, all at once, and count.

No clock is compared: who was first is told by what is in the files, by counters that only one may raise at a time,
and, between processes of one host, by memory that they share.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.state import durable

if TYPE_CHECKING:
    from snakemake_executor_plugin_ckpt.state.lock import JobLock

#: Names that are raced for in one trial, at most: they all have to be removed again.
MOST_NAMES = 100_000
#: Lines of a file that is replaced again and again; large enough for a reader to catch it half-written.
_LINES = 600
_PAUSE = 0.001
_ERRORS = 5
#: Seconds that a worker goes on at most after the trial should be over, whatever became of its parent.
_OVERTIME = 120.0


@dataclass
class Counts:
    """What one process did and saw.

    Attributes
    ----------
    worker, host
        Which one, and where.
    won, tried
        Names that it created, and how many it tried to.
    holds, overlaps
        Values to which it raised the counter, each under the lock; how often somebody else was inside too.
    written
        Replacements of its own file.
    reads, torn, older, absent
        Of files that others replace: how often read, half-written, older than acknowledged or seen before, not there.
    stale_handles
        Reads that ended with ESTALE, which NFS may do and is no violation.
    errors
        What else went wrong, the first few.
    """

    worker: str
    host: str
    won: list[int] = field(default_factory=list)
    tried: int = 0
    holds: list[int] = field(default_factory=list)
    overlaps: int = 0
    written: int = 0
    reads: int = 0
    torn: int = 0
    older: int = 0
    absent: int = 0
    stale_handles: int = 0
    errors: list[str] = field(default_factory=list)


class Place:
    """Where each thing of a trial is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trial = folder / "trial"
        self.names = folder / "names"
        self.files = folder / "files"
        self.results = folder / "results"
        self.parties = folder / "parties"
        self.calls = folder / "calls"
        self.answers = folder / "answers"
        self.delays = folder / "delays"
        self.features = folder / "features"
        self.counter = folder / "counter"
        self.inside = folder / "inside"

    def make(self) -> None:
        """Create the folder and all in it."""
        shared = (self.names, self.files, self.results, self.parties, self.calls, self.answers, self.delays)
        for path in (self.folder, *shared, self.features):
            durable.make_folder(path)
        durable.replace(self.counter, b"0\n")

    def lock(self) -> JobLock:
        """The lock of the trial, of the kind that heads take on a job folder."""
        from snakemake_executor_plugin_ckpt.state.lock import JobLock  # loads slowly

        return JobLock(self.folder / "lock", poll=0.01)


class Workers:
    """The processes of this host, started at once and stopped together.

    Parameters
    ----------
    place
        The trial.
    party
        Name of this host's share in it; the workers are numbered behind it.
    number
        How many.
    seconds
        How long the trial is to last.
    """

    def __init__(self, place: Place, party: str, number: int, seconds: float) -> None:
        # By fork: a fresh interpreter would take longer to start than the trial lasts.
        context = multiprocessing.get_context("fork")
        self._stop = context.Event()
        acknowledged = context.Array("Q", number)
        self.names = [f"{party}.{index}" for index in range(number)]
        self._processes: list[BaseProcess] = [
            context.Process(
                target=_work, args=(place, self.names, index, acknowledged, self._stop, seconds), daemon=True
            )
            for index in range(number)
        ]
        for process in self._processes:
            process.start()

    def alive(self) -> bool:
        """Whether any of them still works."""
        return any(process.is_alive() for process in self._processes)

    def stop(self, limit: float = 30.0) -> None:
        """Have them write down what they saw, and end."""
        self._stop.set()
        until = time.monotonic() + limit
        for process in self._processes:
            process.join(max(0.0, until - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


def _work(place: Place, names: list[str], index: int, acknowledged: Any, stop: Any, seconds: float) -> None:
    """One process: four threads, each doing one thing till the stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which stops all
    parent, until = os.getppid(), time.monotonic() + seconds + _OVERTIME
    worker = Worker(place, names, index, acknowledged)
    threads = [
        threading.Thread(target=worker.guarded, args=(task,), daemon=True)
        for task in (worker.create, worker.hold, worker.write, worker.read)
    ]
    for thread in threads:
        thread.start()
    while not stop.wait(0.2):
        if os.getppid() != parent or time.monotonic() > until:
            break
    worker.over.set()
    for thread in threads:
        thread.join()
    content = json.dumps(asdict(worker.counts)).encode()
    with suppress(FileNotFoundError):  # the trial was given up, and its folder is gone
        durable.replace(place.results / worker.name, content)


class Worker:
    """What the threads of one process do, and their counts.

    Parameters
    ----------
    place
        The trial.
    names, index
        The workers of this host, and which of them this is.
    acknowledged
        For each of them the newest number that it wrote and was told to be on the disk.
    """

    def __init__(self, place: Place, names: list[str], index: int, acknowledged: Any) -> None:
        self.place = place
        self.name = names[index]
        self.over = threading.Event()
        self.counts = Counts(self.name, proc.host_name())
        self._index = index
        self._here = {name: number for number, name in enumerate(names)}
        self._acknowledged = acknowledged

    def guarded(self, task: Callable[[], None]) -> None:
        """Do one thing till the end; what ends it before is noted."""
        try:
            task()
        except Exception as error:  # whatever it is, it belongs in the report and not on the terminal
            if len(self.counts.errors) < _ERRORS:
                self.counts.errors.append(f"{task.__name__}: {type(error).__name__}: {error}")

    def create(self) -> None:
        """Race for names, one after the other; whoever loses one goes on to the next."""
        taken = [int(name) for name in os.listdir(self.place.names) if name.isdigit()]
        number = max(taken, default=-1) + 1
        while not self.over.is_set() and number < MOST_NAMES:
            self.counts.tried += 1
            if durable.create(self.place.names / f"{number:06d}", self.name.encode()):
                self.counts.won.append(number)
            number += 1

    def hold(self) -> None:
        """Take the lock, raise the counter by one, and see whether one is alone."""
        from filelock import Timeout

        lock = self.place.lock()
        while not self.over.is_set():
            try:
                lock.acquire(timeout=1)
            except Timeout:
                continue
            try:
                self._inside()
            finally:
                lock.release()
            time.sleep(_PAUSE)

    def _inside(self) -> None:
        alone = durable.create(self.place.inside, self.name.encode()) or self._mine()
        if not alone:
            self.counts.overlaps += 1
        try:
            value = int(self.place.counter.read_bytes()) + 1
            durable.replace(self.place.counter, f"{value}\n".encode())
            self.counts.holds.append(value)
        except FileNotFoundError:
            self.counts.absent += 1
        finally:
            if alone:
                self.place.inside.unlink(missing_ok=True)

    def _mine(self) -> bool:
        """Whether it is one's own after all: NFS repeats a request whose answer was lost, and then it is there."""
        with suppress(FileNotFoundError):
            return self.place.inside.read_bytes() == self.name.encode()
        return False

    def write(self) -> None:
        """Replace one's own file again and again, and say each time that it is done."""
        number = 0
        while not self.over.is_set():
            number += 1
            durable.replace(self.place.files / self.name, content(self.name, number))
            self._acknowledged[self._index] = number
            self.counts.written += 1
            time.sleep(_PAUSE)

    def read(self) -> None:
        """Read everybody's file again and again: whole, and never older than acknowledged or seen before."""
        seen: dict[str, int] = {}
        while not self.over.is_set():
            for name in os.listdir(self.place.files):
                if not name.startswith("."):
                    self._look(name, seen)
            time.sleep(_PAUSE)

    def _look(self, name: str, seen: dict[str, int]) -> None:
        least = seen.get(name, 0)
        if name in self._here:
            least = max(least, self._acknowledged[self._here[name]])
        try:
            found = (self.place.files / name).read_bytes()
        except OSError as error:
            if error.errno == errno.ESTALE:
                self.counts.stale_handles += 1
            elif error.errno == errno.ENOENT:
                self.counts.absent += 1
            else:
                raise
            return
        self.counts.reads += 1
        number = number_in(name, found)
        if number is None:
            self.counts.torn += 1
            return
        if number < least:
            self.counts.older += 1
        seen[name] = max(number, least)


def content(name: str, number: int) -> bytes:
    """A file of which each part tells what the whole should be."""
    return f"{name} {number:012d}\n".encode() * _LINES


def number_in(name: str, found: bytes) -> int | None:
    """The number of a file as `content` made it; None when it is not whole."""
    try:
        number = int(found.partition(b"\n")[0].split()[-1])
    except (IndexError, ValueError):
        return None
    return number if found == content(name, number) else None
