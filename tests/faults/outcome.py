"""What came of a trial, in a file of its folder."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

from faults.zoo import Result

_NAME = "outcome"


@dataclass(frozen=True)
class Outcome:
    """See the module.

    Attributes
    ----------
    trouble
        What must not have happened.
    restarts
        How often the job began from zero: right only while there was no image.
    segments, images
        How many there were.
    struck
        The times at which a fault point counted, if one was wanted.
    kills
        The roles of the processes that were killed.
    """

    result: Result
    trouble: list[str]
    restarts: int
    segments: int
    images: int
    struck: list[int]
    kills: list[str]

    def write(self, base: Path) -> None:
        """Write it."""
        (base / _NAME).write_bytes(pickle.dumps(self))

    @classmethod
    def read(cls, base: Path) -> Outcome:
        """Read it."""
        made: Outcome = pickle.loads((base / _NAME).read_bytes())
        return made
