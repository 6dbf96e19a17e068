from __future__ import annotations

import multiprocessing
import os
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from helpers.jobs import a_job, a_segment

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.errors import StateError
from snakemake_executor_plugin_ckpt.schedulers.base import Allocation
from snakemake_executor_plugin_ckpt.segment.claim import claim
from snakemake_executor_plugin_ckpt.state import durable
from snakemake_executor_plugin_ckpt.state.folder import JobFolder, job_folders

SPAWN = multiprocessing.get_context("spawn")
CONTESTANTS = 6


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    made = JobFolder(tmp_path / "job")
    made.make()
    made.write_job(a_job())
    return made


def _race(barrier: Barrier, path: str, job_id: str) -> None:
    folder = JobFolder(Path(path))
    barrier.wait(60)
    try:
        segment, _ = claim(folder, a_job(), "local", Allocation(job_id, None))
        text = str(segment.number)
    except StateError:
        text = ""
    Path(path, f"result-{job_id}").write_text(text)


def test_one_of_many_supervisors_gets_the_segment(folder: JobFolder) -> None:
    barrier = SPAWN.Barrier(CONTESTANTS)
    racers = [
        SPAWN.Process(target=_race, args=(barrier, str(folder.path), str(number))) for number in range(CONTESTANTS)
    ]
    for one in racers:
        one.start()
    for one in racers:
        one.join(60)
    owner = folder.segment(1)
    results = {str(number): (folder.path / f"result-{number}").read_text() for number in range(CONTESTANTS)}
    # A racer that comes after the winner's process ended may rightly find it gone and take the next number.
    assert results[owner.job_id] == "1"
    assert sorted(text for text in results.values() if text) == [str(n) for n in folder.segment_numbers()]


def test_the_next_segment_is_refused_while_the_last_one_may_be_alive(folder: JobFolder) -> None:
    me = proc.identify(os.getppid())
    assert me is not None
    folder.claim(a_segment(1, host=me.host, boot=me.boot, pid=me.pid, pid_start=me.start))
    with pytest.raises(StateError, match="may still be alive"):
        claim(folder, a_job(), "local", Allocation("other", None))
    assert folder.segment_numbers() == [1]
    assert folder.lost(1) is None


def test_a_segment_on_another_node_is_never_taken_for_dead_by_its_successor(folder: JobFolder) -> None:
    folder.claim(a_segment(1, host="far-away"))
    with pytest.raises(StateError, match="far-away"):
        claim(folder, a_job(), "local", Allocation("other", None))


def test_a_reused_process_number_is_not_taken_for_the_owner(folder: JobFolder) -> None:
    me = proc.identify(multiprocessing.current_process().pid or 0)
    assert me is not None
    folder.claim(a_segment(1, host=me.host, boot=me.boot, pid=me.pid, pid_start=me.start + 1))
    segment, history = claim(folder, a_job(), "local", Allocation("other", None))
    assert segment.number == 2
    assert [one.number for one in history] == [1]
    assert "is gone" in (folder.lost(1) or "")


def test_a_requeued_batch_job_declares_its_run_before_lost(folder: JobFolder) -> None:
    folder.claim(a_segment(1, host="far-away", job_id="77"))
    segment, _ = claim(folder, a_job(), "local", Allocation("77", 5.0))
    assert segment.number == 2
    assert segment.walltime_end == 5.0
    assert folder.lost(1) == "its batch job was started again"


@pytest.mark.parametrize("outcome", ["saved", "failed", "finished"])
def test_a_segment_after_one_that_is_over_needs_no_lost_mark(folder: JobFolder, outcome: str) -> None:
    folder.claim(a_segment(1, host="far-away", outcome=outcome))
    segment, _ = claim(folder, a_job(), "local", Allocation("x", None))
    assert segment.number == 2
    assert folder.lost(1) is None


def test_the_history_is_of_this_attempt_and_numbers_go_on(folder: JobFolder) -> None:
    folder.claim(a_segment(1, outcome="saved"))
    folder.claim(a_segment(2, outcome="finished"))
    segment, history = claim(folder, a_job(attempt=2), "local", Allocation("x", None))
    assert (segment.number, segment.attempt, history) == (3, 2, [])


