"""What must be over before the next segment is claimed: the supervisor of the one before, and its payload."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.histories import ELSEWHERE, History

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.errors import StateError
from snakemake_executor_plugin_ckpt.schedulers.base import Allocation
from snakemake_executor_plugin_ckpt.segment import claim
from snakemake_executor_plugin_ckpt.state.records import Segment

pytestmark = pytest.mark.usefixtures("no_fsync")
MINE = Allocation("batch-2", None)


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def lost_with_payload(history: History, payload: int) -> Segment:
    """A segment whose supervisor is dead, and whose payload's first process is this one."""
    dead = subprocess.Popen(["true"])
    found, first = proc.identify(dead.pid), proc.identify(payload)
    assert found is not None
    assert first is not None
    dead.wait()
    return history.segment(
        host=found.host, boot=found.boot, pid=found.pid, pid_start=found.start, init=first.pid, init_start=first.start
    )


def test_a_payload_that_takes_its_time_to_end_is_waited_for(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    history = History(tmp_path, "key")
    lost_with_payload(history, other.pid)
    threading.Timer(0.3, other.kill).start()
    segment, before = claim.claim(history.folder, history.job, "local", MINE)
    assert other.wait() == -9
    assert (segment.number, len(before)) == (2, 1)
    assert history.folder.lost(1) is not None


def test_a_payload_that_does_not_end_keeps_the_next_one_from_starting(
    tmp_path: Path, other: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "_END", 0.2)
    history = History(tmp_path, "key")
    lost_with_payload(history, other.pid)
    with pytest.raises(StateError, match="does not end"):
        claim.claim(history.folder, history.job, "local", MINE)
    assert history.folder.segment_numbers() == [1]
    assert other.poll() is None, "it is the kernel's to end it, with its supervisor"


def test_a_claim_whose_record_was_made_though_the_disk_failed_is_held(tmp_path: Path) -> None:
    history = History(tmp_path, "key")
    history.saved()
    first, _ = claim.claim(history.folder, history.job, "local", MINE)
    again, before = claim.claim(history.folder, history.job, "local", MINE)
    assert (first.number, again.number, [one.number for one in before]) == (2, 2, [1])
    assert again == first


def test_a_claim_says_which_submission_was_the_newest(tmp_path: Path) -> None:
    history = History(tmp_path, "key")
    history.submit()
    segment, _ = claim.claim(history.folder, history.job, "local", MINE)
    assert segment.submission == 2


def test_no_segment_of_a_job_that_ended_a_moment_ago_is_claimed(tmp_path: Path) -> None:
    history = History(tmp_path, "key")
    history.saved()
    history.finished()
    with pytest.raises(StateError, match="is over"):
        claim.claim(history.folder, history.job, "local", MINE)
    assert history.folder.segment_numbers() == [1, 2]


def test_no_segment_of_a_job_whose_success_snakemake_knows_is_claimed(tmp_path: Path) -> None:
    """Its images are gone, also if a segment that was saved in its last moment withdrew the exit status."""
    history = History(tmp_path, "key")
    history.saved()
    history.folder.write_job(replace(history.job, acknowledged=True))
    with pytest.raises(StateError, match="is over"):
        claim.claim(history.folder, history.job, "local", MINE)
    assert history.folder.segment_numbers() == [1]


@pytest.mark.parametrize(
    ("host", "ago", "kind", "waits"),
    [
        (ELSEWHERE, 0.0, "beegfs", 15.0),
        (ELSEWHERE, 5.0, "beegfs", 10.0),
        (ELSEWHERE, 20.0, "beegfs", 0.0),
        (ELSEWHERE, 5.0, "nfs4", 70.0),
        (proc.host_name(), 0.0, "nfs4", None),  # ended by `claim` itself
    ],
)
def test_a_segment_called_lost_that_may_live_elsewhere_has_the_time_to_see_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, ago: float, kind: str, waits: float | None
) -> None:
    history = History(tmp_path, "key")
    history.segment(host=host, job_id="batch-2")
    segment, before = claim.claim(history.folder, history.job, "local", MINE)
    lost = history.folder.segments_folder / "0001.lost"
    then = (lost.with_name("0002.yaml").stat().st_mtime_ns - int(ago * 1e9)) / 1e9
    os.utime(lost, (then, then))
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(claim, "file_system", lambda _: kind)
    claim.outlive(history.folder, segment, before)
    assert slept == ([] if waits is None else [pytest.approx(waits, abs=0.01)])


def test_a_segment_that_ended_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(tmp_path, "key")
    history.saved()
    segment, before = claim.claim(history.folder, history.job, "local", MINE)
    monkeypatch.setattr(time, "sleep", None)
    claim.outlive(history.folder, segment, before)
