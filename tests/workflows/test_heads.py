"""What becomes of jobs when the snakemake that submitted them dies, is interrupted, or comes back."""

from __future__ import annotations

import signal
import sys

import pytest

from .conftest import MakeFlow
from .runs import Done, Flow, numbers, until

pytestmark = pytest.mark.criu

STEPS = 40
#: Bytes; an image is hundreds of times larger.
SMALL = 200_000

#: Two jobs that leave a trace outside their outputs: what is computed twice shows there twice.
SNAKEFILE = """
rule all:
    input: "a.txt", "b.txt"

rule long:
    output: "{name}.txt"
    shell:
        "echo start >> {wildcards.name}.trace; "
        "for i in $(seq 1 40); do echo $i >> {wildcards.name}.trace; echo $i; sleep 0.2; done > {output}"
"""
NAMES = ("a", "b")


def held(snakefile: str) -> str:
    """The same workflow, but no loop comes to its end before the file go is there: a new head is to find it running."""
    return snakefile.replace("sleep 0.2;", "sleep 0.2; [ $i -ne 39 ] || while [ ! -e go ]; do sleep 0.1; done;")


#: What looks different to every head, and means nothing: the time of an ancient input, the order of a set, where an
#: object lies, and in an input folder what the job itself puts there.
UNCHANGED = """\
    input: folder="results", old=ancient("old.txt")
    log: "results/{name}.log"
    params: words=set("abcdefgh"), thing=object(), nested=[{"key": object()}, {"x", "y", "z"}]
"""

#: Holds an established TCP connection, which no image can, until it is asked to close it.
HELD = """
import pathlib
import socket
import time

server = socket.create_server(("127.0.0.1", 0))
ends = [socket.create_connection(server.getsockname()), server.accept()[0]]
pathlib.Path("trace").open("a").write("start\\n")
while not pathlib.Path("close").exists():
    time.sleep(0.1)
for end in (*ends, server):
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0" + bytes(4))
    end.close()
time.sleep(12)
print("end")
"""


def saves(flow: Flow) -> list[int]:
    """How many images each job had so far."""
    return [sum(segment.saves for segment in folder.segments()) for folder in flow.jobs()]


def saved(flow: Flow, least: int) -> bool:
    """Whether both jobs were saved so often."""
    return len(saves(flow)) == 2 and min(saves(flow)) >= least


def attached(flow: Flow, *arguments: str) -> Done:
    """Start a new head, let the jobs come to their end when it has found both, and wait for its own."""
    flow.unlock()
    head = flow.start(*arguments)
    until(lambda: head.said().count("was found") == 2, "the attachment", head)
    (flow.path / "go").touch()
    return head.wait()


def assert_computed_once(flow: Flow) -> None:
    """Each step of each job was made once, and the results are those of a run without interruption."""
    for name in NAMES:
        assert flow.text(f"{name}.trace") == "start\n" + numbers(STEPS)
        assert flow.text(f"{name}.txt") == numbers(STEPS)
    assert flow.processes() == []


def test_jobs_go_on_without_their_head_and_a_new_one_attaches(flow: MakeFlow) -> None:
    ours = flow(held(SNAKEFILE))
    head = ours.start()
    until(lambda: saved(ours, 1), "the first images", head)
    head.kill()
    before = min(saves(ours))
    until(lambda: saved(ours, before + 1), "images without a head")
    done = attached(ours, "--rerun-incomplete")
    assert done.status == 0, done.said
    assert_computed_once(ours)


