"""A scheduler that does not answer: jobs wait for it, and fail only of what it refuses."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from helpers import outages

from .conftest import MakeFlow
from .runs import Flow, until

AWAY = ("--ckpt-scheduler", "away", "--ckpt-engine", "none", "--ckpt-walltime", "300s")
SNAKEFILE = """
rule all:
    input: "a.txt", "b.txt"

rule job:
    output: "{{name}}.txt"
    {more}
    shell: "echo start >> {{wildcards.name}}.trace; echo done > {{output}}"
"""


class Site:
    """A workflow of two jobs, and its scheduler."""

    def __init__(self, make: MakeFlow, folder: Path, more: str = "") -> None:
        self.flow: Flow = make(SNAKEFILE.format(more=more))
        self.flow.environment |= outages.install(folder / "plugins")
        self.files = folder / "plugins" / "outage"

    def calls(self, what: str) -> list[str]:
        path = self.files / "calls"
        return [line for line in path.read_text().splitlines() if line.startswith(what)] if path.exists() else []

    def submissions(self) -> list[int]:
        return [len(job.submissions()) for job in self.flow.jobs()]

    def assert_done_once(self) -> None:
        for name in ("a", "b"):
            assert self.flow.text(f"{name}.txt") == "done\n"
            assert self.flow.text(f"{name}.trace") == "start\n"


def test_jobs_that_come_in_an_outage_wait_for_its_end(flow: MakeFlow, tmp_path: Path) -> None:
    site = Site(flow, tmp_path)
    (site.files / "down").touch()
    head = site.flow.start(*AWAY)
    until(lambda: len(site.calls("find")) >= 3, "look-ups", head)
    (site.files / "down").unlink()
    done = head.wait()
    assert done.status == 0, done.said
    assert len(done.lines("away does not answer: Unable to contact the controller")) == 1, done.said
    assert len(done.lines("away answers again")) == 1, done.said
    assert len(done.lines("looking again")) == 0, done.said
    assert len(site.calls("submit")) == 3, "one that was not heard, and nobody tried before it was looked up"
    assert sorted(site.submissions()) == [1, 2]
    site.assert_done_once()


def test_a_first_submission_whose_answer_is_lost_is_made_once(flow: MakeFlow, tmp_path: Path) -> None:
    site = Site(flow, tmp_path)
    (site.files / "deaf").touch()
    head = site.flow.start(*AWAY)
    until(lambda: site.calls("submit"), "a submission", head)
    (site.files / "deaf").unlink()
    done = head.wait()
    assert done.status == 0, done.said
    assert len(done.lines("away does not answer: the answer was lost")) == 1, done.said
    assert len(site.calls("submit")) == 2
    assert site.submissions() == [1, 1]
    site.assert_done_once()


def test_what_is_refused_fails_at_once_with_the_reason(flow: MakeFlow, tmp_path: Path) -> None:
    site = Site(flow, tmp_path)
    (site.files / "refuse").touch()
    done = site.flow.ckpt(*AWAY, "--keep-going")
    assert done.status != 0
    assert len(done.lines(outages.REFUSAL)) >= 2, done.said
    assert len(site.calls("submit")) == 2
    (site.files / "refuse").unlink()
    again = site.flow.ckpt(*AWAY)
    assert again.status == 0, again.said
    site.assert_done_once()


@pytest.mark.parametrize("state", ["hang", "down"])
@pytest.mark.parametrize("how", ["park", "cancel"])
def test_ctrl_c_in_an_outage_ends_the_head(flow: MakeFlow, tmp_path: Path, state: str, how: str) -> None:
    site = Site(flow, tmp_path)
    (site.files / "down").touch()
    head = site.flow.start(*AWAY, "--ckpt-on-interrupt", how)
    until(lambda: len(site.calls("find")) >= 1, "a look-up", head)
    if state == "hang":  # in the thread that watches
        (site.files / "hang").touch()
        seen = len(site.calls("find"))
        until(lambda: len(site.calls("find")) > seen, "a look-up that hangs", head)
        if how == "cancel":
            (site.files / "hang").unlink()
    began = time.monotonic()
    done = head.interrupt()
    assert time.monotonic() - began < 30
    assert done.status != 0
    assert site.flow.processes() == []
    (site.files / "hang").unlink(missing_ok=True)
    (site.files / "down").unlink()
    again = site.flow.ckpt(*AWAY)
    assert again.status == 0, again.said
    site.assert_done_once()


def test_a_retry_that_comes_in_an_outage_waits_for_its_end(flow: MakeFlow, tmp_path: Path) -> None:
    site = Site(flow, tmp_path, "retries: 1")
    down = site.files / "down"
    text = site.flow.text("Snakefile").replace(
        "echo done", f"[ -e tried ] || {{{{ touch tried {down}; exit 3; }}}}; echo done"
    )
    site.flow.write("Snakefile", text.replace('input: "a.txt", "b.txt"', 'input: "a.txt"'))
    head = site.flow.start(*AWAY)
    until(lambda: len(site.calls("cancel")) >= 2, "questions after the earlier attempt", head)
    down.unlink()
    done = head.wait()
    assert done.status == 0, done.said
    assert site.flow.text("a.txt") == "done\n"
    assert site.flow.text("a.trace") == "start\nstart\n"


@pytest.mark.parametrize(
    ("resource", "value"),
    [
        ("slurm_extra", "'--time=5'"),
        ("slurm_extra", "'unclosed \\''"),
        ("slurm_extra", "lambda wildcards: '--time=5'"),
        ("slurm_partiton", "'long'"),
        ("tasks", "4"),
        ("mpi", "'srun'"),
    ],
)
def test_a_resource_that_the_scheduler_could_never_be_told_is_refused_before_anything_is_submitted(
    flow: MakeFlow, tmp_path: Path, resource: str, value: str
) -> None:
    site = Site(flow, tmp_path, f"resources: {resource}={value}")
    done = site.flow.ckpt(*AWAY)
    assert done.status != 0
    assert done.lines(f"rule job, resource {resource}"), done.said
    assert "Traceback" not in done.said
    assert site.calls("submit") == []
    assert site.submissions() == []
