"""`ckpt gc`: what no job needs goes, and nothing else ever does."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.collecting import KEY, OTHER, collect, images, keeper, waiting
from helpers.histories import ELSEWHERE, History, done

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.cli import gc
from snakemake_executor_plugin_ckpt.cli.main import main
from snakemake_executor_plugin_ckpt.images import generations
from snakemake_executor_plugin_ckpt.state import durable
from snakemake_executor_plugin_ckpt.state.records import Segment

pytestmark = pytest.mark.usefixtures("no_fsync")


def everything(state: Path) -> set[tuple[str, int]]:
    """All that there is; but for the locks, which come and go."""
    return {
        (str(path.relative_to(state)), path.lstat().st_mtime_ns if path.is_file() else 0) for path in state.rglob("*")
    }


def damage(history: History, generation: int) -> None:
    path = generations.path_of(history.folder.images_folder, generation) / "tree" / "pages.img"
    path.write_bytes(b"1" + path.read_bytes()[1:])


def litter(history: History, dead: int) -> dict[str, Path]:
    """All kinds of leftovers in one job folder."""
    folder, host = history.folder, proc.host_name()
    found = {
        "partial": folder.images_folder / ".0009.partial",
        "removed": folder.images_folder / f".0001.removed.{host}.{dead}",
        "tmp": folder.path / f".tmp.removed.{host}.{dead}",
    }
    for path in found.values():
        (path / "tree").mkdir(parents=True)
        (path / "tree" / "core").write_bytes(b"x" * 100)
    for name, path in {
        "record": folder.segments_folder / f".0001.yaml.{host}.{dead}",
        "job": folder.path / f".job.yaml.{host}.{dead}",
    }.items():
        path.write_bytes(b"half")
        found[name] = path
    return found


# -- what goes


def test_images_and_temporary_files_of_a_finished_job_go_and_its_records_and_logs_stay(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = done(state, KEY)
    (history.folder.tmp_folder / "scratch").write_bytes(b"x" * 5000)
    found = collect(state, capsys)
    assert found["paths"] == [f"{KEY}/images/0001", f"{KEY}/images/0002", f"{KEY}/tmp"]
    assert found["removed"][2]["bytes"] == 5000 and found["removed"][0]["job"] == KEY
    assert found["totals"]["things"] == 3 and found["totals"]["bytes"] > 5000 + 2 * 4096
    assert images(history) == [] and history.folder.images_folder.is_dir()
    assert len(history.folder.segments()) == 3 and history.folder.payload_log.exists()
    assert main(["list"]) == 0


def test_images_of_an_acknowledged_job_go(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = waiting(state, number=1)
    history.folder.write_job(replace(history.job, acknowledged=True))
    assert f"{KEY}/images/0001" in collect(state, capsys)["paths"]


def test_what_was_never_finished_goes(state: Path, dead: int, capsys: pytest.CaptureFixture[str]) -> None:
    history = waiting(state, number=2)
    paths = litter(history, dead)
    found = collect(state, capsys)
    assert {Path(one["path"]) for one in found["removed"]} == set(paths.values())
    assert not any(path.exists() for path in paths.values()) and images(history) == [1, 2]


def test_images_beyond_those_that_are_kept_go(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = waiting(state)
    assert set(collect(state, capsys)["paths"]) == {f"{KEY}/images/0001", f"{KEY}/images/0002"}
    assert images(history) == [3, 4]


def test_each_thing_is_said_with_its_size_and_reason(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    waiting(state, number=3)
    assert main(["gc", "--dry-run"]) == 0
    first, totals = capsys.readouterr().out.splitlines()
    assert (
        first.split()
        == f"would remove 4.4 KiB {KEY}/images/0001: 2 newer images are good, and no more are kept".split()
    )
    assert totals == "1 thing would be removed, 4.4 KiB"
    assert main(["gc"]) == 0
    assert capsys.readouterr().out.startswith("removed ")
    assert main(["gc"]) == 0
    assert capsys.readouterr().out == f"nothing to remove in {state}\n"


def test_records_of_keepers_that_are_gone_go_unless_an_unfinished_job_has_them(
    state: Path, dead: int, capsys: pytest.CaptureFixture[str]
) -> None:
    finished, unfinished = done(state, KEY), waiting(state, OTHER, 1)
    gone = keeper(state, finished.batch, pid=dead)
    stray = keeper(state, "ckpt-ffffffff-0001", boot="another")
    stays = [
        keeper(state, unfinished.batch, pid=dead),
        keeper(state, "ckpt-ffffffff-0002"),
        keeper(state, "ckpt-ffffffff-0003", host=ELSEWHERE, pid=dead),
    ]
    found = collect(state, capsys)
    assert {".local/" + path.name for path in (gone, stray)} <= set(found["paths"])
    assert all(path.exists() for path in stays) and not gone.exists() and not stray.exists()


def test_interrupted_writes_go_only_when_their_process_was_of_this_host_and_is_gone(
    state: Path, dead: int, capsys: pytest.CaptureFixture[str]
) -> None:
    history, host = waiting(state, number=1), proc.host_name()
    folder = history.folder.segments_folder
    names = (f".a.{host}.{os.getpid()}", f".a.{ELSEWHERE}.{dead}", f"a.{host}.{dead}", f".a.{host}.x{dead}")
    for name in names:
        (folder / name).touch()
    assert collect(state, capsys)["paths"] == []


# -- what stays


def test_a_job_whose_segment_runs_is_never_touched(state: Path, dead: int, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere, here, lost = waiting(state), waiting(state, OTHER), waiting(state, "lost-2222222222222222")
    elsewhere.segment()
    here.running_here()
    lost.folder.declare_lost(lost.running_here().number, "the head was wrong")
    for history in (elsewhere, here, lost):
        litter(history, dead)
        history.folder.exit_file.write_text("0\n")
    before = everything(state)
    found = collect(state, capsys, "--older-than", "1s")
    assert (found["paths"], everything(state)) == ([], before)
    assert [one["reason"] for one in found["left"]] == ["a segment runs, or may run"] * 3


def test_a_job_whose_segment_died_is_cleared(state: Path, dead: int, capsys: pytest.CaptureFixture[str]) -> None:
    here, lost = waiting(state), waiting(state, OTHER)
    here.segment(host=proc.host_name(), pid=dead)
    lost.folder.declare_lost(lost.segment().number, "gone")
    collect(state, capsys)
    assert images(here) == images(lost) == [3, 4]


@pytest.mark.parametrize("bad", [[4], [3, 4], [2, 3, 4], [1, 2, 3, 4], [1, 3], [2, 4]])
def test_the_last_good_image_of_an_unfinished_job_is_never_removed(
    state: Path, bad: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    history = waiting(state)
    for generation in bad:
        damage(history, generation)
    collect(state, capsys)
    good = [generation for generation in (1, 2, 3, 4) if generation not in bad]
    assert set(good[-2:]) <= set(images(history))
    if len(good) < 2:
        assert images(history) == [1, 2, 3, 4]


def test_a_job_that_failed_keeps_its_images(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = waiting(state, number=2)
    history.finished(1)
    assert collect(state, capsys, "--older-than", "1s")["paths"] == []


def test_a_dry_run_removes_nothing_and_says_the_same(
    state: Path, dead: int, capsys: pytest.CaptureFixture[str]
) -> None:
    litter(waiting(state), dead)
    history = done(state, OTHER)
    history.folder.write_job(replace(history.job, acknowledged=True))
    keeper(state, "ckpt-ffffffff-0001", pid=dead)
    before = everything(state)
    said = collect(state, capsys, "--dry-run")
    assert everything(state) == before and said["dry_run"] is True and len(said["paths"]) > 8
    assert collect(state, capsys)["removed"] == said["removed"]


def test_what_happens_while_it_works_ends_the_work_on_that_job(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    history = waiting(state)
    remove = gc._remove
    begun: list[Segment] = []

    def slow(path: Path) -> None:
        remove(path)
        if not begun:
            begun.append(history.segment())

    monkeypatch.setattr(gc, "_remove", slow)
    found = collect(state, capsys)
    assert len(found["paths"]) == 1 and found["left"][0]["reason"] == "the job went on meanwhile"


def test_a_job_that_a_head_just_changes_is_left(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gc, "_LOCK", 0.1)
    history = waiting(state)
    with history.folder.lock():
        found = collect(state, capsys, status=1)
    assert found["paths"] == [] and "snakemake has its lock" in found["failed"][0]["reason"]
    assert images(history) == [1, 2, 3, 4]


def test_with_a_job_that_cannot_be_read_no_keeper_is_taken_for_nobodys(
    state: Path, dead: int, capsys: pytest.CaptureFixture[str]
) -> None:
    history = waiting(state)
    path = keeper(state, history.batch, pid=dead)
    (history.folder.segments_folder / "0001.yaml").write_text("schema: 99\n")
    found = collect(state, capsys, status=1)
    assert path.exists() and found["paths"] == [] and images(history) == [1, 2, 3, 4]


# -- links


def _job(history: History, away: Path) -> None:
    history.folder.path.rename(away)
    history.folder.path.symlink_to(away)


def _images(history: History, away: Path) -> None:
    history.folder.images_folder.rename(away)
    history.folder.images_folder.symlink_to(away)


def _one(history: History, away: Path) -> None:
    image = generations.path_of(history.folder.images_folder, 1)
    image.rename(away)
    image.symlink_to(away)


def _tmp(history: History, away: Path) -> None:
    history.folder.tmp_folder.rename(away)
    history.folder.tmp_folder.symlink_to(away)


@pytest.mark.parametrize("link", [_job, _images, _one, _tmp])
def test_a_link_is_not_followed(
    state: Path, tmp_path: Path, link: Callable[[History, Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    history = done(state, KEY)
    history.folder.write_job(replace(history.job, acknowledged=True))
    (history.folder.tmp_folder / "scratch").touch()
    away = tmp_path / "away"
    link(history, away)
    before = everything(away)
    for more in ([], ["--older-than", "1s"]):
        found = collect(state, capsys, *more)
        assert before == everything(away)
        if not more:
            assert any(one["reason"].startswith("it is a link") for one in found["left"])


def test_a_link_in_an_image_is_removed_and_not_what_it_points_to(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = done(state, KEY)
    away = tmp_path / "away"
    away.mkdir()
    (away / "file").touch()
    (history.folder.tmp_folder / "link").symlink_to(away)
    collect(state, capsys)
    assert (away / "file").exists() and not history.folder.tmp_folder.exists()


def test_a_state_directory_that_is_itself_named_by_a_link_is_cleared(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = waiting(state)
    (tmp_path / "link").symlink_to(state)
    collect(state, capsys, "--state-dir", str(tmp_path / "link"))
    assert images(history) == [3, 4]


# -- the command


@pytest.mark.parametrize("words", [["--older-than", "3"], ["--older-than", "nix"], ["--state-dir", "/nix/nix"], ["x"]])
def test_wrong_usage_removes_nothing(state: Path, words: list[str]) -> None:
    history = waiting(state)
    assert main(["gc", *words]) == 2
    assert images(history) == [1, 2, 3, 4]


def test_what_cannot_be_removed_is_a_problem(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting(state)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(durable, "remove_tree", refuse)
    found = collect(state, capsys, status=1)
    assert found["paths"] == [] and found["failed"][0]["reason"] == "cannot be removed: Permission denied"
