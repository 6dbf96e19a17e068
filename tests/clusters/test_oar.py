"""Chains on a real OAR 2.5 with two nodes; the cluster comes from oar.sh, and the conformance suite runs on it too."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.waiting import wait_for

from snakemake_executor_plugin_ckpt.errors import SchedulerError
from snakemake_executor_plugin_ckpt.schedulers import oar, oar_text
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness, Request

from .cluster import NODES, ClusterJob, Site, active, expected, most_at_once

pytestmark = [pytest.mark.cluster, pytest.mark.criu]

#: What oar.sh sets of OAR's 60 s, so that tests are quick; jobs of the project `SLOW` have them.
SHORTEST, SLOW = 1, "slow"


@pytest.fixture
def site(site_of: Callable[[str], Site], monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv(oar_text.SHORTEST, str(SHORTEST))
    return site_of("oar")


def outcomes(job: ClusterJob) -> list[str]:
    return [segment.outcome for segment in job.folder.segments()]


def test_the_exit_status_is_the_jobs_own(site: Site) -> None:
    job = site.counter(300, 0.1, 7, walltime=30.0, grace=1.0)
    step = job.end()
    assert (step.action, step.retry) == ("fail", True)
    assert "exit status 7" in step.reason
    assert job.folder.exit_status() == 7
    *earlier, last = outcomes(job)
    assert earlier and set(earlier) == {"saved"}
    assert last == "finished"
    assert job.out() == expected(300)


def test_a_save_by_hand_after_a_few_seconds_waits_for_the_rule_of_sixty_seconds(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As slow as OAR is: a job that ends with 99 within 60 s is not resubmitted."""
    monkeypatch.delenv(oar_text.SHORTEST)
    job = site.counter(250, 0.1, extra={"oar_project": SLOW})
    with most_at_once([job]) as most:
        job.computing(1)
        job.until(lambda: "Running" in active(job.watched.job_id).values())  # OAR signals no others
        (number,) = active(job.watched.job_id)
        for _ in range(3):  # OAR too repeats its signal until the job has ended
            subprocess.run(["oardel", "--checkpoint", number], timeout=60, check=True, stdout=subprocess.DEVNULL)
        job.until(lambda: job.over(1))
        used = _cpu_seconds(job)
        step = job.until(lambda: job.started(2))
        assert step is not None
        assert step.action == "wait"
        assert job.end().action == "succeed"
    assert used < 5
    first, second = job.folder.segments()
    assert (first.outcome, second.outcome) == ("saved", "finished")
    assert second.started - first.started > 60
    assert len(job.folder.submissions()) == 1
    assert job.out() == expected(250)
    assert most == [1]


def _cpu_seconds(job: ClusterJob) -> float:
    """CPU time of a job's processes so far."""
    ticks = 0
    for pid in job.processes():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@pytest.mark.alone
