"""`ckpt verify-fs DIR`: whether a file system keeps the promises that jobs rest on, measured, on one host or two."""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.cli.checks import file_system
from snakemake_executor_plugin_ckpt.cli.facts import UsageError
from snakemake_executor_plugin_ckpt.cli.fs_trial import Counts, Place, Workers
from snakemake_executor_plugin_ckpt.cli.text import page_width, plural, wrap
from snakemake_executor_plugin_ckpt.errors import StateError
from snakemake_executor_plugin_ckpt.state import durable

_PREFIX = "ckpt-trial-"
_TOKEN = re.compile(rf"{_PREFIX}[0-9a-f]{{12}}")
_POLL = 0.1
#: Seconds for which one host waits for the other's results, or for the verdict; a cache may hide them for a minute.
_PATIENCE = 90.0
#: Seconds for which the folder is left to those who joined, to read the verdict in.
_SEEN = 15.0


@dataclass(frozen=True)
class Report:
    """What was measured.

    Attributes
    ----------
    token, directory, file_system, seconds
        The trial, where, on what (as this host mounted it), and for how long.
    hosts
        Processes that took part, by host.
    names, tries, two_winners, no_winner
        Exclusive creation: names, tries for them, names that more than one process created, and that none did.
    holds, overlaps, lost_updates
        The lock: how often held, how often by two at once, and how often a counter raised under it was read as it
        had been before an acknowledged replacement.
    replacements, reads, torn, older, absent, stale_handles
        Replacing: files replaced and read, reads that were half-written, older than acknowledged, or found nothing;
        and reads that failed with ESTALE, which is no violation.
    errors
        What kept processes from measuring.
    """

    token: str
    directory: str
    file_system: str
    seconds: float
    hosts: dict[str, int]
    names: int
    tries: int
    two_winners: int
    no_winner: int
    holds: int
    overlaps: int
    lost_updates: int
    replacements: int
    reads: int
    torn: int
    older: int
    absent: int
    stale_handles: int
    errors: list[str]

    @property
    def violations(self) -> int:
        """Times that a promise was broken."""
        creation = self.two_winners + self.no_winner
        return creation + self.overlaps + self.lost_updates + self.torn + self.older + self.absent

    @property
    def measured(self) -> bool:
        """Whether there was enough to judge by."""
        return not self.errors and min(self.names, self.holds, self.replacements, self.reads) > 0


def run(arguments: argparse.Namespace) -> int:
    """Measure, or take part in a trial; 0 if all promises were kept, else 1."""
    directory = Path(os.path.abspath(os.path.expanduser(arguments.dir)))
    if not directory.is_dir():
        raise UsageError(f"there is no folder {directory}")
    if arguments.join:
        report = join(directory, arguments.join, arguments.processes)
    else:
        report = measure(directory, arguments.seconds, arguments.processes)
    if arguments.json:
        print(json.dumps(as_json(report), indent=2))
    else:
        print("\n".join(as_text(report, page_width())))
    return 0 if report.measured and not report.violations else 1


def measure(directory: Path, seconds: float, processes: int) -> Report:
    """Hold a trial, with whoever joins it; its folder is removed.

    Parameters
    ----------
    directory
        On the file system in question.
    seconds
        How long to measure.
    processes
        How many are to work on this host.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    token = _PREFIX + secrets.token_hex(6)
    place = Place(directory / token)
    try:
        place.make()
        _say(place, {"seconds": seconds})
        print(
            f"measuring for {seconds:g} s with {plural(processes, 'process', 'processes')}; to have a second host take "
            f"part, run there meanwhile:\n  ckpt verify-fs {directory} --join {token}",
            file=sys.stderr,
            flush=True,
        )
        _take_part(place, processes, seconds, lambda begun: time.monotonic() - begun >= seconds)
        _say(place, {"over": True})
        counts, errors = _collect(place)
        report = _report(directory, token, seconds, counts, errors, _created(place))
        _say(place, {"report": asdict(report)})
        _until_seen(place)
        return report
    finally:
        durable.remove_tree(place.folder)


def join(directory: Path, token: str, processes: int) -> Report:
    """Take part in a trial that another host holds; the report is the one that it makes.

    Raises
    ------
    UsageError
        There is no such trial, or it is over.
    StateError
        The other host is gone.
    """
    place = Place(directory / token)
    if not _TOKEN.fullmatch(token) or not place.trial.is_file():
        raise UsageError(f"there is no trial {token!r} in {directory}: is it over, or is this another file system?")
    seconds = float(_said(place)["seconds"])
    begun = time.monotonic()
    party = _take_part(place, processes, seconds, lambda _: _over(place) or _gone(begun, seconds))
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        with suppress(OSError):
            if "report" in (said := _said(place)):
                with suppress(FileNotFoundError):
                    (place.parties / party).unlink()
                kind = file_system(directory, Path("/proc/self/mountinfo").read_text())
                return Report(**said["report"] | {"file_system": kind})
        if not place.folder.exists():
            break
        time.sleep(_POLL)
    raise StateError(f"the host that holds the trial {token} gave no report: it was ended, or is gone")


def _over(place: Place) -> bool:
    try:
        return "over" in _said(place)
    except OSError:
        return True


def _gone(begun: float, seconds: float) -> bool:
    return time.monotonic() - begun > seconds + _PATIENCE


# -- what the hosts tell one another ------------------------------------------------------------------------------


def _say(place: Place, what: dict[str, Any]) -> None:
    """Tell the other hosts: in one file that only grows, since opening a file asks the server how it is by now."""
    with open(place.trial, "ab") as file:
        file.write(json.dumps(what).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _said(place: Place) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for line in place.trial.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):  # else it is still being written
            with suppress(ValueError):
                said |= json.loads(line)
    return said


def _listed(folder: Path) -> list[str]:
    """The names in a folder; a change of one's own has the cache of a network file system ask the server."""
    durable.replace(folder / ".look", b"")
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def _take_part(place: Place, processes: int, seconds: float, over: Callable[[float], bool]) -> str:
    """Work until it is over; the name under which this host took part."""
    party = f"{proc.host_name()}.{os.getpid()}"
    durable.replace(place.parties / party, f"{processes}\n".encode())
    if "over" in _said(place):
        with suppress(FileNotFoundError):
            (place.parties / party).unlink()
        raise UsageError(f"the trial {place.folder.name} is over")
    workers = Workers(place, party, processes, seconds)
    begun = time.monotonic()
    try:
        while workers.alive() and not over(begun):
            time.sleep(min(_POLL, seconds))
    finally:
        workers.stop()
    return party


