from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.histories import ELSEWHERE, History, done

from snakemake_executor_plugin_ckpt.cli import facts, view
from snakemake_executor_plugin_ckpt.cli.view import SegmentView, Summary
from snakemake_executor_plugin_ckpt.policy import Policy

NOW = 2000.0


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written here need not outlive a power cut, and shared disks are slow."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def summary(history: History, now: float = NOW) -> Summary:
    return view.summary(facts.read(history.folder), now)


def segments(history: History, now: float = NOW) -> list[SegmentView]:
    return view.segments(facts.read(history.folder), now)


def words(history: History, now: float = NOW) -> str:
    return summary(history, now).state.words


@pytest.fixture
def job(tmp_path: Path) -> History:
    return History(tmp_path, "count-a-0123456789abcdef", wildcards="x=a")


# -- states


def test_a_job_that_ended_well_is_done(tmp_path: Path) -> None:
    assert words(done(tmp_path)) == "done"


def test_a_job_that_ended_badly_is_failed_with_its_status(job: History) -> None:
    job.finished(3)
    assert words(job) == "failed: the job ended with exit status 3"


def test_a_finished_segment_counts_before_the_exit_file_is_seen(job: History) -> None:
    job.finished(0)
    job.folder.exit_file.unlink()
    assert words(job) == "done"


def test_a_job_without_a_segment_waits_for_its_batch_job(job: History) -> None:
    assert words(job) == f"waiting: batch job {job.batch} has not started"


def test_a_job_that_was_never_submitted_says_so(job: History) -> None:
    (job.folder.submissions_folder / "0001.yaml").unlink()
    assert words(job) == "waiting: not submitted yet"


def test_a_segment_whose_process_lives_is_running(job: History) -> None:
    segment = job.running_here()
    assert words(job) == f"running on {segment.host}"


def test_a_segment_whose_process_is_gone_is_perhaps_lost(job: History) -> None:
    segment = job.running_here()
    job.folder.update(replace(segment, pid_start=segment.pid_start + 1))
    assert words(job).startswith(f"lost? on {segment.host}: process {segment.pid} is gone")


def test_a_segment_of_another_node_is_perhaps_lost_once_its_walltime_is_long_over(job: History) -> None:
    job.segment(walltime_end=1500.0)
    grace = Policy().grace
    assert words(job, 1499.0) == f"running on {ELSEWHERE}"
    assert words(job, 1500.0 + grace + view.OVERDUE) == f"running on {ELSEWHERE}"
    assert words(job, 1501.0 + grace + view.OVERDUE).startswith("lost? on")


def test_a_segment_that_was_declared_lost_is_lost(job: History) -> None:
    job.segment()
    job.folder.declare_lost(1, "its node died")
    assert words(job) == f"lost on {ELSEWHERE}: its node died"


def test_between_two_segments_a_job_is_saved(job: History) -> None:
    job.saved()
    assert words(job) == "saved"


def test_a_job_that_was_asked_to_stop_is_parked(job: History) -> None:
    job.saved(parked=True)
    assert words(job) == "parked"
    assert segments(job)[0].outcome == "parked"


def test_a_job_that_was_cancelled_is_cancelled(job: History) -> None:
    job.segment(outcome="failed", failure="killed", reason="cancelled on request", parked=True)
    assert words(job) == "cancelled: cancelled on request"


def test_a_failure_that_is_tried_again_is_no_end(job: History) -> None:
    job.saved()
    job.segment(outcome="failed", failure="restore", reason="CPU too old", restored_from=1)
    assert words(job) == "waiting: segment 2 failed: CPU too old; it is tried again"


def test_a_failure_that_leaves_nothing_to_try_is_the_end(job: History) -> None:
    job.segment(outcome="failed", failure="refused", reason="the walltime is too short")
    assert words(job) == "failed: the walltime is too short"


def test_failures_before_the_workflow_was_run_again_do_not_count(job: History) -> None:
    for _ in range(3):
        job.segment(outcome="failed", failure="error", reason="disk full")
    assert summary(job).state.name == "failed"
    job.folder.write_job(replace(job.job, since=2))
    assert summary(job).state.name == "waiting"


