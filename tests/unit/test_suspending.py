"""What the signals of a batch system that suspends mean, and to whom."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import pytest
from helpers.waiting import wait_for

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.engines.base import Running
from snakemake_executor_plugin_ckpt.errors import SchedulerError
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.schedulers.base import Allocation
from snakemake_executor_plugin_ckpt.schedulers.local import Local
from snakemake_executor_plugin_ckpt.segment.events import Events
from snakemake_executor_plugin_ckpt.segment.suspending import Heard, Suspension
from snakemake_executor_plugin_ckpt.segment.times import Times

STOP, GO, OTHER = signal.SIGTSTP, signal.SIGCONT, signal.SIGTERM


class Suspending(Local):
    """A scheduler that says a later end each time it is asked."""

    left: float | None = 1000.0

    def allocation(self, environment: Mapping[str, str]) -> Allocation:
        if self.left is None:
            raise SchedulerError("no answer")
        return Allocation("1", time.time() + self.left)


class Payload:
    def __init__(self) -> None:
        self.process = subprocess.Popen(["sleep", "300"])

    def pids(self) -> list[int]:
        return [self.process.pid]

    def state(self) -> str:
        stat = proc.read_stat(self.process.pid)
        return stat.state if stat else "-"


@pytest.fixture
def payload() -> Iterator[Payload]:
    made = Payload()
    yield made
    made.process.kill()
    made.process.wait()


@pytest.fixture
def times() -> Times:
    return Times(Policy(walltime=5000.0), time.time() + 100.0, [])


def hear(suspension: Suspension, payload: Payload, times: Times, *numbers: int) -> Heard:
    return suspension.hear(numbers, cast(Running, payload), times)


def test_a_scheduler_that_does_not_suspend_means_nothing_by_it(payload: Payload, times: Times) -> None:
    """Slurm sends SIGTSTP before SIGSTOP when it lets jobs take turns, and SIGCONT before every SIGTERM."""
    scheduler = Suspending(Path("x"))
    scheduler.suspends = False
    suspension = Suspension(scheduler, True, {})
    assert hear(suspension, payload, times, STOP, GO) == Heard(save=False)
    assert hear(suspension, payload, times, STOP, OTHER) == Heard(save=True)
    assert times.end < time.monotonic() + 101


def test_a_resumed_job_has_the_end_that_it_has_now(payload: Payload, times: Times) -> None:
    scheduler = Suspending(Path("x"))
    suspension = Suspension(scheduler, True, {})
    assert hear(suspension, payload, times, GO) == Heard(save=False, resumed=True)
    assert times.end > time.monotonic() + 990
    scheduler.left = None
    hear(suspension, payload, times, GO)
    assert times.end > time.monotonic() + 990


def test_a_resume_does_not_take_back_what_something_else_wished(payload: Payload, times: Times) -> None:
    suspension = Suspension(Suspending(Path("x")), True, {})
    assert hear(suspension, payload, times, OTHER) == Heard(save=True)
    assert hear(suspension, payload, times, STOP) == Heard(save=True)
    assert hear(suspension, payload, times, GO) == Heard(save=False, resumed=False)


def test_of_wishes_that_come_together_the_last_one_counts(payload: Payload, times: Times) -> None:
    saved = Suspension(Suspending(Path("x")), True, {})
    assert hear(saved, payload, times, STOP, GO) == Heard(save=False, resumed=True)
    assert hear(saved, payload, times, GO, STOP) == Heard(save=True)
    unsaved = Suspension(Suspending(Path("x")), False, {})
    for _ in range(2):  # it runs; it is stopped
        assert hear(unsaved, payload, times, GO, STOP) == Heard(save=False)
        assert unsaved.held
        wait_for(lambda: payload.state() == "T", "a stopped payload")
    assert hear(unsaved, payload, times, STOP, GO) == Heard(save=False, resumed=True)
    assert not unsaved.held
    wait_for(lambda: payload.state() in "RS", "a payload that runs")


def test_signals_that_come_together_keep_their_order(tmp_path: Path) -> None:
    """Those that come while Python does something else: its handlers run later, by their numbers."""
    order = [signal.SIGTSTP, signal.SIGUSR2, signal.SIGCONT, signal.SIGUSR1]
    busy = threading.Event()

    def send() -> None:
        busy.wait()
        time.sleep(0.1)
        for number in order:
            os.kill(os.getpid(), number)
            time.sleep(0.02)

    before = {number: signal.getsignal(number) for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}}
    sender = threading.Thread(target=send)
    sender.start()
    try:
        with Events(tmp_path) as events:
            busy.set()
            hashlib.pbkdf2_hmac("sha256", b"", b"", 1_000_000)  # no Python code runs here meanwhile
            sender.join()
            events.wait(time.monotonic() + 1)
            assert events.signals() == order
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_nothing_is_stopped_that_nobody_suspended(payload: Payload, times: Times) -> None:
    suspension = Suspension(Suspending(Path("x")), True, {})
    suspension.hold(cast(Running, payload))
    hear(suspension, payload, times, STOP)
    hear(suspension, payload, times, GO)
    suspension.hold(cast(Running, payload))
    assert not suspension.held
    assert payload.state() in "RS"


def test_another_wish_to_save_wakes_a_payload_that_was_stopped(payload: Payload, times: Times) -> None:
    suspension = Suspension(Suspending(Path("x")), False, {})
    assert hear(suspension, payload, times, STOP) == Heard(save=False)
    assert suspension.held
    wait_for(lambda: payload.state() == "T", "a stopped payload")
    assert hear(suspension, payload, times, OTHER) == Heard(save=True)
    assert not suspension.held
    wait_for(lambda: payload.state() in "RS", "a payload that runs")


@pytest.mark.parametrize("warning", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGURG])
def test_a_warning_ends_no_job_that_is_not_saved(
    payload: Payload, times: Times, tmp_path: Path, warning: signal.Signals
) -> None:
    """Slurm warns up to half a minute earlier than asked, and such a job may be done before its walltime is."""
    unsaved = Suspension(Suspending(tmp_path), False, {})
    assert hear(unsaved, payload, times, warning) == Heard(save=False)
    saved = Suspension(Suspending(tmp_path), True, {})
    assert hear(saved, payload, times, warning) == Heard(save=True)
