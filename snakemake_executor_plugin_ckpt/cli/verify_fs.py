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
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.cli.facts import UsageError
from snakemake_executor_plugin_ckpt.cli.fs_probe import Echo, features
from snakemake_executor_plugin_ckpt.cli.fs_report import Report, as_json, as_text
from snakemake_executor_plugin_ckpt.cli.fs_trial import Counts, Place, Workers
from snakemake_executor_plugin_ckpt.cli.text import page_width, plural
from snakemake_executor_plugin_ckpt.errors import StateError
from snakemake_executor_plugin_ckpt.state import durable
from snakemake_executor_plugin_ckpt.state.mounts import file_system

_PREFIX = "ckpt-trial-"
_TOKEN = re.compile(rf"{_PREFIX}[0-9a-f]{{12}}")
_POLL = 0.1
#: Seconds for which one host waits for the other's results, or for the verdict; a cache may hide them for a minute.
_PATIENCE = 90.0
#: Seconds for which the folder is left to those who joined, to read the verdict in.
_SEEN = 15.0


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
        able = features(place.features)
        _say(place, {"seconds": seconds})
        print(
            f"measuring for {seconds:g} s with {plural(processes, 'process', 'processes')}; to have a second host take "
            f"part, run there meanwhile:\n  ckpt verify-fs {directory} --join {token}",
            file=sys.stderr,
            flush=True,
        )
        _take_part(place, processes, seconds, lambda begun: time.monotonic() - begun >= seconds)
        _say(place, {"over": True})
        found = _collect(place)
        report = _report(directory, token, seconds, found, able)
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
                return _as_seen_here(directory, party, Report(**said["report"]))
        if not place.trial.exists():
            break
        time.sleep(_POLL)
    raise StateError(
        f"the host that holds the trial {token} gave no report: it was ended, is gone, or does not see this host"
    )


def _as_seen_here(directory: Path, party: str, report: Report) -> Report:
    """The other host's report, and whether what this one did was seen there."""
    unseen = f"the host that holds the trial saw nothing of {party}: {directory} is not the same folder on both"
    return replace(
        report,
        file_system=file_system(directory),
        errors=report.errors if party in report.parties else [*report.errors, unseen],
    )


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
    echo = Echo(place, party)  # after the workers, which are forked and must find no thread
    begun = time.monotonic()
    try:
        while workers.alive() and not over(begun):
            time.sleep(min(_POLL, seconds))
    finally:
        echo.stop()
        workers.stop()
    return party


@dataclass(frozen=True)
class _Found:
    """What all who took part left."""

    parties: list[str]
    counts: list[Counts]
    created: set[int]
    delays: list[float]
    errors: list[str]


def _collect(place: Place) -> _Found:
    """What all processes saw, and which did not say."""
    until = time.monotonic() + _PATIENCE
    while True:
        parties = _listed(place.parties)
        expected = {
            f"{party}.{index}" for party in parties for index in range(int((place.parties / party).read_text() or 0))
        }
        missing = sorted(expected - set(_listed(place.results)))
        mine = f"{proc.host_name()}.{os.getpid()}."
        if not missing or all(name.startswith(mine) for name in missing) or time.monotonic() > until:
            break
        time.sleep(_POLL)
    counts = [Counts(**json.loads((place.results / name).read_bytes())) for name in _listed(place.results)]
    heard = [json.loads((place.delays / name).read_bytes()) for name in _listed(place.delays)]
    errors = [f"process {name} gave no result" for name in missing]
    errors += [f"{one.host}: {error}" for one in counts for error in one.errors]
    errors += [one["error"] for one in heard if one["error"]]
    created = {int(name) for name in os.listdir(place.names) if name.isdigit()}
    return _Found(parties, counts, created, sorted(delay for one in heard for delay in one["delays"]), errors)


def _until_seen(place: Place) -> None:
    """Leave the folder until those who joined have the report; each takes its name away."""
    until, mine = time.monotonic() + _SEEN, f"{proc.host_name()}.{os.getpid()}"
    while set(_listed(place.parties)) - {mine} and time.monotonic() < until:
        time.sleep(_POLL)


# -- the report ---------------------------------------------------------------------------------------------------


def _report(directory: Path, token: str, seconds: float, found: _Found, able: dict[str, bool]) -> Report:
    counts, delays = found.counts, found.delays
    winners = Counter(number for one in counts for number in one.won)
    # Whose process gave no result may have won what nobody says he won.
    silent = any(error.endswith("gave no result") for error in found.errors)
    return Report(
        token=token,
        directory=str(directory),
        file_system=file_system(directory),
        seconds=seconds,
        hosts=dict(Counter(one.host for one in counts)),
        parties=found.parties,
        names=len(found.created),
        tries=sum(one.tried for one in counts),
        two_winners=sum(number > 1 for number in winners.values()),
        no_winner=0 if silent else len(found.created - winners.keys()),
        holds=sum(len(one.holds) for one in counts),
        overlaps=sum(one.overlaps for one in counts),
        lost_updates=_repeated(value for one in counts for value in one.holds),
        replacements=sum(one.written for one in counts),
        reads=sum(one.reads for one in counts),
        torn=sum(one.torn for one in counts),
        older=sum(one.older for one in counts),
        absent=sum(one.absent for one in counts),
        stale_handles=sum(one.stale_handles for one in counts),
        answers=len(delays),
        delay_median=delays[len(delays) // 2] if delays else None,
        delay_longest=delays[-1] if delays else None,
        features=able,
        errors=found.errors,
    )


def _repeated(values: Iterable[int]) -> int:
    return sum(number - 1 for number in Counter(values).values())
