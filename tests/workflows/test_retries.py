"""Snakemake's `retries` are for a job's own failure; being saved costs none, and the error says what happened."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .conftest import MakeFlow
from .runs import Done, Flow, numbers

pytestmark = pytest.mark.criu

SNAKEFILE = """
rule all:
    input: "second.txt", "never.txt", "killed.txt", "grouped.txt"

rule second:
    output: "second.txt"
    log: "second.log"
    retries: 2
    resources: nth=lambda wildcards, attempt: attempt
    shell:
        "echo attempt {resources.nth} >> attempts; "
        "(for i in $(seq 1 25); do echo $i; sleep 0.2; done; echo done {resources.nth} >&2) > {output} 2> {log}; "
        "[ {resources.nth} -gt 1 ]"

rule never:
    output: "never.txt"
    retries: 1
    shell: "echo never >> attempts; for i in $(seq 1 30); do echo said $i; sleep 0.2; done; echo the end; exit 23"

rule killed:
    output: "killed.txt"
    shell: "sleep 5; echo before; kill -SEGV $$"

rule grouped:
    output: "grouped.txt"
    group: "g"
    shell: "echo of the group; exit 5"

rule first:
    output: "grouped.in"
    group: "g"
    shell: "touch {output}"
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Flow, Done]]:
    """All jobs of the workflow, and how it ended."""
    flow = Flow(tmp_path_factory.mktemp("retries") / "flow", SNAKEFILE)
    yield flow, flow.ckpt("--keep-going")
    flow.close()


def outcomes(flow: Flow, rule: str, attempt: int) -> list[str]:
    """The outcomes of the segments of one attempt."""
    return [segment.outcome for segment in flow.segments(rule) if segment.attempt == attempt]


def test_a_job_that_failed_after_a_save_succeeds_in_its_second_attempt(ran: tuple[Flow, Done]) -> None:
    flow, done = ran
    assert flow.text("second.txt") == numbers(25), done.said
    for attempt in (1, 2):
        assert "saved" in outcomes(flow, "second", attempt)
        assert outcomes(flow, "second", attempt)[-1] == "finished"


def test_a_new_attempt_begins_at_the_beginning(ran: tuple[Flow, Done]) -> None:
    flow, _ = ran
    for rule in ("second", "never"):
        begins = [segment for segment in flow.segments(rule) if segment.restored_from is None]
        assert [segment.attempt for segment in begins] == [1, 2]


def test_the_job_sees_the_number_of_its_attempt_and_saves_count_for_none(ran: tuple[Flow, Done]) -> None:
    flow, _ = ran
    attempts = flow.text("attempts").splitlines()
    assert [line for line in attempts if line != "never"] == ["attempt 1", "attempt 2"]
    assert attempts.count("never") == 2
    assert flow.text("second.log") == "done 2\n"


def test_a_job_that_always_fails_makes_snakemake_fail_after_its_retries(ran: tuple[Flow, Done]) -> None:
    flow, done = ran
    assert done.status != 0
    assert not (flow.path / "never.txt").exists()
    assert {segment.attempt for segment in flow.segments("never")} == {1, 2}


def test_the_error_holds_exit_status_and_the_end_of_the_output_once_an_attempt(ran: tuple[Flow, Done]) -> None:
    _, done = ran
    blocks = done.said.split("\nError in rule never")
    assert len(blocks) == 3, done.said
    for block in blocks[1:]:
        assert "exit status 23" in block  # of the shell command; the in-job Snakemake's is 1
        assert "exit status 1" in block
        assert "the end" in block
        assert "Traceback" not in block


def test_the_log_of_an_earlier_attempt_is_kept(ran: tuple[Flow, Done]) -> None:
    flow, _ = ran
    assert "the end" in (flow.job("never").logs_folder / "payload.1.log").read_text()


def test_a_payload_killed_by_a_signal_is_said_to_be(ran: tuple[Flow, Done]) -> None:
    _, done = ran
    assert done.lines("SIGSEGV") or done.lines("signal 11"), done.said


def test_the_error_of_a_group_says_why(ran: tuple[Flow, Done]) -> None:
    _, done = ran
    assert "of the group" in done.said


def test_nothing_is_left_running(ran: tuple[Flow, Done]) -> None:
    flow, _ = ran
    assert flow.processes() == []


def test_a_limit_of_ours_uses_no_retries_and_the_next_run_goes_on_from_the_kept_images(flow: MakeFlow) -> None:
    ours = flow(
        """
rule long:
    output: "out.txt"
    retries: 2
    shell: "echo start >> trace; for i in $(seq 1 40); do echo $i >> trace; echo $i; sleep 0.2; done > {output}"
"""
    )
    done = ours.ckpt("--ckpt-max-segments", "2")
    assert done.status != 0
    said = done.lines("message: the job is not done after 2 segments", "--ckpt-max-segments", "images are kept")
    assert len(said) == 1, done.said
    assert "Trying to restart" not in done.said
    assert ours.saves("long") == 2
    assert not (ours.path / "out.txt").exists()  # as Snakemake leaves it, but not lost
    again = ours.ckpt()
    assert again.status == 0, again.said
    assert [path.name for path in ours.path.iterdir() if "ckpt" in path.name] == []
    assert ours.text("out.txt") == numbers(40), again.said
    assert ours.text("trace") == "start\n" + numbers(40)