def test_a_node_that_dies_costs_what_was_done_since_the_last_save(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # OAR goes on saying Running, until it gives up after the walltime and JOBDEL_WALLTIME. Here we do so before it.
    monkeypatch.setattr(oar, "_OVERDUE", 1.0)
    job = site.counter(150, 0.1, walltime=20.0, period=2.0, grace=1.0)
    with most_at_once([job]) as most:
        first = job.computing(1)
        job.until(lambda: len(job.folder.segment(1).images) >= 2)
        saved = job.last_save(1)
        site.order("kill-node", first.host)
        since, done = time.time() - saved.at, job.lines()
        step = job.round()
        assert step is not None
        assert step.action == "wait"
        chain = job.watched.job_id
        job.until(lambda: job.folder.lost(1) is not None)
        assert set(active(chain).values()) == {"Running"}
        assert job.end().action == "succeed"
    assert first.walltime_end is not None
    second = job.folder.segment(2)
    assert second.started > first.walltime_end
    assert second.host != first.host
    assert second.restored_from is not None and second.restored_from >= saved.generation
    assert 0.1 * (done - 1) - saved.depth < since, "seconds that were computed twice"
    assert job.out() == expected(150)
    assert most == [1]


@pytest.mark.alone
def test_a_job_that_is_submitted_while_the_daemon_is_down_starts_once_when_it_is_back(site: Site) -> None:
    site.order("server-down")
    job = site.counter(10, 0.1)
    assert job.round() is not None, job.trouble
    for _ in range(3):
        step = job.round()
        assert step is not None
        assert step.action == "wait"
    site.order("server-up")
    assert job.end().action == "succeed"
    assert len(job.folder.submissions()) == 1


@pytest.mark.alone
def test_without_the_data_base_nothing_is_known_and_nothing_is_submitted_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.order("server-down")
    site.order("db-down")
    monkeypatch.setattr(oar, "_ANSWER", 2)
    try:
        assert site.scheduler.liveness(["1"]) == {"1": Liveness.UNKNOWN}
        request = Request("ckpt-no-data-base", Path("/bin/true"), site.base / "log", 60.0, 1.0)
        with pytest.raises(SchedulerError, match="did not answer"):
            site.scheduler.submit(request)
        with pytest.raises(SchedulerError):
            site.scheduler.find(request.name)
    finally:
        site.order("db-up")
        site.order("server-up")
    time.sleep(3)  # what is left of a client would have tried again by now
    assert site.scheduler.find(request.name) is None


def test_a_cancelled_chain_leaves_nothing_behind(site: Site) -> None:
    job = site.counter(1000, 0.1)
    job.computing(1)
    assert job.watched.job_id is not None
    site.scheduler.cancel([job.watched.job_id])
    assert active(job.watched.job_id) == {}
    wait_for(lambda: not job.processes(), "the end of all processes")
    assert site.scheduler.liveness([job.watched.job_id]) == {job.watched.job_id: Liveness.GONE}


def test_a_job_that_ends_with_99_while_it_is_cancelled_has_no_successor(site: Site) -> None:
    script = site.base / "script"
    script.write_text(f"#!/bin/sh\ntouch {site.base}/up\nuntil [ -e {site.base}/go ]; do sleep 0.02; done\nexit 99\n")
    script.chmod(0o700)
    job_id = site.scheduler.submit(Request("ckpt-race", script, site.base / "log", 600.0, 1.0))
    wait_for(lambda: (site.base / "up").exists(), "the start of the script")
    time.sleep(SHORTEST + 1.5)
    (site.base / "go").touch()
    site.scheduler.cancel([job_id])
    assert site.scheduler.liveness([job_id]) == {job_id: Liveness.GONE}


@pytest.mark.alone
def test_nodes_are_avoided_and_kinds_of_nodes_asked_for(site: Site) -> None:
    said = site.base / "said"
    script = site.base / "script"
    script.write_text(f"#!/bin/sh\nhostname >> {said}\n")
    script.chmod(0o700)
    wanted: list[dict[str, Any]] = [
        {"exclude": ["onode1"]},
        {"node_class": ("cputype", "type-of-onode2")},
        {"exclude": list(NODES["oar"])},
    ]
    for number, more in enumerate(wanted):
        request = Request(f"ckpt-node-{number}", script, site.base / "log", 60.0, 1.0, **more)
        site.scheduler.submit(request)
    # The last one excludes all that there are: then none is.
    wait_for(lambda: said.exists() and len(said.read_text().split()) == 3, "three jobs")
    assert said.read_text().split().count("onode2") >= 2


@pytest.mark.alone
def test_fifty_jobs_are_one_query_a_round_and_one_cancel(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for node in NODES["oar"]:
        site.order("drain", node, "on")  # they wait
    calls = _count_calls(tmp_path, monkeypatch)
    script = site.base / "script"
    script.write_text("#!/bin/sh\nsleep 60\n")
    script.chmod(0o700)
    log = site.base / "log"
    ids = [site.scheduler.submit(Request(f"ckpt-{number}", script, log, 60.0, 1.0)) for number in range(50)]
    assert calls("oarsub") == 50
    for _ in range(3):
        assert set(site.scheduler.liveness(ids).values()) == {Liveness.ALIVE}
    assert calls("oarstat") == 3
    site.scheduler.cancel(ids)
    assert calls("oardel") == 1
    assert set(site.scheduler.liveness(ids).values()) == {Liveness.GONE}


def _count_calls(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """Count the calls of OAR's programs from here on."""
    old = os.environ["PATH"]
    for program in ("oarsub", "oarstat", "oardel"):
        path = folder / program
        path.write_text(f'#!/bin/sh\necho >> "$0.calls"\nPATH={old} exec {program} "$@"\n')
        path.chmod(0o700)
    monkeypatch.setenv("PATH", f"{folder}:{old}")
    return lambda program: len((folder / f"{program}.calls").read_text().splitlines())
