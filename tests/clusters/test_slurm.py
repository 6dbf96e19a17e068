"""Chains on a real Slurm with three nodes, as an ordinary user. What is only Slurm's own is shown here too."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from helpers.jobs import PLAIN
from helpers.waiting import wait_for

from snakemake_executor_plugin_ckpt.schedulers.base import Liveness, Request

from .cluster import ClusterJob, Site, expected, most_at_once

pytestmark = pytest.mark.cluster


@pytest.fixture
def site(site_of: Callable[[str], Site]) -> Iterator[Site]:
    made = site_of("slurm")
    yield made
    made.end()
    made.order("ctld-up")
    for node in ("node1", "node2", "node3"):
        made.order("start-node", node)
    made.order("idle", "60")


def slurm(*words: str) -> str:
    """What a client of Slurm says."""
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout


def warn(job: ClusterJob) -> None:
    """Send, now, the signal that Slurm would send before the walltime (``--signal=B:USR2``)."""
    slurm("scancel", "--batch", "--signal=USR2", str(job.watched.job_id))


def queue() -> str:
    return slurm("squeue", "--me", "--noheader", "-o", "%i %T %j")


def avoid(job: ClusterJob, host: str) -> None:
    """Have the next segment run elsewhere."""
    job_id = str(job.watched.job_id)
    wait_for(lambda: slurm("squeue", "-h", "-j", job_id, "-o", "%T").strip() == "PENDING", "the requeue")
    slurm("scontrol", "update", f"JobId={job_id}", f"ExcNodeList={host}")


def test_a_chain_over_nodes_writes_what_an_uninterrupted_run_writes(site: Site) -> None:
    job = site.counter(60)
    with most_at_once([job]) as most:
        for number in (1, 2):
            segment = job.computing(number)
            warn(job)
            job.until(partial(job.over, number))
            avoid(job, segment.host)
        step = job.end()
    assert step.action == "succeed", (step, job.told())
    segments = job.folder.segments()
    assert [one.outcome for one in segments] == ["saved", "saved", "finished"], job.told()
    waits = [later.started - (one.ended or 0.0) for one, later in pairwise(segments)]
    assert max(waits) < 40, "Slurm lets a requeued job wait for 60 s here; the head hastens it"
    assert len({one.host for one in segments}) >= 2
    assert len({one.job_id for one in segments}) == 1, "a saved job requeues itself: one batch job for the whole chain"
    assert job.out() == expected(60)
    assert most == [1]


def test_the_exit_status_is_kept_and_slurms_own_warning_is_heard(site: Site) -> None:
    """The limit is lowered behind the supervisor's back: slurmctld, which looks every 30 s, sends the warning."""
    job = site.counter(350, status=7)
    first = job.computing(1)
    slurm("scontrol", "update", f"JobId={first.job_id}", "EndTime=now+2")
    step = job.end()
    assert (step.action, step.retry) == ("fail", True), (step, job.told())
    assert "exit status 7" in step.reason
    # The lower limit, in whole minutes, is that of the next segments too.
    *earlier, last = [one.outcome for one in job.folder.segments()]
    assert earlier and set(earlier) == {"saved"}
    assert last == "finished"
    assert job.out() == expected(350)


def test_a_killed_node_costs_at_most_the_time_since_the_last_save(site: Site) -> None:
    job = site.counter(100, period=1.0)
    first = job.computing(1)
    job.until(lambda: job.folder.segment(1).saves >= 2)
    site.order("kill-node", first.host)
    with most_at_once([job]) as most:
        step = job.end(180)
    assert step.action == "succeed", (step, job.told())
    one, two = job.folder.segments()
    assert job.folder.lost(1) is not None
    assert two.host != first.host
    assert two.restored_from == one.generation or two.restored_from == (one.generation or 0) + 1
    assert (two.restored_from or 0) >= 2, "it went on from a save and not from the beginning"
    assert job.out() == expected(100)
    assert most == [1]


