"""`ckpt list`: all jobs of a state directory, a line each, and their totals."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from snakemake_executor_plugin_ckpt.cli import facts, view
from snakemake_executor_plugin_ckpt.cli.text import page_width, plural, table
from snakemake_executor_plugin_ckpt.units import format_duration, format_size

_HEAD = ("job", "att", "seg", "saves", "images", "computing", "lost", "state")
_RIGHT = range(1, 7)


def run(arguments: argparse.Namespace) -> int:
    """Print the list; 1 if a job folder could not be read, else 0."""
    path = facts.existing_state_dir(arguments.state_dir)
    found, unreadable = facts.read_all(path)
    now = time.time()
    jobs = [view.summary(one, now) for one in found]
    if arguments.json:
        print(json.dumps(as_json(path, jobs, unreadable), indent=2))
    else:
        print("\n".join(as_text(path, jobs, page_width())))
    for folder, reason in unreadable.items():
        print(f"ckpt: {folder} cannot be read: {reason}", file=sys.stderr)
    return 1 if unreadable else 0


def as_json(path: Path, jobs: Sequence[view.Summary], unreadable: dict[str, str]) -> dict[str, object]:
    """The list as plain data; see `view.Summary` and `view.Totals` for the fields."""
    return {
        "schema": 1,
        "state_dir": str(path),
        "jobs": [asdict(job) for job in jobs],
        "totals": asdict(view.totals(jobs)),
        "unreadable": [{"folder": folder, "reason": reason} for folder, reason in unreadable.items()],
    }


def as_text(path: Path, jobs: Sequence[view.Summary], width: int) -> list[str]:
    """The list for a reader, lines of at most `width` characters where names allow it."""
    if not jobs:
        return [f"no jobs in {path}"]
    return [*table(_HEAD, [_row(job) for job in jobs], _RIGHT, width), "", _totals(view.totals(jobs))]


def _row(job: view.Summary) -> tuple[str, ...]:
    return (
        job.name,
        str(job.attempt),
        str(job.segments),
        str(job.saves),
        f"{job.images}, {format_size(job.image_bytes)}" if job.images else "-",
        format_duration(job.computing_seconds),
        format_duration(job.lost_seconds),
        job.state.words,
    )


def _totals(all_of_them: view.Totals) -> str:
    states = ", ".join(f"{number} {name}" for name, number in sorted(all_of_them.states.items()))
    return (
        f"{plural(all_of_them.jobs, 'job')} ({states}), {plural(all_of_them.segments, 'segment')}, "
        f"{plural(all_of_them.saves, 'save')}, {format_duration(all_of_them.lost_seconds)} lost"
    )
