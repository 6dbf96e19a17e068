"""What is said to Slurm's clients and what they say: lists of words and text, nothing is run here."""

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
    Liveness,
    Request,
    check_numbers,
    check_one_task,
    words_of,
)

#: Set for the batch job: its walltime in seconds, for when nobody can be asked.
WALLTIME_VARIABLE = "CKPT_SLURM_WALLTIME"
#: The columns of `squeue` that are asked for. Reasons hold spaces, so they come last.
COLUMNS = "JobID:24,State:24,RestartCnt:12,Reason:80"
#: Those of a node that asks for its job's end; with SLURM_TIME_FORMAT=%s times are Unix times, whatever the zone.
END_COLUMNS = "TimeLeft:32,EndTime:32"
#: Slurm tells a job without limit that it has a year.
_ENDLESS = 365 * 86400
#: Seconds that the job's script waits for a state directory that is absent on its node.
_ABSENCE = 300
#: Of the walltime, and at most (s): how long before its end the warning comes. The clock is the truth; the warning is
#: for limits that were lowered, and for preemption.
_WARNING, _LONGEST_WARNING = 0.02, 120.0
#: What clients say of a slurmctld that is away, in standby, or takes nothing for the moment (slurm_errno.c, and errno's
#: own words); all else is a refusal.
OUTAGE = re.compile(
    r"Unable to contact slurm controller|in standby mode|Socket timed out|Zero Bytes were transmitted"
    r"|Message (?:send|receive) failure|Communication (?:connection|shutdown) failure"
    r"|Connection (?:refused|reset|timed out)|No route to host|Network is unreachable|temporarily (?:unable|disabled)",
    re.IGNORECASE,
)
_OVER = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "LAUNCH_FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "RECONFIG_FAIL",
    "REVOKED",
    "TIMEOUT",
}
#: Reasons why a job waits until somebody lets it go on, or for ever (squeue(1), "JOB REASON CODES", and
#: slurm_protocol_defs.c of Slurm 22.05): by default sbatch takes jobs that can never start (EnforcePartLimits).
_HELD = re.compile(r"JobHeld\w*|JobHoldMaxRequeue|.*held state|.*requeued held", re.IGNORECASE)
#: Of the limits only those of one job: one of a user, an account or a group has room again when others end.
_NEVER = re.compile(
    r"BadConstraints|DependencyNeverSatisfied|Invalid(?:Account|QOS)|Reservation(?:Deleted|Invalid)"
    r"|Partition(?:Config|NodeLimit|TimeLimit)|(?:Account|QOS)NotAllowed"
    r"|MaxMemPerLimit|(?:Assoc|QOS)Max\w+Per(?:Job|Node)(?:Limit)?|QOSMin\w+",
    re.IGNORECASE,
)
#: States of a job that waits; in the last two only until somebody releases it.
_WAITS = ("PENDING", "SPECIAL_EXIT", "RESV_DEL_HOLD")

#: See `Scheduler.resources` and `Scheduler.refused`: the names are those of Snakemake's Slurm plugin, and some of them
#: with ``slurm_`` before them.
_GEOMETRY = ("nodes", "tasks", "tasks_per_gpu", "tasks_per_node")
RESOURCES = (
    *("slurm_account", "slurm_constraint", "slurm_extra", "slurm_gres", "slurm_partition", "slurm_qos"),
    *("slurm_requeue", "slurm_reservation", "constraint", "cpus_per_gpu", "cpus_per_task", "gpu", "gpu_model", "gres"),
    *("mem_mb_per_cpu", "qos", "reservation"),
    *_GEOMETRY,
)
_ONE_CLUSTER = "chains on other clusters than the default one are not supported"
REFUSED = {**dict.fromkeys(("cluster", "clusters", "slurm_cluster"), _ONE_CLUSTER), "mpi": ONE_TASK}

