"""The clients of the fake LSF. Options, words and exit statuses as in the command reference of 10.1."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from helpers.fake_lsf import sbatchd, select
from helpers.fake_lsf.store import UNFINISHED, Job, Store

#: Options of bsub with a value, and without.
_VALUED = {
    "-J", "-W", "-M", "-n", "-q", "-P", "-Q", "-o", "-e", "-R", "-wa", "-wt", "-cwd", "-app", "-G", "-m", "-gpu", "-We",
    "-sla", "-u", "-U", "-w",
}  # fmt: skip
_FLAGS = {"-r", "-x", "-B", "-N"}
_LIMIT = re.compile(r"(?:(\d+):)?(\d+)(?:/\S+)?")
FAILED = 255


def main(argv: list[str]) -> int:
    """Be one client: ``FOLDER CLIENT WORD ...``; the exit status."""
    store, client, words = Store(Path(argv[0])), argv[1], argv[2:]
    clients: dict[str, Callable[[Store, list[str]], int]] = {
        "bsub": bsub,
        "bjobs": bjobs,
        "bkill": bkill,
        "bstop": bstop,
        "bresume": bresume,
        "brequeue": brequeue,
        "lshosts": lshosts,
    }
    if store.setting("OUTAGE"):
        return _outage(store)
    return clients[client](store, words)


def _outage(store: Store) -> int:
    """Page "Customize batch command messages"; LSB_NTRIES: page "Environment variable reference"."""
    tries = int(os.environ.get("LSB_NTRIES", 0)) or sys.maxsize
    tries = sys.maxsize if store.setting("OUTAGE") == "hangs" else tries
    for _ in range(tries):
        print("LSF is down. Please wait ...", file=sys.stderr, flush=True)
        time.sleep(0.1)
    print("Failed in an LSF library call: Slave LIM configuration is not ready yet", file=sys.stderr)
    return FAILED


def _complain(text: str) -> int:
    print(text, file=sys.stderr)
    return FAILED


# -- bsub --------------------------------------------------------------------------------------------------------------


def bsub(store: Store, words: list[str]) -> int:
    given: dict[str, str] = {}
    requirements: list[str] = []
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option in _FLAGS:
            given[option] = ""
        elif option not in _VALUED or not words:
            return _complain(f"{option}: Illegal option. Job not submitted.")
        elif option == "-R":
            requirements.append(words.pop(0))
        else:
            given[option] = words.pop(0)
    if not words:
        return _complain("Command is not specified. Job not submitted.")
    if any(select.bad(text) for text in requirements):
        return _complain("Bad resource requirement syntax. Job not submitted.")
    for option in ("-W", "-wt", "-We"):
        if option in given and not _LIMIT.fullmatch(given[option]):
            return _complain(f"{given[option]}: Bad {option} specification. Job not submitted.")
    job_id = store.new(_job(store, given, requirements, " ".join(words)))
    sbatchd.start(store, job_id)
    if "BSUB_QUIET" not in os.environ:
        stream = sys.stderr if "BSUB_STDERR" in os.environ else sys.stdout
        default = "" if "-q" in given else "default "
        print(f"Job <{job_id}> is submitted to {default}queue <{given.get('-q', 'normal')}>.", file=stream)
    return 0


def _job(store: Store, given: dict[str, str], requirements: list[str], command: str) -> Job:
    warned = "-wa" in given and "-wt" in given  # page "bsub -wa": one without the other does nothing
    return {
        "name": given.get("-J", command),
        "queue": given.get("-q", "normal"),
        "n": int(given.get("-n", "1")),
        "res_req": requirements,
        "limit": _minutes(given["-W"]) if "-W" in given else store.setting("RUNLIMIT"),
        "warn": [given["-wa"], _minutes(given["-wt"])] if warned else None,
        "requeue": [int(word) for word in given.get("-Q", "").split()],
        "out": given.get("-o", "/dev/null"),
        "cwd": given.get("-cwd", os.getcwd()),
        "command": command,
        "env": dict(os.environ),
        "stat": "PEND",
        "ran": 0.0,
        "since": time.time(),
    }


def _minutes(text: str) -> int:
    found = _LIMIT.fullmatch(text)
    assert found is not None
    return 60 * int(found[1] or 0) + int(found[2])


# -- bjobs -------------------------------------------------------------------------------------------------------------


def bjobs(store: Store, words: list[str]) -> int:
    name, fields, everything, header, ids = None, "", False, True, []
    while words:
        word = words.pop(0)
        if word == "-J":
            name = words.pop(0)
        elif word == "-o":
            fields = words.pop(0)
        elif word == "-a":
            everything = True
        elif word == "-noheader":
            header = False
        else:
            ids.append(word)
    found = [store.job(job_id) for job_id in (map(int, ids) if ids else store.ids())]
    shown = [job for job in found if job and (ids or everything or job["stat"] in UNFINISHED)]
    shown = [job for job in shown if name is None or job["name"] == name]
    columns, delimiter = _format(fields)
    if header and shown:
        print(delimiter.join(column.upper() for column in columns))
    for job in shown:
        print(delimiter.join(_field(store, job, column) for column in columns), flush=True)
    for job_id, job_found in zip(ids, found, strict=False):
        if job_found is None:
            print(f"Job <{job_id}> is not found", file=sys.stderr)
    if ids:
        return FAILED if None in found else 0
    if not shown:
        nothing = f"Job <{name}> is not found" if name else "No job found" if everything else "No unfinished job found"
        return _complain(nothing)
    return 0


def _format(text: str) -> tuple[list[str], str]:
    """Page "bjobs -o"."""
    found = re.search(r"delimiter='(.)'", text)
    return re.sub(r"delimiter='.'", "", text).split(), found[1] if found else " "


def _field(store: Store, job: Job, column: str) -> str:
    if column == "jobid":
        return str(job["id"])
    if column == "stat":
        return "UNKWN" if job["id"] in store.setting("UNKWN") else str(job["stat"])
    if column == "exit_code":
        return str(job.get("exit_code") or "-")
    minute = store.setting("MINUTE")
    ran = (job["ran"] + (time.time() - job["since"] if job["stat"] == "RUN" else 0.0)) * 60 / minute
    if column == "run_time":
        return f"{int(ran)} second(s)"
    if job["limit"] is None:
        return "-"
    if column == "runtimelimit":
        return f"{float(job['limit'])}"
    left = max(0, int(60 * job["limit"] - ran))
    return f"{left // 3600}:{left // 60 % 60} L" if job["stat"] == "RUN" else "-"


# -- the others --------------------------------------------------------------------------------------------------------


def bkill(store: Store, words: list[str]) -> int:
    number = words.pop(1) if words[:1] == ["-s"] else None
    words = words[1:] if number else words
    done = "is being signaled" if number else "is being terminated"
    return _each(store, words, f"signal {number}" if number else "kill", done)


def bstop(store: Store, words: list[str]) -> int:
    return _each(store, words, "stop", "is being stopped")


def bresume(store: Store, words: list[str]) -> int:
    return _each(store, words, "resume", "is being resumed")


def brequeue(store: Store, words: list[str]) -> int:
    state = "PSUSP" if "-H" in words else "PEND"
    return _each(store, [word for word in words if word != "-H"], f"requeue {state}", "is being requeued")


def _each(store: Store, ids: list[str], order: str, done: str) -> int:
    status = 0
    for job_id in ids:
        job = store.job(int(job_id))
        if job is None:
            status = _complain(f"Job <{job_id}>: No matching job found")
        elif job["stat"] not in UNFINISHED:
            status = _complain(f"Job <{job_id}>: Job has already finished")
        else:
            store.order(int(job_id), order)
            print(f"Job <{job_id}> {done}")
    return status


def lshosts(store: Store, words: list[str]) -> int:
    """Page "lshosts": -w is the wide format."""
    host = store.setting("HOST")
    if words != ["-w", host]:
        return _complain(f"{words[-1]}: unknown host name.")
    print("HOST_NAME                       type       model  cpuf ncpus maxmem maxswp server RESOURCES")
    resources = " ".join(store.setting("RESOURCES"))
    print(f"{host}   {store.setting('TYPE')} {store.setting('MODEL')}  15.0    16    32G     4G    Yes ({resources})")
    return 0