def test_a_chain_that_ended_without_a_head_is_reported_and_not_run_again(flow: MakeFlow) -> None:
    ours = flow(SNAKEFILE)
    head = ours.start()
    until(lambda: len(ours.jobs()) == 2 and all(job.segments() for job in ours.jobs()), "both jobs", head)
    head.kill()
    until(lambda: not ours.processes(), "the end of the jobs")
    assert [folder.exit_status() for folder in ours.jobs()] == [0, 0]
    history = [folder.segment_numbers() for folder in ours.jobs()]
    done = ours.resume("--rerun-incomplete")
    assert done.status == 0, done.said
    assert "Nothing to be done" in done.said  # the job itself told Snakemake that it is complete
    assert [folder.segment_numbers() for folder in ours.jobs()] == history
    for folder in ours.jobs():  # what is left of a job that nobody acknowledged: its history and its logs
        assert not list(folder.images_folder.iterdir())
        assert sum(path.stat().st_size for path in folder.path.rglob("*")) < SMALL
    assert_computed_once(ours)


def test_ctrl_c_parks_all_jobs_and_the_next_run_resumes_them(flow: MakeFlow) -> None:
    ours = flow(SNAKEFILE.replace("    output:", UNCHANGED + "    output:"))
    ours.write("results/other.txt", "of another rule\n")
    old = ours.write("old.txt", "old\n")
    head = ours.start()
    until(lambda: saved(ours, 1), "the first images", head)
    done = head.interrupt()
    assert done.status != 0
    assert "2 of 2 jobs saved" in done.said
    assert "Traceback" not in done.said
    assert ours.processes() == []
    parked = [folder.segments()[-1] for folder in ours.jobs()]
    assert [(last.outcome, last.parked) for last in parked] == [("saved", True)] * 2
    old.touch()
    again = ours.ckpt()
    assert again.status == 0, again.said
    assert len(again.lines("was found: resumes from image")) == 2, again.said
    for folder, last in zip(ours.jobs(), parked, strict=True):
        assert folder.segment(last.number + 1).restored_from == last.generation
    assert_computed_once(ours)


def test_a_second_ctrl_c_leaves_at_once_a_job_that_cannot_be_saved_yet_and_it_parks_itself(flow: MakeFlow) -> None:
    ours = flow(f"""
rule job:
    output: "out.txt"
    shell: "{sys.executable} held.py >> {{output}}"
""")
    ours.write("held.py", HELD)
    head = ours.start("--ckpt-walltime", "60s")
    until(lambda: (ours.path / "trace").exists(), "the connection", head)
    head.process.send_signal(signal.SIGINT)
    until(lambda: "saving 1 job" in head.said() and ours.segments("job")[-1].warnings, "a save that fails", head)
    done = head.interrupt()
    assert len(done.lines("leaving at once")) == 1, done.said
    assert "Traceback" not in done.said
    assert ours.processes() != []
    (ours.path / "close").touch()
    until(lambda: not ours.processes(), "the end of the segment")
    assert [(segment.outcome, segment.parked) for segment in ours.segments("job")] == [("saved", True)]
    again = ours.ckpt("--ckpt-walltime", "60s")
    assert again.status == 0, again.said
    assert ours.text("trace") == "start\n"
    assert ours.text("out.txt") == "end\n"


def test_detach_leaves_jobs_running_and_a_new_head_attaches(flow: MakeFlow) -> None:
    ours = flow(held(SNAKEFILE))
    head = ours.start("--ckpt-on-interrupt", "detach")
    until(lambda: saved(ours, 1), "the first images", head)
    done = head.interrupt()
    assert done.status != 0
    assert len(done.lines("2 jobs left running")) == 1, done.said
    assert "Traceback" not in done.said
    before = min(saves(ours))
    until(lambda: saved(ours, before + 1), "images without a head")
    again = attached(ours)
    assert again.status == 0, again.said
    assert_computed_once(ours)


def test_cancel_ends_all_jobs_and_the_next_run_goes_on_from_the_last_images(flow: MakeFlow) -> None:
    ours = flow(SNAKEFILE)
    head = ours.start("--ckpt-on-interrupt", "cancel")
    until(lambda: saved(ours, 1), "the first images", head)
    done = head.interrupt()
    assert done.status != 0
    assert "Traceback" not in done.said
    until(lambda: not ours.processes(), "the end of all processes")
    for folder in ours.jobs():
        assert folder.exit_status() is None
        assert folder.segments()[-1].outcome in ("saved", "failed")
    again = ours.ckpt("--rerun-incomplete")
    assert again.status == 0, again.said
    for folder in ours.jobs():
        assert [segment.number for segment in folder.segments() if segment.restored_from is None] == [1]
    for name in NAMES:  # what was computed since the last image is computed again
        assert ours.text(f"{name}.txt") == numbers(STEPS)
        assert ours.text(f"{name}.trace").count("start\n") == 1


