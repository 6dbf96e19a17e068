"""Names that are no UTF-8, and our own mistakes: a job is neither ended nor begun again for them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from helpers.jobs import PYTHON, LocalJob, local_job
from helpers.mistaken import PLACE
from helpers.waiting import wait_for, wait_for_text

pytestmark = pytest.mark.criu

#: The kernel cuts it at 15 bytes, in the midst of a letter.
SCRIPT = "modélisatioééé.py"
LINES = 60
#: Writes lines into a file, and marks into a mapped one, of names in Latin-1; at times it begins another file.
CODE = rf"""#!{PYTHON}
import mmap, os, time
os.makedirs(b"results", exist_ok=True)
with open(b"carte_\xe9.bin", "w+b") as file:
    file.truncate(4096)
    marks = mmap.mmap(file.fileno(), 4096)
with open(b"results/d\xe9bit.txt", "a") as debit:
    for line in range({LINES}):
        print(line, file=debit, flush=True)
        marks[line] = line + 1
        if line % 10 == 0:
            with open(b"results/neu_\xe9_%d" % line, "w") as file:
                file.write("new\n")
        print(line, flush=True)
        time.sleep(0.05)
raise SystemExit(7)
"""


def assert_as_one_run(job: LocalJob) -> None:
    counted = "".join(f"{line}\n" for line in range(LINES))
    results = os.fsencode(job.work / "results")
    found = {name: Path(os.fsdecode(os.path.join(results, name))).read_text() for name in os.listdir(results)}
    assert found == {b"d\xe9bit.txt": counted, **{b"neu_\xe9_%d" % line: "new\n" for line in range(0, LINES, 10)}}
    assert (job.work / os.fsdecode(b"carte_\xe9.bin")).read_bytes() == bytes(range(1, LINES + 1)).ljust(4096, b"\0")
    assert job.said() == counted
    assert job.folder.exit_status() == 7


def test_names_of_any_bytes_are_no_obstacle_to_a_save_a_rollback_and_a_restore(tmp_path: Path) -> None:
    with local_job(tmp_path, f"./{SCRIPT}", ["results"]) as job:
        (job.work / SCRIPT).write_text(CODE)
        (job.work / SCRIPT).chmod(0o700)
        job.submit()
        wait_for_text(job.folder.payload_log, "\n5\n")
        job.folder.request("checkpoint")
        wait_for(lambda: "checkpoint" not in job.folder.requests(), "the save")
        wait_for_text(job.folder.payload_log, "\n25\n")
        os.kill(job.running_segment().pid, signal.SIGKILL)
        job.wait()
        assert job.folder.exit_status() is None
        job.submit()
        os.kill(job.running_segment(2).pid, signal.SIGUSR2)  # what was put back is saved once more
        first, second, third = job.wait()
        assert [one.outcome for one in (first, second, third)] == ["running", "saved", "finished"]
        assert (second.restored_from, third.restored_from) == (1, 2)
        told = [text for text in second.warnings if "cut from" in text]
        assert any(text.startswith(str(job.work / "results" / r"d\udce9bit.txt: cut from ")) for text in told)
        assert_as_one_run(job)


def test_a_mistake_in_a_look_or_a_save_is_told_and_the_job_goes_on(tmp_path: Path) -> None:
    command = "echo up; until [ -e go ]; do sleep 0.02; done; echo end; exit 7"
    with local_job(tmp_path, command, engine_place=f"{PLACE}Mistaken", walltime=300.0) as job:
        job.submit()
        wait_for_text(job.folder.payload_log, "up")
        wait_for(lambda: any("UnicodeDecodeError" in text for text in job.running_segment().warnings), "the look")
        job.folder.request("park")
        (parked,) = job.wait()
        assert (parked.outcome, parked.generation, parked.failure) == ("saved", 1, None)
        for part in ("measured: unexpected", "LookupError", "looked at: unexpected", "saved: unexpected", "wrong turn"):
            assert any(part in text for text in parked.warnings), part
        assert "Traceback" in job.batch_log()
        job.folder.clear_request("park")
        (job.work / "go").touch()
        job.submit()
        assert job.wait()[-1].exit == 7
        assert job.said() == "up\nend\n"
