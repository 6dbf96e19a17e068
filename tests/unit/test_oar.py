"""OAR: what is made of its answers (recorded from a real 2.5.9), and what of its silence."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_executor_plugin_ckpt.errors import NoAnswer, SchedulerError
from snakemake_executor_plugin_ckpt.schedulers import oar, oar_text
from snakemake_executor_plugin_ckpt.schedulers.base import REQUEUE, Allocation, Liveness, Request
from snakemake_executor_plugin_ckpt.schedulers.oar import Oar

REQUEST = Request("ckpt-x-0001", Path("/w/run.sh"), Path("/w/batch.log"), 172800.0, 2.5, threads=4)
REFUSED = "OAR_JOB_ID=-5\n"


def job(number: int, state: str, chain: int | None = None, **more: object) -> dict[str, object]:
    """One job as ``oarstat -J`` has it (what is not looked at is left out)."""
    return {
        "Job_Id": number,
        "array_id": chain or number,
        "name": "ckpt-x-0001",
        "state": state,
        "submissionTime": 1795262083,
        "startTime": 0,
        "message": "R=1,W=0:1:0,J=B,N=ckpt-x-0001,T=idempotent (Karma=0.000,quota_ok)",
        **more,
    }


def answer(*jobs: dict[str, object]) -> str:
    return json.dumps({str(one["Job_Id"]): one for one in jobs})


class Clients:
    """OAR's programs, replaced by ones that note how they were called and give prepared answers, one after another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.counts: dict[str, int] = {}
        for program in ("oarsub", "oarstat", "oardel"):
            self.write(
                program, 'printf "%s\\0" "$@" > "$0.call.$n"; cat "$0.out.$n"; cat "$0.err.$n" >&2; . "$0.rc.$n"'
            )

    def write(self, program: str, code: str) -> None:
        path = self.folder / program
        path.write_text(f'#!/bin/sh\nn=$(ls "$0".call.* 2> /dev/null | wc -l)\n: > "$0.call.$n"\n{code}\n')
        path.chmod(0o700)

    def answers(self, program: str, out: str = "", status: int = 0, err: str = "") -> None:
        """One more answer."""
        number = self.counts.get(program, 0)
        self.counts[program] = number + 1
        for kind, text in (("out", out), ("err", err), ("rc", f"exit {status}")):
            (self.folder / f"{program}.{kind}.{number}").write_text(text)

    def calls(self, program: str) -> list[list[str]]:
        """The arguments of its calls."""
        paths = sorted(self.folder.glob(f"{program}.call.*"), key=lambda path: int(path.suffix[1:]))
        return [path.read_text().split("\0")[:-1] for path in paths]


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clients:
    made = Clients(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{made.folder}:{os.environ['PATH']}")
    monkeypatch.delenv(oar_text.SHORTEST, raising=False)
    return made


@pytest.fixture
def scheduler(tmp_path: Path) -> Oar:
    return Oar(tmp_path / "state")


# -- submitting --------------------------------------------------------------------------------------------------------


def test_the_id_is_found_among_the_words_of_a_site(clients: Clients, scheduler: Oar) -> None:
    clients.answers("oarsub", "[ADMISSION RULE] Modify resource description\n# note\nOAR_JOB_ID=17\n")
    assert scheduler.submit(REQUEST) == "17"


def test_a_job_whose_submission_could_not_be_told_to_the_server_is_submitted(clients: Clients, scheduler: Oar) -> None:
    said = "Cannot connect to executor oarserver:6666. Job is killed.\n"  # it is not: it waits in the data base
    clients.answers("oarsub", "OAR_JOB_ID=91\n", 9, said)
    assert scheduler.submit(REQUEST) == "91"


def test_a_name_is_used_once(clients: Clients, scheduler: Oar) -> None:
    clients.answers("oarsub", "OAR_JOB_ID=17\n")
    scheduler.submit(REQUEST)
    with pytest.raises(SchedulerError, match="submitted before"):
        scheduler.submit(REQUEST)
    assert len(clients.calls("oarsub")) == 1


def test_a_refusal_is_told_in_oars_words(clients: Clients, scheduler: Oar) -> None:
    clients.answers("oarsub", REFUSED, 8, "There are not enough resources for your request\n")
    with pytest.raises(SchedulerError, match="not enough resources"):
        scheduler.submit(REQUEST)
    assert len(clients.calls("oarsub")) == 1


def test_a_node_is_not_avoided_where_no_other_is_left(clients: Clients, scheduler: Oar) -> None:
    clients.answers("oarsub", REFUSED, 8, "There are not enough resources for your request\n")
    clients.answers("oarsub", "OAR_JOB_ID=18\n")
    assert scheduler.submit(replace(REQUEST, exclude=["n1"])) == "18"
    with_it, without = clients.calls("oarsub")
    assert "network_address NOT IN ('n1')" in with_it[with_it.index("-p") + 1]
    assert "-p" not in without


def test_a_client_that_waits_for_the_data_base_ends_before_it_is_given_up(
    clients: Clients, scheduler: Oar, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise it would submit when the data base is back, and by then another one was submitted in its place.
    monkeypatch.setattr(oar, "_ANSWER", 1)
    clients.write("oarsub", 'trap "" HUP INT QUIT TERM; echo $$ > "$0.pid"; exec sleep 60')
    with pytest.raises(SchedulerError, match="did not answer within 1 s"):
        scheduler.submit(REQUEST)
    pid = int((clients.folder / "oarsub.pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_job_is_found_by_its_name_and_not_the_newest_one_that_comes_with_it(clients: Clients, scheduler: Oar) -> None:
    clients.answers("oarstat", answer(job(99, "Running", name="other"), job(18, "Waiting", 17), job(17, "Terminated")))
    assert scheduler.find("ckpt-x-0001") == "17"
    clients.answers("oarstat", answer(job(99, "Running", name="other")))
    assert scheduler.find("ckpt-x-0001") is None


def test_a_half_made_job_is_waited_for_then_removed(
    clients: Clients, scheduler: Oar, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = answer(job(17, "Hold", events=[]))
    clients.answers("oarstat", half)
    with pytest.raises(SchedulerError, match="half submitted"):
        scheduler.find("ckpt-x-0001")
    monkeypatch.setattr(oar, "_HALF_MADE", 0.0)
    for found in (half, half, answer(job(17, "Error"))):
        clients.answers("oarstat", found)
    clients.answers("oardel", "Deleting the job = 17 ...REGISTERED.\n")
    assert scheduler.find("ckpt-x-0001") is None
    assert clients.calls("oardel") == [["17"]]


def test_a_job_that_its_owner_holds_is_no_half_made_one(clients: Clients, scheduler: Oar) -> None:
    clients.answers("oarstat", answer(job(17, "Hold", events=[{"type": "HOLD_WAITING_JOB"}])))
    assert scheduler.find("ckpt-x-0001") == "17"


# -- watching ----------------------------------------------------------------------------------------------------------


def test_a_thousand_jobs_are_one_query(clients: Clients, scheduler: Oar) -> None:
    ids = [str(number) for number in range(1000001, 1001001)]
    clients.answers("oarstat", answer(*(job(number, "Running") for number in range(1000001, 1000501))))
    found = scheduler.liveness(ids)
    assert [found[job_id] for job_id in ids] == 500 * [Liveness.ALIVE] + 500 * [Liveness.GONE]
    assert len(clients.calls("oarstat")) == 1


def test_what_is_on_hold_is_told_whatever_another_thread_sees_meanwhile(clients: Clients, scheduler: Oar) -> None:
    clients.answers("oarstat", answer(job(17, "Terminated"), job(18, "Hold", 17)))
    scheduler.liveness(["17"])

    class Seen(dict[str, str]):
        def __contains__(self, chain: object) -> bool:
            scheduler._held = {}
            return super().__contains__(chain)

    scheduler._held = Seen(scheduler._held)
    assert scheduler.held(["17"]) == {"17": "it is on hold (`oarresume 18` lets the chain go on)"}


@pytest.mark.parametrize("state", oar_text.ACTIVE)
def test_a_chain_is_alive_while_one_of_its_jobs_is(clients: Clients, scheduler: Oar, state: str) -> None:
    clients.answers("oarstat", answer(job(17, "Error"), job(19, state, 17)))
    assert scheduler.liveness(["17"]) == {"17": Liveness.ALIVE}


@pytest.mark.parametrize(
    ("out", "status", "err"),
    [
        ("", 25, "DB connection error, exiting.\n"),
        ("", 0, 'DBD::Pg::st execute failed: ERROR:  column "x" does not exist\n'),
        ("{ cut", 0, ""),
        ("{}", 1, "perl: killed\n"),
        ('{"17": {"state": "Running"}}', 0, ""),
    ],
)
def test_what_is_no_answer_says_nothing(clients: Clients, scheduler: Oar, out: str, status: int, err: str) -> None:
    clients.answers("oarstat", out, status, err)
    assert scheduler.liveness(["17"]) == {"17": Liveness.UNKNOWN}
    clients.answers("oarstat", out, status, err)
    with pytest.raises(SchedulerError):
        scheduler.find("ckpt-x-0001")


def test_an_empty_answer_is_not_the_end_of_jobs(clients: Clients, scheduler: Oar) -> None:
    clients.answers("oarstat", "")  # that is what oarstat says, with status 0, when its query failed
    assert scheduler.liveness(["17"]) == {"17": Liveness.UNKNOWN}
    clients.answers("oarstat", "")
    with pytest.raises(SchedulerError, match="no answer"):
        scheduler.cancel(["17"])


def test_ids_of_other_schedulers_are_unknown_and_never_part_of_a_query(clients: Clients, scheduler: Oar) -> None:
    assert scheduler.liveness(["1) OR (1=1", "ckpt-x"]) == dict.fromkeys(["1) OR (1=1", "ckpt-x"], Liveness.UNKNOWN)
    scheduler.cancel(["1) OR (1=1"])
    assert clients.calls("oarstat") == []


@pytest.mark.parametrize(("late", "expected"), [(60.0, Liveness.ALIVE), (2000.0, Liveness.GONE)])
def test_a_job_that_runs_long_after_its_walltime_is_gone(
    clients: Clients, scheduler: Oar, late: float, expected: Liveness
) -> None:
    clients.answers("oarstat", answer(job(17, "Running", startTime=int(time.time() - 60 - late))))
    assert scheduler.liveness(["17"]) == {"17": expected}


def test_a_suspended_job_does_not_lose_its_walltime(clients: Clients, scheduler: Oar) -> None:
    clients.answers("oarstat", answer(job(17, "Suspended", startTime=1)))
    assert scheduler.liveness(["17"]) == {"17": Liveness.ALIVE}


# -- ending ------------------------------------------------------------------------------------------------------------


def test_a_cancel_goes_on_until_no_successor_is_left(clients: Clients, scheduler: Oar) -> None:
    for found in (job(17, "Running"), job(17, "Running"), job(90, "Waiting", 17), job(90, "Error", 17)):
        clients.answers("oarstat", answer(found))
    clients.answers("oardel", "Deleting the job = 17 ...REGISTERED.\n")
    clients.answers("oardel", "Deleting the job = 90 ...REGISTERED.\n")
    scheduler.cancel(["17"])
    assert clients.calls("oardel") == [["17"], ["90"]]


def test_a_cancel_does_not_wait_for_a_dead_node(
    clients: Clients, scheduler: Oar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oar, "_CANCEL", 0.5)
    for _ in range(20):
        clients.answers("oarstat", answer(job(17, "Running")))
    clients.answers("oardel", "Deleting the job = 17 ...REGISTERED.\n")
    scheduler.cancel(["17"])
    assert clients.calls("oardel") == [["17"]]


def test_a_cancel_that_is_refused_says_so(clients: Clients, scheduler: Oar) -> None:
    clients.answers("oarstat", answer(job(17, "Running")))
    clients.answers("oardel", "Deleting the job = 17 ...ERROR.\n", 2, "Unable to connect to the server\n")
    with pytest.raises(SchedulerError, match="Unable to connect"):
        scheduler.cancel(["17"])


# -- on the node -------------------------------------------------------------------------------------------------------

NODE = {"OAR_JOB_ID": "19", "OAR_ARRAY_ID": "17", "OAR_JOB_WALLTIME_SECONDS": "100000"}


def test_the_end_is_the_one_that_oar_names(clients: Clients, scheduler: Oar) -> None:
    start = int(time.time()) - 5000
    clients.answers("oarstat", answer(job(19, "Running", 17, startTime=start, walltime=100000)))
    assert scheduler.allocation(NODE) == Allocation("17", start + 100000)


def test_a_server_whose_clock_is_ahead_moves_the_end_to_no_later(clients: Clients, scheduler: Oar) -> None:
    clients.answers("oarstat", answer(job(19, "Running", 17, startTime=int(time.time()) + 5000, walltime=100000)))
    end = scheduler.allocation(NODE).end
    assert end is not None
    assert end <= time.time() + 100000


def test_where_oar_cannot_be_asked_the_end_leaves_out_the_launch(
    scheduler: Oar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    before = time.time() - oar._own_age()
    allocation = scheduler.allocation(NODE)
    assert allocation.job_id == "17"
    assert allocation.end == pytest.approx(before + 100000 - 60, abs=5)
    short = scheduler.allocation({**NODE, "OAR_JOB_WALLTIME_SECONDS": "100"})
    assert short.end == pytest.approx(before + 90, abs=5)


def test_what_ran_long_enough_for_oar_is_requeued_at_once(scheduler: Oar) -> None:
    began = time.monotonic()
    assert scheduler.requeue(Allocation("17", time.time() + 1000), began - 62.1) == REQUEUE
    assert time.monotonic() - began < 1


def test_what_ran_too_shortly_for_oar_waits(scheduler: Oar) -> None:
    began = time.monotonic()
    assert scheduler.requeue(Allocation("17", None), began - 61.0) == REQUEUE
    assert time.monotonic() - began >= 1.0


def test_what_cannot_wait_within_its_walltime_is_left_to_the_head(scheduler: Oar) -> None:
    began = time.monotonic()
    assert scheduler.requeue(Allocation("17", time.time() + 20), began - 10) == 0
    assert time.monotonic() - began < 1


def test_a_site_without_the_rule_of_sixty_seconds_waits_less(scheduler: Oar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(oar_text.SHORTEST, "3")
    assert scheduler.requeue(Allocation("17", time.time() + 20), time.monotonic() - 5.1) == REQUEUE


def test_the_class_of_a_node_is_what_its_resources_say(scheduler: Oar, tmp_path: Path) -> None:
    path = tmp_path / "19_resources"
    path.write_text(
        " cpu = '1' , network_address = 'onode1' , cputype = 'type of onode1' , core = '1' , host = 'onode1' \n"
    )
    environment = {"OAR_RESOURCE_PROPERTIES_FILE": str(path)}
    assert scheduler.node_class(environment, "cputype") == "type of onode1"
    assert scheduler.node_class(environment, "type") is None
    assert scheduler.node_class({}, "cputype") is None
    path.unlink()
    assert scheduler.node_class(environment, "cputype") is None


def test_without_oars_programs_it_says_where_to_go(
    scheduler: Oar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "oarsub, oarstat, oardel not found" in str(scheduler.missing())
    assert scheduler.liveness(["17"]) == {"17": Liveness.UNKNOWN}
    with pytest.raises(SchedulerError, match="oarsub not found"):
        scheduler.submit(REQUEST)


@pytest.mark.parametrize(("user", "expected"), [(0, "no jobs of root"), (1000, "None")])
@pytest.mark.usefixtures("clients")
def test_root_is_told_that_oar_takes_no_jobs_of_its(
    scheduler: Oar, monkeypatch: pytest.MonkeyPatch, user: int, expected: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert expected in str(scheduler.missing())


# -- outages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "err", "outage"),
    [
        (
            2,
            "[IOlib] Cannot connect to database (type=Pg, host=server, user=oar, database=oar) : could not connect",
            True,
        ),
        (255, "DBD::Pg::db do failed: server closed the connection unexpectedly\n", True),
        (255, "DBD::mysql::db do failed: MySQL server has gone away\n", True),
        (3, "[ERROR] Cannot connect to executor oarserver:6666. Is OAR started?\n", True),
        (6, "[ADMISSION RULE] Queue nix does not exist\n", False),
        (5, "Unknown option: nix\n", False),
    ],
)
def test_no_answer_is_told_from_a_refusal(
    clients: Clients, scheduler: Oar, status: int, err: str, outage: bool
) -> None:
    clients.answers("oarsub", "", status, err)
    with pytest.raises(SchedulerError) as caught:
        scheduler.submit(REQUEST)
    assert isinstance(caught.value, NoAnswer) is outage


def test_a_data_base_that_is_away_is_no_answer(
    clients: Clients, scheduler: Oar, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients.answers("oarstat", "", 25, "DB connection error, exiting.\n")
    with pytest.raises(NoAnswer):
        scheduler.find("ckpt-x-0001")
    monkeypatch.setattr(oar, "_ANSWER", 1)
    clients.write("oarsub", "exec sleep 60")
    with pytest.raises(NoAnswer):
        scheduler.submit(REQUEST)