#: Options of `sbatch` that are set here, or would break a chain; with the way to have the same, if there is one.
_OURS = {
    "account": "use the resource slurm_account",
    "array": "a chain is one batch job",
    "begin": "",
    "chdir": "",
    "clusters": _ONE_CLUSTER,
    "constraint": "use the resource constraint",
    "cpus-per-task": "use threads or the resource cpus_per_task",
    "error": "",
    "export": "",
    "export-file": "",
    "hold": "",
    "ignore-pbs": "",
    "input": "",
    "job-name": "",
    "mem": "use the resource mem_mb",
    "mem-per-cpu": "use the resource mem_mb_per_cpu",
    "no-requeue": "a saved job goes on by a requeue",
    "nodes": "what is saved is on one node",
    "ntasks": "what is saved is one task",
    "open-mode": "",
    "output": "",
    "parsable": "",
    "partition": "use the resource slurm_partition",
    "qos": "use the resource qos",
    "quiet": "",
    "requeue": "",
    "signal": "",
    "test-only": "",
    "time": "use runtime",
    "wait": "",
    "wrap": "",
}
_SHORT = {
    "A": "account",
    "a": "array",
    "b": "begin",
    "C": "constraint",
    "c": "cpus-per-task",
    "D": "chdir",
    "e": "error",
    "H": "hold",
    "i": "input",
    "J": "job-name",
    "M": "clusters",
    "N": "nodes",
    "n": "ntasks",
    "o": "output",
    "p": "partition",
    "Q": "quiet",
    "q": "qos",
    "t": "time",
    "W": "wait",
}


@dataclass(frozen=True)
class Row:
    """One job as `squeue` shows it."""

    state: str
    restarts: int
    reason: str

    @property
    def liveness(self) -> Liveness:
        """Whether it runs, or will; one that is over is shown for some minutes still (MinJobAge)."""
        return Liveness.GONE if self.state in _OVER else Liveness.ALIVE

    @property
    def waits_in_vain(self) -> bool:
        """Whether it was requeued and waits for nothing but a time.

        Slurm lets a requeued job wait for cred_expire + 1 s (AuthInfo, 120 s unless set).
        """
        return self.state == "PENDING" and self.restarts > 0 and self.reason == "BeginTime"

    @property
    def held(self) -> bool:
        """Whether it waits until its owner, or an operator, releases it."""
        return self.state == "RESV_DEL_HOLD" or (
            self.state in _WAITS and _HELD.fullmatch(self.reason.replace("_", " ")) is not None
        )

    @property
    def hopeless(self) -> bool:
        """Whether it will not start by itself."""
        return self.held or (self.state in _WAITS and _NEVER.fullmatch(self.reason) is not None)

    @property
    def needs_requeue(self) -> bool:
        """Whether its own request is what starts it again, seen from inside.

        A job that its user or Slurm ends is COMPLETING, or PENDING again, before it gets its SIGTERM. If it was
        cancelled, a requeue would bring it back; if it was requeued or preempted, it comes by itself. Only after the
        walltime nobody else has asked yet.
        """
        return self.state == "RUNNING" or (self.state == "COMPLETING" and self.reason == "TimeLimit")


def rows(text: str) -> dict[str, Row]:
    """The jobs in what `squeue --noheader -O COLUMNS` says, by their ids."""
    found = {}
    for line in text.splitlines():
        words = line.split(maxsplit=3)
        if len(words) >= 3 and words[2].isdigit():
            found[words[0]] = Row(words[1], int(words[2]), words[3].strip() if len(words) > 3 else "")
    return found


def was_cancelled(log: str) -> bool:
    """Whether a batch job's log says that its user ended it.

    slurmstepd writes why before it sends SIGTERM, and only the first reason: ``*** JOB 6 ON node1 CANCELLED AT TIME
    ***``, with ``DUE TO TIME LIMIT``, ``JOB REQUEUE``, ``PREEMPTION`` and so on behind it when it was not the user.
    """
    return re.search(r"\*\*\* JOB \d+ ON \S+ CANCELLED AT \S+ (DUE to SIGNAL .*)?\*\*\*", log) is not None


