"""What is said to LSF's clients and what they say: lists of words and text, nothing is run here.

Written from the documentation of IBM Spectrum LSF 10.1 (pages are named where they matter); no real LSF was at hand.
Where it is silent on what happens inside, the sources of OpenLava were read, which began as a copy of LSF's.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from snakemake_executor_plugin_ckpt.errors import BadSetting
from snakemake_executor_plugin_ckpt.schedulers.base import (
    ONE_TASK,
    REQUEUE,
    Liveness,
    Request,
    check_numbers,
    check_one_task,
    words_of,
)

#: Set for the batch job: its walltime in seconds, for when nobody can be asked.
WALLTIME_VARIABLE = "CKPT_LSF_WALLTIME"
#: Signal before the run limit. LSF sends it to all process groups of a job (OpenLava: sbd.sig.c, mykillpg), so to the
#: payload too, which most signals end. This one is ignored by who does not know it; the page `bsub -wa` has it as well.
WARNING = "URG"
#: `bjobs -o` of a look at many jobs, and of one that asks for its own end. No field holds a comma.
COLUMNS = "jobid stat delimiter=','"
END_COLUMNS = "time_left runtimelimit run_time delimiter=','"
#: Variables that have bsub say less, or elsewhere, or wait (page "Environment variable reference"): BSUB_QUIET,
#: BSUB_STDERR, BSUB_BLOCK.
FOREIGN = "BSUB_"

#: Page "LSF terms and concepts".
_ALIVE = {"PEND", "RUN", "PSUSP", "USUSP", "SSUSP", "WAIT", "PROV"}
_OVER = {"DONE", "EXIT", "POST_DONE", "POST_ERR"}
#: What the clients say of a job that LSF does not have (any more), or that is over.
_ABSENT = re.compile(r"Job <(\d+)(?:\[\d+\])?> is not found")
_NOTHING = re.compile(r"Job <.*> is not found|No (?:unfinished |matching )?job found", re.I)
_ENDED = re.compile(r"Job <[^>]*>: (?:Job has already finished|No matching job found|Job is already finished)")
_TOLD = re.compile(r"Job <[^>]*> is being (?:terminated|signaled|requeued)")
#: What they say when LSF is away or takes nothing for the moment (page "Customize batch command messages" and those of
#: the commands; OpenLava: lsb.err.c, ls_err.c); all else is a refusal.
OUTAGE = re.compile(
    r"LSF is down|Cannot connect to LSF|batch daemon .*not responding|batch system .*(?:down|not responding)"
    r"|mbatchd is down|LIM is down|(?:LIM|RES) (?:is not|configuration is not) ready|Communication (?:time ?out|error)"
    r"|Failed in sending/receiving|Retrying in \d+ seconds|query limit exceeded"
    r"|Connection (?:refused|reset|timed out)|No route to host|Network is unreachable",
    re.IGNORECASE,
)
_SUBMITTED = re.compile(r"Job <(\d+)> is submitted to ")

#: See `Scheduler.resources` and `Scheduler.refused`; the names are those of Snakemake's LSF plugin.
RESOURCES = ("lsf_extra", "lsf_project", "lsf_queue", "cpus_per_task", "mem_mb_per_cpu", "nodes", "tasks")
REFUSED = {**dict.fromkeys(("time", "time_min", "walltime"), "use runtime, which is in minutes"), "mpi": ONE_TASK}

#: Options of `bsub` that are set here, or would break a chain; with the way to have the same, if there is one.
_OURS = {
    "-J": "",
    "-W": "use runtime",
    "-M": "use the resource mem_mb",
    "-n": "use threads",
    "-q": "use the resource lsf_queue",
    "-P": "use the resource lsf_project",
    "-Q": "",
    "-o": "",
    "-oo": "",
    "-e": "",
    "-eo": "",
    "-i": "",
    "-is": "",
    "-r": "",
    "-rn": "",
    "-wa": "",
    "-wt": "",
    "-cwd": "",
    "-outdir": "",
    "-env": "",
    "-L": "",
    "-K": "",
    "-I": "",
    "-H": "",
    "-k": "the executor saves the job, LSF does not",
    "-ar": "what is saved does not change its size",
    "-clusters": "chains on other clusters are not supported",
    "-pack": "",
    "-json": "",
    "-yaml": "",
    "-jsdl": "",
    "-jsdl_strict": "",
    "-h": "",
    "-V": "",
}
#: Other ones that take no value: a word behind them would be taken for the command.
_FLAGS = {"-x", "-B", "-N", "-Ne", "-Nd", "-ul", "-Zs", "-notify", "-nnodes", "-smt"}
_PER_HOST = re.compile(r"\b(?:span|rusage\[[^\]]*\bmem)\b")
#: Names of hosts, types and models, and of resources; all else could end the quotation in a resource requirement.
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_RESOURCE = re.compile(r"[A-Za-z_]\w*", re.A)


def liveness(states: Sequence[str]) -> Liveness:
    """What the states of one id mean; there may be two, of a run on a lost host and of the one that replaces it.

    UNKWN: LSF's daemon on the execution host is silent, and the job often lives. ZOMBI: killed, or started elsewhere,
    while that was so. Neither says that the processes are gone.
    """
    if any(state in _ALIVE for state in states):
        return Liveness.ALIVE
    if states and all(state in _OVER for state in states):
        return Liveness.GONE
    return Liveness.UNKNOWN


def states(stdout: str) -> dict[str, list[str]]:
    """The states in what `bjobs -noheader -o COLUMNS` says, by id."""
    found: dict[str, list[str]] = {}
    for line in stdout.splitlines():
        job_id, _, state = (word.strip() for word in line.partition(","))
        if job_id.isdecimal() and re.fullmatch("[A-Z_]+", state):
            found.setdefault(job_id, []).append(state)
    return found


def seen(stdout: str, stderr: str) -> dict[str, Liveness]:
    """What `bjobs -noheader -o COLUMNS ID ...` says; ids that it says nothing of are left out."""
    found = {job_id: liveness(them) for job_id, them in states(stdout).items()}
    for job_id in _ABSENT.findall(f"{stdout}\n{stderr}"):
        found.setdefault(job_id, Liveness.GONE)
    return found


def pending(stdout: str) -> set[str]:
    """The ids of those that wait, in the same text."""
    return {job_id for job_id, them in states(stdout).items() if {"PEND", "PSUSP"} & set(them)}


def held(stdout: str) -> set[str]:
    """The ids of those that were stopped while they waited, in the same text."""
    return {job_id for job_id, them in states(stdout).items() if "PSUSP" in them}


def found_nothing(stderr: str) -> bool:
    """Whether a client that failed did so because there is no such job."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    return bool(lines) and all(_NOTHING.search(line) for line in lines)


