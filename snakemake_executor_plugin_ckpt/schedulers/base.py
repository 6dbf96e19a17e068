"""The contract of a scheduler, and where schedulers are found.

A scheduler submits, says what is alive, cancels; it has no logic of chains. It never says that a job succeeded:
that is in the job folder. On the node it says which batch job this is and when its walltime ends.
"""

from __future__ import annotations

import math
import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from snakemake_executor_plugin_ckpt import plugins
from snakemake_executor_plugin_ckpt.errors import BadSetting, SchedulerError
from snakemake_executor_plugin_ckpt.schedulers import commands

ENTRY_POINTS = "snakemake_executor_plugin_ckpt.schedulers"

#: Exit status of a segment that was saved: schedulers that can requeue by themselves (OAR, LSF -Q, local) then
#: start the next segment. OAR fixes the number (`oarsub --type idempotent`).
REQUEUE = 99
#: Exit status of a segment that could not do its work; the head decides what is next.
FAILED = 98


#: What to do instead of resources that ask for more.
ONE_TASK = "a job that is saved is one task on one node; leave it out, and use threads for more cores"
#: Values of a resource that say no.
_UNSET = ("", "0", "False", "None")


class Liveness(Enum):
    """What a scheduler says of a batch job."""

    ALIVE = "alive"  #: waiting, running, or between two segments
    GONE = "gone"
    UNKNOWN = "unknown"  #: no answer: not the same as gone


@dataclass(frozen=True)
class Request:
    """One batch job to submit. Durations in seconds.

    Attributes
    ----------
    name
        Unique among all batch jobs, so that it can be looked up when an answer is lost.
    script
        What to run; it is executed, not interpreted by the submitter.
    log
        Takes what the script itself says.
    exclude
        Nodes to avoid.
    node_class
        What the site calls the kind of node that an image needs (see `Scheduler.node_class`); None: any.
    workdir
        Where the batch job starts; its script changes into its own.
    """

    name: str
    script: Path
    log: Path
    walltime: float | None
    grace: float
    threads: int = 1
    mem_mb: int | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    exclude: Sequence[str] = ()
    node_class: tuple[str, str] | None = None
    workdir: str = "/"


@dataclass(frozen=True)
class Allocation:
    """What a segment learns on its node: its batch job's id, and its walltime's end (Unix time, s; None: never).

    The id is the one that `Scheduler.submit` gave, also where a requeue makes a new batch job of the same chain.
    """

    job_id: str
    end: float | None


