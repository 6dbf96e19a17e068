"""Chains on the fake of LSF (`helpers/fake_lsf`), which is not LSF: run limits, bstop and bresume, outages."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers.fake_lsf import FakeLsf
from helpers.jobs import LocalJob, local_job
from helpers.waiting import processes_with, wait_for, wait_for_text

from snakemake_executor_plugin_ckpt.errors import SchedulerError
from snakemake_executor_plugin_ckpt.schedulers import lsf
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness, Request
from snakemake_executor_plugin_ckpt.schedulers.lsf import Lsf

PLACE = "snakemake_executor_plugin_ckpt.schedulers.lsf:Lsf"
STEPS = "for n in 1 2; do echo step $n; until [ -e go-$n ]; do sleep 0.02; done; done; exit 7"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLsf]:
    made = FakeLsf(tmp_path / "fake", JOB_TERMINATE_INTERVAL=0.3)
    monkeypatch.setenv("PATH", f"{made.bin}:{os.environ['PATH']}")
    yield made
    made.end()


@pytest.fixture
def job(fake: FakeLsf, tmp_path: Path) -> Iterator[LocalJob]:
    """A job folder whose segments run under the fake."""
    with local_job(tmp_path, STEPS, scheduler_place=PLACE) as made:
        made.scheduler = Lsf(made.state)
        yield made


def submit(job: LocalJob, walltime: float | None = None, threads: int = 1) -> str:
    log = job.folder.logs_folder / "batch.log"
    request = Request("ckpt-job-1", job.folder.run_script, log, walltime, 2.0, threads)
    job.ids.append(job.scheduler.submit(request))
    wait_for_text(job.folder.payload_log, "step 1\n")
    return job.ids[-1]


def client(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=True).stdout


def state(fake: FakeLsf, job_id: str) -> str:
    return str((fake.store.job(int(job_id)) or {}).get("stat"))


def is_done(fake: FakeLsf, job_id: str) -> bool:
    return state(fake, job_id) == "DONE"


def assert_as_one_run(job: LocalJob) -> None:
    (job.work / "go-1").touch()
    (job.work / "go-2").touch()
    segments = job.wait()
    assert [one.outcome for one in segments] == ["saved"] * (len(segments) - 1) + ["finished"]
    assert len(segments) > 1
    assert {one.job_id for one in segments} == {job.ids[0]}
    assert job.folder.exit_status() == 7
    assert job.said() == "step 1\nstep 2\n"


@pytest.mark.criu
def test_with_the_fake_a_job_that_is_warned_of_its_run_limit_goes_on_in_the_same_batch_job(
    fake: FakeLsf, job: LocalJob
) -> None:
    fake.store.configure(MINUTE=3.0)  # of which the segment knows nothing: only the signal tells it
    submit(job, walltime=120.0)
    wait_for(lambda: len(job.folder.segment_numbers()) >= 2, "the second segment")
    fake.store.configure(MINUTE=60.0)
    assert_as_one_run(job)


@pytest.mark.criu
def test_with_the_fake_bstop_saves_and_frees_and_bresume_restores(fake: FakeLsf, job: LocalJob) -> None:
    job_id = submit(job, threads=2)  # LSF stops jobs with several slots by SIGTSTP
    client("bstop", job_id)
    wait_for(lambda: state(fake, job_id) == "PSUSP", "a job that waits for bresume")
    assert job.folder.segment(1).outcome == "saved"
    assert job.alive()
    time.sleep(0.5)
    assert job.folder.segment_numbers() == [1]
    assert f"`bresume {job_id}`" in job.scheduler.held([job_id])[job_id]
    client("bresume", job_id)
    assert_as_one_run(job)
    assert not job.alive() and not job.scheduler.held([job_id])


@pytest.mark.criu
def test_with_the_fake_a_sequential_job_only_stands_still_unless_the_site_says_otherwise(
    fake: FakeLsf, job: LocalJob
) -> None:
    job_id = submit(job)
    client("bstop", job_id)  # SIGSTOP
    wait_for(lambda: state(fake, job_id) == "USUSP", "a stopped job")
    time.sleep(0.5)
    assert job.folder.segment(1).outcome == "running"
    client("bresume", job_id)
    wait_for(lambda: state(fake, job_id) == "RUN", "a job that goes on")
    fake.store.configure(LSB_SIGSTOP="SIGTSTP")
    client("bstop", job_id)
    wait_for(lambda: state(fake, job_id) == "PSUSP", "a job that waits for bresume")
    client("bresume", job_id)
    assert_as_one_run(job)


def request(tmp_path: Path, script: str, walltime: float | None = None, name: str = "ckpt-x-0001") -> Request:
    path = tmp_path / f"{name}.sh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return Request(name, path, tmp_path / "batch.log", walltime, 1.0, workdir=str(tmp_path))


def test_with_the_fake_the_run_limit_ends_a_job_with_all_it_started(fake: FakeLsf, tmp_path: Path) -> None:
    fake.store.configure(MINUTE=0.5, AFTER_USR2=1)
    scheduler = Lsf(tmp_path / "state")
    script = f'export MARK={tmp_path}; for s in URG USR2 INT TERM; do trap "echo $s >> said" $s; done; '
    job_id = scheduler.submit(request(tmp_path, script + "while :; do sleep 0.02; done", walltime=120.0))
    wait_for(lambda: scheduler.liveness([job_id])[job_id] is Liveness.GONE, "the end of the job")
    # Each once: a copy of the shell that is about to become `sleep` may hear a signal too.
    assert list(dict.fromkeys((tmp_path / "said").read_text().split())) == ["URG", "USR2", "INT", "TERM"]
    wait_for(lambda: not processes_with(f"MARK={tmp_path}\0"), "the end of what it started")


@pytest.mark.parametrize("outage", ["down", "hangs"])
def test_with_the_fake_an_lsf_that_is_down_leaves_all_unknown_and_nobody_waiting(
    fake: FakeLsf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outage: str
) -> None:
    monkeypatch.setattr(lsf, "_ANSWER", 0.6)
    monkeypatch.setattr(lsf, "_SUBMIT_LIMIT", 0.6)
    monkeypatch.setattr(lsf._run, "__defaults__", (0.6,))
    scheduler = Lsf(tmp_path / "state")
    job_id = scheduler.submit(request(tmp_path, "until [ -e go ]; do sleep 0.02; done"))
    fake.store.configure(OUTAGE=outage)
    began = time.monotonic()
    assert scheduler.liveness([job_id, "7"]) == dict.fromkeys([job_id, "7"], Liveness.UNKNOWN)
    with pytest.raises(SchedulerError):
        scheduler.find("ckpt-x-0001")
    with pytest.raises(SchedulerError):
        scheduler.cancel([job_id])
    with pytest.raises(SchedulerError):
        scheduler.submit(request(tmp_path, "true", name="ckpt-x-0002"))
    assert time.monotonic() - began < 15
    fake.store.configure(OUTAGE="")
    assert scheduler.liveness([job_id]) == {job_id: Liveness.ALIVE}


def test_with_the_fake_a_forgotten_job_is_gone_and_one_on_a_silent_host_is_not(fake: FakeLsf, tmp_path: Path) -> None:
    scheduler = Lsf(tmp_path / "state")
    first = scheduler.submit(request(tmp_path, "true"))
    second = scheduler.submit(request(tmp_path, "until [ -e go ]; do sleep 0.02; done", name="ckpt-x-0002"))
    wait_for(lambda: state(fake, first) == "DONE", "the end of the first")
    fake.store.forget(int(first))
    fake.store.configure(UNKWN=[int(second)])
    assert scheduler.liveness([first, second]) == {first: Liveness.GONE, second: Liveness.UNKNOWN}


def test_with_the_fake_nodes_are_avoided_and_kinds_of_nodes_asked_for(fake: FakeLsf, tmp_path: Path) -> None:
    fake.store.configure(HOST="n1.site.org")
    scheduler = Lsf(tmp_path / "state")
    wish = request(tmp_path, "true")
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"exclude": ["n1.site.org"]}, False),
        ({"exclude": ["n2"]}, True),
        ({"node_class": ("zen*", "zen3")}, True),
        ({"node_class": ("zen*", "zen2")}, False),
        ({"node_class": ("model", "Intel_E5")}, True),
        ({"mem_mb": 100, "exclude": ["n2"], "node_class": ("type", "X86_64")}, True),
    ]
    for number, (more, runs) in enumerate(cases):
        job_id = scheduler.submit(replace(wish, name=f"ckpt-y-{number}", **more))
        if runs:
            wait_for(partial(is_done, fake, job_id), f"the end of {more}")
        else:
            time.sleep(0.3)
            assert state(fake, job_id) == "PEND"
    environment = {"LSB_HOSTS": "n1.site.org n1.site.org"}
    assert [scheduler.node_class(environment, name) for name in ("model", "rome|zen*", "rome")] == [
        "Intel_E5",
        "zen3",
        None,
    ]
