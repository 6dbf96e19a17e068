"""What is asked of Slurm's clients, when, and what if they fail; the real Slurm is in tests/clusters."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_executor_plugin_ckpt.errors import NoAnswer, SchedulerError
from snakemake_executor_plugin_ckpt.schedulers import slurm, slurm_text
from snakemake_executor_plugin_ckpt.schedulers.base import FAILED, REQUEUE, Allocation, Liveness, Request, detect
from snakemake_executor_plugin_ckpt.schedulers.commands import run
from snakemake_executor_plugin_ckpt.schedulers.slurm import Slurm
from snakemake_executor_plugin_ckpt.segment.tree import own_age

REQUEST = Request("ckpt-name", Path("/s/job 1/run.sh"), Path("/s/job 1/log"), 7200.0, 5.0)


class Clients:
    """Slurm's clients as shell scripts in PATH; each call is noted."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.calls = folder / "calls"
        (folder / "bin").mkdir()
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")
        for name in ("sbatch", "squeue", "scancel", "scontrol", "sinfo"):
            self.say(name, "exit 0")
        self.scheduler = Slurm(folder / "state")
        (folder / "state").mkdir()

    def say(self, client: str, script: str) -> None:
        path = self.folder / "bin" / client
        path.write_text(f'#!/bin/sh\necho "{client} $*" >> {self.calls}\n{script}\n')
        path.chmod(0o755)

    def show(self, rows: str) -> None:
        (self.folder / "rows").write_text(rows)
        self.say("squeue", f"cat {self.folder / 'rows'}")

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clients:
    for module_constant, value in (("_SETTLED", 0.0), ("_PAUSE", 0.05), ("_END_PATIENCE", 0.2)):
        monkeypatch.setattr(slurm, module_constant, value)
    return Clients(tmp_path, monkeypatch)


def test_a_thousand_jobs_are_one_query(clients: Clients) -> None:
    ids = [str(number) for number in range(1, 1001)]
    clients.show("".join(f"{one} RUNNING 0 None\n" for one in ids[:900]))
    found = clients.scheduler.liveness(ids)
    assert [found[one] for one in ids] == [Liveness.ALIVE] * 900 + [Liveness.GONE] * 100
    assert len(clients.called()) == 1
    assert clients.scheduler.liveness([]) == {}
    assert len(clients.called()) == 1