def test_an_outage_of_slurmctld_costs_nothing(site: Site) -> None:
    """Computing goes on, a saved segment waits to be requeued, and the head neither gives up nor submits again."""
    job = site.counter(100)
    first = job.computing(1)
    began = time.monotonic()
    site.order("ctld-down")
    job.folder.request("checkpoint")
    wait_for(lambda: job.folder.segment(1).saves == 1, "a save during the outage")
    assert site.scheduler.liveness([first.job_id]) == {first.job_id: Liveness.UNKNOWN}
    os.kill(next(pid for pid in job.processes() if pid_inside_is(pid, first.pid)), 12)  # the walltime's warning
    wait_for(lambda: job.over(1), "the save")
    for _ in range(2):  # each of which asks in vain for some seconds
        step = job.round()
        assert step is None or step.action == "wait", step
    assert time.monotonic() - began > 5
    site.order("ctld-up")
    step = job.end()
    assert step.action == "succeed", (step, job.told())
    assert {one.job_id for one in job.folder.segments()} == {first.job_id}
    assert job.out() == expected(100)


def pid_inside_is(pid: int, number: int) -> bool:
    """Whether a process has a number in the node's namespace (each node counts its own)."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("NSpid:"))
    return len(line.split()) == 3 and int(line.split()[2]) == number


def test_cancel_leaves_nothing_behind(site: Site) -> None:
    job = site.counter(600)
    job.computing(1)
    job.watched.stop(60)
    wait_for(lambda: not job.processes(), "the end of all processes")
    assert all(line.split()[1] == "COMPLETING" for line in queue().splitlines()), queue()
    assert job.folder.segment(1).outcome != "running"


def test_a_job_cancelled_between_two_segments_does_not_come_back(site: Site) -> None:
    job = site.counter(600)
    first = job.computing(1)
    warn(job)
    wait_for(lambda: job.over(1), "the save")
    job.watched.stop(60)
    wait_for(lambda: first.job_id not in queue(), "an empty queue")
    time.sleep(1)
    assert job.folder.segment_numbers() == [1]


def test_a_job_cancelled_by_hand_is_saved_and_does_not_requeue_itself(site: Site) -> None:
    job = site.counter(600)
    first = job.computing(1)
    slurm("scancel", first.job_id)
    wait_for(lambda: job.over(1), "the save")
    assert job.folder.segment(1).outcome == "saved"
    wait_for(lambda: first.job_id not in queue(), "an empty queue")
    time.sleep(2)
    assert queue() == ""


def test_a_cancel_right_before_a_requeue_is_final(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm itself lets a requeue bring back what was cancelled a moment before."""
    asked = site.base / "asked"
    slow = f'[ "$1" != requeue ] || {{ touch {asked}; sleep 1.5; }}'
    monkeypatch.setenv("PATH", f"{wrapped(site.base, 'scontrol', slow)}:{os.environ['PATH']}")
    job = site.counter(600)
    first = job.computing(1)
    warn(job)
    wait_for(asked.exists, "the requeue")
    slurm("scancel", first.job_id)
    wait_for(lambda: not job.processes(), "the end of the segment")
    wait_for(lambda: not queue(), "an empty queue", 30)
    assert job.folder.segment_numbers() == [1]


def wrapped(folder: Path, client: str, before: str) -> Path:
    """A folder with a client of Slurm that does something before it does its work."""
    wrapper = folder / "bin" / client
    wrapper.parent.mkdir(exist_ok=True)
    wrapper.write_text(f'#!/bin/sh\n{before}\nexec {shutil.which(client)} "$@"\n')
    wrapper.chmod(0o755)
    return wrapper.parent


