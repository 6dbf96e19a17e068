"""`ckpt doctor`: whether this node can save and restore jobs, shown by doing it, and what is missing if not."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.cli import checks, facts
from snakemake_executor_plugin_ckpt.cli.checks import Check
from snakemake_executor_plugin_ckpt.cli.text import WIDTH, page_width, wrap
from snakemake_executor_plugin_ckpt.engines.base import Engine, Probe, find_engine, load_engine

_SIGNS = {"ok": "ok", "warning": "WARNING", "problem": "PROBLEM"}
_INDENT = 30
_RIGHTS = {
    "rootless": "as an ordinary user, in namespaces of your own; no admin is needed",
    "capabilities": "by the file capabilities that an admin gave to criu",
    "root": "as root",
}


@dataclass(frozen=True)
class Report:
    """What was found; `way` and `version` are of the engine that was tried."""

    host: str
    user: int
    way: str
    version: str
    checks: list[Check]

    @property
    def usable(self) -> bool:
        """Whether jobs can be saved here."""
        return all(one.status != "problem" for one in self.checks)


def run(arguments: argparse.Namespace) -> int:
    """Examine this node; 0 if it can be used, else 1."""
    options = {"criu": arguments.criu, "criu-way": arguments.criu_way}
    report = examine({name: value for name, value in options.items() if value}, facts.state_dir(arguments.state_dir))
    if arguments.json:
        print(json.dumps(as_json(report), indent=2))
    else:
        print("\n".join(as_text(report, page_width())))
    return 0 if report.usable else 1


def examine(
    options: Mapping[str, str], state_dir: Path, engine: Engine | None = None, proc_sys: Path = Path("/proc/sys")
) -> Report:
    """All checks.

    Parameters
    ----------
    options
        Of the engine.
    state_dir
        Where job folders are, or would be.
    engine
        What is to be tried; CRIU with the options if None.
    proc_sys
        Where the kernel's settings are read.
    """
    means = [checks.kernel(), checks.user_namespaces(proc_sys), checks.ptrace(proc_sys)]
    program = [checks.criu(options)] if engine is None else []
    if any(one.status == "problem" for one in program):
        probe, trial = Probe(False), _not_tried(program[0])
    else:
        engine = engine or load_engine(find_engine("criu"), options)
        probe, trial = checks.trial(engine, options.get("criu-way", "auto"), means)
    if probe.usable:
        means = [_without_harm(one, probe.way) for one in means]
    found = [checks.python(), *means, *program, trial, *checks.state_dir(state_dir)]
    return Report(proc.host_name(), os.getuid(), probe.way, probe.version, found)


def _not_tried(cause: Check) -> Check:
    return Check("save and restore", "problem", "not tried", f"first mend {cause.name}", cause.who)


def _without_harm(check: Check, way: str) -> Check:
    """What the way that works does without is no problem of this user, though it may be another's."""
    if check.status != "problem":
        return check
    return replace(check, status="warning", found=f"{check.found}; the way {way} works all the same")


def as_json(report: Report) -> dict[str, object]:
    """The report as plain data; see `Report` and `checks.Check` for the fields."""
    return {"schema": 1, "usable": report.usable, **asdict(report)}


def as_text(report: Report, width: int = WIDTH) -> list[str]:
    """The report for a reader, in lines of `width` characters where words allow it, the verdict last."""
    lines = []
    for one in report.checks:
        lines += wrap(f"{_SIGNS[one.status]:<8} {one.name + ':':<20} {one.found}", width, _INDENT)
        for detail in one.details:
            lines += wrap(f"{'':{_INDENT}}- {detail}", width, _INDENT + 2)
        if one.remedy:
            lines += wrap(f"{'':{_INDENT}}to do ({one.who}): {one.remedy}", width, _INDENT)
    return [*lines, "", *wrap(_verdict(report), width)]


def _verdict(report: Report) -> str:
    if report.usable:
        rights = f" ({_RIGHTS[report.way]})" if report.way in _RIGHTS else ""
        return f"{report.host} can save and restore jobs, by the way {report.way}{rights}."
    problems = [one for one in report.checks if one.status == "problem"]
    who = " and ".join(sorted({one.who for one in problems}, reverse=True))
    return (
        f"{report.host} cannot save and restore jobs yet: {', '.join(one.name for one in problems)}; for {who} to mend."
    )