# -- numbers


def test_a_line_adds_up_the_segments(tmp_path: Path) -> None:
    one = summary(done(tmp_path))
    assert (one.segments, one.saves, one.images) == (3, 2, 2)
    assert one.computing_seconds == pytest.approx(90)
    assert one.lost_seconds == pytest.approx(2 + 2 + 3 + 3)
    assert 2 * 4096 < one.image_bytes < 4 * 4096


def test_only_the_current_attempt_counts(tmp_path: Path) -> None:
    history = done(tmp_path)
    history.begin_attempt()
    history.saved(useful=7.0)
    one = summary(history)
    assert (one.attempt, one.segments, one.saves, one.computing_seconds) == (2, 1, 1, 7.0)
    assert [each.number for each in view.segments(facts.read(history.folder), NOW, 1)] == [1, 2, 3]
    assert facts.read(history.folder).earlier_exits == {1: 0}


def test_computing_of_a_segment_that_saved_nothing_is_lost(job: History) -> None:
    job.saved(useful=40.0)
    job.segment(outcome="failed", failure="killed", reason="oom", useful=25.0, restored_from=1, verify=1.0)
    job.finished(useful=30.0, restored_from=1)
    first, second, third = segments(job)
    assert (first.kept, second.kept, third.kept) == (True, False, True)
    assert second.lost_seconds == pytest.approx(25 + 1)
    assert third.lost_seconds == 0


def test_computing_behind_an_image_that_was_not_taken_is_lost(job: History) -> None:
    job.saved(useful=40.0)
    job.saved(useful=30.0, restored_from=1)
    job.finished(useful=50.0, restored_from=1)
    assert [one.kept for one in segments(job)] == [True, False, True]


def test_computing_before_a_start_from_the_beginning_is_lost(job: History) -> None:
    job.saved(useful=40.0)
    job.finished(useful=80.0)
    assert [one.kept for one in segments(job)] == [False, True]
    assert summary(job).lost_seconds == pytest.approx(2 + 40)


def test_a_segment_that_only_begins_does_not_make_the_work_before_look_lost(job: History) -> None:
    job.saved(useful=40.0)
    job.running_here(startup=None)
    assert [one.kept for one in segments(job)] == [True, True]


def test_a_failed_restore_does_not_make_the_work_before_look_lost(job: History) -> None:
    job.saved(useful=40.0)
    job.segment(outcome="failed", failure="restore", reason="no", restored_from=1)
    assert segments(job)[0].kept


def test_what_a_lost_segment_saved_is_kept_and_the_rest_is_bounded(job: History) -> None:
    job.image(1)
    job.segment(generation=1, saves=1, frozen=2.0, useful=30.0, walltime_end=1180.0)
    job.folder.declare_lost(1, "its node died")
    (one,) = segments(job)
    assert (one.outcome, one.ended, one.kept) == ("lost", 1180.0, True)
    assert one.unsaved_seconds == pytest.approx(80 - 0.5 - 2 - 30)
    assert one.lost_seconds == pytest.approx(2 + one.unsaved_seconds)


def test_a_running_segment_computes_until_now(job: History) -> None:
    job.running_here(verify=1.0, restore=2.0)
    (one,) = segments(job, 1200.0)
    assert (one.outcome, one.ended) == ("running", None)
    assert one.computing_seconds == pytest.approx(100 - 0.5 - 3)


def test_a_segment_with_several_saves_counts_each(job: History) -> None:
    job.segment(outcome="saved", useful=90.0, generation=3, saves=3, frozen=2.0)
    job.finished(restored_from=2)
    first, _ = segments(job)
    assert first.saving_seconds == pytest.approx(6)
    assert first.kept


def test_totals_add_up_jobs_and_count_states(tmp_path: Path, job: History) -> None:
    job.saved(parked=True)
    totals = view.totals([summary(job), summary(done(tmp_path, "count-b-0123456789abcdef", "x=b"))])
    assert (totals.jobs, totals.segments, totals.saves) == (2, 4, 3)
    assert totals.states == {"parked": 1, "done": 1}
    assert totals.lost_seconds == pytest.approx(2 + 10)
