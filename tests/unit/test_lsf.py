"""LSF: what is said to it, and what is made of its answers.

No real LSF was at hand: the answers are copied from, or put together after, the pages of IBM Spectrum LSF 10.1's
documentation that are named beside them.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_executor_plugin_ckpt.errors import BadSetting, NoAnswer, SchedulerError
from snakemake_executor_plugin_ckpt.schedulers import lsf, lsf_text
from snakemake_executor_plugin_ckpt.schedulers.base import REQUEUE, Allocation, Liveness, Request
from snakemake_executor_plugin_ckpt.schedulers.lsf import Lsf
from snakemake_executor_plugin_ckpt.schedulers.lsf_text import Left

REQUEST = Request("ckpt-x-0001", Path("/w/run.sh"), Path("/w/batch.log"), 172800.0, 2.5, threads=4)
ALIVE, GONE, UNKNOWN = Liveness.ALIVE, Liveness.GONE, Liveness.UNKNOWN


def value(argv: list[str], option: str) -> str:
    return argv[argv.index(option) + 1]


# -- what is said ------------------------------------------------------------------------------------------------------


def test_a_submission_says_all_that_a_chain_needs() -> None:
    assert shlex.join(lsf_text.submission(REQUEST)) == (
        "bsub -J ckpt-x-0001 -Q 99 -r -o /dev/null -cwd / -W 2880 -wa URG -wt 1 -n 4 -R 'span[hosts=1]' "
        + shlex.quote(
            "exec env CKPT_LSF_WALLTIME=172800 /bin/sh -c "
            + shlex.quote('exec "$0" >> "$1" 2>&1')
            + " /w/run.sh /w/batch.log"
        )
    )


def test_the_resources_of_a_rule_become_options() -> None:
    extra = {"lsf_queue": "long", "lsf_project": "pr-clim", "lsf_extra": "-G group -R 'select[avx2]' -x -gpu num=1"}
    request = replace(REQUEST, extra=extra, mem_mb=4000, exclude=["n1.site.org", "n2"], node_class=("model", "EPYC_7"))
    argv = lsf_text.submission(request)
    assert value(argv, "-q") == "long"
    assert value(argv, "-P") == "pr-clim"
    assert value(argv, "-M") == "4000MB"
    assert value(argv, "-R") == (
        "select[model=='EPYC_7' && hname!='n1.site.org' && hname!='n1' && hname!='n2'] "
        "rusage[mem=4000MB/host] span[hosts=1]"
    )
    assert argv[-8:-1] == ["-G", "group", "-R", "select[avx2]", "-x", "-gpu", "num=1"]


def test_memory_may_be_given_for_each_cpu() -> None:
    argv = lsf_text.submission(replace(REQUEST, extra={"mem_mb_per_cpu": "100", "cpus_per_task": "3"}))
    assert (value(argv, "-n"), value(argv, "-M")) == ("3", "300MB")


def test_a_kind_of_node_is_a_boolean_resource_if_it_is_no_type_or_model() -> None:
    argv = lsf_text.submission(replace(REQUEST, node_class=("haswell|zen*", "zen3")))
    assert value(argv, "-R") == "select[zen3] span[hosts=1]"


@pytest.mark.parametrize(
    "more", [{"node_class": ("type", "a']")}, {"node_class": ("x", "a || b")}, {"exclude": ["n'"]}]
)
def test_names_cannot_smuggle_requirements(more: dict[str, object]) -> None:
    with pytest.raises(BadSetting, match="no name"):
        lsf_text.submission(replace(REQUEST, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("walltime", "grace", "warned"), [(60.0, 2.0, False), (120.0, 2.0, True), (120.0, 61.0, False)]
)
def test_a_warning_that_would_come_at_the_start_is_left_out(walltime: float, grace: float, warned: bool) -> None:
    argv = lsf_text.submission(replace(REQUEST, walltime=walltime, grace=grace))
    assert ("-wa" in argv, "-wt" in argv) == (warned, warned)


def test_without_a_walltime_none_is_asked_for() -> None:
    argv = lsf_text.submission(replace(REQUEST, walltime=None))
    assert not {"-W", "-wa", "-wt"} & set(argv)
    assert lsf_text.WALLTIME_VARIABLE not in argv[-1]


def test_a_folder_with_a_percent_sign_is_not_handed_on() -> None:
    """Page "bsub -cwd": %J and others stand for something."""
    assert value(lsf_text.submission(replace(REQUEST, workdir="/w/100%J")), "-cwd") == "/"


@pytest.mark.parametrize(
    "text",
    ["-J x", "-W 5", "-n 2", "-o x", "-q x", "-Q 1", "-r", "-rn", "-wa INT", "-I", "-Ip", "-Is", "-K", "-k d", "-H",
     "-M 5", "-cwd /", "-R 'span[ptile=2]'", "-R 'select[x] rusage[ngpus=1:mem=5]'", "-x sleep", "sleep 5", "-G a b"],
)  # fmt: skip
def test_options_that_are_set_by_the_executor_and_words_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(BadSetting, match="lsf_extra"):
        lsf_text.extra_words(text)


@pytest.mark.parametrize("text", ["", "-x", "-gpu num=2", "-R 'rusage[ngpus=1]'", "-app a -sla b", "-We 30", "-B -N"])
def test_other_options_are_handed_on(text: str) -> None:
    assert lsf_text.extra_words(text) == shlex.split(text)


@pytest.mark.parametrize("name", ["tasks", "nodes"])
def test_more_than_one_task_on_one_node_is_refused(name: str) -> None:
    with pytest.raises(BadSetting, match=f"resource {name}: '2' cannot be used: .*use threads"):
        lsf_text.submission(replace(REQUEST, extra={name: "2"}))


def test_extra_words_with_an_open_quote_are_refused() -> None:
    with pytest.raises(BadSetting, match="quotation"):
        lsf_text.extra_words("-G 'x")


@pytest.mark.parametrize("name", ["plain", "with space", "it's", "$(touch x)", "ä;b%J"])
@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_the_command_is_run_in_the_first_process_whatever_the_paths_are(tmp_path: Path, name: str, shell: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    script = folder / "run.sh"
    script.write_text('#!/bin/sh\necho "$$ $CKPT_LSF_WALLTIME"\n')
    script.chmod(0o700)
    request = replace(REQUEST, script=script, log=folder / "batch.log")
    started = subprocess.Popen([shell, "-c", lsf_text.submission(request)[-1]])
    started.wait(30)
    assert request.log.read_text() == f"{started.pid} 172800\n"


# -- what is understood ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "job_id"),
    [
        ("Job <2812> is submitted to default queue <normal>.\n", "2812"),  # page "Example messages"
        ("Job <123> is submitted to queue <night>.\n", "123"),
        ("esub: project set to <7>\nJob <5> is submitted to queue <q>.\nGood luck\n", "5"),
        ("Bad resource requirement syntax. Job not submitted.\n", None),
        ("", None),
    ],
)
def test_the_id_of_a_new_job(said: str, job_id: str | None) -> None:
    assert lsf_text.submitted_id(said) == job_id


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("PEND", ALIVE), ("RUN", ALIVE), ("PSUSP", ALIVE), ("USUSP", ALIVE), ("SSUSP", ALIVE), ("WAIT", ALIVE),
        ("PROV", ALIVE), ("DONE", GONE), ("EXIT", GONE), ("UNKWN", UNKNOWN), ("ZOMBI", UNKNOWN), ("NEW_ONE", UNKNOWN),
    ],
)  # fmt: skip
def test_states_as_the_page_of_terms_has_them(state: str, expected: Liveness) -> None:
    """Page "LSF terms and concepts"."""
    assert lsf_text.seen(f"7,{state}\n", "") == {"7": expected}


def test_absent_jobs_do_not_hide_the_others() -> None:
    found = lsf_text.seen("5,RUN\n6,EXIT\n", "Job <7> is not found\nJob <8> is not found\n")
    assert found == {"5": ALIVE, "6": GONE, "7": GONE, "8": GONE}


def test_a_run_on_a_lost_host_does_not_hide_the_one_that_replaces_it() -> None:
    assert lsf_text.seen("5,ZOMBI\n5,PEND\n", "") == {"5": ALIVE}


def test_what_is_no_row_is_none() -> None:
    assert lsf_text.seen("JOBID,STAT\nLSF is processing your request. Please wait ...\n\n5,\n", "") == {}


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("48:0 L,2880.0,0 second(s)\n", Left(True, 172799.0)),
        ("0:59 L,60.0,42 second(s)\n", Left(True, 3557.0)),
        ("0:58 L,60.0/hostA,100 second(s)\n", Left(True, 3499.0)),
        # A limit for a slower host: this one has half of it. And for a faster one: what is surely left counts.
        ("0:30 L,60.0/slow,0 second(s)\n", Left(True, 1800.0)),
        ("2:0 L,60.0/fast,0 second(s)\n", Left(True, 3599.0)),
        # Of an estimate (bsub -We), which ends nothing; page "bjobs -WL".
        ("0:10 E,60.0,0 second(s)\n", Left(True, 3599.0)),
        ("-,60.0,3700 second(s)\n", Left(True, 0.0)),
        ("0:10 L,-,-\n", Left(True, 600.0)),
        ("00:09:30 L,-,-\n", Left(True, 570.0)),
        ("-,-,12 second(s)\n", Left(True, None)),
        ("-,60.0,-\n", Left(False)),
        ("", Left(False)),
        ("LSF is down. Please wait ...\n", Left(False)),
    ],
)
def test_what_is_left_of_the_run_limit(said: str, left: Left) -> None:
    found = lsf_text.left(said)
    assert (found.known, found.seconds) == (left.known, left.seconds)


def test_bkill_says_of_each_job_what_became_of_it() -> None:
    said = "Job <106> is being terminated\nJob <7>: No matching job found\nJob <8>: Job has already finished\n"
    assert lsf_text.unkilled(said) == []
    assert lsf_text.unkilled(said + "Job <9>: User permission denied\n") == ["Job <9>: User permission denied"]


#: After page "lshosts".
HOST = "hostS1   LINUX64  Intel_E5  15.4    16 32096M  8191M    Yes (mg zen3 big)"


@pytest.mark.parametrize(
    ("name", "found"),
    [("type", "LINUX64"), ("model", "Intel_E5"), ("zen*", "zen3"), ("rome|big", "big"), ("rome", None)],
)
def test_the_class_of_a_host_stands_in_its_line(name: str, found: str | None) -> None:
    assert lsf_text.node_class(HOST, name) == found
    assert lsf_text.node_class("hostX  UNKNOWN UNKNOWN_AUTO_DETECT - - - - Dyn ()", "type") is None


# -- LSF's clients, replaced by scripts --------------------------------------------------------------------------------


class Clients:
    """Programs in a folder that is all of PATH before the system's; each call is noted."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def answers(self, client: str, code: str) -> None:
        path = self.folder / client
        path.write_text(f'#!/bin/sh\necho "$*" >> "$0.calls"\n{code}\n')
        path.chmod(0o700)

    def calls(self, client: str) -> list[str]:
        path = self.folder / f"{client}.calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clients:
    return Clients(tmp_path / "bin", monkeypatch)


