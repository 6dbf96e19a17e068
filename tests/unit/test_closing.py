"""Whose word the exit status is: of segments that overlap, only one speaks for the job."""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

import pytest
from helpers.jobs import a_segment

from snakemake_executor_plugin_ckpt.engines.base import Running
from snakemake_executor_plugin_ckpt.segment import closing
from snakemake_executor_plugin_ckpt.state.folder import JobFolder


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    made = JobFolder(tmp_path / "job")
    made.make()
    made.claim(a_segment(1))
    return made


def said(folder: JobFolder, status: int = 0) -> int | None:
    return closing.exit_status(folder, a_segment(1), status, time.monotonic())


def test_what_the_payload_wrote_counts_else_how_it_ended(folder: JobFolder) -> None:
    assert said(folder, -9) == folder.exit_status() == 137
    folder.exit_file.write_text("7\n")
    assert said(folder) == folder.exit_status() == 7


def test_what_the_payload_of_a_lost_segment_said_is_taken_back(folder: JobFolder) -> None:
    folder.declare_lost(1, "its node is gone")
    folder.exit_file.write_text("0\n")
    assert said(folder) is None
    assert folder.exit_status() is None


@pytest.mark.parametrize("outcome", ["running", "saved", "failed"])
def test_it_is_taken_back_while_a_later_segment_has_the_job(folder: JobFolder, outcome: str) -> None:
    folder.claim(a_segment(2, outcome=outcome))
    folder.exit_file.write_text("0\n")
    assert said(folder) is None
    assert folder.exit_status() is None


def test_the_word_of_a_later_segment_stays(folder: JobFolder) -> None:
    folder.declare_lost(1, "its node is gone")
    folder.claim(a_segment(2, outcome="finished"))
    folder.exit_file.write_text("7\n")
    assert said(folder) is None
    assert folder.exit_status() == 7


def test_a_word_that_is_withdrawn_is_ones_own(folder: JobFolder) -> None:
    ended = []

    class Payload:
        def kill(self) -> None:
            ended.append(self)

    for later in (None, a_segment(2, outcome="running"), a_segment(3, outcome="finished")):
        if later is not None:
            folder.claim(later)
        folder.exit_file.write_text("7\n")
        closing.withdraw(folder, a_segment(1), cast(Running, Payload()), time.monotonic())
        finished = later is not None and later.outcome == "finished"
        assert folder.exit_status() == (7 if finished else None)
    assert len(ended) == 3


def test_an_absent_disk_does_not_say_whose_the_job_is(folder: JobFolder) -> None:
    folder.path.rename(folder.path.with_name("aside"))
    with pytest.raises(FileNotFoundError):
        said(folder)