def test_a_lost_mark_is_written_once_and_its_first_reason_stays(folder: JobFolder) -> None:
    assert folder.lost(1) is None
    folder.declare_lost(1, "first")
    folder.declare_lost(1, "second")
    assert folder.lost(1) == "first"
    assert folder.segment_numbers() == []


def test_a_segment_belongs_to_who_claimed_it(folder: JobFolder) -> None:
    assert folder.claim(a_segment(1, host="a"))
    assert not folder.claim(a_segment(1, host="b"))
    assert folder.segment(1).host == "a"


def test_segments_come_in_the_order_of_their_numbers(folder: JobFolder) -> None:
    for number in (9999, 10000, 2, 10001):
        folder.claim(a_segment(number))
    assert folder.segment_numbers() == [2, 9999, 10000, 10001]
    last = folder.last_segment()
    assert last is not None
    assert last.number == 10001


def test_foreign_files_among_the_records_are_passed_over(folder: JobFolder) -> None:
    folder.claim(a_segment(1))
    for name in (".0002.yaml.node.7", "0002.yaml~", "readme", "0001.lost", "x0003.yaml", "12.yaml"):
        (folder.segments_folder / name).write_text("?")
    assert [segment.number for segment in folder.segments()] == [1]


def test_requests_are_seen_until_they_are_met(folder: JobFolder) -> None:
    folder.request("park")
    folder.request("park")
    folder.request("checkpoint")
    (folder.requests_folder / ".half-written").touch()
    assert folder.requests() == {"park", "checkpoint"}
    folder.clear_request("park")
    folder.clear_request("park")
    assert folder.requests() == {"checkpoint"}


def test_a_new_attempt_keeps_history_and_logs_and_nothing_that_could_be_restored(folder: JobFolder) -> None:
    folder.claim(a_segment(1, outcome="finished"))
    (folder.images_folder / "0001").mkdir()
    (folder.images_folder / "0001" / "core").write_text("x")
    folder.request("park")
    folder.exit_file.write_text("3\n")
    folder.payload_log.write_text("said\n")
    folder.begin_attempt(a_job(attempt=2))
    job = folder.job()
    assert job is not None
    assert job.attempt == 2
    assert folder.exit_status() is None
    assert not list(folder.images_folder.iterdir())
    assert folder.requests() == set()
    assert folder.segment_numbers() == [1]
    assert (folder.logs_folder / "payload.1.log").read_text() == "said\n"
    assert (folder.path / "exit.1").read_text() == "3\n"


@pytest.mark.parametrize("text", ["", "\n", "zero", "0x1", "1 2"])
def test_an_exit_status_that_is_no_number_is_no_success(folder: JobFolder, text: str) -> None:
    folder.exit_file.write_text(text)
    with pytest.raises(StateError, match="exit"):
        folder.exit_status()


def test_submissions_have_names_that_no_other_one_has(folder: JobFolder) -> None:
    first = folder.intend(1, "local", "why")
    second = folder.intend(1, "local", None)
    assert first.name != second.name
    folder.submitted(first, "42")
    assert [(one.number, one.job_id) for one in folder.submissions()] == [(1, "42"), (2, None)]


def test_a_folder_without_a_job_file_is_no_job(tmp_path: Path, folder: JobFolder) -> None:
    (tmp_path / ".local").mkdir()
    (tmp_path / "other").mkdir()
    assert [one.path for one in job_folders(tmp_path)] == [folder.path]
    assert JobFolder(tmp_path / "other").job() is None
    assert list(job_folders(tmp_path / "none")) == []


def test_a_job_of_a_newer_version_is_refused_with_its_path(folder: JobFolder) -> None:
    durable.replace(folder.job_file, durable.to_yaml({**a_job().to_dict(), "schema": 2}))
    with pytest.raises(StateError, match=r"job\.yaml.*update the plugin"):
        folder.job()


def test_the_folder_is_private_to_the_user(folder: JobFolder) -> None:
    for path in (folder.path, folder.images_folder, folder.logs_folder, folder.tmp_folder):
        assert path.stat().st_mode & 0o777 == 0o700


def test_the_lock_excludes(folder: JobFolder) -> None:
    from filelock import Timeout

    with folder.lock():
        other = folder.lock()
        with pytest.raises(Timeout):
            other.acquire(timeout=0.05)
    with folder.lock():
        pass