def unkilled(text: str) -> list[str]:
    """The lines of what `bkill` says that are neither a success nor of jobs that are over."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [line for line in lines if not any(kind.search(line) for kind in (_TOLD, _ENDED, _NOTHING))]


def submitted_id(text: str) -> str | None:
    """The id of a new job (page `bsub`); what a site's esub says may stand around it."""
    found = _SUBMITTED.search(text)
    return found[1] if found else None


# -- the end of the run limit ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Left:
    """What `bjobs` says of a job's run limit: seconds that are left (None: no limit), and whether it said anything."""

    known: bool
    seconds: float | None = None


def left(text: str) -> Left:
    """The seconds until the run limit, in what `bjobs -noheader -o END_COLUMNS ID` says.

    No point in time is asked for: those have no time zone and no year. There are two ways. ``runtimelimit`` (minutes)
    less ``run_time`` (seconds) is exact, but a limit may be given for the speed of another host (``30.0/hostA``, unless
    ABS_RUNLIMIT=Y: page `bsub -W`). ``time_left`` is whole minutes, and of the limit only when marked by ``L`` (with
    ``bsub -We`` it is of an estimate: page `bjobs -WL`). Where they differ by more than a minute, the smaller counts.
    """
    for line in text.splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) != 3 or not all(words):
            continue
        limit, ran, rough = _minutes(words[1]), _seconds(words[2]), _remaining(words[0])
        if limit is None or ran is None:
            return Left(True, rough) if rough is not None else Left(words[1] == "-")
        exact = max(0.0, 60 * limit - ran - 1)  # it is whole seconds
        return Left(True, exact if rough is None or abs(exact - rough) <= 60 else min(exact, rough))
    return Left(False)


def _remaining(text: str) -> float | None:
    """Seconds of ``hours:minutes L``; of ``hours:minutes:seconds`` where the site or -hms has it so."""
    found = re.fullmatch(r"(\d+):(\d+)(?::(\d+))? ?L", text)
    if not found:
        return None
    hours, minutes_, seconds = (int(part or 0) for part in found.groups())
    return float(3600 * hours + 60 * minutes_ + seconds)


def _minutes(text: str) -> float | None:
    found = re.match(r"(\d+(?:\.\d+)?)(?:/\S+|\s*min.*)?$", text)
    return float(found[1]) if found else None


def _seconds(text: str) -> float | None:
    found = re.match(r"(\d+(?:\.\d+)?)(?: second\(s\)| seconds?)?$", text)
    return float(found[1]) if found else None


# -- submitting --------------------------------------------------------------------------------------------------------


def minutes(seconds: float) -> int:
    """A limit as LSF keeps it: whole minutes, not less than was asked for."""
    return max(1, math.ceil(seconds / 60))


def submission(request: Request) -> list[str]:
    """The words of `bsub`.

    Raises
    ------
    BadSetting
        A resource asks for what cannot be.
    """
    extra = request.extra
    check_numbers(extra, "cpus_per_task", "mem_mb_per_cpu")
    check_one_task(extra, "nodes", "tasks")
    words = ["bsub", "-J", request.name, "-Q", str(REQUEUE), "-r", "-o", "/dev/null", "-cwd", _folder(request.workdir)]
    if request.walltime is not None:
        limit, ahead = minutes(request.walltime), minutes(request.grace)
        words += ["-W", str(limit)]
        if ahead < limit:  # the clock is the truth; this is for limits that were lowered
            words += ["-wa", WARNING, "-wt", str(ahead)]
    threads = _threads(request)
    words += ["-n", str(threads), "-R", " ".join(requirements(request, threads))]
    if (mem_mb := _mem_mb(request, threads)) is not None:
        words += ["-M", f"{mem_mb}MB"]
    for option, name in (("-q", "lsf_queue"), ("-P", "lsf_project")):
        if name in extra:
            words += [option, extra[name]]
    return [*words, *extra_words(extra.get("lsf_extra", "")), command(request)]


