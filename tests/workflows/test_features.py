"""Every way in which Snakemake runs a rule, cut into segments, gives what an uninterrupted run gives."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from .runs import Done, Flow, numbers

pytestmark = pytest.mark.criu

#: Steps of each job, and seconds between them under ckpt; without pauses in the run that it is compared with.
STEPS, PAUSE = 45, "0.22"

SNAKEFILE = """
import time
PAUSE, STEPS = str(config["pause"]), int(config["steps"])
COUNT = "for i in $(seq 1 %s); do echo $i; sleep %s; done" % (STEPS, PAUSE)

rule all:
    input: "shell.txt", "python.txt", "r.txt", "run.txt", "second.txt", "pipe.txt", "shadow.txt"

rule counted:
    output: temp("counted.tmp")
    params: word="step", steps=COUNT
    log: "counted.log"
    benchmark: "counted.tsv"
    shell: "({params.steps}) | while read n; do echo {params.word} $n; echo log $n >&2; done > {output} 2> {log}"

rule unsaved:
    input: "counted.tmp"
    output: "shell.txt"
    resources: ckpt=0
    shell: "tr a-z A-Z < {input} > {output}"

rule python:
    output: "python.txt"
    params: pause=float(PAUSE), steps=STEPS
    resources: ckpt_walltime="5.5s"
    script: "python.py"

rule r:
    output: "r.txt"
    params: pause=float(PAUSE), steps=STEPS
    script: "r.R"

rule run:
    output: "run.txt"
    run:
        total = 0
        with open(output[0], "w") as file:
            for step in range(STEPS):
                total += step * step
                print(step, total, file=file)
                time.sleep(float(PAUSE))

rule first:
    output: "first.txt"
    group: "pair"
    params: steps=COUNT
    shell: "({params.steps}) | sed s/^/first-/ > {output}"

rule second:
    input: "first.txt"
    output: "second.txt"
    group: "pair"
    resources: ckpt_walltime="10s"
    shell: "while read line; do echo second $line; sleep 0.1; done < {input} > {output}"

rule source:
    output: pipe("stream")
    params: steps=COUNT
    shell: "({params.steps}) > {output}"

rule sink:
    input: "stream"
    output: "pipe.txt"
    shell: "while read line; do echo got $line; done < {input} > {output}"

rule shadowed:
    output: "shadow.txt"
    params: steps=COUNT
    shadow: "minimal"
    shell: "({params.steps}) > aside.txt; sort -rn aside.txt > {output}"

rule minutes:
    output: "minutes.txt"
    resources: runtime=2
    shell: "echo done > {output}"
"""

PYTHON = """
import random
import time

random.seed(1)
with open(snakemake.output[0], "w") as file:
    for step in range(snakemake.params.steps):
        print(step, random.random(), file=file)
        time.sleep(snakemake.params.pause)
