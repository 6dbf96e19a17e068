"""What the plugin's own processes cost while a payload computes: memory, CPU time and wake-ups.

``python benchmarks/idle.py [--seconds 60]``

One job on the local scheduler that only sleeps; its keeper, supervisor and init are looked at over a while.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.engines.base import find_engine
from snakemake_executor_plugin_ckpt.head.scripts import write_scripts
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness, Request, find_scheduler
from snakemake_executor_plugin_ckpt.schedulers.local import Local
from snakemake_executor_plugin_ckpt.state.folder import JobFolder
from snakemake_executor_plugin_ckpt.state.records import Job


def main() -> int:
    """Run the job and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    seconds: float = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="ckpt-bench-") as name:
        state = Path(name)
        scheduler, folder = Local(state), make_job(state)
        job_id = scheduler.submit(
            Request("idle", folder.run_script, folder.logs_folder / "batch.log", walltime=86400, grace=2)
        )
        time.sleep(8)  # past the start, and the first look at what cannot be saved
        segment = folder.last_segment()
        assert segment is not None
        keeper = proc.read_stat(segment.pid)
        assert keeper is not None
        own = {"keeper": keeper.parent, "supervisor": segment.pid, "init": proc.children(segment.pid)[0]}
        before = {who: usage(pid) for who, pid in own.items()}
        time.sleep(seconds)
        print(f"{'process':12} {'PSS MiB':>8} {'CPU s':>7} {'wake-ups':>9}   over {seconds:.0f} s")
        for who, pid in own.items():
            cpu, wakes = (after - then for after, then in zip(usage(pid), before[who], strict=True))
            print(f"{who:12} {pss(pid) / 1024:8.1f} {cpu:7.2f} {wakes:9.0f}")
        print(f"start of the supervisor to running payload: {segment.startup or 0:.2f} s")
        folder.request("cancel")
        while scheduler.liveness([job_id])[job_id] is not Liveness.GONE:
            time.sleep(0.1)
    return 0


def make_job(state: Path) -> JobFolder:
    """A job that sleeps."""
    folder = JobFolder(state / "idle")
    folder.make()
    policy = Policy(engine_place=find_engine("criu"), scheduler_place=find_scheduler("local"), walltime=86400)
    folder.begin_attempt(Job("idle", "idle", "", str(state), 1, "fingerprint", time.time(), policy.to_dict()))
    write_scripts(folder, str(state), "sleep 86400")
    return folder


def usage(pid: int) -> tuple[float, float]:
    """CPU seconds and voluntary context switches of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    switches = re.search(r"^voluntary_ctxt_switches:\s+(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert switches is not None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), float(switches[1])


def pss(pid: int) -> int:
    """Memory of a process in KiB, shared pages shared out."""
    found = re.search(r"^Pss:\s+(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


if __name__ == "__main__":
    sys.exit(main())
