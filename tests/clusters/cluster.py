"""A batch system that root has brought up on this machine, and chains of jobs on it."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.jobs import CRIU, HELPERS
from helpers.waiting import processes_with, wait_for
from workflows.runs import Flow, Head

from snakemake_executor_plugin_ckpt.chain import Step
from snakemake_executor_plugin_ckpt.errors import CkptError
from snakemake_executor_plugin_ckpt.head.scripts import write_scripts
from snakemake_executor_plugin_ckpt.head.watched import WatchedJob
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.schedulers import oar_text
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness, Scheduler, find_scheduler, load_scheduler
from snakemake_executor_plugin_ckpt.state.folder import JobFolder
from snakemake_executor_plugin_ckpt.state.records import Job, Segment

#: Where the warden takes orders (see warden.py), and which clusters are up.
ORDERS, UP = "CKPT_CLUSTER_ORDERS", "CKPT_CLUSTERS"
#: Seconds for a whole workflow, however busy the machine is.
LIMIT = 600.0
NODES = {"oar": ("onode1", "onode2"), "slurm": ("node1", "node2", "node3")}
#: Appends the lines 0 to COUNT - 1, one every PAUSE seconds, so that what a second copy writes shows; prints a digest
#: of all at the end; the argument MARKER only marks its processes.
COUNTER = """\
import hashlib, sys, time
total = hashlib.sha256()
open("out", "w").close()
with open("out", "a") as out:
    for number in range(int(sys.argv[1])):
        total.update(str(number).encode())
        print(number, total.hexdigest()[:8], file=out, flush=True)
        time.sleep(float(sys.argv[2]))
print(total.hexdigest())
sys.exit(int(sys.argv[3]))
"""


def order(*words: str) -> str:
    """Have root's script of a cluster do something; what it said."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(os.environ[ORDERS])
        client.sendall(f"{' '.join(words)}\n".encode())
        with client.makefile() as lines:
            status, said = int(lines.readline()), lines.read()
    assert status == 0, f"{words}: {said}"
    return said


def client(*words: str) -> str:
    """What a client program of the cluster says."""
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout


def active(chain: str | None) -> dict[str, str]:
    """OAR's jobs of a chain that are not over by OAR's own word, and their states."""
    assert chain is not None
    said = client("oarstat", "-J", "--sql", oar_text.active_of([chain]))
    return {one.job: one.state for one in oar_text.known_jobs(said)}


def down(name: str) -> str | None:
    """Why there is no cluster of this kind to test on; None when there is."""
    if ORDERS not in os.environ:
        return "no cluster: `make test-clusters`, as root, brings one up and runs these tests"
    if name not in os.environ[UP].split():
        return f"no {name} here: `make test-clusters CLUSTERS={name}`, as root, brings it up"
    return load_scheduler(find_scheduler(name), Path("/nonexistent")).missing()


def shared_folder(name: str) -> Path:
    """A folder that all nodes share: home directories are, /tmp is not."""
    return Path(pwd.getpwuid(os.getuid()).pw_dir, "ckpt-cluster-tests", name)


def expected(count: int) -> str:
    """What `COUNTER` writes into its file in an uninterrupted run."""
    import hashlib

    total, lines = hashlib.sha256(), []
    for number in range(count):
        total.update(str(number).encode())
        lines.append(f"{number} {total.hexdigest()[:8]}\n")
    return "".join(lines)


@dataclass(frozen=True)
class Saved:
    """An image: its number, the seconds of computing in it, and when they were computed (Unix time, s)."""

    generation: int
    depth: float
    at: float


