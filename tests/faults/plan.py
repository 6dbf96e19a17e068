"""What one trial is to do: plain data in a file, for the processes that take part in it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from helpers.jobs import CRIU, LOCAL

from faults.zoo import Animal
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.state.folder import JobFolder


@dataclass(frozen=True)
class Plan:
    """One trial.

    Attributes
    ----------
    base
        Its folder: all that it writes is in it.
    settings
        Of the policy, where they are not the usual ones.
    stay
        Seconds after which each segment is asked to save and to make room for the next; None: its walltime decides.
    victims
        Segments whose supervisor is killed soon after they began to compute.
    fault
        See `snakemake_executor_plugin_ckpt.faults`.
    kills
        How many processes are killed at random instants.
    seed
        Of the choice of instants and processes.
    span
        The kills fall into the first so many seconds.
    """

    base: Path
    animal: Animal
    settings: dict[str, Any] = field(default_factory=dict)
    stay: float | None = None
    victims: tuple[int, ...] = ()
    fault: str | None = None
    kills: int = 0
    seed: int = 0
    span: float = 0.0

    @property
    def work(self) -> Path:
        """The job's working directory."""
        return self.base / "work"

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.base / "state"

    @property
    def struck(self) -> Path:
        """Where fault points leave their traces."""
        return self.base / "struck"

    @property
    def scratch(self) -> Path:
        """The node's temporary folder: who is killed leaves things there."""
        return self.base / "scratch"

    @property
    def folder(self) -> JobFolder:
        """The job's folder."""
        return JobFolder(self.state / "job-1")

    @property
    def policy(self) -> Policy:
        """The job's policy."""
        return Policy(engine_place=CRIU, scheduler_place=LOCAL, **self.settings)

    @property
    def file(self) -> Path:
        """Where the plan itself is."""
        return self.base / "plan.json"

    def write(self) -> None:
        """Write the plan for the processes of the trial, and make its folders."""
        for folder in (self.work, self.state, self.struck, self.scratch):
            folder.mkdir(parents=True)
        self.file.write_text(json.dumps(asdict(self), default=str))

    @classmethod
    def read(cls, path: Path) -> Plan:
        """The plan in a file."""
        data = json.loads(path.read_text())
        animal = Animal(data["animal"]["command"], tuple(data["animal"]["watched"]))
        return cls(**{**data, "base": Path(data["base"]), "animal": animal})
