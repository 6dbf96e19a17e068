"""Claims and the lock between processes on two mounts of one folder, in two mount namespaces at least."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers import claims
from helpers.mounts import Mount, bind_mount

_NAMED = os.environ.get("CKPT_TEST_MOUNTS", "")


@pytest.fixture(params=["namespaces", *(["named"] if _NAMED else [])])
def mounts(request: pytest.FixtureRequest, tmp_path: Path) -> list[Mount]:
    """Two mounts of one folder; the first one this process sees too."""
    if request.param == "named":
        return [Mount(Path(path, tmp_path.name)) for path in _NAMED.split(":")]
    shared = tmp_path / "shared"
    shared.mkdir()
    return [bind_mount(shared, tmp_path / name) for name in ("a", "b")]


@pytest.fixture
def job(request: pytest.FixtureRequest, mounts: list[Mount], tmp_path: Path) -> Path:
    """The job folder, as this process sees it."""
    seen = Mount(tmp_path / "shared") if mounts[0].prefix else mounts[0]
    return claims.job_on(seen).path


def test_of_processes_on_two_mounts_exactly_one_claims_each_segment(mounts: list[Mount], job: Path) -> None:
    claims.one_claims_each_segment(mounts, job, 300)


def test_of_supervisors_on_two_mounts_exactly_one_begins_each_segment(mounts: list[Mount], job: Path) -> None:
    claims.one_begins_each_segment(mounts, job, 100)


def test_of_processes_on_two_mounts_exactly_one_creates_each_file(mounts: list[Mount], job: Path) -> None:
    claims.one_creates_each_file(mounts, job, 300)


def test_no_two_submissions_from_two_mounts_have_one_number(mounts: list[Mount], job: Path) -> None:
    claims.no_two_submissions_have_a_number(mounts, job, 50)


def test_a_segment_is_declared_lost_once_whoever_says_it_on_whichever_mount(mounts: list[Mount], job: Path) -> None:
    claims.a_segment_is_lost_once(mounts, job, 100)


def test_the_lock_excludes_over_two_mounts_and_what_was_written_under_it_is_seen(
    mounts: list[Mount], job: Path
) -> None:
    claims.one_has_the_lock(mounts, job, 50)


def test_a_reader_on_another_mount_sees_the_old_or_the_new_content_and_nothing_else(
    mounts: list[Mount], job: Path
) -> None:
    claims.a_reader_sees_old_or_new(mounts, job, 300)
