"""Snakemake goes on with half-written files of our chains unasked, and asks for all others as it always does."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.histories import History
from snakemake.api import Workflow

from snakemake_executor_plugin_ckpt.head import chains, incomplete

#: Through the workflow, because the module of the plan cannot be imported before it.
DAG: Any = sys.modules[Workflow.__module__].DAG

pytestmark = pytest.mark.usefixtures("no_fsync")


class Settings:
    """Stands for our settings."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir


async def _all(dag: Any) -> list[str]:
    files: list[str] = dag.incomplete
    return files


@pytest.fixture(autouse=True)
def unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins, and ends, with a Snakemake that nobody changed."""
    monkeypatch.setattr(DAG, "incomplete_files", _all)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory with an unfinished chain that makes out.txt."""
    monkeypatch.chdir(tmp_path)
    state = tmp_path / "state"
    history = History(state, "key")
    job = history.folder.job()
    assert job is not None
    job.workdir, job.watched = os.getcwd(), [str(tmp_path / "out.txt")]
    history.folder.write_job(job)
    return state


def plan(settings: object, force: bool = False, local: tuple[str, ...] = ()) -> Any:
    """What Snakemake's plan has of interest here, with two files that are marked as incomplete."""
    return SimpleNamespace(
        incomplete=["out.txt", "other.txt"],
        forcefiles=set(),
        jobs=[SimpleNamespace(is_local=True, output=list(local))],
        workflow=SimpleNamespace(executor_settings=settings, dag_settings=SimpleNamespace(force_incomplete=force)),
    )


def asked(made: Any) -> list[str]:
    """The files that Snakemake refuses to go on with."""
    found: list[str] = asyncio.run(DAG.incomplete_files(made))
    return found


def test_the_files_of_an_unfinished_chain_are_planned_and_others_asked_for(state: Path) -> None:
    incomplete.attach_without_asking(Settings)
    made = plan(Settings(state))
    assert asked(made) == ["other.txt"]
    assert made.forcefiles == {"out.txt"}


@pytest.mark.parametrize("case", ["another executor", "rerun-incomplete", "a local rule", "no state directory"])
def test_all_else_is_as_it_always_is(state: Path, case: str) -> None:
    incomplete.attach_without_asking(Settings)
    made = {
        "another executor": plan(SimpleNamespace(state_dir=state)),
        "rerun-incomplete": plan(Settings(state), force=True),
        "a local rule": plan(Settings(state), local=("out.txt",)),
        "no state directory": plan(Settings(state / "none")),
    }[case]
    assert asked(made) == ["out.txt", "other.txt"]
    assert made.forcefiles == set()


def test_records_that_cannot_be_read_leave_the_question_to_snakemake_and_are_named(
    state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    incomplete.attach_without_asking(Settings)
    record = state / "key" / "job.yaml"
    record.write_text(f"schema: 99\nworkdir: {os.getcwd()}\n")
    assert asked(plan(Settings(state))) == ["out.txt", "other.txt"]
    assert [str(record) in one.getMessage() for one in caplog.records] == [True]


def test_a_state_directory_that_cannot_be_read_is_named(
    state: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle", str(state))

    incomplete.attach_without_asking(Settings)
    monkeypatch.setattr(chains, "survey", gone)
    assert asked(plan(Settings(state))) == ["out.txt", "other.txt"]
    assert [str(state) in one.getMessage() for one in caplog.records] == [True]


def test_a_record_of_another_workflow_that_cannot_be_read_is_in_nobodys_way(
    state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    incomplete.attach_without_asking(Settings)
    (state / "another").mkdir()
    (state / "another" / "job.yaml").touch()
    assert asked(plan(Settings(state))) == ["other.txt"]
    assert caplog.records == []


def test_snakemake_is_changed_once_and_only_if_it_is_the_one_we_know(monkeypatch: pytest.MonkeyPatch) -> None:
    incomplete.attach_without_asking(Settings)
    changed = DAG.incomplete_files
    incomplete.attach_without_asking(Settings)
    assert DAG.incomplete_files is changed is not _all
    another = property(lambda dag: [])
    monkeypatch.setattr(DAG, "incomplete_files", another)
    incomplete.attach_without_asking(Settings)
    assert DAG.incomplete_files is another