def excluded(text: str) -> list[str]:
    """The nodes that a job may not run on, in what `squeue --noheader -o %x` says."""
    found = text.strip()
    return [found] if found else []  # it may be node[1-3],node7, which Slurm takes as it gives it


def job_id(text: str) -> str | None:
    """The id in what `sbatch --parsable` says (``ID`` or ``ID;CLUSTER``); sites' plugins may say more above it."""
    lines = text.split()
    found = re.fullmatch(r"(\d+)(?:;\S+)?", lines[-1]) if lines else None
    return found[1] if found else None


def end(text: str, now: float) -> float | None:
    """The walltime's end (Unix time, s) in what `squeue --noheader -O END_COLUMNS` says; None: never.

    Raises
    ------
    ValueError
        The text holds none.
    """
    left, _, stamp = text.strip().partition(" ")
    if left == "UNLIMITED" or (seconds := _seconds(left)) >= _ENDLESS - 60:
        return None
    stamp = stamp.strip()
    return float(stamp) if stamp.isdigit() else now + seconds


def _seconds(clock: str) -> int:
    """Seconds of ``days-hours:minutes:seconds``, of which the first ones may be missing."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", clock)
    if not found:
        raise ValueError(f"{clock!r} is not a time that is left")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def minutes(seconds: float) -> int:
    """A limit as Slurm keeps it: whole minutes, not less than was asked for."""
    return max(1, math.ceil(seconds / 60))


def warning(request: Request) -> int:
    """Seconds before the limit at which the warning is asked for; slurmctld looks every 30 s, so it comes earlier."""
    share = _WARNING * (request.walltime or math.inf)
    return math.ceil(min(max(share, request.grace), max(_LONGEST_WARNING, request.grace)))


def script(request: Request) -> str:
    """What Slurm keeps and runs, at each start anew: it becomes the job's own script, which may have changed.

    Only the batch script's own process gets the warning (``--signal=B:``), so it is replaced and not left waiting.
    A warning that comes before anybody can understand it is to end nothing.
    """
    path = shlex.quote(str(request.script))
    walltime = "" if request.walltime is None else f"export {WALLTIME_VARIABLE}={60 * minutes(request.walltime)}\n"
    return (
        f"#!/bin/sh\ntrap '' USR2\n{walltime}"
        f"tries=0\nuntil [ -e {path} ] || [ $tries -ge {_ABSENCE} ]; do sleep 1; tries=$((tries + 1)); done\n"
        f"exec {path}\n"
    )


def submission(request: Request) -> list[str]:
    """The words of `sbatch`, which reads the script from its standard input.

    Raises
    ------
    BadSetting
        A resource asks for what cannot be.
    """
    extra, unwanted = extra_words(request.extra.get("slurm_extra", ""))
    unwanted += [node for node in request.exclude if node not in unwanted]
    log = str(request.log).replace("%", "%%")  # else a pattern, such as %j
    words = [
        "sbatch",
        "--parsable",
        f"--job-name={request.name}",
        f"--output={log}",
        "--open-mode=append",  # a restart would truncate it
        "--requeue",
        f"--signal=B:USR2@{warning(request)}",
        "--export=ALL",
        f"--chdir={request.workdir}",
    ]
    if request.walltime is not None:
        words.append(f"--time={minutes(request.walltime)}")
    if unwanted:
        words.append(f"--exclude={','.join(unwanted)}")
    return [*words, *_resources(request), *extra]


def _resources(request: Request) -> Iterator[str]:
    """The rule's resources, by the names that they have with Snakemake's Slurm plugin."""
    extra = request.extra
    check_numbers(extra, "cpus_per_gpu", "cpus_per_task", "mem_mb_per_cpu")
    check_one_task(extra, *_GEOMETRY)
    if extra.get("slurm_requeue", "True") not in ("True", "1"):
        raise BadSetting("resource slurm_requeue", extra["slurm_requeue"], _OURS["no-requeue"])
    yield from ("--nodes=1", "--ntasks=1", _cpus(request))
    if "mem_mb_per_cpu" in extra:
        yield f"--mem-per-cpu={extra['mem_mb_per_cpu']}M"
    elif request.mem_mb is not None:
        yield f"--mem={request.mem_mb}M"
    for option, names in (
        ("account", ("slurm_account",)),
        ("partition", ("slurm_partition",)),
        ("qos", ("slurm_qos", "qos")),
        ("reservation", ("slurm_reservation", "reservation")),
        ("gres", ("slurm_gres", "gres")),
    ):
        if found := next((extra[name] for name in names if name in extra), None):
            yield f"--{option}={found}"
    if "gpu" in extra or "gpu_model" in extra:
        model = f"{extra['gpu_model']}:" if "gpu_model" in extra else ""
        yield f"--gpus={model}{extra.get('gpu', '1')}"
    if constraint := _constraint(extra, request.node_class):
        yield f"--constraint={constraint}"


def _cpus(request: Request) -> str:
    """For each GPU, if that is how a rule that has GPUs says it; the two cannot be said together."""
    extra = request.extra
    has_gpus = "gpu" in extra or "gpu_model" in extra or "gpu" in extra.get("slurm_gres", extra.get("gres", ""))
    if has_gpus and "cpus_per_gpu" in extra:
        return f"--cpus-per-gpu={extra['cpus_per_gpu']}"
    return f"--cpus-per-task={extra.get('cpus_per_task', request.threads)}"


def _constraint(extra: Mapping[str, str], node_class: tuple[str, str] | None) -> str | None:
    wished = extra.get("slurm_constraint") or extra.get("constraint")
    needed = node_class[1] if node_class else None
    if wished and needed and wished != needed:
        return f"({wished})&{needed}"
    return wished or needed


def extra_words(text: str) -> tuple[list[str], list[str]]:
    """The words of ``slurm_extra``, and the nodes that they exclude.

    Raises
    ------
    BadSetting
        It is no list of words, or holds an option that is set here.
    """
    kept, excluded, ahead = [], [], iter(words_of("slurm_extra", text))
    for word in ahead:
        name, given, value = word.partition("=")
        if word.startswith("-x") or name == "--exclude":
            value = value if given else word.removeprefix("--exclude").removeprefix("-x") or next(ahead, "")
            excluded += value.split(",")
            continue
        if clash := _clash(word):
            raise BadSetting(
                "resource slurm_extra", word, f"--{clash} is set by the plugin{_OURS[clash] and '; ' + _OURS[clash]}"
            )
        kept.append(word)
    return kept, [node for node in excluded if node]


def _clash(word: str) -> str | None:
    """The option of ours that a word is; options may be shortened as long as they are clear (getopt_long(3))."""
    name = word.partition("=")[0]
    if name.startswith("--"):
        return next((ours for ours in _OURS if ours.startswith(name[2:]) and len(name) > 2), None)
    return _SHORT.get(word[1:2]) if word.startswith("-") else None


def node_class(features: str, patterns: str) -> str | None:
    """The first feature of a node that one of the patterns (``haswell|zen*``) stands for."""
    for feature in features.strip().split(","):
        if any(fnmatchcase(feature, pattern) for pattern in re.split(r"[|,]", patterns)):
            return feature
    return None


def node_names(text: str, hosts: Sequence[str]) -> list[str]:
    """Slurm's names of hosts, from what `sinfo --noheader --Node -O NodeList:256,NodeHost:256` says.

    One whose host Slurm does not know is left out: it would have the whole request refused.
    """
    names = {}
    for line in text.splitlines():
        name, _, host = line.strip().partition(" ")
        names[host.strip()] = names[name] = name
        names.setdefault(host.strip().partition(".")[0], name)
    found = (names.get(host) or names.get(host.partition(".")[0]) for host in hosts)
    return [name for name in found if name]
