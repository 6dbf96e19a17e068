"""A new head attaches where things are not as they should be: answers were lost, marks are gone, settings are wrong."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import yaml

from snakemake_executor_plugin_ckpt import faults

from .conftest import MakeFlow, MakeStage
from .runs import Flow, until
from .stages import STAGED, Stage

pytestmark = pytest.mark.criu


def keeper_of(stage: Stage, rule: str) -> int:
    """The process that keeps a rule's newest batch job."""
    name = stage.flow.job(rule).submissions()[-1].name
    return int(yaml.safe_load((stage.flow.state_dir / ".local" / f"{name}.yaml").read_text())["pid"])


def test_a_batch_job_that_is_not_found_again_gets_a_twin_that_computes_nothing(stage_of: MakeStage) -> None:
    stage = stage_of({"job": ""})
    ours = stage.flow
    stage.hold("job.submitted", "job.start-1")
    head = ours.start(*STAGED)
    until(lambda: stage.reached("job.submitted") and stage.reached("job.start-1"), "the batch job", head)
    head.kill()
    assert [one.job_id for one in ours.job("job").submissions()] == [None]
    stage.hold("job.find", "job.start-2")
    stage.open("job.submitted")
    ours.unlock()
    again = ours.start(*STAGED)
    until(lambda: stage.reached("job.start-2"), "another batch job", again)
    stage.open("job.start-1")
    until(lambda: stage.half("job"), "work in the first batch job", again)
    stage.open("job.start-2")
    log = ours.job("job").logs_folder / "batch-0002.log"
    until(lambda: "may still be alive" in log.read_text(), "the second batch job's refusal", again)
    until(lambda: not Path("/proc", str(keeper_of(stage, "job"))).exists(), "its end", again)
    stage.let_look(again)
    stage.go("job")
    done = again.wait()
    assert done.status == 0, done.said
    assert len(ours.job("job").submissions()) == 2
    assert len(ours.segments("job")) == 1
    stage.assert_each_step_was_made_once()


def test_a_job_that_was_over_before_its_head_had_noted_it_is_not_run_again(stage_of: MakeStage) -> None:
    stage = stage_of({"job": ""})
    ours = stage.flow
    stage.go("job")
    stage.hold("job.submitted", "job.asked")
    head = ours.start(*STAGED)
    until(lambda: stage.reached("job.submitted") and ours.job("job").exit_status() == 0, "the job's end", head)
    assert stage.marked() == []
    stage.open("job.submitted")
    until(lambda: len(stage.marked()) == 3, "marks that come too late", head)
    head.kill()
    stage.open()
    done = ours.resume(*STAGED)
    assert done.status == 0, done.said
    assert len(done.lines("was found: it has finished")) == 1, done.said
    assert stage.marked() == []
    job = ours.job("job").job()
    assert job is not None
    assert job.acknowledged
    stage.assert_each_step_was_made_once()


def test_outputs_that_are_rolled_back_are_marked_incomplete_again(stage_of: MakeStage) -> None:
    stage = stage_of({"job": ""})
    ours = stage.flow
    gate = stage.hold_command("sync")
    head = ours.start(*STAGED)
    until(lambda: stage.half("job"), "half of the work", head)
    ours.job("job").request("checkpoint")
    until(lambda: sum(one.saves for one in ours.segments("job")) == 1, "an image", head)
    stage.go("job")
    until(gate.with_name("sync.reached").exists, "the end of the in-job snakemake", head)
    assert stage.marked() == []  # and its exit status is on no disk yet
    assert (ours.path / "job.sum").exists()
    (ours.path / "job.go").unlink()
    os.kill(keeper_of(stage, "job"), signal.SIGKILL)
    until(lambda: len(ours.segments("job")) == 2, "another segment", head)
    until(lambda: not (ours.path / "job.sum").exists(), "the rollback", head)
    assert len(stage.marked()) == 3
    gate.unlink()
    stage.go("job")
    done = head.wait()
    assert done.status == 0, done.said
    assert ours.segments("job")[-1].restored_from == 1
    assert stage.marked() == []


