"""The records of a job folder as plain data, to and from YAML. Unknown keys are kept: a newer version wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

from snakemake_executor_plugin_ckpt.errors import StateError

#: Version of the records' schema. A reader refuses a newer one.
SCHEMA = 1

Outcome = Literal["running", "finished", "saved", "failed"]

#: Why a segment failed, as `chain.decide` tells them apart.
Failure = Literal["unsavable", "refused", "restore", "killed", "walltime", "stuck", "error"]


@dataclass
class Record:
    """What all records share."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the schema's version first; fields that are None are left out."""
        own = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "unknown"}
        known = {name: value for name, value in own.items() if value is not None}
        return {"schema": SCHEMA, **known, **getattr(self, "unknown", {})}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The record in plain data.

        Raises
        ------
        StateError
            A newer schema, or a field that must be there is missing.
        """
        schema = data.get("schema", 0)
        if not isinstance(schema, int) or schema > SCHEMA:
            raise StateError(
                f"written by a newer version (schema {schema}, this one knows {SCHEMA}): update the plugin"
            )
        names = {item.name for item in fields(cls)} - {"unknown"}
        known = {name: value for name, value in data.items() if name in names}
        unknown = {name: value for name, value in data.items() if name not in names and name != "schema"}
        try:
            return cls(**{**known, "unknown": unknown})
        except TypeError as error:
            raise StateError(f"incomplete record: {error}") from error


@dataclass
class Segment(Record):
    """One stay of a job on a node. Times are Unix seconds, durations seconds, sizes bytes.

    Attributes
    ----------
    useful
        Seconds in which the payload ran.
    took, frozen, dump, commit
        Of the save: all of it; payload stopped; engine writing; checksums, fsync and manifest.
    verify, restore
        Of the restore: checksums and rollback; engine.
    resident, amount, copied
        At the save: what the image holds of the tree (memory, /dev/shm, nameless files); the same with the outputs
        that had changed; what of them was copied.
    restored_from, generation
        The image it began with, and the newest that it wrote.
    images
        All that it wrote, each with the seconds in which the payload had run till then.
    submission
        The newest submission that there was when it began.
    init, init_start
        The first process of the payload's world: the payload is gone when this one is. See `proc.ProcessId`.
    save_given, save_amount
        While a save goes on that the walltime may cut off: the seconds that it has, and the bytes that it handles.
    """

    number: int
    attempt: int
    scheduler: str
    job_id: str
    host: str
    boot: str
    pid: int
    pid_start: int
    started: float
    walltime_end: float | None = None
    node: dict[str, Any] = field(default_factory=dict)
    outcome: Outcome = "running"
    failure: Failure | None = None
    reason: str | None = None
    exit: int | None = None
    ended: float | None = None
    restored_from: int | None = None
    generation: int | None = None
    saves: int = 0
    bytes: int | None = None
    resident: int | None = None
    amount: int | None = None
    copied: int | None = None
    took: float | None = None
    frozen: float | None = None
    dump: float | None = None
    commit: float | None = None
    verify: float | None = None
    restore: float | None = None
    startup: float | None = None
    useful: float = 0.0
    parked: bool | None = None
    submission: int | None = None
    init: int | None = None
    init_start: int | None = None
    save_given: float | None = None
    save_amount: int | None = None
    images: dict[int, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    unknown: dict[str, Any] = field(default_factory=dict)


@dataclass
class Submission(Record):
    """One batch job that was, or was about to be, submitted; `job_id` None means that the answer never came.

    Attributes
    ----------
    void
        Why it is known that there is no such batch job: what the scheduler said when it refused it; empty when there
        was no answer, and later none of that name.
    """

    number: int
    attempt: int
    name: str
    scheduler: str
    submitted: float
    job_id: str | None = None
    reason: str | None = None
    void: str | None = None
    unknown: dict[str, Any] = field(default_factory=dict)


@dataclass
class Job(Record):
    """What a job is; written once per attempt.

    Attributes
    ----------
    watched
        Declared outputs, logs and benchmark files, absolute: what a restore must find as the save left it.
    acknowledged
        Whether a head told Snakemake of the success.
    since
        Segments up to this one no longer speak against going on: the user ran the workflow again.
    submitted
        The newest submission at that time, which speaks against nothing either.
    policy
        See `snakemake_executor_plugin_ckpt.policy.Policy`.
    """

    key: str
    rule: str
    wildcards: str
    workdir: str
    attempt: int
    fingerprint: str
    created: float
    policy: dict[str, Any]
    watched: list[str] = field(default_factory=list)
    acknowledged: bool | None = None
    since: int | None = None
    submitted: int | None = None
    unknown: dict[str, Any] = field(default_factory=dict)
