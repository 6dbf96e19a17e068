from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from helpers.histories import History

from snakemake_executor_plugin_ckpt.cli import checks, doctor
from snakemake_executor_plugin_ckpt.cli.checks import Check
from snakemake_executor_plugin_ckpt.cli.main import main
from snakemake_executor_plugin_ckpt.engines.base import Probe
from snakemake_executor_plugin_ckpt.engines.plain import Plain
from snakemake_executor_plugin_ckpt.errors import EngineError

WORKS = Probe(True, "rootless", "4.2.1", ["some things are not saved this way"])
FAILS = Probe(False, "rootless", "4.2.1", ["rootless: unshare: Operation not permitted", "root: you are not root"])


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written here need not outlive a power cut, and shared disks are slow."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


class Stub(Plain):
    def __init__(self, answer: Probe | Exception) -> None:
        super().__init__({})
        self.answer = answer

    def probe(self) -> Probe:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def proc_sys(folder: Path, values: Mapping[str, int]) -> Path:
    for name, value in values.items():
        path = folder / "sys" / name.replace(".", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return folder / "sys"


def examine(folder: Path, answer: Probe | Exception, way: str = "auto", **values: int) -> doctor.Report:
    settings = {name.replace("__", "."): value for name, value in values.items()}
    return doctor.examine({"criu-way": way}, folder, Stub(answer), proc_sys(folder, settings))


def check(report: doctor.Report, name: str) -> Check:
    return next(one for one in report.checks if one.name == name)


def test_a_node_that_saved_and_restored_a_tree_is_usable(tmp_path: Path) -> None:
    report = examine(tmp_path, WORKS)
    assert report.usable and (report.way, report.version) == ("rootless", "4.2.1")
    said = "\n".join(doctor.as_text(report))
    assert "can save and restore jobs, by the way rootless" in said
    assert "some things are not saved this way" in said


def test_a_node_that_could_not_is_not_and_every_way_says_why(tmp_path: Path) -> None:
    report = examine(tmp_path, FAILS)
    trial = check(report, "save and restore")
    assert not report.usable
    assert (trial.status, trial.who, trial.details) == ("problem", "an admin", tuple(FAILS.problems))
    assert "cannot save and restore jobs yet" in doctor.as_text(report)[-1]


def test_an_engine_that_raises_is_a_finding(tmp_path: Path) -> None:
    trial = check(examine(tmp_path, EngineError("criu is gone")), "save and restore")
    assert (trial.status, trial.details) == ("problem", ("criu is gone",))


def test_a_way_that_was_asked_for_and_does_not_work_can_be_left_out(tmp_path: Path) -> None:
    trial = check(examine(tmp_path, FAILS, way="capabilities"), "save and restore")
    assert trial.who == "you" and "--criu-way capabilities" in trial.remedy


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("user.max_user_namespaces", 0, "sysctl -w user.max_user_namespaces=15000"),
        ("kernel.unprivileged_userns_clone", 0, "sysctl -w kernel.unprivileged_userns_clone=1"),
        (
            "kernel.apparmor_restrict_unprivileged_userns",
            1,
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ],
)
def test_forbidden_user_namespaces_are_named_with_the_command_for_the_admin(
    name: str, value: int, remedy: str, tmp_path: Path
) -> None:
    found = checks.user_namespaces(proc_sys(tmp_path, {name: value}))
    assert (found.status, found.remedy, found.who) == ("problem", remedy, "an admin")
    assert f"{name} = {value}" in found.found


def test_allowed_user_namespaces_are_fine(tmp_path: Path) -> None:
    values = {
        "user.max_user_namespaces": 15000,
        "kernel.unprivileged_userns_clone": 1,
        "kernel.apparmor_restrict_unprivileged_userns": 0,
    }
    assert checks.user_namespaces(proc_sys(tmp_path, values)).status == "ok"
    assert checks.user_namespaces(tmp_path / "nix").status == "ok"


