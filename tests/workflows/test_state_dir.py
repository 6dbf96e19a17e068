"""Records and images lie where `--ckpt-state-dir` says, and are nobody else's to read."""

from __future__ import annotations

import stat

import pytest

from snakemake_executor_plugin_ckpt.state.folder import job_folders

from .conftest import MakeFlow
from .runs import numbers

pytestmark = pytest.mark.criu

SNAKEFILE = """
rule count:
    output: "count.txt"
    shell: "for i in $(seq 1 30); do echo $i; sleep 0.2; done > {output}"
"""


def test_a_job_is_saved_in_the_state_directory_that_was_named_and_it_is_private(flow: MakeFlow) -> None:
    ours = flow(SNAKEFILE)
    named = ours.path.parent / "a shared disk" / "with spaces"
    done = ours.ckpt("--ckpt-state-dir", str(named))
    assert done.status == 0, done.said
    assert ours.text("count.txt") == numbers(30)
    (folder,) = job_folders(named)
    assert [segment.outcome for segment in folder.segments()][:-1].count("saved") >= 1
    assert not ours.state_dir.exists()
    # The lock's folder is the library's; nobody else can reach it through ours.
    for path in (named, folder.path, *(one for one in folder.path.iterdir() if one.is_dir() and one.stem != "lock")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