def _folder(path: str) -> str:
    """A folder to start in. In ``-cwd`` ``%J`` and others stand for something, and there is no way to say a plain %."""
    return "/" if "%" in path else path


def _threads(request: Request) -> int:
    return math.ceil(float(request.extra.get("cpus_per_task", request.threads)))


def _mem_mb(request: Request, threads: int) -> int | None:
    if "mem_mb_per_cpu" in request.extra:
        return math.ceil(float(request.extra["mem_mb_per_cpu"]) * threads)
    return request.mem_mb


def requirements(request: Request, threads: int) -> Iterator[str]:
    """The sections of the resource requirement (page "Resource requirement strings")."""
    wanted = [_of_class(*request.node_class)] if request.node_class else []
    wanted += [f"hname!='{_plain('node', host)}'" for host in _names(request.exclude)]
    if wanted:
        yield f"select[{' && '.join(wanted)}]"
    if (mem_mb := _mem_mb(request, threads)) is not None:
        # With unit (Fix Pack 2) and method (Fix Pack 9): otherwise sites read it as KB, or once per thread.
        yield f"rusage[mem={mem_mb}MB/host]"
    yield "span[hosts=1]"


def _names(hosts: Sequence[str]) -> list[str]:
    """Hosts as LSF may call them: it has either the whole name or the short one, and no error for the other one."""
    return list(dict.fromkeys(name for host in hosts for name in (host, host.partition(".")[0])))


def _of_class(name: str, value: str) -> str:
    """A node class: a host's ``type`` or ``model``, or a boolean resource that it has (see `node_class`)."""
    if name in ("type", "model"):
        return f"{name}=='{_plain('node class', value)}'"
    return _plain("node class", value, _RESOURCE)


def _plain(what: str, text: str, form: re.Pattern[str] = _NAME) -> str:
    if not form.fullmatch(text):
        raise BadSetting(what, text, "it is no name that LSF can have")
    return text


def node_class(line: str, name: str) -> str | None:
    """The class of a host in its line of `lshosts -w`: HOST_NAME type model cpuf ncpus maxmem maxswp server RESOURCES.

    Parameters
    ----------
    line
        The line; the resources stand in parentheses at its end.
    name
        ``type``, ``model``, or patterns of resources (``haswell|zen*``), of which the first that fits counts.
    """
    before, _, resources = line.partition("(")
    words = before.split()
    if name in ("type", "model"):
        column = 1 if name == "type" else 2
        return words[column] if len(words) > column and words[column] not in ("-", "UNKNOWN") else None
    for resource in resources.partition(")")[0].split():
        if any(fnmatchcase(resource, pattern) for pattern in re.split(r"[|,]", name)):
            return resource
    return None


def command(request: Request) -> str:
    """The job's command: one argument, which LSF writes into a script for a shell.

    That shell hands over by ``exec``, so that its exit status is the segment's. The log is written without LSF, which
    keeps a run's output aside until the job ends, and throws it away when it requeues (page "Configuring job-level
    automatic re-queuing": the output from the failed run is not saved), and which adds a report.
    """
    words = ["exec"]
    if request.walltime is not None:
        words += ["env", f"{WALLTIME_VARIABLE}={60 * minutes(request.walltime)}"]
    words += ["/bin/sh", "-c", shlex.quote('exec "$0" >> "$1" 2>&1')]
    return " ".join([*words, shlex.quote(str(request.script)), shlex.quote(str(request.log))])


def extra_words(text: str) -> list[str]:
    """The words of ``lsf_extra``.

    Raises
    ------
    BadSetting
        It is no list of options, or holds one that is set here.
    """
    words, option = words_of("lsf_extra", text), ""
    for word in words:
        if word.startswith("-"):
            _refuse_ours(word)
            option = word
        elif not option or option in _FLAGS:
            raise BadSetting("resource lsf_extra", word, "a word that belongs to no option would be run as the command")
        else:
            if option == "-R" and _PER_HOST.search(word):
                raise BadSetting("resource lsf_extra", word, "span and mem are set by the plugin; use mem_mb")
            option = ""
    return words


def _refuse_ours(word: str) -> None:
    name = "-I" if word.startswith("-I") else word
    if name in _OURS:
        hint = _OURS[name]
        raise BadSetting("resource lsf_extra", word, f"{name} is set by the plugin{hint and '; ' + hint}")


def walltime_of(environment: Mapping[str, str]) -> float | None:
    """The walltime (s) that the job was submitted with, if any."""
    said = environment.get(WALLTIME_VARIABLE, "")
    return float(said) if said.isdecimal() else None
