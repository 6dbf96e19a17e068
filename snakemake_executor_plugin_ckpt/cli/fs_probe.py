"""What `ckpt verify-fs` finds out apart from the race: what the file system can do, and how late a change is seen."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from snakemake_executor_plugin_ckpt.state import durable

if TYPE_CHECKING:
    from snakemake_executor_plugin_ckpt.cli.fs_trial import Place

#: ``FICLONE`` of ioctl_ficlonerange(2): the two files share their blocks.
_FICLONE = 0x40049409
_PAUSE = 0.005
#: Seconds after which a host that answered nothing is taken for one that sees nothing.
_DEAF = 10.0


# -- what it can do ---------------------------------------------------------------------------------------------------


def features(folder: Path) -> dict[str, bool]:
    """What a file system can do, tried out in a new folder."""
    here, there = folder / "here", folder / "there"
    durable.make_folder(here)
    durable.make_folder(there)
    file = here / "file"
    file.write_bytes(b"x" * 65536)
    return {
        "hard_links": _works(lambda: _linked(file, here / "link")),
        "hard_links_across_folders": _works(lambda: _linked(file, there / "link")),
        "fsync_file": _works(lambda: _synced(file)),
        "fsync_folder": _works(lambda: _synced(here)),
        "reflink": _works(lambda: _cloned(file, here / "clone")),
    }


def _works(attempt: Callable[[], bool]) -> bool:
    try:
        return attempt()
    except OSError:
        return False


def _linked(file: Path, link: Path) -> bool:
    os.link(file, link)
    return not link.is_symlink() and os.path.samestat(file.lstat(), link.lstat())


def _synced(path: Path) -> bool:
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
    return True


def _cloned(file: Path, clone: Path) -> bool:
    with open(file, "rb") as source, open(clone, "wb") as target:
        fcntl.ioctl(target, _FICLONE, source.fileno())
    return True


# -- how late a change is seen ----------------------------------------------------------------------------------------


class Echo:
    """A thread that calls the other parties of a trial, and answers their calls.

    A call is a file replaced, an answer a file that was looked for and not found until then: the two that a cache of a
    network file system shows late. The time is taken where the call came from, so no clocks are compared.

    Parameters
    ----------
    place
        The trial.
    party
        Name of this host's share in it.
    """

    def __init__(self, place: Place, party: str) -> None:
        self._place = place
        self._party = party
        self._over = threading.Event()
        self._heard: dict[str, str] = {}
        self._known: set[str] = set()
        self._waits: dict[str, float] = {}
        self._delays: list[float] = []
        self._error = ""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it, and write down what it saw."""
        self._over.set()
        self._thread.join()
        now = time.monotonic()
        late = {party: now - since for party, since in self._waits.items() if now - since > _DEAF}
        said = {"delays": [*self._delays, *late.values()], "error": self._error}
        with suppress(FileNotFoundError):  # the trial was given up
            durable.replace(self._place.delays / self._party, json.dumps(said).encode())

    def _run(self) -> None:
        number = 0
        try:
            while not self._over.is_set():
                number += 1
                self._call(number)
        except OSError as error:
            self._error = f"visibility: {type(error).__name__}: {error}"

    def _call(self, number: int) -> None:
        """Call, and wait for the answers of all others that there are; meanwhile they are answered."""
        durable.replace(self._place.calls / self._party, str(number).encode())
        begun = time.monotonic()
        while not self._over.is_set():
            others = self._answer()
            for other in others:
                # who has only just come was not there to hear the call
                self._waits.setdefault(other, begun if other in self._known else time.monotonic())
            self._known.update(others)
            for other in [name for name in self._waits if self._answered(number, name)]:
                self._delays.append(time.monotonic() - self._waits.pop(other))
            if others and not self._waits:
                break
            self._over.wait(_PAUSE)

    def _answer(self) -> list[str]:
        others = [name for name in os.listdir(self._place.calls) if name[0] != "." and name != self._party]
        for other in others:
            with suppress(FileNotFoundError):
                number = (self._place.calls / other).read_text()
                if number != self._heard.get(other):
                    durable.create(self._place.answers / f"{other}.{number}.{self._party}", b"")
                    self._heard[other] = number
        return others

    def _answered(self, number: int, other: str) -> bool:
        answer = self._place.answers / f"{self._party}.{number}.{other}"
        if not answer.exists():
            return False
        answer.unlink(missing_ok=True)
        return True
