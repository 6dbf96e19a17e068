"""The local scheduler's records: who keeps a job is known by number and start, on this host and boot."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from helpers.waiting import wait_for

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.errors import NoAnswer, SchedulerError
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness, Request
from snakemake_executor_plugin_ckpt.schedulers.local import END_VARIABLE, JOB_VARIABLE, Local
from snakemake_executor_plugin_ckpt.state import durable


@pytest.fixture
def me() -> proc.ProcessId:
    found = proc.identify(os.getpid())
    assert found is not None
    return found


@pytest.fixture
def local(tmp_path: Path) -> Local:
    (tmp_path / ".local").mkdir()
    return Local(tmp_path)


def record(local: Local, keeper: proc.ProcessId) -> None:
    durable.replace(local.state_dir / ".local" / "job.yaml", durable.to_yaml(asdict(keeper)))


def liveness(local: Local) -> Liveness:
    return local.liveness(["job"])["job"]


def test_a_keeper_that_runs_is_alive(local: Local, me: proc.ProcessId) -> None:
    record(local, me)
    assert liveness(local) is Liveness.ALIVE
    assert local.find("job") == "job"


@pytest.mark.parametrize("other", [{"start": 1}, {"boot": "another boot"}])
def test_a_reused_number_is_not_taken_for_the_keeper(
    local: Local, me: proc.ProcessId, other: dict[str, object]
) -> None:
    record(local, replace(me, **other))  # type: ignore[arg-type]
    assert liveness(local) is Liveness.GONE
    local.cancel(["job"])  # and is not killed for it


def test_a_keeper_on_another_machine_is_unknown_and_left_alone(local: Local, me: proc.ProcessId) -> None:
    record(local, replace(me, host="elsewhere", boot="another boot"))
    assert liveness(local) is Liveness.UNKNOWN
    local.cancel(["job"])


def test_a_keeper_on_another_machine_is_told_with_the_way_out(local: Local, me: proc.ProcessId) -> None:
    record(local, replace(me, host="elsewhere", boot="another boot"))
    liveness(local)
    why = local.held(["job", "other"])
    assert list(why) == ["job"]
    assert "was started on elsewhere" in why["job"]
    kept = local.state_dir / ".local" / "job.yaml"
    assert f"Only if elsewhere is no more, as a container that has another name now, remove {kept}" in why["job"]
    kept.unlink()
    assert liveness(local) is Liveness.GONE
    assert local.held(["job"]) == {}


def test_a_keeper_that_runs_is_seen_also_when_the_machine_has_another_name(local: Local, me: proc.ProcessId) -> None:
    record(local, replace(me, host="before"))
    assert liveness(local) is Liveness.ALIVE
    record(local, replace(me, host="before", start=1))  # or it is in a container of its own
    assert liveness(local) is Liveness.UNKNOWN


@pytest.mark.parametrize("gone", [".local", "."])
def test_a_state_directory_that_is_gone_says_nothing_of_its_jobs(tmp_path: Path, gone: str) -> None:
    local = Local(tmp_path / "state")
    (tmp_path / "state" / ".local").mkdir(parents=True)
    assert liveness(local) is Liveness.GONE
    (tmp_path / "state" / gone).resolve().rename(tmp_path / "aside")
    assert liveness(local) is Liveness.UNKNOWN


def test_a_name_is_not_found_where_nothing_was_submitted_and_unknown_where_no_disk_is(tmp_path: Path) -> None:
    assert Local(tmp_path).find("job") is None
    with pytest.raises(SchedulerError, match="cannot be read now"):
        Local(tmp_path / "absent").find("job")


def test_the_walltimes_end_does_not_move_with_the_clock(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {JOB_VARIABLE: "job", END_VARIABLE: repr(time.monotonic() + 100)}
    real = time.time
    for hours in (-5, 0, 5):
        monkeypatch.setattr(time, "time", lambda hours=hours: real() + 3600 * hours)
        end = local.allocation(environment).end
        assert end is not None
        assert 90 < end - time.time() <= 100


def test_what_nobody_ever_kept_is_gone(local: Local) -> None:
    assert liveness(local) is Liveness.GONE
    assert local.find("job") is None
    local.cancel(["job"])


@pytest.mark.parametrize("content", [b"", b"pid: 5\n", b"a: [", b"- 1\n", b"\0\xff"])
def test_a_record_that_cannot_be_read_is_no_answer_and_not_gone(local: Local, content: bytes) -> None:
    (local.state_dir / ".local" / "job.yaml").write_bytes(content)
    assert liveness(local) is Liveness.UNKNOWN
    with pytest.raises(SchedulerError, match=r"job\.yaml"):
        local.find("job")


def test_a_zombie_does_not_run() -> None:
    child = subprocess.Popen(["true"])
    found = proc.identify(child.pid)
    assert found is not None
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not found.alive()
    child.wait()
    assert not found.alive()
    assert proc.identify(child.pid) is None


def test_a_name_with_spaces_and_parentheses_is_read_right() -> None:
    code = "import ctypes; ctypes.CDLL(None).prctl(15, b') S 1 (x', 0, 0, 0); print(1, flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    stat = proc.read_stat(child.pid)
    child.communicate(b"\n")
    assert stat is not None
    assert (stat.name, stat.parent) == (") S 1 (x", os.getpid())


def test_a_keeper_waits_for_a_script_that_vanished_in_the_moment_of_its_start(tmp_path: Path) -> None:
    script, away = tmp_path / "run.sh", tmp_path / "away"
    script.write_text(f"#!/bin/sh\nmv {script} {away}; exit 127\n")
    script.chmod(0o700)
    keeper = [sys.executable, "-m", "snakemake_executor_plugin_ckpt.schedulers.local_keeper"]
    with subprocess.Popen([*keeper, str(tmp_path / "record"), str(script), "", ""]) as process:
        wait_for(lambda: away.exists() and not proc.children(process.pid), "the end of the first segment")
        time.sleep(0.2)  # it has been looked for by now
        away.write_text("#!/bin/sh\nexit 3\n")
        away.rename(script)
        assert process.wait(30) == 3


def test_a_machine_that_can_start_no_keeper_for_now_is_no_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", short)
    with pytest.raises(NoAnswer, match="no keeper can be started now"):
        Local(tmp_path).submit(Request("name", tmp_path / "script", tmp_path / "log", None, 1.0))
