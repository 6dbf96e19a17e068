"""What chains cost on Slurm, beside Snakemake's Slurm plugin on the same cluster.

``python benchmarks/requeue.py [--jobs 20] [--seconds 60] [--executors ckpt slurm]``

As an ordinary user where Slurm runs, in the home folder, with snakemake-executor-plugin-slurm installed. The same
workflow of independent jobs under both: how fast they are submitted, and how often Slurm is asked. Then a job that
its time limit cuts off: the longest time in which it gives no sign of life; ckpt saves it and goes on, the Slurm
plugin begins it anew (``retries``). All settings are the default ones.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

CLIENTS = ("sbatch", "squeue", "sacct", "scontrol", "scancel", "sinfo", "sacctmgr", "sshare")
OPTIONS = {
    "ckpt": ["--ckpt-scheduler", "slurm"],
    "slurm": ["--slurm-status-command", "squeue", "--slurm-no-account"],
}
MANY = """\
rule all:
    input: expand("done-{{i}}", i=range({jobs}))
rule work:
    output: "done-{{i}}"
    resources: runtime=10, mem_mb=100
    shell: "sleep {seconds}; touch {{output}}"
"""
#: Gives a sign of life again and again.
ONE = """\
rule work:
    output: "done"
    retries: 1
    resources: runtime=10, mem_mb=100
    shell: "for n in $(seq 500); do date +%s.%N >> {folder}/alive; sleep 0.2; done; touch {{output}}"
"""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--executors", nargs="+", default=list(OPTIONS), choices=list(OPTIONS))
    arguments = parser.parse_args()
    for executor in arguments.executors:
        with tempfile.TemporaryDirectory(prefix="ckpt-bench-", dir=Path.home()) as name:
            if arguments.jobs:
                many(executor, Path(name), arguments.jobs, arguments.seconds)
        with tempfile.TemporaryDirectory(prefix="ckpt-bench-", dir=Path.home()) as name:
            gap = one(executor, Path(name))
            print(
                f"{executor:6} cut off by its time limit, longest time without a sign of life: {gap:.1f} s", flush=True
            )
    return 0


def many(executor: str, folder: Path, jobs: int, seconds: int) -> None:
    """Many jobs at once: submission rate, questions, wall time."""
    (folder / "Snakefile").write_text(MANY.format(jobs=jobs, seconds=seconds))
    began = time.time()
    snakemake(executor, folder).wait()
    took = time.time() - began
    calls = [line.split() for line in (folder / "calls").read_text().splitlines()]
    head = Counter(client for _, client, where in calls if where == "head")
    nodes = Counter(client for _, client, where in calls if where == "node")
    sent = sorted(float(when) for when, client, _ in calls if client == "sbatch")
    rate = (len(sent) - 1) / (sent[-1] - sent[0])
    asked = sum(count for client, count in head.items() if client != "sbatch")
    assert len(list(folder.glob("done-*"))) == jobs, (folder / "log").read_text()[-3000:]
    print(f"{executor:6} {jobs} jobs of {seconds} s: {took:.1f} s, {rate:.2f} submissions/s")
    print(f"{executor:6} other calls by the head: {asked} = {asked / took * 60:.1f} a minute ({dict(head)})")
    print(f"{executor:6} calls on the nodes: {sum(nodes.values())} ({dict(nodes)})", flush=True)


def one(executor: str, folder: Path) -> float:
    """One job whose time limit comes before its end: the longest time without a sign of life, in seconds."""
    (folder / "Snakefile").write_text(ONE.format(folder=folder))
    running = snakemake(executor, folder, "done")
    alive = folder / "alive"
    while not alive.exists():
        time.sleep(0.1)
    time.sleep(5)
    asked = ["squeue", "--me", "--noheader", "-o", "%i"]
    job_id = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[0]
    subprocess.run(["scontrol", "update", f"JobId={job_id}", "EndTime=now+2"], check=True)
    while (gap := longest_gap(alive)) < 5 or time.time() - alive.stat().st_mtime > 3:
        assert running.poll() is None, (folder / "log").read_text()[-3000:]
        time.sleep(0.5)
    running.send_signal(signal.SIGINT)
    running.wait()
    return gap


def longest_gap(path: Path) -> float:
    """The longest time between two lines that are times."""
    times = [float(line) for line in path.read_text().splitlines()]
    return max((later - earlier for earlier, later in pairwise(times)), default=0.0)


def snakemake(executor: str, folder: Path, *targets: str) -> subprocess.Popen[bytes]:
    """Start Snakemake; each call of one of Slurm's clients is noted in the file ``calls``."""
    wrappers = folder / "bin"
    wrappers.mkdir()
    for client in CLIENTS:
        if real := shutil.which(client):
            wrapper = wrappers / client
            wrapper.write_text(
                f'#!/bin/sh\n[ "$(hostname)" = {os.uname().nodename} ] && where=head || where=node\n'
                f'echo "$(date +%s.%N) {client} $where" >> {folder}/calls\nexec {real} "$@"\n'
            )
            wrapper.chmod(0o755)
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--executor", executor, *OPTIONS[executor], "--jobs", "100", *targets],
        cwd=folder,
        # the Slurm plugin's jobs run what is first in PATH
        env={**os.environ, "PATH": f"{wrappers}:{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=open(folder / "log", "wb"),
        stderr=subprocess.STDOUT,
    )


if __name__ == "__main__":
    sys.exit(main())