def _collect(place: Place) -> tuple[list[Counts], list[str]]:
    """What all processes saw, and which did not say."""
    until = time.monotonic() + _PATIENCE
    while True:
        expected = {
            f"{party}.{index}"
            for party in _listed(place.parties)
            for index in range(int((place.parties / party).read_text() or 0))
        }
        missing = sorted(expected - set(_listed(place.results)))
        mine = f"{proc.host_name()}.{os.getpid()}."
        if not missing or all(name.startswith(mine) for name in missing) or time.monotonic() > until:
            break
        time.sleep(_POLL)
    counts = [Counts(**json.loads((place.results / name).read_bytes())) for name in _listed(place.results)]
    errors = [f"process {name} gave no result" for name in missing]
    return counts, errors + [f"{one.host}: {error}" for one in counts for error in one.errors]


def _created(place: Place) -> set[int]:
    return {int(name) for name in os.listdir(place.names) if name.isdigit()}


def _until_seen(place: Place) -> None:
    """Leave the folder until those who joined have the report; each takes its name away."""
    until, mine = time.monotonic() + _SEEN, f"{proc.host_name()}.{os.getpid()}"
    while set(_listed(place.parties)) - {mine} and time.monotonic() < until:
        time.sleep(_POLL)


# -- the report ---------------------------------------------------------------------------------------------------


def _report(
    directory: Path, token: str, seconds: float, counts: Sequence[Counts], errors: list[str], created: set[int]
) -> Report:
    winners = Counter(number for one in counts for number in one.won)
    # Whose process gave no result may have won what nobody says he won.
    silent = any(error.endswith("gave no result") for error in errors)
    return Report(
        token=token,
        directory=str(directory),
        file_system=file_system(directory, Path("/proc/self/mountinfo").read_text()),
        seconds=seconds,
        hosts=dict(Counter(one.host for one in counts)),
        names=len(created),
        tries=sum(one.tried for one in counts),
        two_winners=sum(number > 1 for number in winners.values()),
        no_winner=0 if silent else len(created - winners.keys()),
        holds=sum(len(one.holds) for one in counts),
        overlaps=sum(one.overlaps for one in counts),
        lost_updates=_repeated(value for one in counts for value in one.holds),
        replacements=sum(one.written for one in counts),
        reads=sum(one.reads for one in counts),
        torn=sum(one.torn for one in counts),
        older=sum(one.older for one in counts),
        absent=sum(one.absent for one in counts),
        stale_handles=sum(one.stale_handles for one in counts),
        errors=errors,
    )


def _repeated(values: Iterable[int]) -> int:
    return sum(number - 1 for number in Counter(values).values())


def as_json(report: Report) -> dict[str, object]:
    """The report as plain data; see `Report` for the fields."""
    return {"schema": 1, "ok": report.measured and not report.violations, **asdict(report)}


def as_text(report: Report, width: int) -> list[str]:
    """The report for a reader, the verdict last."""
    hosts = ", ".join(f"{host} ({plural(number, 'process', 'processes')})" for host, number in report.hosts.items())
    rows = [
        ("file system", f"{report.file_system}, {report.directory}"),
        (plural(len(report.hosts), "host"), hosts),
        (
            "creation",
            f"{plural(report.names, 'name')}, {report.tries} tries: {report.two_winners} with more than one winner, "
            f"{report.no_winner} with none",
        ),
        (
            "lock",
            f"held {report.holds} times: {plural(report.overlaps, 'overlap')}, "
            f"{plural(report.lost_updates, 'lost update')} of a counter",
        ),
        (
            "replacement",
            f"{report.replacements} replaced, {report.reads} read: {report.torn} half-written, {report.older} older "
            f"than acknowledged, {report.absent} absent",
        ),
    ]
    if report.stale_handles:
        rows.append(("note", f"{report.stale_handles} reads failed with ESTALE, as NFS may; a second try helps"))
    rows += [("PROBLEM", error) for error in report.errors]
    lines = [line for name, text in rows for line in wrap(f"{name + ':':<14}{text}", width, 14)]
    return [*lines, "", *wrap(_verdict(report), width)]


def _verdict(report: Report) -> str:
    if report.violations:
        return (
            f"{plural(report.violations, 'violation')}: two segments of one job could run at once here, or a record "
            "be read wrongly. Use another file system (--state-dir)."
        )
    if not report.measured:
        return "Nothing can be said: not all of it could be measured."
    if len(report.hosts) == 1:
        return "All held, between processes of this host; --join on a second host shows whether it holds between two."
    return "All held, between these hosts."
