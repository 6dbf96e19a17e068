"""`ckpt verify-fs`: a file system that keeps its promises passes, and each broken promise is found."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers.mounts import Mount, bind_mount

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.cli import fs_probe, fs_trial, verify_fs
from snakemake_executor_plugin_ckpt.cli.fs_report import Report
from snakemake_executor_plugin_ckpt.cli.fs_trial import Place, content, number_in
from snakemake_executor_plugin_ckpt.cli.main import main
from snakemake_executor_plugin_ckpt.cli.verify_fs import measure
from snakemake_executor_plugin_ckpt.state import durable

COMMAND = [sys.executable, "-m", "snakemake_executor_plugin_ckpt.cli.main", "verify-fs"]
SECONDS = 0.4
FEATURES = ["hard_links", "hard_links_across_folders", "fsync_file", "fsync_folder", "reflink"]


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def broken(report: Report) -> dict[str, int]:
    """The promises that were broken."""
    names = ("two_winners", "no_winner", "overlaps", "lost_updates", "torn", "older", "absent")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def test_a_file_system_that_keeps_its_promises_passes_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify-fs", str(tmp_path), "--seconds", "0.5", "--processes", "2"]) == 0
    said = capsys.readouterr()
    assert "All held, between processes of this host" in " ".join(said.out.split())
    assert "(2 processes)" in said.out and "0 overlaps" in said.out and "0 half-written" in said.out
    assert f"ckpt verify-fs {tmp_path} --join ckpt-trial-" in said.err
    words = " ".join(said.out.split())
    assert "hard links: yes; across folders: yes fsync: files: yes; folders: yes reflinks:" in words
    assert "xattrs: not needed" in words and "visibility: not measured" in words
    assert os.listdir(tmp_path) == []


def test_the_report_as_json_has_the_documented_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify-fs", str(tmp_path), "--seconds", "0.5", "--processes", "2", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["ok"] is True and data["schema"] == 1 and data["errors"] == []
    assert list(data["hosts"].values()) == [2] and data["file_system"] != "unknown"
    assert data["tries"] > data["names"] > 0 and data["holds"] > 0 and data["reads"] > 0
    assert len(data["parties"]) == 1 and data["answers"] == 0 and data["delay_median"] is None
    assert list(data["features"]) == FEATURES and all(data["features"][name] for name in FEATURES[:-1])


# -- each promise, broken


def _create_over(path: Path, content: bytes) -> bool:
    """As `durable.create`, but by an open without O_EXCL."""
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.write(opened, content)
    os.close(opened)
    return True


def _replace_in_place(path: Path, content: bytes) -> None:
    with open(path, "wb", buffering=0) as file:
        for start in range(0, len(content), 4096):
            file.write(content[start : start + 4096])


def test_a_creation_that_is_not_exclusive_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(durable, "create", _create_over)
    assert main(["verify-fs", str(tmp_path), "--seconds", "0.5", "--processes", "3", "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["two_winners"] > 0 and data["ok"] is False and data["errors"] == []
    assert os.listdir(tmp_path) == []


def test_a_name_that_nobody_won_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create = durable.create
    monkeypatch.setattr(durable, "create", lambda path, data: create(path, data) and not path.name.endswith("7"))
    assert set(broken(measure(tmp_path, SECONDS, 2))) == {"no_winner"}


def test_a_lock_that_does_not_exclude_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoLock:
        def acquire(self, timeout: float) -> None: ...
        def release(self) -> None: ...

    monkeypatch.setattr(Place, "lock", lambda _: NoLock())
    report = measure(tmp_path, SECONDS, 3)
    assert report.overlaps > 0 and report.two_winners == 0


def test_a_replacement_that_shows_half_a_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "replace", _only_below("files", _replace_in_place))
    assert broken(measure(tmp_path, SECONDS, 3))["torn"] > 0


def test_a_replacement_that_is_acknowledged_before_it_is_done_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = durable.replace

    def late(path: Path, content: bytes) -> None:
        if int(content.split()[1]) % 5 == 0:
            replace(path, content)

    monkeypatch.setattr(durable, "replace", _only_below("files", late))
    # Who is to see it may not have had its turn in that time.
    tries = (set(broken(measure(tmp_path, SECONDS, 2))) for _ in range(5))
    assert next(filter(None, tries), None) == {"older"}


def test_a_counter_that_is_read_as_it_was_before_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = durable.replace

    def forgetful(path: Path, content: bytes) -> None:
        if path.name != "counter" or int(content) % 5 != 4:
            replace(path, content)

    monkeypatch.setattr(durable, "replace", forgetful)
    assert set(broken(measure(tmp_path, SECONDS, 2))) == {"lost_updates"}


def _only_below(folder: str, instead: Callable[[Path, bytes], None]) -> Callable[[Path, bytes], None]:
    replace = durable.replace
    return lambda path, data: (instead if path.parent.name == folder else replace)(path, data)


def test_what_keeps_it_from_measuring_is_a_problem_and_no_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, content: bytes) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "create", full)
    assert main(["verify-fs", str(tmp_path), "--seconds", "0.3", "--processes", "1"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "create: OSError: [Errno 28] No space left on device" in said and "Nothing can be said" in said


def test_a_process_that_dies_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fs_trial.Worker, "create", lambda self: os._exit(1))
    report = measure(tmp_path, SECONDS, 2)
    assert not report.measured and "gave no result" in report.errors[0]
    assert os.listdir(tmp_path) == []


def test_a_file_system_without_hard_links_is_refused_because_heads_could_not_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    assert main(["verify-fs", str(tmp_path), "--seconds", "0.3", "--processes", "1"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "hard links: NO; across folders: NO; claims and the lock need them" in said
    assert "does not support" in said and "Nothing can be said" in said


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_file_system_that_cannot_sync_is_said_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def unsupported(number: int) -> None:
        if stat.S_ISDIR(os.fstat(number).st_mode) == (kind == "folder"):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", unsupported)
    able = fs_probe.features(tmp_path)
    assert [name for name in FEATURES[:-1] if not able[name]] == [f"fsync_{kind}"]


def test_half_a_file_is_told_from_a_whole_one() -> None:
    whole = content("a", 7)
    assert number_in("a", whole) == 7
    mixed = whole[: len(whole) // 2] + content("a", 8)[len(whole) // 2 :]
    assert [number_in("a", part) for part in (b"", whole[:-1], mixed, content("b", 7), b"x\n")] == [None] * 5


# -- two hosts


@contextmanager
def started(*words: str, on: Mount | None = None) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*(on.prefix if on else ()), *COMMAND, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_second_one_joins_by_token_and_both_tell_the_same(tmp_path: Path) -> None:
    with started(str(tmp_path), "--seconds", "4", "--processes", "2", "--json") as first:
        assert first.stderr is not None
        first.stderr.readline()
        token = first.stderr.readline().split()[-1]
        with started(str(tmp_path), "--join", token, "--processes", "1", "--json") as second:
            said, complaints = second.communicate(timeout=30)
            own, _ = first.communicate(timeout=30)
    assert (first.returncode, second.returncode, complaints) == (0, 0, "")
    data: dict[str, Any] = json.loads(own)
    assert data == json.loads(said) and data["token"] == token
    assert list(data["hosts"].values()) == [3]
    assert os.listdir(tmp_path) == []


@dataclass
class Told:
    """What one of two said."""

    status: int
    report: dict[str, Any]
    complaints: str


def over_two_mounts(mounts: list[Mount], seconds: float = 3) -> tuple[Told, Told]:
    """A trial that is held on one mount and joined on the other."""
    one = ("--processes", "1", "--json")
    with started(str(mounts[0].folder), "--seconds", str(seconds), *one, on=mounts[0]) as first:
        assert first.stderr is not None
        first.stderr.readline()
        token = first.stderr.readline().split()[-1]
        with started(str(mounts[1].folder), "--join", token, *one, on=mounts[1]) as second:
            return told(second), told(first)


def told(process: subprocess.Popen[str]) -> Told:
    said, complaints = process.communicate(timeout=60)
    return Told(process.returncode, json.loads(said or "{}"), complaints)


def test_over_two_mounts_of_one_folder_all_holds_and_the_delay_is_told(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    joined, held = over_two_mounts([bind_mount(shared, tmp_path / "a"), bind_mount(shared, tmp_path / "b", "node-b")])
    assert (held.status, joined.status, joined.complaints, held.report["errors"]) == (0, 0, "", [])
    report = held.report
    assert report == joined.report | {"directory": report["directory"]}
    assert report["hosts"] == {proc.host_name(): 1, "node-b": 1} and len(report["parties"]) == 2
    assert report["answers"] > 0 and 0 < report["delay_median"] <= report["delay_longest"]
    assert os.listdir(shared) == []


def hidden(part: str, shared: Path, mount: Path) -> list[Mount]:
    """Two mounts, of which the second has a part of each trial for itself."""
    shared.mkdir()
    hide = f'for trial in "$1"/ckpt-trial-*; do mount -t tmpfs none "$trial/{part}"; done; '
    return [Mount(shared), bind_mount(shared, mount, "node-b", hide)]


def test_two_folders_that_pretend_to_be_one_have_two_winners_of_a_name(tmp_path: Path) -> None:
    joined, held = over_two_mounts(hidden("names", tmp_path / "shared", tmp_path / "b"), 2)
    assert (joined.status, held.status) == (1, 1)
    assert held.report["two_winners"] > 0 and held.report["ok"] is False


def test_a_host_that_the_other_does_not_see_never_hears_that_all_is_well(tmp_path: Path) -> None:
    joined, _ = over_two_mounts(hidden("parties", tmp_path / "shared", tmp_path / "b"), 2)
    assert joined.status == 1
    assert "does not see this host" in joined.complaints or "not the same folder" in joined.report["errors"][-1]


def test_a_report_of_a_trial_in_which_this_host_was_not_seen_is_no_pass(tmp_path: Path) -> None:
    report = measure(tmp_path, SECONDS, 1)
    assert verify_fs._as_seen_here(tmp_path, report.parties[0], report).measured
    unseen = verify_fs._as_seen_here(tmp_path, "node-b.7", report)
    assert not unseen.measured and "saw nothing of node-b.7" in unseen.errors[-1]


def test_another_folder_of_the_same_name_knows_no_such_trial(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    other = bind_mount(shared, shared, first=f"mount -t tmpfs none '{shared}'; ")
    joined, held = over_two_mounts([Mount(shared), other], 1)
    assert (joined.status, held.status) == (2, 0)
    assert "is it over, or is this another file system?" in joined.complaints


def test_one_that_joined_and_died_is_a_problem_of_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_fs, "_PATIENCE", 0.5)
    take_part = verify_fs._take_part

    def with_a_stranger(place: Place, *more: Any) -> str:
        (place.parties / "node7.1").write_text("2\n")
        party = take_part(place, *more)
        monkeypatch.setattr(verify_fs, "_SEEN", 0.2)
        return party

    monkeypatch.setattr(verify_fs, "_take_part", with_a_stranger)
    report = measure(tmp_path, SECONDS, 1)
    assert report.errors == ["process node7.1.0 gave no result", "process node7.1.1 gave no result"]
    assert not report.violations and not report.measured


@pytest.mark.parametrize("token", ["ckpt-trial-0123456789ab", "../x", "/etc", "nix"])
def test_a_trial_that_is_not_there_is_wrong_usage(
    tmp_path: Path, token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify-fs", str(tmp_path), "--join", token]) == 2
    assert "there is no trial" in capsys.readouterr().err


def test_a_trial_that_is_over_is_wrong_usage_and_left_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(tmp_path / "ckpt-trial-0123456789ab")
    place.make()
    place.trial.write_text('{"seconds": 1}\n{"over": true}\n')
    assert main(["verify-fs", str(tmp_path), "--join", place.folder.name]) == 2
    assert "is over" in capsys.readouterr().err
    assert os.listdir(place.parties) == []


@pytest.mark.parametrize(
    "words", [["/nix/nix"], [], [".", "--seconds", "0"], [".", "--seconds", "x"], [".", "--processes", "0"]]
)
def test_wrong_usage_is_said(words: list[str]) -> None:
    assert main(["verify-fs", *words]) == 2


def test_verify_fs_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify-fs", "--help"]) == 0
    said = capsys.readouterr().out
    assert "examples:" in said and "exit status:" in said and "--json:" in said