class Scheduler(ABC):
    """See the module.

    Parameters
    ----------
    state_dir
        The state directory; a scheduler may keep a folder of its own in it.
    """

    name: str
    #: Whether asking costs others something, so that it is not done more often than needed.
    shared: bool = True
    #: Whether a walltime is kept to the second.
    exact: bool = False
    #: Whether SIGTSTP is its wish that the node be freed (LSF's `bstop`), and SIGCONT that the job goes on.
    suspends: bool = False
    #: Resources of a rule that it looks at, besides `runtime`, `mem_mb` and `threads`, which are for all of them.
    resources: Sequence[str] = ()
    #: Beginnings of names that nobody else has (``slurm_``): one that begins so and is unknown is a slip of the pen.
    prefixes: tuple[str, ...] = ()
    #: Resources that Snakemake's own plugin for it heeds and this one cannot, and what to do instead.
    refused: Mapping[str, str] = {}

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir

    def takes(self, resource: str) -> bool:
        """Whether a resource of a rule is for this scheduler."""
        return resource in self.resources or resource.startswith(self.prefixes)

    def refusal(self, resource: str, value: str) -> str | None:
        """What to do instead of a resource that is for this scheduler and not heeded by it; None if all is well."""
        if resource in self.refused:
            return None if value in _UNSET else self.refused[resource]
        if resource in self.resources or not self.takes(resource):
            return None
        from difflib import get_close_matches  # the node has no need of it

        near = get_close_matches(resource, self.resources, n=1, cutoff=0.8)
        known = f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(self.resources))}"
        return f"{self.name} has no such resource; {known}"

    @abstractmethod
    def missing(self) -> str | None:
        """Why this scheduler cannot be used here, and what to do; None when it can."""

    @abstractmethod
    def submit(self, request: Request) -> str:
        """Submit a batch job; its id.

        Raises
        ------
        NoAnswer
            It may have been accepted: see `find`.
        SchedulerError, BadSetting
            It was refused.
        """

    def check(self, request: Request) -> None:  # noqa: B027 - there may be nothing to look at
        """Look at a request that is not submitted yet, and ask nobody.

        Raises
        ------
        BadSetting
            A resource in it (`extra`) has a value that can never be submitted.
        """

    @abstractmethod
    def find(self, name: str) -> str | None:
        """The id of a batch job by the unique name it was submitted under, or None.

        Raises
        ------
        SchedulerError
            It cannot be known now; a `NoAnswer` if the scheduler is not there to be asked.
        """

    @abstractmethod
    def liveness(self, job_ids: Sequence[str]) -> dict[str, Liveness]:
        """What is known of batch jobs, in one query for all of them. Never raises: no answer is UNKNOWN."""

    @abstractmethod
    def cancel(self, job_ids: Sequence[str]) -> None:
        """End batch jobs; those that are gone are no error.

        Raises
        ------
        SchedulerError
            It was refused, or no answer came.
        """

    def hasten(self, job_ids: Sequence[str], exclude: Mapping[str, Sequence[str]]) -> None:  # noqa: B027 - few need it
        """Have requeued batch jobs that wait for no good reason start now, and keep them off nodes.

        Best effort, by the head, after each look; never raises.

        Parameters
        ----------
        job_ids
            Batch jobs that are alive; of those that wait, `liveness` has just seen how.
        exclude
            Of each, the nodes to avoid.
        """

    def held(self, job_ids: Sequence[str]) -> dict[str, str]:
        """Of batch jobs that do not start unless somebody sees to it: why, and what that is; as `liveness` saw them."""
        return {}

    def leave(self) -> None:
        """The head is ending: have what its other threads ask now, or submit, be left behind without an answer."""
        commands.leave()

    def requeue(self, allocation: Allocation, began: float) -> int:
        """On the node, as the last thing that a saved segment does: see to the next one; the exit status to end with.

        Parameters
        ----------
        allocation
            This batch job.
        began
            When the batch job began to run here (s, monotonic clock).
        """
        return REQUEUE

    def node_class(self, environment: Mapping[str, str], name: str) -> str | None:
        """On the node: the value that the site gives to the property `name` of this node, or None."""
        return None

    @abstractmethod
    def allocation(self, environment: Mapping[str, str]) -> Allocation:
        """On the node: which batch job this is.

        Raises
        ------
        SchedulerError
            This is not a batch job of this scheduler.
        """


def pauses(most: float, first: float = 0.1) -> Iterator[float]:
    """Seconds between questions of one who waits: ever longer, so that who asks others costs them little."""
    while True:
        yield min(most, first)
        first = min(most, 1.5 * first)


def scheduler_names() -> list[str]:
    """All schedulers that are installed."""
    return plugins.names(ENTRY_POINTS)


def find_scheduler(name: str, option: str = "--ckpt-scheduler") -> str:
    """Where a scheduler's class is; see `plugins.place_of`."""
    return plugins.place_of(ENTRY_POINTS, name, option)


def detect() -> str:
    """The scheduler of this machine: the first of a cluster's that can be used here, else ``local``."""
    for name in scheduler_names():
        if name != "local" and load_scheduler(find_scheduler(name), Path("/nonexistent")).missing() is None:
            return name
    return "local"


def load_scheduler(place: str, state_dir: Path) -> Scheduler:
    """A scheduler from its place; see `plugins.load`."""
    made: Scheduler = plugins.load(place, SchedulerError, state_dir)
    return made


# -- resources of a rule that are for a scheduler alone ----------------------------------------------------------------


def words_of(name: str, text: str) -> list[str]:
    """The words of a resource that holds further options.

    Raises
    ------
    BadSetting
        A quotation is not closed.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise BadSetting(f"resource {name}", text, f"it is not shell words: {error}") from None


def check_numbers(extra: Mapping[str, str], *names: str) -> None:
    """Refuse resources that are to be numbers and are not.

    Raises
    ------
    BadSetting
        With the first one that is not a number more than 0.
    """
    for name in names:
        if name in extra and not _is_positive(extra[name]):
            raise BadSetting(f"resource {name}", extra[name], "use a number more than 0")


def check_one_task(extra: Mapping[str, str], *names: str) -> None:
    """Refuse resources that ask for more than the one task on one node that can be saved; 0 and less: not set.

    Raises
    ------
    BadSetting
        With the first one.
    """
    for name in names:
        if not re.fullmatch(r"|0|1|-\d+", extra.get(name, "")):
            raise BadSetting(f"resource {name}", extra[name], ONE_TASK)


def _is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False
