"""What is said to Slurm's clients and understood of them; the real Slurm is in tests/clusters."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_executor_plugin_ckpt.errors import BadSetting, NoAnswer, SchedulerError
from snakemake_executor_plugin_ckpt.schedulers import slurm, slurm_text
from snakemake_executor_plugin_ckpt.schedulers.base import FAILED, REQUEUE, Allocation, Liveness, Request
from snakemake_executor_plugin_ckpt.schedulers.commands import run
from snakemake_executor_plugin_ckpt.schedulers.slurm import Slurm
from snakemake_executor_plugin_ckpt.segment.tree import own_age

REQUEST = Request("ckpt-name", Path("/s/job 1/run.sh"), Path("/s/job 1/logs/50%.log"), 7200.0, 5.0)
#: As squeue of Slurm 22.05 said it.
SEEN = """\
4                       PENDING                 1           BeginTime
7                       COMPLETING              0           TimeLimit
8                       RUNNING                 0           None
9                       COMPLETING              0           None
10                      PENDING                 0           Nodes required for job are DOWN, DRAINED or reserved
11                      TIMEOUT                 0           TimeLimit
12                      SPECIAL_EXIT            2           JobHeldUser
13                      COMPLETED               0           None
"""


def words(**extra: str) -> list[str]:
    return slurm_text.submission(replace(REQUEST, extra=extra))


def test_a_submission_asks_for_what_a_chain_needs() -> None:
    said = slurm_text.submission(replace(REQUEST, threads=4, mem_mb=300, exclude=["n1", "n2"]))
    assert said == [
        "sbatch",
        "--parsable",
        "--job-name=ckpt-name",
        "--output=/s/job 1/logs/50%%.log",
        "--open-mode=append",
        "--requeue",
        "--signal=B:USR2@120",
        "--export=ALL",
        "--chdir=/",
        "--time=120",
        "--exclude=n1,n2",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=4",
        "--mem=300M",
    ]


def test_resources_have_the_names_of_the_slurm_plugin() -> None:
    said = words(
        slurm_account="a",
        slurm_partition="p",
        qos="q",
        constraint="zen2|zen3",
        mem_mb_per_cpu="100",
        cpus_per_task="3",
        gpu="2",
        gpu_model="a100",
        gres="tmp:5",
        nodes="1",
        slurm_extra="--nice=5 --comment 'two words' -x n7 --exclude=n8,n9 --mail-type=END",
    )
    assert said[9:] == [
        "--time=120",
        "--exclude=n7,n8,n9",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=3",
        "--mem-per-cpu=100M",
        "--account=a",
        "--partition=p",
        "--qos=q",
        "--gres=tmp:5",
        "--gpus=a100:2",
        "--constraint=zen2|zen3",
        "--nice=5",
        "--comment",
        "two words",
        "--mail-type=END",
    ]


@pytest.mark.parametrize(
    "extra",
    ["--time=5", "-t 5", "-t5", "--tim=5", "-J x", "--no-requeue", "--signal=INT", "-N 2", "--wait", "-a 1-3", "-o x"],
)
def test_an_option_that_is_set_here_is_refused_by_its_name(extra: str) -> None:
    with pytest.raises(BadSetting, match=r"resource slurm_extra.*set by the plugin"):
        words(slurm_extra=extra)


@pytest.mark.parametrize(
    "extra", ["--exclusive", "--wait-all-nodes=1", "--nice", "-L matlab", "--mem-bind=local", "-w n1"]
)
def test_other_options_go_through(extra: str) -> None:
    assert words(slurm_extra=extra)[-len(extra.split()) :] == extra.split()


@pytest.mark.parametrize(
    ("name", "value"), [("nodes", "2"), ("tasks", "8"), ("clusters", "b"), ("slurm_extra", "'unclosed")]
)
def test_what_cannot_be_saved_or_said_is_refused(name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=name):
        words(**{name: value})


def test_the_kind_of_node_is_asked_for_besides_the_users_constraint() -> None:
    request = replace(REQUEST, node_class=("zen*", "zen3"))
    assert slurm_text.submission(request)[-1] == "--constraint=zen3"
    assert slurm_text.submission(replace(request, extra={"constraint": "a|b"}))[-1] == "--constraint=(a|b)&zen3"
    assert slurm_text.node_class("ib,zen3,big\n", "haswell|zen*") == "zen3"
    assert slurm_text.node_class("ib,big", "haswell|zen*") is None


@pytest.mark.parametrize(("seconds", "minutes"), [(1, 1), (60, 1), (61, 2), (172800, 2880)])
def test_a_limit_is_whole_minutes_and_not_shorter(seconds: float, minutes: int) -> None:
    assert slurm_text.minutes(seconds) == minutes


@pytest.mark.parametrize(("walltime", "grace", "ahead"), [(60, 2, 2), (3600, 2, 72), (172800, 2, 120), (60, 300, 300)])
def test_the_warning_leaves_the_grace_and_costs_little(walltime: float, grace: float, ahead: int) -> None:
    assert slurm_text.warning(replace(REQUEST, walltime=walltime, grace=grace)) == ahead


def test_jobs_are_known_by_what_squeue_says() -> None:
    seen = slurm_text.rows(SEEN + "\nsome warning of a site's plugin\n")
    alive = {one for one, row in seen.items() if row.liveness is Liveness.ALIVE}
    assert alive == {"4", "7", "8", "9", "10", "12"}
    assert seen.keys() - alive == {"11", "13"}
    assert {one for one, row in seen.items() if row.waits_in_vain} == {"4"}
    assert {one for one, row in seen.items() if row.needs_requeue} == {"7", "8"}
    assert seen["10"].reason.startswith("Nodes required")
    assert {one for one, row in seen.items() if row.held} == {"12"}


@pytest.mark.parametrize(
    ("reason", "held", "hopeless"),
    [
        ("JobHeldAdmin", True, True),
        ("JobHoldMaxRequeue", True, True),
        ("job requeued in held state", True, True),
        ("launch_failed_requeued_held", True, True),
        ("PartitionTimeLimit", False, True),
        ("QOSMaxWallDurationPerJobLimit", False, True),
        ("BadConstraints", False, True),
        ("Resources", False, False),
        ("QOSMaxJobsPerUserLimit", False, False),
        ("ReqNodeNotAvail, UnavailableNodes:node3", False, False),
    ],
)
def test_what_a_job_waits_for_that_does_not_come_by_itself(reason: str, held: bool, hopeless: bool) -> None:
    assert (slurm_text.Row("PENDING", 0, reason).held, slurm_text.Row("PENDING", 0, reason).hopeless) == (
        held,
        hopeless,
    )
    assert not slurm_text.Row("RUNNING", 0, reason).hopeless


@pytest.mark.parametrize(
    ("said", "job_id"),
    [("123\n", "123"), ("123;cluster\n", "123"), ("Welcome!\n123\n", "123"), ("", None), ("x\n", None)],
)
def test_the_id_of_a_new_job(said: str, job_id: str | None) -> None:
    assert slurm_text.job_id(said) == job_id


@pytest.mark.parametrize(
    ("said", "end"),
    [
        ("0:35                            1795262485                      ", 1795262485.0),
        ("1-02:03:04                      N/A", 1000.0 + 93784),
        ("2:03:04                         NONE", 1000.0 + 7384),
        ("UNLIMITED                       NONE", None),
        ("365-00:00:00                    1826798371", None),
    ],
)
def test_the_end_of_the_walltime(said: str, end: float | None) -> None:
    assert slurm_text.end(said, 1000.0) == end


@pytest.mark.parametrize("said", ["", "INVALID N/A", "NOT_SET NONE"])
def test_an_answer_without_an_end_is_no_end(said: str) -> None:
    with pytest.raises(ValueError, match="not a time"):
        slurm_text.end(said, 0.0)


@pytest.mark.parametrize(
    ("log", "cancelled"),
    [
        ("slurmstepd-node1: error: *** JOB 6 ON node1 CANCELLED AT 2026-11-21T12:17:27 ***\n", True),
        ("slurmstepd: error: *** JOB 6 ON n CANCELLED AT 2026-11-21T12:17:27 DUE to SIGNAL Terminated ***\n", True),
        (
            "slurmstepd-n1: error: *** JOB 6 ON node1 CANCELLED AT 2026-11-21T11:59:32 DUE TO JOB REQUEUE ***\n",
            False,
        ),
        ("slurmstepd-node1: error: *** JOB 7 ON node1 CANCELLED AT 2026-11-21T12:01:25 DUE TO TIME LIMIT ***\n", False),
        ("", False),
    ],
)
def test_the_users_own_cancel_is_told_from_slurms(log: str, cancelled: bool) -> None:
    assert slurm_text.was_cancelled(log) is cancelled


def test_nodes_are_excluded_by_slurms_names_and_unknown_ones_not_at_all() -> None:
    said = "n1        host1.site.org   \nn2        host2            \nn2        host2            \n"
    assert slurm_text.node_names(said, ["host1.site.org", "host2.site.org", "n2", "gone"]) == ["n1", "n2", "n2"]


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


def test_a_waiting_job_is_kept_off_nodes_before_it_is_hastened(clients: Clients) -> None:
    clients.show("1 PENDING 1 BeginTime\n")
    clients.say("sinfo", "echo 'n1 host1'")
    clients.scheduler.liveness(["1"])
    for _ in range(2):
        clients.scheduler.hasten(["1"], {"1": ["host1"]})
    assert [call for call in clients.called() if call.startswith("scontrol")] == [
        "scontrol update JobId=1 ExcNodeList=n1",
        "scontrol update JobId=1 StartTime=now+5",
    ]


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