class ClusterJob:
    """One job on a cluster, and a head for it.

    Attributes
    ----------
    marker
        A word in the command line of all its processes.
    trouble
        What made rounds of the head fail; each is followed by another, as in the executor.
    """

    def __init__(self, base: Path, name: str, scheduler: Scheduler, command: str, policy: Policy) -> None:
        self.work = base / f"work-{name}"
        self.work.mkdir(parents=True)
        self.folder = JobFolder(base / "state" / name)
        self.folder.make()
        self.scheduler = scheduler
        self.marker = str(self.folder.path)
        self.trouble: list[str] = []
        write_scripts(self.folder, str(self.work), command.format(marker=self.marker))
        script = self.folder.run_script.read_text()
        self.folder.run_script.write_text(script.replace("\nexec", f"\nexport PYTHONPATH={HELPERS}\nexec"))
        self.folder.write_job(
            Job(
                key=name,
                rule="rule",
                wildcards="",
                workdir=str(self.work),
                attempt=1,
                fingerprint="fp",
                created=time.time(),
                policy=policy.to_dict(),
                watched=[str(self.work / "out")],
            )
        )
        self.new_head()

    def new_head(self) -> None:
        """Have the head know no more than what is on the disk."""
        self.watched = WatchedJob(self.folder, self.scheduler)

    def round(self) -> Step | None:
        """One look, and what follows from it, as in the executor; None when nothing could be known."""
        try:
            ids = [one for one in (self.watched.job_id, self.watched.batch_job_of(self.watched.last)) if one]
            return self.advance(self.scheduler.liveness(ids) if ids else {})
        except (CkptError, OSError) as error:
            self.trouble.append(str(error))
            return None

    def advance(self, known: dict[str, Liveness]) -> Step:
        """Do the next step, given what the scheduler said."""
        step = self.watched.next_step(known)
        if step.action == "lost":
            self.folder.declare_lost(self.watched.segments()[-1].number, step.reason)
            step = self.watched.next_step(known)
        if step.action == "submit":
            self.watched.submit(step)
        if step.action == "wait" and self.watched.job_id:
            self.scheduler.hasten([self.watched.job_id], {})
        return step

    def until(self, look: Callable[[], object], limit: float = 120.0) -> Step | None:
        """Rounds until something is true, or the chain is over; the last step."""
        end = time.monotonic() + limit
        while True:
            step = self.round()
            if look() or (step is not None and step.action in ("succeed", "fail")):
                return step
            assert time.monotonic() < end, f"waited {limit:.0f} s; {step}; {self.trouble[-3:]}; {self.told()}"
            time.sleep(0.2)

    def end(self, limit: float = 120.0) -> Step:
        """Rounds until the chain is over; the last step."""
        step = self.until(lambda: False, limit)
        assert step is not None
        return step

    def computing(self, number: int, limit: float = 60.0) -> Segment:
        """Rounds until a segment computes, and for a moment more."""
        self.until(lambda: self.started(number), limit)
        assert self.started(number), self.told()
        time.sleep(0.5)
        return self.folder.segment(number)

    def started(self, number: int) -> bool:
        """Whether a segment has begun to compute."""
        return number in self.folder.segment_numbers() and self.folder.segment(number).startup is not None

    def over(self, number: int) -> bool:
        """Whether a segment is over."""
        return number in self.folder.segment_numbers() and self.folder.segment(number).outcome != "running"

    def last_save(self, number: int) -> Saved:
        """The newest image of a segment that runs."""
        segment = self.folder.segment(number)
        generation, depth = max(segment.images.items())
        committed = (self.folder.path / "images" / f"{generation:04d}" / "MANIFEST.yaml").stat().st_mtime
        return Saved(generation, depth, committed - (segment.took or 0.0))

    def lines(self) -> int:
        """How far it counted."""
        return self.out().count("\n")

    def processes(self) -> list[int]:
        """All processes of this job on all nodes, supervisors included."""
        return processes_with(self.marker)

    def told(self) -> str:
        """Everything on the disk that says how it went, for a message."""
        logs = [path.read_text(errors="replace") for path in sorted(self.folder.logs_folder.iterdir())]
        segments = [(one.number, one.outcome, one.host, one.reason) for one in self.folder.segments()]
        return f"{segments}\n{''.join(logs)[-2000:]}"

    def out(self) -> str:
        """What it wrote."""
        path = self.work / "out"
        return path.read_text() if path.exists() else ""

    def clean(self) -> None:
        """End it, whatever its state."""
        with suppress(CkptError):
            self.folder.request("cancel")
            if self.watched.job_id is not None:
                self.scheduler.cancel([self.watched.job_id])
        wait_for(lambda: not self.processes(), f"the end of {self.marker}")


class Site:
    """A cluster under test, and jobs on it that are over with the test."""

    def __init__(self, name: str, base: Path) -> None:
        self.name = name
        self.base = base
        self.place = find_scheduler(name)
        self.state = base / "state"
        self.state.mkdir(parents=True)
        self.scheduler: Scheduler = load_scheduler(self.place, self.state)
        self.jobs: list[ClusterJob] = []

    def order(self, *words: str) -> str:
        """Have root do something to the cluster."""
        return order(self.name, *words)

    def only_without(self, host: str) -> None:
        """Have jobs begin on any node but one; those that run stay where they are."""
        for node in NODES[self.name]:
            self.order("drain", node, "on" if node == host else "off")

    def warn(self, chain: str) -> None:
        """Send a running batch job, now, what the scheduler sends when the walltime comes near."""
        if self.name == "slurm":
            client("scancel", "--batch", "--signal=USR2", chain)
            return
        (job,) = wait_for(lambda: [job for job, state in active(chain).items() if state == "Running"], "state Running")
        client("oardel", "--checkpoint", job)

    def counter(self, count: int = 60, pause: float = 0.1, status: int = 0, **policy: Any) -> ClusterJob:
        """A job that counts, and ends with an exit status; not submitted yet."""
        name = f"job-{len(self.jobs) + 1}"
        path = self.base / "counter.py"
        path.write_text(COUNTER)
        settings: dict[str, Any] = {
            "engine_place": CRIU,
            "scheduler": self.name,
            "scheduler_place": self.place,
            "walltime": 600.0,
            **policy,
        }
        command = f"{sys.executable} {path} {count} {pause} {status} {{marker}}"
        made = ClusterJob(self.base, name, self.scheduler, command, Policy(**settings))
        self.jobs.append(made)
        return made

    def end(self) -> None:
        """End what is left."""
        for job in self.jobs:
            job.clean()


def meanwhile(head: Head, true: Callable[[], object], what: str) -> None:
    """Wait until something holds, while a head runs."""
    until = time.monotonic() + LIMIT
    while not true():
        assert head.process.poll() is None, f"the head ended before {what} came\n{head.said()}"
        assert time.monotonic() < until, f"{what} did not come\n{head.said()}"
        time.sleep(0.2)


def computes(flow: Flow, rule: str, number: int) -> bool:
    """Whether a segment of a rule's job has begun to compute."""
    segments = flow.segments(rule)
    return len(segments) >= number and segments[number - 1].startup is not None


@contextmanager
def most_at_once(jobs: Sequence[ClusterJob]) -> Iterator[list[int]]:
    """Watch meanwhile how many payloads of a job live at once; the most that were seen, by job."""
    most, over = [0 for _ in jobs], threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for place, job in enumerate(jobs):
                found = [pid for pid in job.processes() if _is_counter(pid)]
                most[place] = max(most[place], len(found))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def _is_counter(pid: int) -> bool:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return len(words) > 1 and words[1].endswith(b"/counter.py")
    return False