def test_without_a_head_the_chain_completes_and_a_new_head_runs_nothing(site: Site) -> None:
    site.order("requeue-wait", "6")  # nobody hastens it
    try:
        job = site.counter(60)
        step = job.round()
        assert step is not None and step.action == "submit"
        wait_for(lambda: job.started(1), "segment 1")
        time.sleep(0.5)
        warn(job)
        wait_for(lambda: job.over(2), "the end of the chain", 60)
    finally:
        site.order("requeue-wait", "60")
    assert [one.outcome for one in job.folder.segments()] == ["saved", "finished"]
    job.new_head()
    step = job.round()
    assert step is not None and step.action == "succeed"
    assert len(job.folder.submissions()) == 1
    assert job.out() == expected(60)


def test_preemption_with_grace_saves_the_job_which_goes_on_later(site: Site) -> None:
    job = site.counter(80, extra={"slurm_partition": "low", "slurm_extra": "--exclude=node2,node3 --exclusive"})
    job.computing(1)
    urgent = slurm(
        *("sbatch", "--parsable", "-p", "high", "-w", "node1", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 2")
    ).strip()
    step = job.end()
    assert step.action == "succeed", (step, job.told())
    first, second = job.folder.segments()
    assert (first.outcome, second.outcome) == ("saved", "finished")
    assert job.out() == expected(80)
    wait_for(lambda: urgent not in queue(), "the end of the urgent job")


def test_a_job_that_may_not_be_requeued_is_allowed_to_by_itself(site: Site) -> None:
    job = site.counter(40)
    first = job.computing(1)
    slurm("scontrol", "update", f"JobId={first.job_id}", "Requeue=0")
    warn(job)
    step = job.end()
    assert step.action == "succeed", (step, job.told())
    assert [one.job_id for one in job.folder.segments()] == [first.job_id] * 2


def test_a_copy_on_a_node_that_only_seems_dead_ends(site: Site) -> None:
    """slurmd dies and the job does not: Slurm starts it elsewhere while it still runs there."""
    job = site.counter(250, period=1.0)
    first = job.computing(1)
    site.order("kill-slurmd", first.host)
    job.until(lambda: job.started(2), 90)
    old = [pid for pid in job.processes() if inside(pid, first.host)]
    wait_for(lambda: not [pid for pid in job.processes() if inside(pid, first.host)], "the end of the old copy", 30)
    step = job.end()
    assert old == [] or step.action == "succeed"
    assert step.action == "succeed", (step, job.told())
    assert job.out() == expected(250)


def inside(pid: int, host: str) -> bool:
    """Whether a process is on a node."""
    try:
        return f"SLURMD_NODENAME={host}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def test_fifty_jobs_are_asked_about_in_one_query_a_round(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = site.base / "calls"
    path = f"{wrapped(site.base, 'squeue', f'echo >> {calls}')}:{os.environ['PATH']}"
    jobs = [site.counter(2, 0.1, engine="none", engine_place=PLAIN) for _ in range(50)]
    for job in jobs:
        step = job.round()
        assert step is not None and step.action == "submit"
    monkeypatch.setenv("PATH", path)
    rounds, left = 0, list(jobs)
    while left:
        assert rounds < 600, left[0].told()
        known = site.scheduler.liveness([str(job.watched.job_id) for job in left])
        rounds += 1
        left = [job for job in left if job.advance(known).action not in ("succeed", "fail")]
        time.sleep(0.2)
    assert len(calls.read_text().splitlines()) == rounds
    assert [job.out() for job in jobs] == [expected(2)] * 50
    assert all(len(job.folder.submissions()) == 1 for job in jobs)


def test_a_lost_answer_is_made_good_by_the_name(site: Site) -> None:
    job = site.counter(20)
    intended = job.folder.intend(1, "slurm", None)
    log = job.folder.logs_folder / "batch.log"
    sent = site.scheduler.submit(Request(intended.name, job.folder.run_script, log, 600.0, 2.0))
    job.new_head()
    assert job.watched.job_id == sent
    assert job.end().action == "succeed"
    assert len(job.folder.submissions()) == 1
