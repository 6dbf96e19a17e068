"""The head dies, and its jobs are in all states in which that can find them. A new head attaches to each."""

from __future__ import annotations

import pytest

from .conftest import MakeStage
from .runs import until
from .stages import STAGED, Stage

pytestmark = pytest.mark.criu

#: A rule for each state. `queued` was saved, and its next batch job waits; `saved` has none.
ALL = {
    "pending": "",
    "running": "",
    "saving": 'resources: ckpt_period="1s"',
    "queued": "",
    "saved": "",
    "finished": "",
    "submitting": 'input: "ready"',
}


@pytest.mark.parametrize(
    ("arguments", "submission"),
    [((), "submitted"), (("--rerun-incomplete",), "intended")],
    ids=["same-command", "rerun-incomplete"],
)
def test_a_head_that_dies_loses_no_job_in_whatever_state_and_none_runs_twice(
    stage_of: MakeStage, arguments: tuple[str, ...], submission: str
) -> None:
    stage = stage_of(ALL)
    ours = stage.flow
    gates = ("pending.start-1", "queued.start-2", f"submitting.{submission}")
    stage.hold(*gates)
    head = ours.start(*STAGED)
    at_work = ("running", "saving", "queued", "saved", "finished")
    until(lambda: all(map(stage.half, at_work)), "work half done", head)
    stage.hold("saving.save")
    ours.job("queued").request("park")
    until(lambda: all(map(stage.reached, (*gates, "saving.save"))), "all states", head)
    head.kill()
    stage.open("submitting.*")
    ours.job("saved").request("park")
    stage.go("finished")
    until(lambda: ours.saves("saved") == 1 and ours.job("finished").exit_status() == 0, "ends that no head sees")
    ours.unlock()
    if not arguments:
        assert_that_no_other_executor_takes_half_a_file_for_a_result(stage)
    again = ours.start(*STAGED, *arguments)
    found = ("running was found: it still runs", "saving was found: it still runs", "queued was found: its next")
    until(lambda: all(text in again.said() for text in found), "the new head's attachment", again)
    stage.open()
    stage.go(*ALL)
    done = again.wait()
    assert done.status == 0, done.said
    stage.assert_each_step_was_made_once()
    twice = {"queued", "saved"} | ({"submitting"} if submission == "intended" else set())
    assert {name: len(ours.job(name).submissions()) for name in ALL} == {name: 1 + (name in twice) for name in ALL}
    assert "Nothing to be done" in ours.ckpt(*STAGED).said


def assert_that_no_other_executor_takes_half_a_file_for_a_result(stage: Stage) -> None:
    """What an unfinished chain wrote is marked, so that a Snakemake that does not know of it asks."""
    plain = stage.flow.run("--cores", "1")
    assert plain.status != 0
    assert "IncompleteFilesException" in plain.said
    for name in ("running", "saving", "queued", "saved"):
        assert f"{name}.held" in plain.said
        assert (stage.flow.path / f"{name}.held").exists()