def test_the_cause_of_a_failed_trial_is_named(tmp_path: Path) -> None:
    report = examine(tmp_path, FAILS, user__max_user_namespaces=0)
    assert check(report, "save and restore").remedy == "first mend user namespaces"


def test_what_the_way_that_works_does_not_need_is_only_a_warning(tmp_path: Path) -> None:
    report = examine(tmp_path, WORKS, user__max_user_namespaces=0)
    assert report.usable and check(report, "user namespaces").status == "warning"


@pytest.mark.parametrize(("scope", "status"), [(0, "ok"), (1, "ok"), (2, "ok"), (3, "problem")])
def test_only_the_strictest_ptrace_scope_forbids_saving(scope: int, status: str, tmp_path: Path) -> None:
    assert checks.ptrace(proc_sys(tmp_path, {"kernel.yama.ptrace_scope": scope})).status == status


@pytest.mark.parametrize(
    ("release", "status"),
    [
        ("6.18.44-fc", "ok"),
        ("5.9.0", "ok"),
        ("5.10.0-28-amd64", "ok"),
        ("5.8.18", "problem"),
        ("3.10.0-1160.el7.x86_64", "problem"),
        ("strange", "ok"),
    ],
)
def test_a_kernel_must_be_new_enough(release: str, status: str) -> None:
    assert checks.kernel(release).status == status


def test_a_missing_criu_is_for_the_user_to_install_and_nothing_is_tried(tmp_path: Path) -> None:
    report = doctor.examine({"criu": str(tmp_path / "nix")}, tmp_path, proc_sys=tmp_path)
    assert not report.usable
    assert check(report, "criu").who == "you" and "install-criu.sh" in check(report, "criu").remedy
    assert check(report, "save and restore").found == "not tried"


# -- the state directory


def test_a_state_directory_that_will_be_made_is_examined_and_not_made(tmp_path: Path) -> None:
    found = checks.state_dir(tmp_path / "a" / "b")
    assert [one.status for one in found if one.status == "problem"] == []
    assert "can be made" in found[0].found
    assert list(tmp_path.iterdir()) == []


def test_a_state_directory_with_jobs_is_left_as_it_was(tmp_path: Path) -> None:
    History(tmp_path, "count-a-0123456789abcdef")
    before = sorted(tmp_path.rglob("*"))
    names = [one.name for one in checks.state_dir(tmp_path)]
    assert names == ["state directory", "file system", "exclusive creation", "write speed", "free space"]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_state_directory_that_cannot_be_written_is_a_problem() -> None:
    (found,) = checks.state_dir(Path("/proc/ckpt"))
    assert (found.status, found.who) == ("problem", "you")


def test_a_file_system_without_hard_links_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert {one.name: one.status for one in checks.state_dir(tmp_path)}["exclusive creation"] == "problem"


def test_a_slow_file_system_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "write_bandwidth", lambda _: 2.0**20)
    speed = next(one for one in checks.state_dir(tmp_path) if one.name == "write speed")
    assert speed.status == "warning" and "17 min 04 s" in speed.found


def test_a_full_file_system_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "write_bandwidth", lambda _: None)
    assert {one.name: one.status for one in checks.state_dir(tmp_path)}["write speed"] == "problem"


# -- the command


def test_what_is_missing_is_the_exit_status_and_the_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["doctor", "--criu", str(tmp_path / "nix"), "--state-dir", str(tmp_path), "--json"]
    assert main(words) == 1
    data = json.loads(capsys.readouterr().out)
    assert set(data) == {"schema", "usable", "host", "user", "way", "version", "checks"}
    assert data["usable"] is False
    assert {"name", "status", "found", "remedy", "who", "details"} == set(data["checks"][0])


def test_a_way_that_does_not_exist_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--criu-way", "nix"]) == 2
    assert "nix" in capsys.readouterr().err


@pytest.mark.criu
def test_this_machine_saves_and_restores_for_real(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--state-dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "a small tree was saved and restored" in said and "can save and restore jobs" in said
    assert list(tmp_path.iterdir()) == []