"""

R = """
set.seed(1)
out <- file(snakemake@output[[1]], "w")
for (step in seq_len(snakemake@params$steps)) {
  writeLines(sprintf("%d %.12f", step, runif(1)), out)
  Sys.sleep(snakemake@params$pause)
}
close(out)
"""

PROFILE = """
executor: ckpt
jobs: 6
ckpt-scheduler: local
ckpt-walltime: 6s
ckpt-save-floor: 1.5s
ckpt-grace: 1s
config: ["pause=0.22", "steps=45"]
"""

RESULTS = ["shell.txt", "python.txt", "r.txt", "run.txt", "first.txt", "second.txt", "pipe.txt", "shadow.txt"]
LOG = "counted.log"
RULES = ["counted", "python", "r", "run", "first_second", "sink_source", "shadowed"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Flow, Done, Flow]]:
    """All features under ckpt, with settings from a profile folder; how it ended; the same without interruption."""
    if shutil.which("Rscript") is None:
        pytest.skip("not installed: Rscript (apt: r-base-core)")
    folder = tmp_path_factory.mktemp("features")
    flows = []
    for name in ("ckpt", "local"):
        flow = Flow(folder / name, SNAKEFILE)
        flow.write("python.py", PYTHON)
        flow.write("r.R", R)
        flows.append(flow)
    cut, whole = flows
    cut.write("profile/config.yaml", PROFILE)
    done = cut.run("--profile", "profile", "--keep-going", "all", "minutes.txt")
    same = whole.run("--executor", "local", "--cores", "2", "--config", "pause=0", f"steps={STEPS}")
    assert same.status == 0, same.said
    yield cut, done, whole
    for flow in flows:
        flow.close()


def test_a_profile_folder_gives_all_settings(ran: tuple[Flow, Done, Flow]) -> None:
    cut, done, _ = ran
    assert done.status == 0, done.said
    job = cut.job("counted").job()
    assert job is not None
    assert (job.policy["walltime"], job.policy["floor"], job.policy["grace"]) == (6, 1.5, 1)


@pytest.mark.parametrize("rule", RULES)
def test_every_kind_of_rule_is_saved_and_restored_at_least_twice(rule: str, ran: tuple[Flow, Done, Flow]) -> None:
    cut, done, _ = ran
    segments = cut.segments(rule)
    assert len(segments) >= 3, done.said
    assert [segment.outcome for segment in segments] == ["saved"] * (len(segments) - 1) + ["finished"], done.said
    assert [segment.restored_from for segment in segments[1:]] == [segment.generation for segment in segments[:-1]]
    assert {segment.attempt for segment in segments} == {1}


@pytest.mark.parametrize("name", [*RESULTS, LOG])
def test_results_and_logs_are_those_of_an_uninterrupted_run(name: str, ran: tuple[Flow, Done, Flow]) -> None:
    cut, done, whole = ran
    assert (cut.path / name).exists(), done.said
    assert (cut.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_a_log_is_complete(ran: tuple[Flow, Done, Flow]) -> None:
    assert ran[0].text(LOG) == "".join(f"log {line}\n" for line in numbers(STEPS).splitlines())


def test_a_benchmark_counts_the_time_of_all_segments(ran: tuple[Flow, Done, Flow]) -> None:
    header, values = ran[0].text("counted.tsv").splitlines()
    row = dict(zip(header.split("\t"), values.split("\t"), strict=True))
    assert float(row["s"]) >= STEPS * float(PAUSE)


def test_temporary_outputs_are_removed_and_nothing_else(ran: tuple[Flow, Done, Flow]) -> None:
    cut, _, whole = ran
    ours = {"profile", ".snakemake", "minutes.txt"}
    assert not (cut.path / "counted.tmp").exists()
    assert {path.name for path in cut.path.iterdir()} - ours == {path.name for path in whole.path.iterdir()} - ours


def test_a_rule_with_ckpt_0_runs_without_being_saved(ran: tuple[Flow, Done, Flow]) -> None:
    cut, _, _ = ran
    job = cut.job("unsaved").job()
    assert job is not None
    assert job.policy["engine"] == "none"
    assert [segment.outcome for segment in cut.segments("unsaved")] == ["finished"]


def test_ckpt_walltime_is_the_walltime_of_a_rule(ran: tuple[Flow, Done, Flow]) -> None:
    job = ran[0].job("python").job()
    assert job is not None
    assert job.policy["walltime"] == 5.5


def test_runtime_is_taken_in_minutes(ran: tuple[Flow, Done, Flow]) -> None:
    job = ran[0].job("minutes").job()
    assert job is not None
    assert job.policy["walltime"] == 120


def test_a_group_is_one_tree_with_one_history(ran: tuple[Flow, Done, Flow]) -> None:
    cut, _, _ = ran
    rules = [job.rule for folder in cut.jobs() if (job := folder.job())]
    assert "first" not in rules
    assert "second" not in rules
    assert rules.count("first_second") == 1


def test_nothing_is_left_of_finished_jobs_but_history_and_logs(ran: tuple[Flow, Done, Flow]) -> None:
    cut, _, _ = ran
    for folder in cut.jobs():
        assert list(folder.images_folder.iterdir()) == []
        assert not folder.tmp_folder.exists()
        assert folder.exit_status() == 0
    assert cut.processes() == []


def test_each_save_is_told_once_and_nothing_looks_like_a_fault(ran: tuple[Flow, Done, Flow]) -> None:
    cut, done, _ = ran
    for rule in RULES:
        assert len(done.lines(f"ckpt: {rule}: segment", "saved after")) == cut.saves(rule)
        assert len(done.lines(f"ckpt: {rule}: segment", "ended after")) == 1
    assert "Traceback" not in done.said
    assert done.lines("rror") == []


def test_a_second_run_has_nothing_to_do(ran: tuple[Flow, Done, Flow]) -> None:
    cut, _, _ = ran
    again = cut.run("--profile", "profile", "all", "minutes.txt")
    assert again.status == 0, again.said
    assert "Nothing to be done" in again.said
