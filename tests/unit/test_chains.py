"""A record that cannot be read is in the way of those jobs alone whose it may be."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.histories import History
from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_ckpt.errors import StateError
from snakemake_executor_plugin_ckpt.head import chains, refusing, snakejob
from snakemake_executor_plugin_ckpt.schedulers.local import Local
from snakemake_executor_plugin_ckpt.state.identity import job_key

HERE, ELSEWHERE = "/here", "/else where"
SCRIPT = "#!/bin/sh\n# What is computed.\ncd {} || exit 1\n"
OURS, THEIRS = SCRIPT.format("/here"), SCRIPT.format("'/else where'")

pytestmark = pytest.mark.usefixtures("no_fsync")


def key_of(rule: str, workdir: str = HERE) -> str:
    return job_key(workdir, rule, {}, [f"{rule}.txt"])


def chain(state: Path, rule: str, record: str | bytes = "", script: str | None = OURS, workdir: str = HERE) -> History:
    """A chain that makes RULE.txt, with what stands in the place of its record."""
    made = History(state, key_of(rule, workdir), rule, workdir=workdir, watched=[f"{workdir}/{rule}.txt"])
    made.folder.job_file.write_bytes(record if isinstance(record, bytes) else record.encode())
    if script is not None:
        made.folder.payload_script.write_text(script)
    return made


def readable(state: Path, rule: str, workdir: str = HERE) -> History:
    made = chain(state, rule, workdir=workdir)
    made.folder.write_job(made.job)
    return made


def newer(*files: str, workdir: str = HERE) -> str:
    return f"schema: 99\nworkdir: {workdir}\nwatched: {list(files)}\n"


def test_the_files_of_unfinished_chains_are_found_beside_records_that_cannot_be_read(tmp_path: Path) -> None:
    ours, _, bad = readable(tmp_path, "ours"), readable(tmp_path, "theirs", ELSEWHERE), chain(tmp_path, "bad")
    found = chains.survey(tmp_path, HERE)
    assert found.makers == {"/here/ours.txt": ours.folder.path}
    assert [one.path for one in found.unread] == [bad.folder.path]
    assert found.passed_over().count(str(bad.folder.job_file)) == 1


@pytest.mark.parametrize(
    ("record", "script"),
    [
        ("", THEIRS),
        ("", None),
        ("\0\0\0", THEIRS),
        (b"\xff\xfe", THEIRS),
        ("schema: 1\n", THEIRS),
        (newer("/here/b.txt", workdir=ELSEWHERE), OURS),
        (newer("/here/other.txt"), OURS),
    ],
    ids=["empty", "never submitted", "zeros", "no text", "half", "newer", "of other files"],
)
def test_a_record_of_another_workflow_is_passed_over(tmp_path: Path, record: str | bytes, script: str | None) -> None:
    chain(tmp_path, "a_b_c", record, script)
    found = chains.survey(tmp_path, HERE)
    assert found.known(key_of("a_b"), ["/here/b.txt"], ["a", "b"]) == {}
    assert "job.yaml" in found.passed_over()


@pytest.mark.parametrize("record", ["", newer("/here/b.txt")], ids=["empty", "newer"])
def test_a_group_is_refused_whose_larger_chain_a_record_may_be(tmp_path: Path, record: str) -> None:
    bad = chain(tmp_path, "a_b_c", record)
    found = chains.survey(tmp_path, HERE)
    with pytest.raises(StateError, match=f"{bad.folder.job_file}.*mend it"):
        found.known(key_of("a_b"), ["/here/b.txt"], ["a", "b"])
    assert found.known(key_of("x_y"), ["/here/y.txt"], ["x", "y"]) == {}, "a group of other rules"


def test_a_group_whose_own_chain_is_known_and_a_single_job_are_not_refused(tmp_path: Path) -> None:
    chain(tmp_path, "a_b_c")
    own = readable(tmp_path, "a_b")
    found = chains.survey(tmp_path, HERE)
    assert found.known(own.job.key, own.job.watched, ["a", "b"]) == found.makers
    assert found.doubt(key_of("a"), ["/here/a.txt"], []) is None


def test_the_job_whose_record_it_is_is_refused_whatever_is_in_it(tmp_path: Path) -> None:
    bad = chain(tmp_path, "a", newer(workdir=ELSEWHERE), None)
    found = chains.survey(tmp_path, HERE)
    assert found.doubt(key_of("a"), [], []) == found.unread[0]
    assert found.unread[0].path == bad.folder.path


def test_a_file_that_the_disk_does_not_give_may_be_of_any_chain(tmp_path: Path) -> None:
    bad = chain(tmp_path, "a_b_c")
    for path in (bad.folder.job_file, bad.folder.payload_script):
        path.unlink()
        path.symlink_to("/proc/self/mem")  # it is a file, and no reading of it succeeds
    found = chains.survey(tmp_path, HERE)
    assert found.doubt(key_of("a_b"), ["/here/b.txt"], ["a", "b"]) is not None
    assert str(bad.folder.job_file) in found.passed_over()


def test_many_records_that_cannot_be_read_are_one_message(tmp_path: Path) -> None:
    for number in range(9):
        chain(tmp_path, f"rule{number}")
    said = chains.survey(tmp_path, HERE).passed_over()
    assert said.count("job.yaml") == 3
    assert said.endswith("; and 6 more")


class Task(SimpleNamespace):
    """A job of Snakemake's, with what is asked of it here."""

    def __init__(self, folder: Path) -> None:
        super().__init__(name="a", output=[str(folder / "a.txt")], log=[], benchmark=None, wildcards_dict={})

    def is_group(self) -> bool:
        return False


@pytest.mark.parametrize("case", ["runs", "has outputs", "neither"])
def test_a_job_with_an_unreadable_record_fails_alone_only_where_nothing_can_be_lost(tmp_path: Path, case: str) -> None:
    task: Any = Task(tmp_path)
    state = tmp_path / "state"
    mine = History(state, snakejob.key_of(task, "/here"))
    mine.segment() if case == "runs" else mine.saved()
    mine.folder.job_file.write_text("")
    if case == "has outputs":
        (tmp_path / "a.txt").touch()

    def stop() -> list[Any]:
        error = StateError("it cannot be read")
        return list(refusing.stop_writing(task, error, Local(state), "/here", logging.getLogger()))

    if case == "neither":
        assert stop() == []
    else:
        with pytest.raises(WorkflowError, match=r"it cannot be read .*cannot be seen: .*job\.yaml"):
            stop()
