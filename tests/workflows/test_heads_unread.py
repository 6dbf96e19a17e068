"""Records in the state directory that no head can read: empty ones, and those of a newer version."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import MakeFlow
from .runs import Flow, until

pytestmark = pytest.mark.criu

NONE = ("--ckpt-engine", "none", "--ckpt-walltime", "300s", "--keep-going")

#: One group and one job for itself.
SNAKEFILE = """
rule all:
    input: "second.txt", "alone.txt"

rule first:
    output: "first.txt"
    group: "pair"
    shell: "touch {output}"

rule second:
    input: "first.txt"
    output: "second.txt"
    group: "pair"
    shell: "echo half > {output}; while [ -e hold ]; do sleep 0.1; done; echo done > {output}"

rule alone:
    output: "alone.txt"
    shell: "touch {output}"
"""


def spoil(ours: Flow, rule: str) -> Path:
    """Have a rule's record be empty, as a full disk may leave it; the file."""
    path = ours.job(rule).job_file
    path.write_text("")
    return path


def test_records_of_other_workflows_that_cannot_be_read_are_named_once_and_stop_nobody(
    flow: MakeFlow, tmp_path: Path
) -> None:
    state, other, ours = tmp_path / "shared", flow(SNAKEFILE), flow(SNAKEFILE)
    shared = (*NONE, "--ckpt-state-dir", str(state))
    assert other.ckpt(*shared).status == 0
    theirs = sorted(state.glob("*/job.yaml"))
    assert len(theirs) == 2
    theirs[0].write_text("")
    theirs[1].write_text(theirs[1].read_text().replace("schema: 1", "schema: 99"))
    ours.write("hold", "")
    head = ours.start(*shared)
    until((ours.path / "second.txt").exists, "work", head)
    head.kill()
    ours.unlock()
    again = ours.start(*shared)  # with incomplete files, but no flag
    until(lambda: "first_second was found: it still runs" in again.said(), "the attachment", again)
    (ours.path / "hold").unlink()
    done = again.wait()
    assert done.status == 0, done.said
    assert ours.text("second.txt") == "done\n"
    for path in theirs:
        assert len(done.lines("passed over", str(path))) == 1, done.said


def test_a_job_whose_own_record_cannot_be_read_fails_alone_where_nothing_can_be_lost(flow: MakeFlow) -> None:
    ours = flow(SNAKEFILE)
    assert ours.ckpt(*NONE).status == 0
    for path in ours.path.glob("*.txt"):
        path.unlink()
    record = spoil(ours, "alone")
    done = ours.ckpt(*NONE)
    assert done.status != 0
    assert done.lines("message", str(record), "does not hold a record"), done.said
    assert (ours.path / "second.txt").exists(), "other jobs go on"
    assert not (ours.path / "alone.txt").exists()


def test_an_own_record_that_cannot_be_read_is_named_before_snakemake_asks_for_incomplete_files(
    flow: MakeFlow,
) -> None:
    ours = flow(SNAKEFILE)
    ours.write("hold", "")
    head = ours.start(*NONE)
    until(lambda: "(Rule: alone)" in head.said() and (ours.path / "second.txt").exists(), "half of the work", head)
    head.kill()
    ours.unlock()
    record = spoil(ours, "first_second")
    asked = ours.ckpt(*NONE)
    assert asked.status != 0
    assert "IncompleteFilesException" in asked.said
    assert len(asked.lines("whether an unfinished job makes what is incomplete", str(record))) == 1, asked.said
    forced = ours.ckpt(*NONE, "--rerun-incomplete")
    assert forced.status != 0
    assert forced.lines("whether the job runs cannot be seen", str(record)), forced.said
    assert ours.text("second.txt") == "half\n", "somebody still writes it"
