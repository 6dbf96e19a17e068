"""`ckpt gc`: whole folders of jobs, and copies of outputs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.collecting import KEY, OTHER, collect, images, keeper, waiting
from helpers.histories import ELSEWHERE, History, done

from snakemake_executor_plugin_ckpt.head.preflight import lease
from snakemake_executor_plugin_ckpt.images import generations
from snakemake_executor_plugin_ckpt.images.manifest import Manifest
from snakemake_executor_plugin_ckpt.images.outputs import packs

pytestmark = pytest.mark.usefixtures("no_fsync")


def old_and_done(state: Path, key: str = KEY, **more: Any) -> History:
    history = done(state, key)
    history.folder.write_job(replace(history.job, **{"acknowledged": True, **more}))
    for path in (history.folder.job_file, history.folder.exit_file):
        os.utime(path, (5000, 5000))
    return history


def test_whole_folders_of_old_finished_jobs_go_when_asked_for(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, young = old_and_done(state), done(state, OTHER)
    young.folder.write_job(replace(young.job, acknowledged=True))
    waiting(state, "wait-3333333333333333")
    found = collect(state, capsys, "--older-than", "1d")
    assert KEY in found["paths"] and OTHER not in found["paths"]
    assert not old.folder.path.exists() and young.folder.path.exists()
    assert not [path for path in state.iterdir() if "removed" in path.name]


def test_the_folder_of_a_success_of_which_no_head_knows_stays(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = old_and_done(state, acknowledged=None)
    collect(state, capsys, "--older-than", "1d")
    assert history.folder.exit_status() == 0 and images(history) == []


def test_the_folder_stays_while_snakemake_works_on_the_workflow(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = old_and_done(state)
    held = lease(state, history.job.workdir)
    try:
        found = collect(state, capsys, "--older-than", "1d")
    finally:
        held.release()
    assert history.folder.path.exists() and "snakemake works on" in found["left"][0]["reason"]


def test_the_folder_stays_while_a_record_of_its_keeper_does(
    state: Path, dead: int, capsys: pytest.CaptureFixture[str]
) -> None:
    history = old_and_done(state)
    path = keeper(state, history.batch, host=ELSEWHERE)
    found = collect(state, capsys, "--older-than", "1d")
    assert history.folder.path.exists() and path.name in found["left"][0]["reason"]
    keeper(state, history.batch, pid=dead)
    collect(state, capsys, "--older-than", "1d")
    assert not history.folder.path.exists() and not path.exists()


def test_copies_of_outputs_go_when_no_image_needs_them_and_not_before(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = History(state, KEY)
    history.saved()
    images_folder = history.folder.images_folder
    partial = generations.begin(images_folder, 2)
    (partial / packs.NEW).write_bytes(b"needed")
    made = Manifest(KEY, history.job.attempt, "fp", 2, 1, "criu", "4.2", {}, 1000.0)
    generations.commit(partial, images_folder, made, "0002-needed")
    (images_folder / packs.FOLDER / "0001-idle").write_bytes(b"idle")
    found = collect(state, capsys)
    assert found["paths"] == [f"{KEY}/images/packs/0001-idle"]
    assert (images_folder / packs.FOLDER / "0002-needed").read_bytes() == b"needed"


@pytest.mark.parametrize("folder", [".slurm", ".oar", ".lsf"])
def test_names_of_batch_jobs_go_unless_an_unfinished_job_has_them(
    state: Path, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    finished, unfinished = done(state, KEY), waiting(state, OTHER, 1)
    (state / folder).mkdir()
    goes = [state / folder / finished.batch, state / folder / "ckpt-ffffffff-0001-abcdef"]
    stays = [
        state / folder / unfinished.batch,
        state / folder / "notes",
        state / folder / "ckpt-ffffffff-0001-abcdef.x",
    ]
    for path in (*goes, *stays):
        path.touch()
    (state / folder / "ckpt-ffffffff-0002-abcdef").symlink_to(stays[1])
    expected = {f"{folder}/{path.name}" for path in goes}
    assert {path for path in collect(state, capsys, "--dry-run")["paths"] if path.startswith(".")} == expected
    assert all(path.exists() for path in goes)
    assert {path for path in collect(state, capsys)["paths"] if path.startswith(".")} == expected
    assert not any(path.exists() for path in goes)
    assert all(path.exists() for path in stays)
    assert len(list((state / folder).iterdir())) == 4


def test_with_a_job_that_cannot_be_read_no_name_is_taken_for_nobodys(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = waiting(state, number=1)
    name = state / ".slurm" / history.batch
    name.parent.mkdir()
    name.touch()
    (history.folder.segments_folder / "0001.yaml").write_text("schema: 99\n")
    collect(state, capsys, status=1)
    assert name.exists()