WRONG = {
    "setting": ((), "resource ckpt_period: 'nonsense' cannot be used"),
    "scheduler": (("--ckpt-scheduler", "local"), "runs under --ckpt-scheduler staged"),
}


def half_done(stage_of: MakeStage) -> Stage:
    """A workflow whose head was killed when its job had done half of its work; the job's period is in a file."""
    stage = stage_of({"job": 'resources: ckpt_period=lambda wildcards: open("period").read()'})
    stage.flow.write("period", "off")
    head = stage.flow.start(*STAGED)
    until(lambda: stage.half("job"), "half of the work", head)
    head.kill()
    stage.flow.unlock()
    return stage


@pytest.mark.parametrize("kind", WRONG)
def test_a_running_job_that_cannot_be_attached_to_is_saved_and_its_outputs_are_kept(
    stage_of: MakeStage, kind: str
) -> None:
    arguments, message = WRONG[kind]
    stage = half_done(stage_of)
    ours = stage.flow
    if kind == "setting":
        ours.write("period", "nonsense")
    refused = ours.ckpt(*STAGED, *arguments)
    assert refused.status != 0
    assert message in refused.said
    assert "Traceback" not in refused.said
    assert [(one.outcome, one.parked) for one in ours.segments("job")] == [("saved", True)]
    assert not (ours.path / "job.held").exists()  # no Snakemake takes it for a result
    ours.write("period", "off")
    stage.go("job")
    done = ours.ckpt(*STAGED)
    assert done.status == 0, done.said
    stage.assert_each_step_was_made_once()
    assert [path.name for path in Path(ours.path).iterdir() if path.name.startswith(".ckpt")] == []


@pytest.mark.parametrize("point", ["aside.begin@2", "aside.done@2"])
def test_a_head_that_dies_while_it_sets_outputs_aside_has_lost_nothing(stage_of: MakeStage, point: str) -> None:
    stage = half_done(stage_of)
    ours = stage.flow
    ours.write("period", "nonsense")
    struck = ours.path.parent / "struck"
    struck.mkdir()
    ours.environment |= {faults.WANTED: point, faults.STATE: str(struck)}
    died = ours.ckpt(*STAGED)
    assert died.status == -signal.SIGKILL, died.said
    assert aside_of(ours, "job", "job.held").exists()
    for name in (faults.WANTED, faults.STATE):
        del ours.environment[name]
    ours.write("period", "off")
    stage.go("job")
    done = ours.resume(*STAGED)
    assert done.status == 0, done.said
    stage.assert_each_step_was_made_once()


#: In an engine that saves nothing: `cut` is ended by its walltime, `plain` when it may.
UNSAVED = """
rule all:
    input: "cut.txt", "plain.txt"

rule cut:
    output: "cut.txt"
    resources: ckpt_walltime="8s"
    shell: "echo half > {output}; sleep 600"

rule plain:
    output: "plain.txt"
    shell: "while [ ! -e go ]; do sleep 0.1; done; touch {output}"
"""
NONE = ("--ckpt-engine", "none", "--ckpt-walltime", "300s", "--keep-going")


def aside_of(ours: Flow, rule: str, name: str) -> Path:
    """Where an output is put that a failed job's images may need."""
    return ours.path / f".ckpt-{ours.job(rule).path.name[-16:]}-{name}"


def block(aside: Path) -> None:
    """Have no file come to a place."""
    aside.mkdir()
    (aside / "in the way").touch()


def unblock(aside: Path) -> None:
    (aside / "in the way").unlink()
    aside.rmdir()


