"""One suite for all engines: the contract of engines/base.py, in every way that can be tried here."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.engines import Trial, variants
from helpers.waiting import wait_for

from snakemake_executor_plugin_ckpt.errors import EngineError

ALL = pytest.mark.parametrize("variant", variants(saving=False))
SAVING = pytest.mark.parametrize("variant", variants(saving=True))

#: Says a line for each number it is given in a file, so that a test decides how far it gets.
STEPS = """
n=0
until [ "$n" -ge "$LAST" ]; do
    while [ ! -e "go-$((n + 1))" ]; do sleep 0.02; done
    n=$((n + 1)); echo "step $n"
done
exit "${STATUS:-0}"
"""


def allow(trial: Trial, *steps: int) -> None:
    for step in steps:
        (trial.folder / f"go-{step}").touch()


def steps_said(last: int) -> str:
    return "".join(f"step {number}\n" for number in range(1, last + 1))


@ALL
def test_the_trial_of_the_engine_succeeds(trial: Trial, variant: str) -> None:
    found = trial.engine(variant).probe()
    assert found.usable, found.problems
    assert found.way


@ALL
@pytest.mark.parametrize("status", [0, 1, 7, 99, 255])
def test_the_exit_status_is_the_payloads(trial: Trial, variant: str, status: int) -> None:
    engine = trial.engine(variant)
    assert trial.wait(trial.launch(engine, trial.shell(f"exit {status}"))) == status


@ALL
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_death_by_signal_is_reported_as_such(trial: Trial, variant: str, number: signal.Signals) -> None:
    engine = trial.engine(variant)
    running = trial.launch(engine, trial.shell(f"ulimit -c 0; kill -{number.value} $$"))
    assert trial.wait(running) == -number


@ALL
def test_a_payload_that_cannot_be_started_is_no_success(trial: Trial, variant: str) -> None:
    engine = trial.engine(variant)
    try:
        status = trial.wait(trial.launch(engine, trial.payload(["/no/such/program"])))
    except EngineError as error:
        assert "/no/such/program" in str(error)
    else:
        assert status == 127
        assert "cannot start" in trial.said()


@ALL
def test_stdout_and_stderr_are_one_file_in_order_and_are_appended_to(trial: Trial, variant: str) -> None:
    engine = trial.engine(variant)
    trial.log.write_text("before\n")
    script = "for n in 1 2 3; do echo out $n; echo err $n >&2; done"
    assert trial.wait(trial.launch(engine, trial.shell(script))) == 0
    assert trial.said() == "before\n" + "".join(f"out {n}\nerr {n}\n" for n in (1, 2, 3))


@ALL
def test_the_environment_is_the_one_that_was_given_and_stdin_is_empty(trial: Trial, variant: str) -> None:
    engine = trial.engine(variant)
    payload = trial.payload(["/usr/bin/env", "-0"], TMPDIR=str(trial.folder), ODD="a b\n'ü'")
    assert trial.wait(trial.launch(engine, payload)) == 0
    said = dict(line.split("=", 1) for line in trial.said().split("\0") if line)
    assert said == dict(payload.environment)
    assert trial.wait(trial.launch(engine, trial.shell('[ "$(cat)" = "" ]; exit $?'))) == 0


@ALL
def test_a_large_environment_reaches_the_payload(trial: Trial, variant: str) -> None:
    engine = trial.engine(variant)
    large = {f"LARGE_{number}": "x" * 100_000 for number in range(5)}
    assert trial.wait(trial.launch(engine, trial.shell("exit ${#LARGE_4}", **large))) == 100_000 % 256


@ALL
def test_no_descriptor_leaks_into_the_payload(trial: Trial, variant: str) -> None:
    engine = trial.engine(variant)
    with open(trial.folder / "secret", "w") as file:
        os.set_inheritable(file.fileno(), True)
        assert trial.wait(trial.launch(engine, trial.payload(["/bin/ls", "/proc/self/fd"]))) == 0
    assert trial.said().split() == ["0", "1", "2", "3"]  # 3 is of ls itself


@ALL
def test_kill_leaves_no_process_and_can_be_repeated(trial: Trial, variant: str) -> None:
    engine = trial.engine(variant)
    script = "(while :; do sleep 0.01; done) & (sleep 300 | cat) & trap '' TERM HUP; echo up; wait"
    running = trial.launch(engine, trial.shell(script))
    trial.wait_said("up")
    assert len(running.pids()) >= 3
    assert trial.alive()
    running.kill()
    wait_for(lambda: not trial.alive(), "the end of all processes")
    running.kill()


@ALL
def test_kill_after_the_end_is_no_error(trial: Trial, variant: str) -> None:
    engine = trial.engine(variant)
    running = trial.launch(engine, trial.shell("exit 3"))
    assert trial.wait(running) == 3
    running.kill()


@ALL
def test_two_payloads_do_not_disturb_one_another(trial: Trial, variant: str) -> None:
    engine = trial.engine(variant)
    first = trial.launch(engine, trial.shell("until [ -e go ]; do sleep 0.02; done; exit 4"))
    second = trial.launch(engine, trial.shell("exit 5"))
    assert trial.wait(second) == 5
    second.kill()
    assert first.poll() is None
    (trial.folder / "go").touch()
    assert trial.wait(first) == 4


@ALL
def test_an_engine_that_saves_nothing_says_so_and_harms_nothing(trial: Trial, variant: str) -> None:
    engine = trial.engine(variant)
    if engine.can_save:
        return
    running = trial.launch(engine, trial.shell("until [ -e go ]; do sleep 0.02; done; exit 6"))
    assert engine.unsavable(running)
    with pytest.raises(EngineError, match="ckpt"):
        trial.save(engine, running)
    with pytest.raises(EngineError, match="no image"):
        trial.restore(engine, trial.image(), trial.shell("true"))
    (trial.folder / "go").touch()
    assert trial.wait(running) == 6


# -- saving and restoring --------------------------------------------------------------------------------------------


@SAVING
@pytest.mark.parametrize("status", [0, 42])
def test_three_generations_end_as_one_run_would(trial: Trial, variant: str, status: int) -> None:
    engine = trial.engine(variant)
    payload = trial.shell(STEPS, LAST="4", STATUS=str(status))
    running = trial.launch(engine, payload)
    for step in (1, 2, 3):
        allow(trial, step)
        trial.wait_said(f"step {step}\n")
        running = trial.cycle(engine, running, payload)
        assert running.poll() is None
    allow(trial, 4)
    assert trial.wait(running) == status
    assert trial.said() == steps_said(4)


@SAVING
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_death_by_signal_after_a_restore_is_reported_as_such(
    trial: Trial, variant: str, number: signal.Signals
) -> None:
    engine = trial.engine(variant)
    payload = trial.shell(f"echo up; until [ -e go ]; do sleep 0.02; done; kill -{number.value} $$")
    running = trial.launch(engine, payload)
    trial.wait_said("up")
    running = trial.cycle(engine, running, payload)
    (trial.folder / "go").touch()
    assert trial.wait(running) == -number


@SAVING
@pytest.mark.parametrize("stop", [True, False])
def test_a_save_that_is_not_committed_leaves_the_payload_running_and_right(
    trial: Trial, variant: str, stop: bool
) -> None:
    engine = trial.engine(variant)
    payload = trial.shell(STEPS, LAST="3", STATUS="5")
    running = trial.launch(engine, payload)
    allow(trial, 1)
    trial.wait_said("step 1")

    class Quota(Exception):
        pass

    def no_room() -> None:
        raise Quota("no room")

    for _ in range(2):
        with pytest.raises(Quota, match="no room"):
            trial.save(engine, running, stop, no_room) if not stop else engine.save(
                running, trial.image(), no_room, True, 60.0
            )
        assert running.poll() is None
    allow(trial, 2)
    trial.wait_said("step 2")
    running = trial.cycle(engine, running, payload)
    allow(trial, 3)
    assert trial.wait(running) == 5
    assert trial.said() == steps_said(3)


@SAVING
def test_a_save_without_a_stop_leaves_it_running_and_makes_a_whole_image(trial: Trial, variant: str) -> None:
    engine = trial.engine(variant)
    payload = trial.shell(STEPS, LAST="2", STATUS="5")
    running = trial.launch(engine, payload)
    allow(trial, 1)
    trial.wait_said("step 1")
    folder, stats = trial.save(engine, running, stop=False)
    assert 0 < stats.dump <= stats.frozen
    assert running.poll() is None
    size = trial.log.stat().st_size
    allow(trial, 2)
    assert trial.wait(running) == 5
    assert trial.said() == steps_said(2)
    os.truncate(trial.log, size)  # as the rollback of the outputs would
    assert trial.wait(trial.restore(engine, folder, payload)) == 5
    assert trial.said() == steps_said(2)


@SAVING
def test_the_tree_stands_still_while_the_image_is_committed(trial: Trial, variant: str) -> None:
    engine = trial.engine(variant)
    code = "import time\nwhile True:\n print(time.monotonic())\n time.sleep(0.001)"
    running = trial.launch(engine, trial.python(code))
    trial.wait_said("\n")
    assert not engine.holds(running)
    sizes: list[int] = []
    found: list[list[int]] = []

    def look() -> None:
        assert engine.holds(running)
        sizes.append(trial.log.stat().st_size)
        found.append(running.pids())
        signal.sigtimedwait([], 0.3)
        sizes.append(trial.log.stat().st_size)

    trial.save(engine, running, frozen=look)
    assert sizes[0] == sizes[1] == trial.log.stat().st_size
    assert len(found[0]) == 1


@SAVING
def test_a_folder_can_be_restored_again_and_is_not_changed_by_it(trial: Trial, variant: str) -> None:
    engine = trial.engine(variant)
    payload = trial.shell(STEPS, LAST="2", STATUS="9")
    running = trial.launch(engine, payload)
    allow(trial, 1)
    trial.wait_said("step 1")
    folder, _ = trial.save(engine, running)
    size = trial.log.stat().st_size
    content = _content(folder)
    allow(trial, 2)
    for _ in range(2):
        os.truncate(trial.log, size)
        again = trial.engine(variant)  # as another node would: with nothing left of the first engine
        assert trial.wait(trial.restore(again, folder, payload)) == 9
        assert trial.said() == steps_said(2)
        assert _content(folder) == content


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@SAVING
def test_a_restore_does_not_mind_who_else_runs(trial: Trial, variant: str) -> None:
    """The numbers of the saved processes are taken: by the payload itself, which is still there."""
    engine = trial.engine(variant)
    payload = trial.shell(STEPS, LAST="2", STATUS="3")
    running = trial.launch(engine, payload)
    allow(trial, 1)
    trial.wait_said("step 1")
    folder, _ = trial.save(engine, running, stop=False)
    twin = trial.restore(engine, folder, payload)
    assert running.poll() is None
    assert set(running.pids()).isdisjoint(twin.pids())
    allow(trial, 2)
    assert trial.wait(twin) == 3
    assert trial.wait(running) == 3


def _cut_pages(folder: Path) -> None:
    for path in folder.glob("pages-*.img"):
        os.truncate(path, 100)


def _empty(folder: Path, pattern: str = "*") -> None:
    for path in folder.glob(pattern):
        path.unlink()


def _remove(folder: Path) -> None:
    _empty(folder)
    folder.rmdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": _remove,
    "empty": _empty,
    "without its processes": lambda folder: _empty(folder, "core-*.img"),
    "with pages cut short": _cut_pages,
    "full of noise": lambda folder: [path.write_bytes(b"noise") for path in folder.iterdir()],
}


@SAVING
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_restore_that_fails_says_so_and_leaves_nothing_running(trial: Trial, variant: str, damage: str) -> None:
    engine = trial.engine(variant)
    payload = trial.shell("echo up; (sleep 300) | cat; exit 3")
    running = trial.launch(engine, payload)
    trial.wait_said("up")
    folder, _ = trial.save(engine, running)
    children = set(_children())
    DAMAGES[damage](folder)
    with pytest.raises(EngineError):
        trial.restore(engine, folder, payload, limit=5)  # criu itself waits for ever for pages that are not there
    wait_for(lambda: not trial.alive(), "the end of all processes")
    assert set(_children()) <= children


def _children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()]


@SAVING
def test_saves_do_not_leave_litter_on_the_node(trial: Trial, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = trial.folder / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    engine = trial.engine(variant)
    payload = trial.shell("echo up; until [ -e go ]; do sleep 0.02; done")
    running = trial.launch(engine, payload)
    trial.wait_said("up")
    running = trial.cycle(engine, running, payload)
    (trial.folder / "go").touch()
    assert trial.wait(running) == 0
    engine.close()
    assert os.listdir(scratch) == []
