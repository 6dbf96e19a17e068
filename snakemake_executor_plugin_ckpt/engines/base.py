"""The contract of an engine, and where engines are found.

An engine is four verbs over a process tree and keeps no state of its own: what a restore needs is in the image
folder. It knows nothing of schedulers, of Snakemake or of the job folder.

``probe``
    Whether this node can save and restore, or why not.
``launch``
    Start a payload.
``save``
    Freeze the tree, write it into a folder, and, still frozen, call ``frozen``. If that returns, the tree is
    ended (``stop``) or goes on; if it raises, the tree goes on as if nothing had been. So the caller can commit
    the image before the only other copy of the work is gone. **A save that fails leaves the payload running.**
``restore``
    Bring a tree back from a folder. A restore that fails leaves nothing running and the folder as it was.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from snakemake_executor_plugin_ckpt import plugins
from snakemake_executor_plugin_ckpt.errors import EngineError

ENTRY_POINTS = "snakemake_executor_plugin_ckpt.engines"


@dataclass(frozen=True)
class Payload:
    """What to compute.

    Attributes
    ----------
    argv
        The command; the first word is an absolute path.
    directory
        Its working directory.
    log
        File that takes stdout and stderr, appended to over all segments.
    environment
        Its whole environment.
    """

    argv: list[str]
    directory: str
    log: str
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Probe:
    """Whether an engine can work here.

    Attributes
    ----------
    usable
        Whether it can.
    way
        How (an engine may have several), for a reader.
    version
        Of the program behind it.
    problems
        Why not, or what is limited; a line each, with who can mend it.
    """

    usable: bool
    way: str = ""
    version: str = ""
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SaveStats:
    """What a save took, in seconds: to write the tree (`dump`), and with the payload stopped (`frozen`)."""

    dump: float
    frozen: float


class Running(Protocol):
    """A payload that runs."""

    def fileno(self) -> int:
        """A descriptor that becomes readable when `poll` has news."""

    def poll(self) -> int | None:
        """The payload's exit status once it ended (minus the signal's number if one killed it), else None.

        Raises
        ------
        EngineError
            The tree is gone, and not by its own end (the node's memory ran out, an administrator's kill).
        """

    def pids(self) -> list[int]:
        """The tree's processes, by their numbers on the node."""

    def shm(self) -> Path | None:
        """Where a /dev/shm that is the tree's alone, all of which goes into an image, is seen from outside, if any."""

    def end(self) -> None:
        """End the whole tree at once; may be called in another thread, before `kill`, which is to come all the same."""

    def kill(self) -> None:
        """End the whole tree at once and wait until it is gone."""


class Engine(ABC):
    """See the module."""

    name: str
    can_save: bool = True

    def __init__(self, options: Mapping[str, str]) -> None:
        self.options = options

    def close(self) -> None:  # noqa: B027 - most engines keep nothing
        """Remove what the engine keeps on this node outside the image folders."""

    @abstractmethod
    def probe(self) -> Probe:
        """Whether this node can save and restore: shown by doing both on a small tree."""

    @abstractmethod
    def version(self) -> str:
        """What an image of this engine says it was made with.

        Raises
        ------
        EngineError
            The engine's program is absent or unusable; the message says who can mend it.
        """

    @abstractmethod
    def launch(self, payload: Payload) -> Running:
        """Start a payload.

        Raises
        ------
        EngineError
            It could not be started here.
        """

    @abstractmethod
    def unsavable(self, running: Running) -> list[str]:
        """What in the tree is known to make a save fail: a line each with process, thing and way out."""

    @abstractmethod
    def save(self, running: Running, folder: Path, frozen: Callable[[], None], stop: bool, limit: float) -> SaveStats:
        """Write the tree into an empty folder.

        Parameters
        ----------
        running
            A payload that this engine launched or restored.
        folder
            Takes the engine's files.
        frozen
            Called while the tree is stopped and its files are complete (not yet on the disk for good).
        stop
            Whether the tree ends with the save.
        limit
            Seconds after which the save is given up.

        Raises
        ------
        Unsavable
            The tree holds what this engine cannot save.
        EngineError
            The save failed otherwise; trying again may help.
        """

    @abstractmethod
    def holds(self, running: Running) -> bool:
        """Whether the whole tree stands still, held by the save that is under way, and has since it was stopped.

        To be asked in ``frozen``, after the tree's files were noted: the engine's program may have been killed
        meanwhile, which lets the tree go on.
        """

    @abstractmethod
    def restore(self, folder: Path, payload: Payload, limit: float) -> Running:
        """Bring the tree in a folder back.

        Raises
        ------
        EngineError
            It could not be restored here; nothing of it runs.
        """


def engine_names() -> list[str]:
    """All engines that are installed."""
    return plugins.names(ENTRY_POINTS)


def find_engine(name: str, option: str = "--ckpt-engine") -> str:
    """Where an engine's class is; see `plugins.place_of`."""
    return plugins.place_of(ENTRY_POINTS, name, option)


def load_engine(place: str, options: Mapping[str, str]) -> Engine:
    """An engine from its place; see `plugins.load`."""
    made: Engine = plugins.load(place, EngineError, options)
    return made
