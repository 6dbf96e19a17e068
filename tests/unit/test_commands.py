"""Clients of batch systems: what they say, and that nobody waits for one that does not answer."""

from __future__ import annotations

import errno
import os
import re
import resource
import subprocess
import threading
import time
from pathlib import Path

import pytest
from helpers.waiting import processes_with, wait_for

from snakemake_executor_plugin_ckpt.errors import NoAnswer, SchedulerError
from snakemake_executor_plugin_ckpt.schedulers import commands


def test_what_a_client_says_and_its_status_are_told() -> None:
    done = commands.run(["sh", "-c", "cat; echo oops >&2; exit 3"], stdin="words")
    assert (done.command, done.status, done.stdout, done.stderr) == ("sh", 3, "words", "oops\n")


def test_a_failure_is_told_in_the_clients_own_words() -> None:
    with pytest.raises(SchedulerError, match=r"sh failed \(exit status 3\): no such queue$"):
        commands.run(["sh", "-c", "echo '  no such'; echo ' queue'; exit 3"]).checked()
    assert commands.run(["true"]).checked().status == 0


def test_a_long_complaint_is_cut() -> None:
    assert len(commands.run(["sh", "-c", "yes | head -c 100000; exit 1"]).words) < 500


def test_what_is_no_text_is_no_error() -> None:
    assert commands.run(["printf", r"a\377b"]).stdout == "a�b"


def test_an_absent_client_is_named() -> None:
    with pytest.raises(SchedulerError, match="/nowhere/client cannot be run: No such file"):
        commands.run(["/nowhere/client"])


def test_a_client_that_does_not_answer_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(SchedulerError, match="did not answer within 0 s"):
        commands.run(["sh", "-c", "sleep 300 & wait"], timeout=0.4, environment={"MARKER": str(tmp_path)})
    assert time.monotonic() - began < 10
    wait_for(lambda: not processes_with(str(tmp_path)), "the end of the client")


def test_a_client_that_cannot_be_ended_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """OAR's clients run as another user, whom an ordinary user cannot kill."""

    def forbidden(pid: int, number: int) -> None:
        raise PermissionError(pid, number)

    monkeypatch.setattr(os, "killpg", forbidden)
    began = time.monotonic()
    with pytest.raises(SchedulerError, match="did not answer"):
        commands.run(["sleep", "3"], timeout=0.2)
    assert time.monotonic() - began < 2
    left = commands._abandoned[-1]
    assert left.poll() is None
    wait_for(lambda: commands.run(["true"]) and left not in commands._abandoned, "its burial")


def test_ctrl_c_is_not_for_clients() -> None:
    done = commands.run(["sh", "-c", "ps -o pgid= -p $$"])
    assert int(done.stdout) != os.getpgid(0)


def test_who_does_not_answer_or_is_killed_has_not_refused() -> None:
    with pytest.raises(NoAnswer):
        commands.run(["sleep", "60"], timeout=0.3)
    with pytest.raises(NoAnswer, match="exit status -9"):
        commands.run(["sh", "-c", "kill -9 $$"]).checked()
    away = commands.run(["sh", "-c", "echo nobody there; echo more >&2; exit 1"])
    with pytest.raises(NoAnswer):
        away.checked(re.compile("Nobody", re.IGNORECASE))
    with pytest.raises(SchedulerError) as refused:
        away.checked(re.compile("other"))
    with pytest.raises(SchedulerError) as absent:
        commands.run(["/nowhere/client"])
    assert type(refused.value) is type(absent.value) is SchedulerError


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE])
def test_a_machine_that_can_start_nothing_for_now_is_no_refusal(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def short(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(subprocess, "Popen", short)
    with pytest.raises(NoAnswer, match=f"sbatch cannot be run: {os.strerror(number)}"):
        commands.run(["sbatch"])


def test_a_head_without_a_free_descriptor_asks_later() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd")))
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(used)]  # none below the limit is free
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(opened), limits[1]))
        with pytest.raises(NoAnswer, match="Too many open files"):
            commands.run(["true"])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for one in opened:
            os.close(one)
    assert commands.run(["true"]).status == 0


def test_a_head_that_ends_leaves_what_others_wait_for() -> None:
    caught: list[Exception] = []

    def ask() -> None:
        try:
            commands.run(["sleep", "60"], timeout=60.0)
        except NoAnswer as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.5)
    commands.leave()
    thread.join(10)
    assert "left behind" in str(caught[0])
    assert commands.run(["echo", "later"]).stdout == "later\n"


def test_much_that_a_client_is_told_slowly_is_told_once() -> None:
    text = "x" * 1_000_000
    assert commands.run(["sh", "-c", "sleep 0.7; cat"], stdin=text).stdout == text
