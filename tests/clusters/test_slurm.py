"""Chains on a real Slurm with three nodes, as an ordinary user. What is only Slurm's own is shown here too."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from helpers.jobs import PLAIN
from helpers.waiting import wait_for

from snakemake_executor_plugin_ckpt.head.watched import stop
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness, Request

from .cluster import ClusterJob, Site, client, expected, most_at_once

pytestmark = pytest.mark.cluster


@pytest.fixture
def site(site_of: Callable[[str], Site]) -> Site:
    return site_of("slurm")


def queue(job_id: str) -> str:
    """The state of a batch job; nothing if it is over."""
    known = (line.split() for line in client("squeue", "--me", "--all", "--noheader", "-o", "%i %T").splitlines())
    return next((state for one, state in known if one == job_id), "")


def avoid(job: ClusterJob, host: str) -> None:
    """Have the next segment run elsewhere."""
    job_id = str(job.watched.job_id)
    wait_for(lambda: client("squeue", "-h", "-j", job_id, "-o", "%T").strip() == "PENDING", "the requeue")
    client("scontrol", "update", f"JobId={job_id}", f"ExcNodeList={host}")


def test_a_chain_over_nodes_writes_what_an_uninterrupted_run_writes(site: Site) -> None:
    job = site.counter(150)
    with most_at_once([job]) as most:
        for number in (1, 2):
            segment = job.computing(number)
            site.warn(str(job.watched.job_id))
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
    assert job.out() == expected(150)
    assert most == [1]


def test_the_exit_status_is_kept_and_slurms_own_warning_is_heard(site: Site) -> None:
    """The limit is lowered behind the supervisor's back: slurmctld, which looks every 30 s, sends the warning."""
    job = site.counter(350, status=7)
    first = job.computing(1)
    client("scontrol", "update", f"JobId={first.job_id}", "EndTime=now+2")
    step = job.end()
    assert (step.action, step.retry) == ("fail", True), (step, job.told())
    assert "exit status 7" in step.reason
    # The lower limit, in whole minutes, is that of the next segments too.
    *earlier, last = [one.outcome for one in job.folder.segments()]
    assert earlier and set(earlier) == {"saved"}
    assert last == "finished"
    assert job.out() == expected(350)


@pytest.mark.alone
def test_a_killed_node_costs_at_most_the_time_since_the_last_save(site: Site) -> None:
    job = site.counter(100, period=1.0)
    first = job.computing(1)
    job.until(lambda: len(job.folder.segment(1).images) >= 2)
    saved = job.last_save(1)
    site.order("kill-node", first.host)
    since, done = time.time() - saved.at, job.lines()
    with most_at_once([job]) as most:
        step = job.end(180)
    assert step.action == "succeed", (step, job.told())
    _, two = job.folder.segments()
    assert job.folder.lost(1) is not None
    assert two.host != first.host
    assert two.restored_from is not None and two.restored_from >= saved.generation
    assert 0.1 * (done - 1) - saved.depth < since, "seconds that were computed twice"
    assert job.out() == expected(100)
    assert most == [1]


def test_cancel_leaves_nothing_behind(site: Site) -> None:
    job = site.counter(600)
    first = job.computing(1)
    stop([job.watched], 60)
    wait_for(lambda: not job.processes(), "the end of all processes")
    assert queue(first.job_id) in ("", "COMPLETING")
    assert job.folder.segment(1).outcome != "running"


def test_a_job_cancelled_between_two_segments_does_not_come_back(site: Site) -> None:
    job = site.counter(600)
    first = job.computing(1)
    site.warn(str(job.watched.job_id))
    wait_for(lambda: job.over(1), "the save")
    stop([job.watched], 60)
    wait_for(lambda: not queue(first.job_id), "the end of the batch job")
    time.sleep(1)
    assert job.folder.segment_numbers() == [1]


def test_a_job_cancelled_by_hand_is_saved_and_does_not_requeue_itself(site: Site) -> None:
    job = site.counter(600)
    first = job.computing(1)
    client("scancel", first.job_id)
    wait_for(lambda: job.over(1), "the save")
    assert job.folder.segment(1).outcome == "saved"
    wait_for(lambda: not queue(first.job_id), "the end of the batch job")
    time.sleep(2)
    assert queue(first.job_id) == ""