def test_a_failed_job_whose_outputs_cannot_be_set_aside_is_told_of_and_fails_when_they_can(flow: MakeFlow) -> None:
    ours = flow(UNSAVED)
    head = ours.start(*NONE)
    until(lambda: (ours.path / "cut.txt").exists(), "work", head)
    aside = aside_of(ours, "cut", "cut.txt")
    block(aside)
    until(lambda: "cannot be set aside" in head.said(), "word of it", head)
    (ours.path / "go").touch()
    until(lambda: "(Rule: plain)" in head.said(), "the end of another job", head)
    assert ours.text("cut.txt") == "half\n", "not removed as long as it cannot be kept"
    assert "Error in rule cut" not in head.said()
    unblock(aside)
    done = head.wait()
    assert done.status != 0
    assert "Error in rule cut" in done.said
    assert len(done.lines("cannot be set aside", "Snakemake would remove them")) == 1, done.said
    assert aside.read_text() == "half\n"


def test_a_refused_job_whose_outputs_cannot_be_set_aside_loses_nothing_and_fails_when_they_can(
    stage_of: MakeStage,
) -> None:
    stage = half_done(stage_of)
    ours = stage.flow
    ours.write("period", "nonsense")
    aside = aside_of(ours, "job", "job.held")
    block(aside)
    again = ours.start(*STAGED)
    until(lambda: "cannot be set aside" in again.said(), "word of it", again)
    assert (ours.path / "job.held").exists()
    unblock(aside)
    refused = again.wait()
    assert refused.status != 0
    assert len(refused.lines("ckpt: job: it failed", "cannot be set aside")) == 1, refused.said
    assert not (ours.path / "job.held").exists()
    ours.write("period", "off")
    stage.go("job")
    done = ours.ckpt(*STAGED)
    assert done.status == 0, done.said
    stage.assert_each_step_was_made_once()


#: While a file is there, something breaks in a head.
BROKEN = """\
import os
import throttler
from snakemake_executor_plugin_ckpt.head import watched

def spoil(kind, method, name, concerned=lambda self: True):
    old = getattr(kind, method)
    def spoiled(self, *arguments):
        if os.path.exists(name) and concerned(self):
            raise KeyError(name)
        return old(self, *arguments)
    setattr(kind, method, spoiled)

spoil(watched.WatchedJob, "next_step", "spoiled-step", lambda self: self.job.rule == "cut")
spoil(throttler.Throttler, "__aenter__", "spoiled-thread")
"""


def test_what_nobody_foresaw_of_one_job_does_not_end_the_watching_of_the_others(flow: MakeFlow) -> None:
    ours = flow(UNSAVED)
    ours.change_heads(BROKEN)
    head = ours.start(*NONE)
    until(lambda: (ours.path / "cut.txt").exists(), "work", head)
    ours.write("spoiled-step", "")
    until(lambda: "KeyError('spoiled-step') was not foreseen" in head.said(), "word of it", head)
    assert "Traceback" in head.said()
    (ours.path / "go").touch()
    until(lambda: "(Rule: plain)" in head.said(), "the end of another job", head)
    (ours.path / "spoiled-step").unlink()
    done = head.wait()
    assert done.status != 0
    assert "Error in rule cut" in done.said


def test_a_status_thread_that_dies_leaves_no_job_to_itself(stage_of: MakeStage) -> None:
    stage = stage_of({"job": ""})
    ours = stage.flow
    ours.change_heads(BROKEN)
    head = ours.start(*STAGED)
    until(lambda: stage.half("job"), "half of the work", head)
    ours.write("spoiled-thread", "")
    ended = head.wait()
    assert ended.status != 0
    assert "1 of 1 job saved or over. Start snakemake again to resume" in ended.said
    assert [(one.outcome, one.parked) for one in ours.segments("job")] == [("saved", True)]
    (ours.path / "spoiled-thread").unlink()
    stage.go("job")
    done = ours.ckpt(*STAGED)
    assert done.status == 0, done.said
    stage.assert_each_step_was_made_once()
