"""What is said to OAR 2.5 and what it answers, as text: no process is started here."""

from __future__ import annotations

import json
import math
import re
import shlex
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from snakemake_executor_plugin_ckpt.errors import BadSetting, SchedulerError
from snakemake_executor_plugin_ckpt.schedulers.base import Request, words_of

#: Signal at the walltime's approach, by its number: oarsub knows no names. It comes again and again until the end.
SIGNAL = signal.SIGUSR2
#: States of a job that may still run, or whose chain may.
ACTIVE = (
    "Waiting",
    "Hold",
    "toLaunch",
    "toError",
    "toAckReservation",
    "Launching",
    "Running",
    "Suspended",
    "Resuming",
    "Finishing",
)
#: Set on a segment's command line where the 60 s rule is another one (see `oar.Oar.requeue`).
SHORTEST = "CKPT_OAR_SHORTEST"

#: See `Scheduler.resources`.
RESOURCES = ("oar_extra", "oar_notify", "oar_project", "oar_properties", "oar_queue")
#: Options of oarsub that are ours: given twice, one of the two would silently count (of -p and -l, the last or both).
_OURS = (
    "resource",
    "queue",
    "interactive",
    "property",
    "reservation",
    "connect",
    "checkpoint",
    "notify",
    "directory",
    "name",
    "project",
    "hold",
    "array",
    "array-param-file",
    "signal",
    "stdout",
    "stderr",
    "resubmit",
    "scanscript",
    "xml",
    "yaml",
    "json",
    "dumper",
)
_OURS_SHORT = "lqIprCdnOESXYJD"
#: What the programs, the data base's drivers (PostgreSQL, MySQL) and errno say when it or the server is away; all else
#: is a refusal.
OUTAGE = re.compile(
    r"DB connection error|retry to connect to the database|(?:Cannot|Can't|could not|Unable to) connect"
    r"|Connection (?:refused|reset|timed out)|server closed the connection|terminating connection|connection to server"
    r"|database system is (?:starting up|shutting down|in recovery)|server has gone away|Lost connection",
    re.IGNORECASE,
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: A percent sign is allowed, but may stand for something.
_PLAIN = re.compile(r"[a-zA-Z0-9_./ -]+")
_ID = re.compile(r"OAR_JOB_ID=(-?\d+)")
_PROPERTY = re.compile(r"(\w+) = '([^']*)'")
#: Jobs of a site among which one is looked for by its name.
_RECENT = 1000000
_WALLTIME = re.compile(r"\bW=(\d+):(\d+):(\d+)")


@dataclass(frozen=True)
class Known:
    """What ``oarstat -J`` says of one job. Times in seconds (Unix, the server's clock); 0 when there is none yet.

    Attributes
    ----------
    chain
        The array id: that of the chain's first job, which its resubmissions inherit.
    walltime
        None when it is not said.
    eventful
        Whether anything happened to it since its submission (only ``-f`` tells).
    """

    job: str
    chain: str
    name: str
    state: str
    start: float
    walltime: float | None
    eventful: bool

    @property
    def end(self) -> float | None:
        """When its walltime ends; None when it has not begun."""
        return self.start + self.walltime if self.start and self.walltime else None


# -- submitting --------------------------------------------------------------------------------------------------------


def submission(request: Request, exclude: Sequence[str], shortest: str | None) -> list[str]:
    """The command line of ``oarsub``.

    Parameters
    ----------
    request
        What to submit.
    exclude
        Nodes to avoid.
    shortest
        Value of `SHORTEST` for the segment, or None.

    Raises
    ------
    BadSetting
        A resource of the rule that cannot be used.
    """
    log, folder = _plain(request.log), _plain(request.workdir)
    argv = ["oarsub", "-n", request.name, "-t", "idempotent", "-d", folder or "/"]
    # Later than a save begins by the clock, so it only counts where the clocks disagree.
    argv += ["--checkpoint", str(max(1, math.ceil(request.grace))), "--signal", str(int(SIGNAL))]
    argv += ["-l", resources(request.threads, request.walltime)]
    argv += ["-O", log or "/dev/null", "-E", log or "/dev/null"]
    for resource, option in (("oar_project", "--project"), ("oar_queue", "-q"), ("oar_notify", "--notify")):
        if value := request.extra.get(resource):
            argv += [option, value]
    if wanted := properties(request.extra.get("oar_properties"), request.node_class, exclude):
        argv += ["-p", wanted]
    argv += extra(request.extra.get("oar_extra", ""))
    return [*argv, command(request.script, None if log else request.log, shortest)]


def _plain(path: Path | str) -> str | None:
    """A path, if OAR can take it as one: it refuses output files with other characters, and breaks on such folders."""
    return str(path) if _PLAIN.fullmatch(str(path)) else None


def resources(threads: int, walltime: float | None) -> str:
    """What follows ``-l``; without a walltime the site's own holds."""
    asked = f"/nodes=1/core={threads}"
    return asked if walltime is None else f"{asked},walltime={clock(walltime)}"


def clock(seconds: float) -> str:
    """A walltime as h:m:s; anything shorter is read otherwise (``90`` is ninety hours)."""
    whole = max(1, math.ceil(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def properties(own: str | None, node_class: tuple[str, str] | None, exclude: Sequence[str]) -> str:
    """What follows ``-p``, an SQL condition; of several ``-p`` only the last one counts."""
    parts = [f"({own})"] if own and own.strip() else []
    _check_condition(own or "")
    if node_class is not None:
        name, value = node_class
        if not _NAME.fullmatch(name):
            raise BadSetting("node class", name, "a property of OAR is a name of letters, digits and underscores")
        parts.append(f"{name} = {quoted(value)}")
    if exclude:
        parts.append(f"network_address NOT IN ({', '.join(quoted(name) for name in sorted(exclude))})")
        # A node's own name may be shorter than the one that OAR has.
        parts += [f"network_address NOT LIKE {quoted(name + '.%')}" for name in sorted(exclude) if "." not in name]
    return " AND ".join(parts)


def _check_condition(own: str) -> None:
    """Refuse an SQL condition that ends within a quotation or parentheses: what is added would belong to it."""
    depth, rest = 0, re.sub(r"'[^']*'", "", own)
    for letter in rest:
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            break
    if depth or "'" in rest:
        raise BadSetting("resource oar_properties", own, "its quotation marks or parentheses do not match")


def quoted(text: str) -> str:
    """An SQL string."""
    return "'" + text.replace("'", "''") + "'"


def extra(text: str) -> list[str]:
    """The words of ``oar_extra``.

    Raises
    ------
    BadSetting
        It is no list of words, or holds an option that is set here.
    """
    words = words_of("oar_extra", text)
    for word in words:
        if _is_ours(word):
            remedy = (
                "that option is set by the executor; use threads, runtime (or ckpt_walltime), oar_project, oar_queue, "
                "oar_properties and oar_notify. Allowed are options such as -t besteffort"
            )
            raise BadSetting("resource oar_extra", word, remedy)
    return words


def _is_ours(word: str) -> bool:
    if word.startswith("--"):  # Perl's Getopt takes unique beginnings too
        name = word[2:].partition("=")[0]
        return name == "" or any(own.startswith(name) for own in _OURS)
    return word.startswith("-") and word[1:2] in tuple(_OURS_SHORT)


def command(script: Path, log: Path | None, shortest: str | None) -> str:
    """The job's command: one argument, read by the user's login shell.

    ``exec``, because OAR signals only that shell's process: dash would stay there and die of the signal.

    Parameters
    ----------
    script
        What to run.
    log
        Where its output goes, if not where OAR sends it.
    shortest
        See `submission`.
    """
    words = [f"env {SHORTEST}={shlex.quote(shortest)}"] if shortest is not None else []
    if log is not None:
        words += ["/bin/sh -c", shlex.quote('exec "$0" >> "$1" 2>&1'), shlex.quote(str(script)), shlex.quote(str(log))]
    else:
        words.append(shlex.quote(str(script)))
    return " ".join(["exec", *words])


def submitted_id(said: str) -> str | None:
    """The job's id in what ``oarsub`` said, whatever stands around it; None when it was refused (negative)."""
    found = _ID.search(said)
    return found[1] if found and int(found[1]) > 0 else None


# -- asking ------------------------------------------------------------------------------------------------------------


_IS_ACTIVE = f"state IN ({', '.join(map(quoted, ACTIVE))})"


def active_of(chains: Iterable[str]) -> str:
    """The SQL condition for all jobs of these chains that may still run."""
    return f"array_id IN ({', '.join(chains)}) AND {_IS_ACTIVE}"


def named(name: str) -> str:
    """The SQL condition for a job by its name: one that may still run, or one of the newest.

    There is no index on names, and sites keep many millions of jobs. Numbers are unsigned in MySQL, hence the CASE.
    """
    recent = f"SELECT CASE WHEN MAX(job_id) > {_RECENT} THEN MAX(job_id) - {_RECENT} ELSE 0 END FROM jobs"
    return f"job_name = {quoted(name)} AND ({_IS_ACTIVE} OR job_id > ({recent}))"


def proved(condition: str) -> str:
    """A condition that is true of one job more, the newest of all.

    ``oarstat`` ends with 0 and says nothing both when no job fits and when the query failed. So the answer to this one
    is never empty, and only then believed.
    """
    return f"({condition}) OR job_id = (SELECT MAX(job_id) FROM jobs)"


def known_jobs(said: str) -> list[Known]:
    """The jobs in what ``oarstat -J`` said, oldest first.

    Raises
    ------
    SchedulerError
        It cannot be read.
    """
    begin = said.find("{")
    try:
        answer = json.loads(said[begin:]) if begin >= 0 else {}
        found = [_known(one) for one in answer.values()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SchedulerError(f"the answer of oarstat cannot be read: {error!r}") from error
    return sorted(found, key=lambda one: int(one.job))


def _known(said: Mapping[str, object]) -> Known:
    walltime = said.get("walltime")
    in_words = _WALLTIME.search(str(said.get("message") or ""))
    if walltime is None and in_words:  # without -f it stands only in the scheduler's message
        hours, minutes, seconds = map(int, in_words.groups())
        walltime = 3600 * hours + 60 * minutes + seconds
    return Known(
        job=str(said["Job_Id"]),
        chain=str(said["array_id"]),
        name=str(said.get("name") or ""),
        state=str(said["state"]),
        start=_number(said.get("startTime")),
        walltime=None if walltime is None else _number(walltime),
        eventful=bool(said.get("events")),
    )


def _number(value: object) -> float:
    return float(str(value)) if value is not None else 0.0


def property_of(said: str, name: str) -> str | None:
    """The value of a property in what stands in OAR_RESOURCE_PROPERTIES_FILE (a line a core, all of one node)."""
    for line in said.splitlines():
        found = dict(_PROPERTY.findall(line))
        if name in found:
            return str(found[name])
    return None