def test_a_cancel_right_before_a_requeue_is_final(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm itself lets a requeue bring back what was cancelled a moment before."""
    asked = site.base / "asked"
    slow = f'[ "$1" != requeue ] || {{ touch {asked}; sleep 1.5; }}'
    monkeypatch.setenv("PATH", f"{wrapped(site.base, 'scontrol', slow)}:{os.environ['PATH']}")
    job = site.counter(600)
    first = job.computing(1)
    site.warn(str(job.watched.job_id))
    wait_for(asked.exists, "the requeue")
    client("scancel", first.job_id)
    wait_for(lambda: not job.processes(), "the end of the segment")
    wait_for(lambda: not queue(first.job_id), "the end of the batch job", 30)
    assert job.folder.segment_numbers() == [1]


def wrapped(folder: Path, program: str, before: str) -> Path:
    """A folder with a client of Slurm that does something before it does its work."""
    wrapper = folder / "bin" / program
    wrapper.parent.mkdir(exist_ok=True)
    wrapper.write_text(f'#!/bin/sh\n{before}\nexec {shutil.which(program)} "$@"\n')
    wrapper.chmod(0o755)
    return wrapper.parent


@pytest.mark.alone
def test_preemption_with_grace_saves_the_job_which_goes_on_later(site: Site) -> None:
    job = site.counter(80, extra={"slurm_partition": "low", "slurm_extra": "--exclude=node2,node3 --exclusive"})
    job.computing(1)
    urgent = client(
        *("sbatch", "--parsable", "-p", "high", "-w", "node1", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 2")
    ).strip()
    step = job.end()
    assert step.action == "succeed", (step, job.told())
    first, second = job.folder.segments()
    assert (first.outcome, second.outcome) == ("saved", "finished")
    assert job.out() == expected(80)
    wait_for(lambda: not queue(urgent), "the end of the urgent job")


def test_a_job_that_may_not_be_requeued_is_allowed_to_by_itself(site: Site) -> None:
    job = site.counter(40)
    first = job.computing(1)
    client("scontrol", "update", f"JobId={first.job_id}", "Requeue=0")
    site.warn(str(job.watched.job_id))
    step = job.end()
    assert step.action == "succeed", (step, job.told())
    assert [one.job_id for one in job.folder.segments()] == [first.job_id] * 2


@pytest.mark.alone
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


@pytest.mark.parametrize(
    ("extra", "reason"),
    [({"slurm_partition": "short"}, "PartitionTimeLimit"), ({"cpus_per_task": "999"}, "PartitionConfig")],
)
def test_a_job_that_asks_for_more_than_its_partition_gives_is_told_of(
    site: Site, extra: dict[str, str], reason: str
) -> None:
    """sbatch takes it, and it waits for ever."""
    job = site.counter(2, extra=extra)
    job.round()
    job_id = str(job.watched.job_id)

    def told() -> str:
        assert site.scheduler.liveness([job_id]) == {job_id: Liveness.ALIVE}
        return site.scheduler.held([job_id]).get(job_id, "")

    wait_for(lambda: told() == f"{reason} (`scancel {job_id}` lets the chain go on)", "what it waits for")


def test_a_job_whose_node_is_avoided_keeps_the_nodes_that_its_rule_excludes(site: Site) -> None:
    job = site.counter(40, extra={"slurm_extra": "--exclude=node3"})
    first = job.computing(1)
    assert first.host in ("node1", "node2")
    site.warn(first.job_id)
    wait_for(lambda: queue(first.job_id) == "PENDING", "the requeue")
    assert site.scheduler.liveness([first.job_id]) == {first.job_id: Liveness.ALIVE}
    site.scheduler.hasten([first.job_id], {first.job_id: [first.host]})
    assert excluded(first.job_id) == {first.host, "node3"}
    assert job.end().action == "succeed", job.told()
    (other,) = {"node1", "node2"} - {first.host}
    assert [one.host for one in job.folder.segments()] == [first.host, other]


def test_a_new_batch_job_keeps_the_exclusions_that_it_was_submitted_with(site: Site) -> None:
    job = site.counter(2, extra={"slurm_partition": "short", "slurm_extra": "--exclude=node3"})  # it never starts
    job.round()
    job_id = str(job.watched.job_id)
    assert site.scheduler.liveness([job_id]) == {job_id: Liveness.ALIVE}
    site.scheduler.hasten([job_id], {job_id: ["node1"]})
    assert excluded(job_id) == {"node3"}


def excluded(job_id: str) -> set[str]:
    """The nodes that a batch job may not run on."""
    listed = client("squeue", "-h", "-j", job_id, "-o", "%x").strip()
    return set(client("scontrol", "show", "hostnames", listed).split())


def test_a_lost_answer_is_made_good_by_the_name(site: Site) -> None:
    job = site.counter(20)
    intended = job.folder.intend(1, "slurm", None)
    log = job.folder.logs_folder / "batch.log"
    sent = site.scheduler.submit(Request(intended.name, job.folder.run_script, log, 600.0, 2.0))
    job.new_head()
    assert job.watched.job_id == sent
    assert job.end().action == "succeed"
    assert len(job.folder.submissions()) == 1


def test_a_chain_in_a_hidden_partition_is_seen_and_goes_on(site: Site) -> None:
    """Slurm shows such jobs to nobody who does not ask for all partitions, and not to their owner either."""
    job = site.counter(60, extra={"slurm_partition": "hidden"})
    first = job.computing(1)
    assert first.job_id not in client("squeue", "--me", "--noheader", "-o", "%i").split(), "it is hidden here"
    assert site.scheduler.liveness([first.job_id]) == {first.job_id: Liveness.ALIVE}
    assert site.scheduler.find(job.folder.submissions()[0].name) == first.job_id
    # With that partition nodes are told of once more.
    assert site.scheduler.node_class({"SLURMD_NODENAME": first.host}, "cpu_?") in ("cpu_1", "cpu_2")
    site.warn(first.job_id)
    wait_for(lambda: queue(first.job_id) == "PENDING", "the requeue")
    assert site.scheduler.liveness([first.job_id]) == {first.job_id: Liveness.ALIVE}
    site.scheduler.hasten([first.job_id], {first.job_id: [first.host]})
    assert excluded(first.job_id) == {first.host}
    assert job.end().action == "succeed", job.told()
    one, two = job.folder.segments()
    assert (one.outcome, two.outcome) == ("saved", "finished"), job.told()
    assert one.host != two.host
    assert one.job_id == two.job_id
    assert len(job.folder.submissions()) == 1, "nobody took it for lost"
    assert job.out() == expected(60)
