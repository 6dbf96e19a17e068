"""What cannot work is refused before anything is submitted, by one error that names option, value and remedy."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from .conftest import MakeFlow
from .runs import Done, Flow, numbers, until

pytestmark = pytest.mark.criu

SNAKEFILE = """
rule job:
    output: "out.txt"
    resources: {resources}
    shell: "touch {{output}}"
"""

#: A program with a connection to an outside listener, which no image can hold.
CONNECTED = """
import socket
import sys
import time

connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print("start", file=open(sys.argv[2], "a"))
for step in range(int(sys.argv[3])):
    time.sleep(0.2)
print(connection.recv(5).decode(), file=open(sys.argv[4], "w"))
"""


def assert_refused(flow: Flow, done: Done, *words: str) -> None:
    """One error with these words, no success, and nothing of a job anywhere."""
    assert done.status != 0, done.said
    assert len(done.lines(*words)) == 1, done.said
    assert "Traceback" not in done.said
    assert [folder for folder in flow.jobs() if folder.submissions() or folder.segments()] == []
    assert not (flow.path / "out.txt").exists()
    assert flow.processes() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ckpt-scheduler", "pbs"], ["--ckpt-scheduler: 'pbs' cannot be used", "local"]),
        (["--ckpt-engine", "magic"], ["--ckpt-engine: 'magic' cannot be used", "criu"]),
        (["--ckpt-state-dir", "Snakefile"], ["--ckpt-state-dir: '", "Snakefile' cannot be used", "name a folder"]),
        (["--ckpt-state-dir", "/proc/ckpt"], ["--ckpt-state-dir: '/proc/ckpt' cannot be used", "name a folder"]),
        (["--ckpt-walltime", "90"], ["--ckpt-walltime: '90' cannot be used", "with its unit, such as 90s"]),
        (["--ckpt-walltime", "2s"], ["--ckpt-walltime", "'2 s' cannot be used", "must be longer than 2.5 s"]),
        (["--ckpt-margin", "0.5"], ["--ckpt-margin: 0.5 cannot be used", "1 or more"]),
        (["--ckpt-keep", "1"], ["--ckpt-keep: 1 cannot be used", "2 images or more"]),
        (["--ckpt-save-ceiling", "1s"], ["--ckpt-save-ceiling: '1s' cannot be used", "--ckpt-save-floor"]),
        (["--ckpt-criu", "/nonexistent"], ["CRIU is missing: /nonexistent", "--ckpt-criu"]),
    ],
)
def test_a_bad_setting_is_refused(arguments: list[str], words: list[str], flow: MakeFlow) -> None:
    ours = flow(SNAKEFILE.format(resources=""))
    assert_refused(ours, ours.ckpt(*arguments), *words)


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ('ckpt_walltime="soon"', ["resource ckpt_walltime: 'soon' cannot be used", "with its unit"]),
        ('ckpt_walltime="1s"', ["resource ckpt_walltime", "'1 s' cannot be used", "longer than 2.5 s"]),
        ("runtime=-1", ["resource runtime: -1 cannot be used", "more than 0"]),
        ("runtime=0", ["resource runtime: 0 cannot be used", "more than 0"]),
        ('runtime="abc"', ["runtime", "abc"]),
        ("ckpt=7", ["resource ckpt: 7 cannot be used", "use 0"]),
        ("ckpt_wibble=1", ["resource ckpt_wibble: 1 cannot be used", "ckpt_walltime"]),
        ('ckpt_engine="magic"', ["resource ckpt_engine: 'magic' cannot be used", "criu"]),
    ],
)
def test_a_bad_resource_is_refused_and_the_rule_named(resources: str, words: list[str], flow: MakeFlow) -> None:
    ours = flow(SNAKEFILE.format(resources=resources))
    assert_refused(ours, ours.ckpt(), *words)


def test_a_state_directory_that_is_no_place_for_a_head_is_refused_without_a_traceback(flow: MakeFlow) -> None:
    ours = flow(SNAKEFILE.format(resources="mem_mb=100"))
    ours.write("state/.heads", "a file")
    assert_refused(ours, ours.ckpt("--ckpt-state-dir", "state"), "state/.heads")


def test_a_bad_resource_is_refused_before_the_job_of_any_rule_starts(flow: MakeFlow) -> None:
    ours = flow(
        SNAKEFILE.format(resources="ckpt=7")
        + """
