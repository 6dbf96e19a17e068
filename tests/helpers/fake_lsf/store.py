"""What the fake LSF knows: a file for each job, the orders for its daemon, and the site's settings."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: The site's settings, by LSF's names where it has one. Times in seconds.
DEFAULTS: dict[str, Any] = {
    "MINUTE": 60.0,  # how long one takes
    "JOB_TERMINATE_INTERVAL": 10.0,
    "AFTER_USR2": 10,  # minutes between SIGUSR2 at the run limit and the kill
    "LSB_SIGSTOP": "",  # instead of SIGSTOP for sequential and SIGTSTP for parallel jobs
    "RUNLIMIT": None,  # minutes, where none is asked for
    "DISPATCH": 0.05,
    "HOST": socket.gethostname(),
    "TYPE": "X86_64",
    "MODEL": "Intel_E5",
    "RESOURCES": ["mg", "zen3"],
    "OUTAGE": "",  # down: gives up after LSB_NTRIES; hangs: never
    "UNKWN": [],  # ids whose host does not answer
}
UNFINISHED = ("PEND", "PSUSP", "RUN", "USUSP", "SSUSP")
Job = dict[str, Any]


class Store:
    """A folder; every change is made under one lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs = folder / "jobs"
        self.jobs.mkdir(exist_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self.folder / "lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def configure(self, **settings: Any) -> None:
        """Change some settings."""
        path = self.folder / "lsf.conf"
        with self._locked():
            now = json.loads(path.read_text()) if path.exists() else {}
            _write(path, {**now, **settings})

    def setting(self, name: str) -> Any:
        return json.loads((self.folder / "lsf.conf").read_text()).get(name, DEFAULTS[name])

    def new(self, job: Job) -> int:
        """Take a job in; its id."""
        with self._locked():
            job_id = max(self.ids(), default=100) + 1
            _write(self.jobs / f"{job_id}.json", {"id": job_id, **job})
        return job_id

    def ids(self) -> list[int]:
        return sorted(int(path.stem) for path in self.jobs.glob("*.json"))

    def job(self, job_id: int) -> Job | None:
        try:
            job: Job = json.loads((self.jobs / f"{job_id}.json").read_text())
        except FileNotFoundError:
            return None
        return job

    def change(self, job_id: int, **values: Any) -> None:
        with self._locked():
            _write(self.jobs / f"{job_id}.json", {**(self.job(job_id) or {}), **values})

    def forget(self, job_id: int) -> None:
        """What CLEAN_PERIOD does."""
        (self.jobs / f"{job_id}.json").unlink()

    # -- orders of the clients for a job's daemon, one after another -----------------------------------------------

    def order(self, job_id: int, text: str) -> None:
        with self._locked(), open(self.jobs / f"{job_id}.orders", "a") as orders:
            orders.write(f"{text}\n")

    def take_orders(self, job_id: int) -> list[str]:
        path = self.jobs / f"{job_id}.orders"
        if not path.exists():
            return []
        with self._locked():
            found = path.read_text().splitlines()
            path.unlink()
        return found

    def kept(self, job_id: int) -> bool:
        """Whether a job's daemon still is there."""
        job = self.job(job_id) or {}
        pid = job.get("daemon")
        if not pid:
            return job.get("stat") in UNFINISHED
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] not in "ZX"


def _write(path: Path, values: dict[str, Any]) -> None:
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(values))
    partial.replace(path)
