"""Claims and the lock through two FUSE mounts of one folder: two clients that do not know of one another.

Each is a superblock of its own, which believes for seconds what it knows of names and sizes, as the clients of NFS do;
the nearest to these that a kernel without NFS has. (For real ones see ``CKPT_TEST_MOUNTS`` in `helpers.mounts`.)
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers import claims
from helpers.mounts import Mount

pytestmark = pytest.mark.root

_CACHES = "attr_timeout=3,entry_timeout=3,negative_timeout=3"


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[list[Mount]]:
    """Two FUSE mounts of one folder, gone with the test."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("this kernel, or container, has no FUSE")
    if shutil.which("bindfs") is None:
        missing = pytest.fail if os.environ.get("CKPT_NO_SKIP") == "1" else pytest.skip
        missing("bindfs is missing (apt-get install bindfs)")
    shared = tmp_path / "shared"
    shared.mkdir()
    with ExitStack() as stack:
        seen = []
        for name in ("a", "b"):
            mount = tmp_path / name
            mount.mkdir()
            argv = ["bindfs", "-o", _CACHES, str(shared), str(mount)]
            done = subprocess.run(argv, timeout=30, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"FUSE cannot be mounted here: {done.stderr.strip()}")
            stack.callback(subprocess.run, ["umount", "--lazy", str(mount)], check=True, timeout=30)
            seen.append(Mount(mount))
        yield seen


def test_of_processes_on_two_clients_exactly_one_claims_each_segment(mounts: list[Mount]) -> None:
    claims.one_claims_each_segment(mounts, claims.job_on(mounts[0]).path, 200)


def test_of_processes_on_two_clients_exactly_one_creates_each_file(mounts: list[Mount]) -> None:
    claims.one_creates_each_file(mounts, claims.job_on(mounts[0]).path, 200)


def test_no_two_submissions_from_two_clients_have_one_number(mounts: list[Mount]) -> None:
    claims.no_two_submissions_have_a_number(mounts, claims.job_on(mounts[0]).path, 30)


def test_a_segment_is_declared_lost_once_whoever_says_it_on_whichever_client(mounts: list[Mount]) -> None:
    claims.a_segment_is_lost_once(mounts, claims.job_on(mounts[0]).path, 60)


def test_the_lock_excludes_over_two_clients(mounts: list[Mount]) -> None:
    claims.no_two_hold_the_lock(mounts, claims.job_on(mounts[0]).path, 20)


def test_verify_fs_refuses_a_file_system_that_shows_no_file_while_it_is_replaced(mounts: list[Mount]) -> None:
    command = [sys.executable, "-m", "snakemake_executor_plugin_ckpt.cli.main", "verify-fs"]
    one = ["--processes", "2", "--json"]
    with subprocess.Popen(
        [*command, str(mounts[0].folder), "--seconds", "4", *one], stdout=-1, stderr=-1, text=True
    ) as held:
        assert held.stderr is not None
        held.stderr.readline()
        token = held.stderr.readline().split()[-1]
        argv = [*command, str(mounts[1].folder), "--join", token, *one]
        joined = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        report = json.loads(held.communicate(timeout=60)[0])
    assert (held.returncode, joined.returncode) == (1, 1)
    assert report["absent"] > 0 and (report["two_winners"], report["overlaps"]) == (0, 0)
    assert report["file_system"].startswith("fuse") and len(report["parties"]) == 2
