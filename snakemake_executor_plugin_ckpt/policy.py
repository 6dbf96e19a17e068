"""What was decided for one job: plain data, checked once, carried to the node in job.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, Self


@dataclass(frozen=True)
class Policy:
    """How a job is cut into segments. Durations are seconds, sizes bytes.

    Attributes
    ----------
    engine, engine_place, engine_options
        The engine's name, its class (``module:Class``) and its options.
    scheduler, scheduler_place
        Who runs the segments, and its class (``module:Class``).
    walltime
        Of each segment; None means without limit.
    margin
        Factor on the measured duration of a save when the deadline is set.
    floor, ceiling
        Least and most time reserved for a save.
    grace
        Time between the scheduler's first signal and its kill.
    period
        Time between two saves of a running job: seconds, ``auto``, or None for none but at the walltime's end.
    mtbf
        Mean time between failures of a node, for ``auto``.
    keep
        Good generations kept while the job is unfinished; at least 2.
    max_segments
        Segments of one attempt after which the job is given up.
    on_unsavable
        ``run`` on to the walltime's end, or ``fail`` at once, when the tree cannot be saved.
    on_no_image
        ``restart`` from the beginning, or ``fail``, when a later segment finds no usable image.
    copy_limit
        Outputs larger than this (bytes) are not copied with the images; see `images.outputs`.
    files
        Absolute glob patterns of files and folders that the job writes besides its outputs.
    threads, mem_mb
        What the rule asks for.
    extra
        Scheduler resources of the rule, by name.
    later
        Resources of all segments but the first, by name, where they differ.
    node_property
        What the scheduler calls the kind of a node, or None.
    """

    engine: str = "criu"
    engine_place: str = ""
    engine_options: dict[str, str] = field(default_factory=dict)
    scheduler: str = "local"
    scheduler_place: str = ""
    walltime: float | None = None
    margin: float = 1.5
    floor: float = 2.0
    ceiling: float = 3600.0
    grace: float = 2.0
    period: float | Literal["auto"] | None = None
    mtbf: float = 30 * 86400.0
    keep: int = 2
    max_segments: int = 1000
    on_unsavable: str = "run"
    on_no_image: str = "restart"
    copy_limit: int = 16 << 30
    files: list[str] = field(default_factory=list)
    threads: int = 1
    mem_mb: int | None = None
    extra: dict[str, str] = field(default_factory=dict)
    later: dict[str, str] = field(default_factory=dict)
    node_property: str | None = None

    def of_later_segments(self) -> Self:
        """The policy of all segments but the first."""
        more = dict(self.later)
        walltime = float(more.pop("runtime")) * 60 if "runtime" in more else self.walltime
        mem_mb = int(float(more.pop("mem_mb"))) if "mem_mb" in more else self.mem_mb
        return replace(self, walltime=walltime, mem_mb=mem_mb, extra={**self.extra, **more})

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a record."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The policy in a record; what a newer version added is left out."""
        names = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in names})
