"""What is seen of a chain while it goes on: payloads that live, images that are there."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from faults import tree
from snakemake_executor_plugin_ckpt.images import generations
from snakemake_executor_plugin_ckpt.state.folder import JobFolder

_TICK = 0.02


@dataclass
class Seen:
    """See the module.

    Attributes
    ----------
    committed
        When (Unix time, s) each generation was first seen.
    trouble
        What must never be seen.
    """

    committed: dict[int, float] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)


class Observer:
    """Looks at a trial again and again; a context manager."""

    def __init__(self, folder: JobFolder) -> None:
        self.seen = Seen()
        self._folder = folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Observer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(_TICK):
            self._look_at_payloads()
            self._look_at_images()

    def _look_at_payloads(self) -> None:
        if len(tree.worlds(tree.members())) < 2:
            return
        # A look takes a moment, in which one may have ended and the next begun; a second look cannot err so.
        both = tree.worlds(tree.members())
        if len(both) > 1:
            self._say(f"{len(both)} payloads live at once")

    def _look_at_images(self) -> None:
        numbers = generations.numbers(self._folder.images_folder)
        now = time.time()
        for number in numbers:
            if number in self.seen.committed:
                continue
            if self.seen.committed and number != max(self.seen.committed) + 1:
                self._say(f"image {number} follows image {max(self.seen.committed)}")
            self.seen.committed[number] = now
        if self.seen.committed and not numbers and not self._folder.exit_file.exists():
            self._say("no image is left, and the job is not over")

    def _say(self, text: str) -> None:
        if text not in self.seen.trouble:
            self.seen.trouble.append(text)