def test_no_answer_is_not_the_end_of_jobs(clients: Clients) -> None:
    clients.say("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    assert clients.scheduler.liveness(["1", "2"]) == {"1": Liveness.UNKNOWN, "2": Liveness.UNKNOWN}


def test_jobs_and_nodes_of_hidden_partitions_are_seen(clients: Clients) -> None:
    """As Slurm does it: they are shown to nobody who does not ask for all partitions."""
    hidden = 'case " $* " in *" --all "*) ;; *) exit 0;; esac'
    clients.say("squeue", f"{hidden}\necho '7 RUNNING 0 None'")
    clients.say("sinfo", f'{hidden}\ncase "$*" in *%f*) echo all,zen3;; *) echo n1 host1;; esac')
    assert clients.scheduler.liveness(["7"]) == {"7": Liveness.ALIVE}
    assert clients.scheduler.find("ckpt-name") == "7"
    assert clients.scheduler.requeue(Allocation("7", None), time.monotonic()) == REQUEUE
    assert clients.scheduler.node_class({"SLURMD_NODENAME": "n1"}, "zen*") == "zen3"
    clients.say("sbatch", "cat > /dev/null; echo 5")
    clients.scheduler.submit(replace(REQUEST, exclude=["host1"]))
    assert "--exclude=n1" in clients.called()[-1].split()


def test_variables_that_would_change_an_answer_are_kept_from_the_clients(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SQUEUE_STATES", "SQUEUE_FORMAT2", "SLURM_JOB_ID", "SLURM_MEM_PER_CPU", "SBATCH_ARRAY_INX"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("SLURM_CONF", "/etc/other.conf")
    monkeypatch.setenv("SBATCH_PARTITION", "mine")
    clients.say("squeue", f"env > {clients.folder / 'env'}")
    clients.scheduler.liveness(["1"])
    seen = dict(line.split("=", 1) for line in (clients.folder / "env").read_text().splitlines())
    assert {name for name in seen if name.startswith(("SQUEUE", "SLURM", "SBATCH"))} == {
        "SLURM_CONF",
        "SLURM_TIME_FORMAT",
        "SBATCH_PARTITION",
    }


def test_the_script_that_slurm_keeps_becomes_the_jobs_own(clients: Clients, tmp_path: Path) -> None:
    clients.say("sbatch", f"cat > {tmp_path / 'kept'}; echo 5")
    own = tmp_path / "it's mine.sh"
    assert clients.scheduler.submit(replace(REQUEST, script=own)) == "5"
    own.write_text("#!/bin/sh\nkill -USR2 $$\necho $$ $CKPT_SLURM_WALLTIME\n")
    own.chmod(0o700)
    done = run(["sh", "-c", f"echo $$; exec sh {tmp_path / 'kept'}"]).checked()
    shell, own_words = done.stdout.splitlines()
    assert own_words == f"{shell} 7200", "one process all the way, which an early warning does not end"


def test_a_name_is_submitted_once(clients: Clients) -> None:
    clients.say("sbatch", "cat > /dev/null; echo 5")
    clients.scheduler.submit(REQUEST)
    with pytest.raises(SchedulerError, match="was submitted before"):
        clients.scheduler.submit(REQUEST)
    assert len(clients.called()) == 1


def test_an_answer_without_an_id_is_none(clients: Clients) -> None:
    clients.say("sbatch", "cat > /dev/null; echo")
    with pytest.raises(NoAnswer, match="sbatch"):
        clients.scheduler.submit(REQUEST)


def test_requeued_jobs_are_hastened_once_in_one_call(clients: Clients) -> None:
    clients.show("1 PENDING 1 BeginTime\n2 PENDING 3 BeginTime\n3 PENDING 0 BeginTime\n4 RUNNING 1 None\n")
    ids = ["1", "2", "3", "4", "5"]
    for _ in range(3):
        clients.scheduler.liveness(ids)
        clients.scheduler.hasten(ids, {})
    changes = [call for call in clients.called() if call.startswith("scontrol")]
    assert changes == ["scontrol update JobId=1,2 StartTime=now+5"]
    clients.show("1 PENDING 2 BeginTime\n")
    clients.scheduler.liveness(ids)
    clients.scheduler.hasten(ids, {})
    assert clients.called()[-1] == "scontrol update JobId=1 StartTime=now+5"


@pytest.mark.parametrize(
    ("before", "after"),
    [("", "n1"), ("node7", "node7,n1"), ("n[2-4],n7", "n[2-4],n7,n1")],
)
def test_a_requeued_job_is_kept_off_nodes_besides_those_that_its_rule_excludes(
    clients: Clients, before: str, after: str
) -> None:
    clients.show("1 PENDING 1 BeginTime\n")
    clients.scheduler.liveness(["1"])
    clients.say("sinfo", "echo 'n1 host1'")
    clients.say("squeue", f'[ "$*" = "--noheader --all --states=all -o %x --jobs=1" ] && echo "{before}"')
    for _ in range(2):
        clients.scheduler.hasten(["1"], {"1": ["host1"]})
    assert [call for call in clients.called() if call.startswith("scontrol")] == [
        f"scontrol update JobId=1 ExcNodeList={after}",
        "scontrol update JobId=1 StartTime=now+5",
    ]


def test_a_new_batch_job_keeps_the_exclusions_that_it_was_submitted_with(clients: Clients) -> None:
    clients.show("1 PENDING 0 Resources\n")
    clients.say("sinfo", "echo 'n1 host1'")
    clients.scheduler.liveness(["1"])
    clients.scheduler.hasten(["1"], {"1": ["host1"]})
    assert [call for call in clients.called() if call.startswith("scontrol")] == []


def test_without_word_of_what_is_excluded_nothing_is_put_in_its_place(clients: Clients) -> None:
    clients.show("1 PENDING 1 Resources\n")
    clients.scheduler.liveness(["1"])
    clients.say("sinfo", "echo 'n1 host1'")
    clients.say("squeue", "exit 1")
    clients.scheduler.hasten(["1"], {"1": ["host1"]})
    assert [call for call in clients.called() if call.startswith("scontrol")] == []
    clients.say("squeue", "echo n7")
    clients.scheduler.hasten(["1"], {"1": ["host1"]})
    assert clients.called()[-1] == "scontrol update JobId=1 ExcNodeList=n7,n1"


def test_a_look_of_another_thread_that_fails_meanwhile_is_no_error(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients.show("1 PENDING 1 BeginTime\n")
    clients.scheduler.liveness(["1"])
    clients.say("squeue", 'case "$*" in *-O*) exit 1;; esac')

    def names(hosts: Sequence[str]) -> list[str]:
        assert clients.scheduler.liveness(["1"]) == {"1": Liveness.UNKNOWN}
        return list(hosts)

    monkeypatch.setattr(slurm, "_node_names", names)
    clients.scheduler.hasten(["1"], {"1": ["n1"]})
    assert clients.called()[-1] == "scontrol update JobId=1 StartTime=now+5"


def test_what_is_held_is_told_whatever_another_thread_sees_meanwhile(clients: Clients) -> None:
    class Seen(dict[str, slurm_text.Row]):
        def __contains__(self, job_id: object) -> bool:
            clients.scheduler._seen = {}
            return super().__contains__(job_id)

    clients.scheduler._seen = Seen({"4": slurm_text.Row("PENDING", 1, "JobHeldUser")})
    assert list(clients.scheduler.held(["4"])) == ["4"]


def test_a_job_that_waits_in_vain_is_told_with_the_way_out(clients: Clients) -> None:
    clients.show("4 PENDING 1 JobHeldUser\n5 PENDING 0 PartitionTimeLimit\n6 PENDING 0 Resources\n")
    ids = ["4", "5", "6", "7"]
    assert clients.scheduler.held(ids) == {}
    clients.scheduler.liveness(ids)
    assert clients.scheduler.held(ids) == {
        "4": "JobHeldUser (`scontrol release 4` lets the chain go on)",
        "5": "PartitionTimeLimit (`scancel 5` lets the chain go on)",
    }


def test_a_saved_job_requeues_itself(clients: Clients) -> None:
    clients.show("7 RUNNING 0 None\n")
    assert clients.scheduler.requeue(Allocation("7", None), time.monotonic()) == REQUEUE
    assert clients.called()[-1] == "scontrol requeue 7"


@pytest.mark.parametrize("row", ["7 COMPLETING 0 None", "7 PENDING 1 None", "7 CANCELLED 0 None", ""])
def test_a_job_that_was_ended_or_requeued_by_others_is_left_alone(clients: Clients, row: str) -> None:
    clients.show(f"{row}\n")
    assert clients.scheduler.requeue(Allocation("7", None), time.monotonic()) == FAILED
    assert not [call for call in clients.called() if call.startswith("scontrol")]


def test_a_requeue_that_is_switched_off_is_switched_on(clients: Clients) -> None:
    clients.show("7 RUNNING 0 None\n")
    on = clients.folder / "on"
    clients.say(
        "scontrol",
        f'case "$*" in *Requeue=1) touch {on};; esac\n'
        f"[ -e {on} ] || {{ echo 'Requested operation is presently disabled for job 7' >&2; exit 1; }}",
    )
    assert clients.scheduler.requeue(Allocation("7", None), time.monotonic()) == REQUEUE
    assert clients.called()[1:] == ["scontrol requeue 7", "scontrol update JobId=7 Requeue=1", "scontrol requeue 7"]


def test_a_requeue_outlasts_an_outage(clients: Clients) -> None:
    clients.show("7 RUNNING 0 None\n")
    up = clients.folder / "up"
    clients.say("scontrol", f"[ -e {up} ] || {{ touch {up}; echo 'Unable to contact' >&2; exit 1; }}")
    assert clients.scheduler.requeue(Allocation("7", None), time.monotonic()) == REQUEUE
    assert clients.called().count("scontrol requeue 7") == 2


def test_an_outage_without_end_is_left_to_the_head(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "_REQUEUE_PATIENCE", 0.2)
    clients.say("squeue", "exit 1")
    assert clients.scheduler.requeue(Allocation("7", None), time.monotonic()) == FAILED


def test_the_end_is_asked_for_and_else_taken_from_the_start(clients: Clients) -> None:
    environment = {"SLURM_JOB_ID": "7", slurm_text.WALLTIME_VARIABLE: "7200"}
    clients.show("10:00 1795262485\n")
    assert clients.scheduler.allocation(environment) == Allocation("7", 1795262485.0)
    clients.say("squeue", "exit 1")
    end = clients.scheduler.allocation(environment).end
    assert end is not None
    assert math.isclose(end, time.time() + 7200 - own_age(), abs_tol=60)
    assert clients.scheduler.allocation({"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "99"}).end == 99.0


def test_it_is_found_by_itself_where_its_clients_know_a_controller(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(clients.folder / "bin"))  # no other scheduler's clients
    assert detect() == "local"
    clients.say("scontrol", "echo 'Slurmctld(primary) at host is DOWN'")
    assert detect() == "slurm", "an outage is no reason to run all jobs on the login node"


def test_what_is_missing_is_named(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    clients.say("scontrol", "echo 'Slurmctld(primary) at host is DOWN'; exit 1")
    assert clients.scheduler.missing() is None
    clients.say("scontrol", "echo 'scontrol: error: no configuration' >&2; exit 1")
    assert "no configuration" in str(clients.scheduler.missing())
    (clients.folder / "bin" / "squeue").unlink()
    monkeypatch.setenv("PATH", str(clients.folder / "bin"))
    assert str(clients.scheduler.missing()).startswith("squeue not found")


@pytest.mark.parametrize(
    ("said", "outage"),
    [
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)", True),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", True),
        ("sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received", True),
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", True),
        ("sbatch: error: Batch job submission failed: Invalid account or account/partition combination", False),
        ("sbatch: error: invalid partition specified: nix", False),
        ("sbatch: unrecognized option '--nix'", False),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit", False),
    ],
)
def test_no_answer_is_told_from_a_refusal(clients: Clients, said: str, outage: bool) -> None:
    clients.say("sbatch", f'cat > /dev/null; echo "{said}" >&2; exit 1')
    with pytest.raises(SchedulerError) as caught:
        clients.scheduler.submit(REQUEST)
    assert isinstance(caught.value, NoAnswer) is outage


def test_where_nobody_answers_slurm_is_not_missing(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm._run, "__defaults__", (0.3, None))
    clients.say("scontrol", "exec sleep 60")
    assert clients.scheduler.missing() is None
    clients.say(
        "squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1"
    )
    with pytest.raises(NoAnswer):
        clients.scheduler.find("ckpt-name")
