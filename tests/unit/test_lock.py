"""The lock on a job folder: it excludes, and a dead owner delays nobody for longer than was said."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.mounts import Client, Mount, all_at_once, bind_mount, clients
from helpers.waiting import wait_for

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.state import lock
from snakemake_executor_plugin_ckpt.state.folder import JobFolder
from snakemake_executor_plugin_ckpt.state.lock import Busy, JobLock, claims_folder

#: More than any test lasts (s).
NEVER = 10_000.0


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    made = JobFolder(tmp_path / "shared" / "job")
    made.make()
    return made


class Owners:
    """Starts processes that have the lock, here or as on another host."""

    def __init__(self, folder: JobFolder, stack: ExitStack) -> None:
        self._shared = folder.path.parent
        self._stack = stack

    def here(self, beat: float = NEVER) -> Client:
        return self._start(Mount(self._shared), beat)

    def elsewhere(self, beat: float = NEVER) -> Client:
        return self._start(bind_mount(self._shared, self._shared.parent / "elsewhere", "node-elsewhere"), beat)

    def _start(self, mount: Mount, beat: float) -> Client:
        client = Client(mount, "job", "owner")
        self._stack.callback(client.complaints)
        assert client.answer() == "ready"
        client.ask("take", beat, NEVER)
        return client


@pytest.fixture
def owners(folder: JobFolder) -> Iterator[Owners]:
    with ExitStack() as stack:
        yield Owners(folder, stack)


def patient(folder: JobFolder, patience: float) -> JobLock:
    return JobLock(folder.path / "lock", patience=patience)


def claims(folder: JobFolder) -> list[Path]:
    return sorted(claims_folder(folder.path / "lock").glob("*.claim"))


# -- a dead owner


def test_an_owner_that_was_killed_on_this_host_delays_nobody(
    folder: JobFolder, owners: Owners, caplog: pytest.LogCaptureFixture
) -> None:
    owners.here().kill()
    taken = folder.lock()
    taken.acquire(timeout=0)  # at the first try
    taken.release()
    assert "which is gone; taken over" in caplog.text and caplog.text.count("taken over") == 1


def test_one_that_was_killed_before_it_had_the_lock_delays_nobody(folder: JobFolder, owners: Owners) -> None:
    owners.here().kill()
    held, intent = claims(folder)
    held.unlink()
    folder.lock().acquire(timeout=0)
    assert intent not in claims(folder)


def test_an_owner_that_died_on_another_host_delays_for_the_patience_and_no_longer(
    folder: JobFolder, owners: Owners, caplog: pytest.LogCaptureFixture
) -> None:
    owners.elsewhere().kill()
    begun = time.monotonic()
    with patient(folder, 1.0):
        assert 1.0 <= time.monotonic() - begun < 30
    assert "on node-elsewhere, which gave no sign of life for 1 s; taken over" in caplog.text


def test_of_those_who_wait_for_a_dead_owner_one_has_the_lock_at_a_time(folder: JobFolder, owners: Owners) -> None:
    owners.here().kill()
    (folder.path / "counter").write_text("0")
    with clients([Mount(folder.path.parent)], "job", 3) as them:
        holds = sorted(tuple(hold) for answer in all_at_once(them, "hold", 5) for hold in answer)
    assert [value for *_, value in holds] == list(range(1, 16))


def test_the_bound_is_the_one_that_is_documented() -> None:
    assert lock.PATIENCE == 30 and lock.BEAT * 5 <= lock.PATIENCE < lock.LIMIT


# -- a living owner


def test_an_owner_of_this_host_keeps_the_lock_as_long_as_it_lives(folder: JobFolder, owners: Owners) -> None:
    owner = owners.here()
    owner.process.send_signal(signal.SIGSTOP)  # it lives, and gives no sign of it
    with pytest.raises(Busy, match=f"held by process {owner.process.pid} on {proc.host_name()}, for more than 1 s"):
        patient(folder, 0.2).acquire(timeout=1)
    assert len(claims(folder)) == 2


def test_an_owner_of_another_host_keeps_the_lock_as_long_as_it_gives_signs_of_life(
    folder: JobFolder, owners: Owners
) -> None:
    owner = owners.elsewhere(beat=0.1)
    with pytest.raises(Busy, match="on node-elsewhere, for more than 2 s"):
        patient(folder, 2.0).acquire(timeout=2.5)
    assert owner.ask("give")
    folder.lock().acquire(timeout=0)


def test_one_who_would_not_wait_waits_until_it_is_known_whether_an_owner_elsewhere_lives(
    folder: JobFolder, owners: Owners
) -> None:
    owners.elsewhere().kill()
    patient(folder, 0.5).acquire(timeout=0)


def test_an_owner_elsewhere_that_stood_still_for_too_long_loses_the_lock_and_is_told(
    folder: JobFolder, owners: Owners
) -> None:
    owner = owners.elsewhere(beat=0.1)
    owner.process.send_signal(signal.SIGSTOP)
    with patient(folder, 0.5):
        owner.process.send_signal(signal.SIGCONT)
        assert owner.process.stderr is not None
        assert "was taken from this process, which had stood still" in owner.process.stderr.readline()
        assert owner.ask("give")
        with pytest.raises(Busy):
            folder.lock().acquire(timeout=0)


def test_a_long_hold_gives_signs_of_life(folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.05)
    with folder.lock():
        before = {claim.stat().st_mtime_ns for claim in claims(folder)}
        wait_for(lambda: {claim.stat().st_mtime_ns for claim in claims(folder)} != before)


def test_one_can_ask_whether_the_lock_was_lost_and_one_that_was_not_is_not(
    folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.05)
    taken = folder.lock()
    with taken:
        assert not taken.lost
        for claim in claims(folder):
            claim.unlink()
        wait_for(lambda: taken.lost)
    with taken:
        assert not taken.lost


def test_another_thread_may_give_the_lock_back(folder: JobFolder) -> None:
    taken = folder.lock()
    taken.acquire()
    thread = threading.Thread(target=taken.release)
    thread.start()
    thread.join()
    folder.lock().acquire(timeout=0)


def test_a_file_system_that_hangs_makes_nobody_look_dead(folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = folder.path / "claim"
    claim.touch()
    watch = lock._Watch(folder.path, 30.0)
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    assert watch.look({"claim": None}) == []
    now[0] += 3600.0  # one look took an hour
    assert watch.look({"claim": None}) == []
    for _ in range(30):
        now[0] += 1.0
        dead = watch.look({"claim": None})
    assert dead == ["claim"]


@pytest.mark.parametrize(
    ("change", "life"),
    [
        ({}, True),
        ({"pid": 2**22 + 1}, False),
        ({"start": 1}, None),
        ({"start": None}, None),
        ({"hostname": "node-elsewhere"}, None),
    ],
)
def test_only_what_can_be_seen_of_an_owner_is_said(
    folder: JobFolder, change: dict[str, Any], life: bool | None
) -> None:
    with folder.lock():
        mine = folder.lock()._lock.claims[0]
    known = {"pid": mine.pid, "hostname": mine.hostname, "start": mine.start}
    assert lock.lives(SimpleNamespace(**known | change)) is life  # type: ignore[arg-type]


def test_a_number_that_another_process_has_now_is_no_owner(folder: JobFolder) -> None:
    with folder.lock():
        mine = folder.lock()._lock.claims[0]
    assert mine.start is not None
    other = SimpleNamespace(pid=mine.pid, hostname=mine.hostname, start=mine.start - 1)
    assert lock.lives(other) is False  # type: ignore[arg-type]


# -- what a power cut leaves


@pytest.mark.parametrize("left", [b"", b"filelock-str", b"\0" * 100], ids=["empty", "half", "zeros"])
def test_a_claim_that_cannot_be_read_delays_for_the_patience(
    folder: JobFolder, owners: Owners, left: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    owners.here().kill()
    for claim in claims(folder):
        claim.write_bytes(left)
    with patient(folder, 0.5):
        assert len(claims(folder)) == 2
    assert "whose claim cannot be read" in caplog.text


def test_an_empty_lock_file_is_made_anew(folder: JobFolder, caplog: pytest.LogCaptureFixture) -> None:
    (folder.path / "lock").touch()
    with folder.lock(), pytest.raises(Busy):
        folder.lock().acquire(timeout=0)
    assert "made anew" in caplog.text


def test_a_lock_file_that_is_something_else_is_refused_and_kept(folder: JobFolder) -> None:
    (folder.path / "lock").write_text("the user's own")
    with pytest.raises(OSError, match="lock"):
        folder.lock().acquire()
    assert (folder.path / "lock").read_text() == "the user's own"


def test_the_lock_of_a_folder_that_is_gone_is_an_error_at_once_and_does_not_bring_it_back(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        JobLock(tmp_path / "gone" / "lock").acquire()
    assert os.listdir(tmp_path) == []


def test_an_uncontended_lock_says_nothing_and_leaves_no_claim(
    folder: JobFolder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), folder.lock():
        assert len(claims(folder)) == 2
    assert claims(folder) == [] and caplog.text == "" and os.path.exists(folder.path / "lock")
