"""What stands between supervisor and payload fails, or is killed, before it has said anything."""

from __future__ import annotations

import os
import threading

import pytest
from helpers.engines import Trial
from helpers.waiting import wait_for

from snakemake_executor_plugin_ckpt.engines.criu import locate
from snakemake_executor_plugin_ckpt.engines.world import init, namespaces
from snakemake_executor_plugin_ckpt.engines.world import world as worlds
from snakemake_executor_plugin_ckpt.errors import EngineError

pytestmark = pytest.mark.criu
_LIMIT = 30.0


def _die(*_: object) -> None:
    os._exit(1)  # the first process of a pid namespace cannot kill itself by a signal


@pytest.mark.parametrize("when", ["_help", "_adopted"])
def test_a_process_between_supervisor_and_payload_that_fails_ends_and_is_no_second_supervisor(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def fail(*_: object) -> None:
        raise BrokenPipeError("the supervisor is dead")

    monkeypatch.setattr(worlds, when, fail)
    me, passed = os.getpid(), trial.folder / "passed"
    try:
        with pytest.raises(EngineError):
            trial.launch(trial.engine("criu-rootless"), trial.shell("sleep 60"))
    finally:
        if os.getpid() != me:
            passed.touch()
            os._exit(1)
    assert not passed.exists()


@pytest.mark.parametrize("when", ["before it is adopted", "while it furnishes its world", "before it is asked"])
def test_an_init_that_dies_at_its_start_is_an_error_and_no_endless_wait(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    if when == "before it is adopted":
        monkeypatch.setattr(worlds, "_adopted", _die)
    elif when == "while it furnishes its world":
        monkeypatch.setattr(namespaces, "furnish", _die)
    else:
        monkeypatch.setattr(init._Init, "loop", _die)
    said: list[BaseException] = []

    def launch() -> None:
        try:
            trial.launch(trial.engine("criu-rootless"), trial.shell("sleep 60"))
        except EngineError as error:
            said.append(error)

    # In a thread that nobody waits for: a launch that hangs is to fail this test, not to hang it.
    thread = threading.Thread(target=launch, daemon=True)
    thread.start()
    thread.join(_LIMIT)
    assert not thread.is_alive()
    assert len(said) == 1
    assert trial.alive() == []


def test_a_criu_that_is_killed_takes_the_payload_along_and_leaves_no_exit_status(trial: Trial) -> None:
    real, _ = locate.locate({})
    killed = trial.folder / "criu"
    killed.write_text(f'#!/bin/sh\n[ "$1" = dump ] && kill -9 $$\nexec {real} "$@"\n')
    killed.chmod(0o700)
    engine = trial.engine("criu-rootless", criu=str(killed))
    running = trial.launch(engine, trial.shell("echo up; sleep 60"))
    trial.wait_said("up")
    with pytest.raises(EngineError, match="killed"):
        trial.save(engine, running)
    with pytest.raises(EngineError, match="killed"):
        running.poll()
    wait_for(lambda: not trial.alive(), "the payload's end")