def test_jobs_of_a_group_and_of_pipes_are_found_again_by_a_new_head(flow: MakeFlow) -> None:
    ours = flow(
        held("""
rule all:
    input: "second.txt", "sink.txt"

rule first:
    output: "first.txt"
    group: "pair"
    shell: "echo one >> trace; for i in $(seq 1 5); do echo $i; sleep 0.2; done > {output}"

rule second:
    input: "first.txt"
    output: "second.txt"
    group: "pair"
    shell: "for i in $(seq 1 40); do echo $i >> pair.trace; echo $i; sleep 0.2; done > {output}"

rule source:
    output: pipe("stream")
    shell: "for i in $(seq 1 40); do echo $i >> pipe.trace; echo $i; sleep 0.2; done > {output}"

rule sink:
    input: "stream"
    output: "sink.txt"
    shell: "cat {input} > {output}"
""")
    )
    head = ours.start()
    until(lambda: saved(ours, 2), "images of both groups", head)
    head.kill()
    done = attached(ours, "--rerun-incomplete")
    assert done.status == 0, done.said
    assert len(ours.jobs()) == 2  # `second` alone is what is left of its group, and the same chain
    assert ours.text("trace") == "one\n"
    for name in ("pair.trace", "pipe.trace", "second.txt", "sink.txt"):
        assert ours.text(name) == numbers(STEPS), done.said


def test_a_second_head_is_refused_by_one_error_and_the_first_goes_on(flow: MakeFlow) -> None:
    ours = flow(SNAKEFILE)
    head = ours.start()
    until(lambda: saved(ours, 1), "the first images", head)
    second = ours.ckpt("--nolock", "--rerun-incomplete")
    assert second.status != 0
    assert len(second.lines("another snakemake works on")) == 1, second.said
    assert f"process {head.process.pid} on " in second.said
    assert "Traceback" not in second.said
    done = head.wait()
    assert done.status == 0, done.said
    assert_computed_once(ours)


def test_a_job_whose_code_changed_while_it_was_parked_begins_anew_and_says_so(flow: MakeFlow) -> None:
    ours = flow(SNAKEFILE)
    head = ours.start()
    until(lambda: saved(ours, 1), "the first images", head)
    assert "2 of 2 jobs saved" in head.interrupt().said
    ours.write("Snakefile", SNAKEFILE.replace("echo $i; ", "echo new $i; ").replace("sleep 0.2", "sleep 0.01"))
    again = ours.ckpt("--rerun-incomplete")
    assert again.status == 0, again.said
    assert len(again.lines("begins anew: its code, params, inputs or software changed")) == 2, again.said
    for name, folder in zip(NAMES, ours.jobs(), strict=True):
        anew = [segment for segment in folder.segments() if segment.attempt == 2]
        assert anew[0].restored_from is None
        assert ours.text(f"{name}.txt") == "".join(f"new {step}\n" for step in range(1, STEPS + 1))
        assert ours.text(f"{name}.trace").count("start\n") == 2


def test_a_job_that_was_done_is_computed_again_when_the_user_forces_it(flow: MakeFlow) -> None:
    ours = flow('rule done:\n    output: "out"\n    shell: "date >> runs; cp runs {output}"\n')
    first = ours.ckpt("--jobs", "1")
    assert first.status == 0, first.said
    again = ours.ckpt("--jobs", "1", "--forceall")
    assert again.status == 0, again.said
    assert len(ours.text("out").splitlines()) == 2