rule good:
    output: "good.txt"
    shell: "echo good > {output}"
"""
    )
    assert_refused(ours, ours.ckpt("good.txt", "out.txt"), "rule job, resource ckpt: 7 cannot be used")
    assert not (ours.path / "good.txt").exists()


def test_files_of_a_rule_that_are_also_another_jobs_are_refused(flow: MakeFlow) -> None:
    ours = flow("""
rule job:
    output: "out.txt"
    resources: ckpt_files="side/*"
    shell: "touch {output}"

rule other:
    output: "side/other.txt"
    shell: "touch {output}"
""")
    done = ours.ckpt("side/other.txt", "out.txt")
    assert done.status != 0
    assert len(done.lines("rule job, resource ckpt_files: 'side/*'", "side/other.txt of rule other")) == 1, done.said
    assert "Traceback" not in done.said
    assert not (ours.path / "out.txt").exists()


def test_a_bad_value_that_only_shows_with_the_job_fails_that_job_alone_and_loses_nothing(flow: MakeFlow) -> None:
    ours = flow("""
rule job:
    output: "out.txt"
    retries: 1
    resources: ckpt_walltime=lambda wildcards: config.get("wall", "6s")
    shell: "echo start >> trace; for i in $(seq 1 30); do echo $i; sleep 0.2; done > {output}"

rule good:
    output: "good.txt"
    shell: "echo good > {output}"
""")
    head = ours.start("out.txt")
    until(lambda: any(segment.saves for segment in ours.segments("job")), "the first image", head)
    assert "1 of 1 job" in head.interrupt().said
    history = [segment.number for segment in ours.segments("job")]
    done = ours.ckpt("--rerun-incomplete", "--keep-going", "--config", "wall=soon", "--", "out.txt", "good.txt")
    assert done.status != 0
    assert len(done.lines("rule job, resource ckpt_walltime: 'soon' cannot be used")) == 1, done.said
    assert "Traceback" not in done.said
    assert ours.text("good.txt") == "good\n"
    assert [segment.number for segment in ours.segments("job")] == history
    again = ours.ckpt("--rerun-incomplete", "out.txt")
    assert again.status == 0, again.said
    assert ours.text("out.txt") == numbers(30)
    assert ours.text("trace") == "start\n"


# What cannot be saved


@pytest.fixture
def listener() -> Iterator[int]:
    """The port of a listener outside the job, which greets whoever connects."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def greet() -> None:
            with suppress(OSError):  # closed by the test's end
                while True:
                    connection, _ = server.accept()
                    connection.sendall(b"hello")
                    held.append(connection)

        thread = threading.Thread(target=greet)
        thread.start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in held:
            connection.close()


def connected(flow: MakeFlow, port: int, steps: int) -> Flow:
    """A workflow whose job holds a connection to the listener."""
    command = f"{sys.executable} connected.py {port} trace {steps} {{output}} "
    ours = flow(f'rule job:\n    output: "out.txt"\n    shell: "{command}"\n')
    ours.write("connected.py", CONNECTED)
    return ours


def test_an_unsavable_job_fails_at_once_where_that_is_wished_and_is_not_restarted(
    flow: MakeFlow, listener: int
) -> None:
    ours = connected(flow, listener, steps=60)
    done = ours.ckpt("--ckpt-on-unsavable", "fail", "--ckpt-walltime", "12s")
    assert done.status != 0
    assert done.lines("process", "connected.py", "has an established TCP connection", "--ckpt-tcp close"), done.said
    assert len(done.lines("message: the job could not be saved", "an established TCP connection")) == 1, done.said
    assert "Nothing was restarted" in done.said
    assert "Traceback" not in done.said
    assert [segment.failure for segment in ours.segments("job")] == ["unsavable"]
    assert ours.text("trace") == "start\n"
    assert ours.processes() == []


def test_an_unsavable_job_that_ends_before_its_walltime_succeeds(flow: MakeFlow, listener: int) -> None:
    ours = connected(flow, listener, steps=35)
    done = ours.ckpt("--ckpt-walltime", "30s", "--ckpt-save-floor", "24s")
    assert done.status == 0, done.said
    assert ours.text("out.txt") == "hello\n"
    assert len(done.lines("has an established TCP connection")) >= 1, done.said
    assert ours.text("trace") == "start\n"
    assert [segment.outcome for segment in ours.segments("job")] == ["finished"]