@pytest.fixture
def scheduler(tmp_path: Path) -> Lsf:
    return Lsf(tmp_path / "state")


def test_a_thousand_jobs_are_one_query(clients: Clients, scheduler: Lsf) -> None:
    clients.answers("bjobs", 'shift 3; for id; do echo "$id,RUN"; done')
    ids = [str(number) for number in range(1000001, 1001001)]
    assert scheduler.liveness(ids) == dict.fromkeys(ids, ALIVE)
    assert len(clients.calls("bjobs")) == 1


def test_ids_of_other_schedulers_are_unknown_and_never_part_of_a_query(clients: Clients, scheduler: Lsf) -> None:
    clients.answers("bjobs", "exit 1")
    assert scheduler.liveness(["ckpt-x", "0 -u all"]) == dict.fromkeys(["ckpt-x", "0 -u all"], UNKNOWN)
    scheduler.cancel(["ckpt-x"])
    assert clients.calls("bjobs") == []


def test_a_site_where_bsub_is_told_to_be_quiet_is_understood(
    clients: Clients, scheduler: Lsf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page "Environment variable reference": BSUB_QUIET, BSUB_STDERR."""
    clients.answers("bsub", '[ -n "$BSUB_QUIET$BSUB_BLOCK" ] || echo "Job <17> is submitted to queue <q>." >&2')
    monkeypatch.setenv("BSUB_QUIET", "y")
    monkeypatch.setenv("BSUB_BLOCK", "y")
    assert scheduler.submit(REQUEST) == "17"


def test_a_refusal_is_told_in_lsfs_words(clients: Clients, scheduler: Lsf) -> None:
    clients.answers("bsub", "echo 'night: No such queue. Job not submitted.' >&2; exit 255")
    with pytest.raises(SchedulerError, match="No such queue"):
        scheduler.submit(REQUEST)


def test_an_answer_of_an_old_copy_is_not_believed(
    clients: Clients, scheduler: Lsf, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients.answers("bsub", "exit 255")
    clients.answers("bjobs", "echo 'Job <ckpt-x-0001> is not found' >&2; exit 255")
    assert scheduler.find("ckpt-x-0001") is None
    with pytest.raises(SchedulerError):
        scheduler.submit(REQUEST)
    with pytest.raises(SchedulerError, match="waited for"):
        scheduler.find("ckpt-x-0001")
    monkeypatch.setattr(lsf, "_FRESH", 0.0)
    assert scheduler.find("ckpt-x-0001") is None


@pytest.mark.parametrize("said", ["LSF is down. Please wait ...", "User permission denied", ""])
def test_a_cancel_that_is_not_confirmed_says_so(clients: Clients, scheduler: Lsf, said: str) -> None:
    clients.answers("bkill", f"printf '%s' '{said}' >&2; exit 255")
    with pytest.raises(SchedulerError, match="bkill failed"):
        scheduler.cancel(["17"])


def test_a_cancelled_job_that_comes_back_is_cancelled_again(clients: Clients, scheduler: Lsf) -> None:
    clients.answers("bkill", "echo 'Job <17> is being terminated'")
    clients.answers(
        "bjobs",
        'case $(wc -l < "$0.calls") in 1) echo 17,RUN;; 2) echo 17,PEND;; *) echo 17,EXIT;; esac',
    )
    scheduler.cancel(["17"])
    assert clients.calls("bkill") == ["17", "17"]


NODE = {"LSB_JOBID": "17", "LSB_JOBINDEX": "0", "CKPT_LSF_WALLTIME": "7200"}


def test_the_end_is_the_one_that_lsf_names_now(clients: Clients, scheduler: Lsf) -> None:
    """Not a point in time: those have no zone and no year."""
    clients.answers("bjobs", "echo '1:40 L,120.0,1200 second(s)'")
    before = time.time()
    allocation = scheduler.allocation(NODE)
    assert allocation.job_id == "17"
    assert allocation.end == pytest.approx(before + 5999, abs=5)
    assert "time_left runtimelimit run_time" in clients.calls("bjobs")[0]


def test_a_job_without_a_run_limit_has_no_end(clients: Clients, scheduler: Lsf) -> None:
    clients.answers("bjobs", "echo '-,-,3 second(s)'")
    assert scheduler.allocation({"LSB_JOBID": "17"}) == Allocation("17", None)


def test_where_lsf_cannot_be_asked_the_end_is_the_walltime_that_was_asked_for(
    scheduler: Lsf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    began = time.time() - lsf._age()
    assert scheduler.allocation(NODE).end == pytest.approx(began + 7200, abs=5)


@pytest.mark.parametrize("environment", [{}, {"LSB_JOBID": "17", "LSB_JOBINDEX": "3"}, {"LSB_JOBID": ""}])
def test_a_member_of_a_job_array_is_no_job_of_ours(scheduler: Lsf, environment: dict[str, str]) -> None:
    with pytest.raises(SchedulerError, match="not a job"):
        scheduler.allocation(environment)


@pytest.mark.parametrize(
    ("state", "handed_back"), [("USUSP", True), ("RUN", False), ("SSUSP", False), ("UNKWN", False), ("", False)]
)
def test_only_what_its_user_stopped_goes_back_to_wait_for_him(
    clients: Clients, scheduler: Lsf, monkeypatch: pytest.MonkeyPatch, state: str, handed_back: bool
) -> None:
    monkeypatch.setattr(lsf, "_HANDED_BACK", 0.0)
    clients.answers("bjobs", f"echo '17,{state}'")
    clients.answers("brequeue", "echo 'Job <17> is being requeued'")
    assert scheduler.requeue(Allocation("17", None), 0.0) == REQUEUE
    assert clients.calls("brequeue") == (["-H 17"] if handed_back else [])


def test_a_job_goes_on_where_it_cannot_be_asked_whether_it_was_stopped(clients: Clients, scheduler: Lsf) -> None:
    clients.answers("bjobs", "echo 17,USUSP")
    clients.answers("brequeue", "echo 'User permission denied' >&2; exit 255")
    assert scheduler.requeue(Allocation("17", None), 0.0) == REQUEUE
    (clients.folder / "bjobs").unlink()
    assert scheduler.requeue(Allocation("17", None), 0.0) == REQUEUE


def test_without_lsfs_programs_it_says_where_to_go(scheduler: Lsf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    assert "bsub, bjobs, bkill not found" in str(scheduler.missing())
    assert scheduler.liveness(["17"]) == {"17": UNKNOWN}


@pytest.mark.parametrize(
    ("said", "outage"),
    [
        ("LSF is down. Please wait ...", True),  # page "Customize batch command messages"
        ("Failed in an LSF library call: Slave LIM configuration is not ready yet. Job not submitted.", True),
        ("batch daemon not responding ... still trying", True),
        ("Failed in an LSF library call: Communication time out. Job not submitted.", True),
        ("Pending job threshold reached. Retrying in 60 seconds...", True),
        ("nix: No such queue. Job not submitted.", False),
        ("User cannot use the queue. Job not submitted.", False),
        ("Bad resource requirement syntax. Job not submitted.", False),
    ],
)
def test_no_answer_is_told_from_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, outage: bool
) -> None:
    stub = tmp_path / "bsub"
    stub.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 255\n")
    stub.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SchedulerError) as caught:
        Lsf(tmp_path / "state").submit(REQUEST)
    assert isinstance(caught.value, NoAnswer) is outage
