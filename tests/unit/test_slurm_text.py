"""What is said to Slurm, and what is made of its answers: words and text alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_executor_plugin_ckpt.errors import BadSetting
from snakemake_executor_plugin_ckpt.schedulers import slurm_text
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness, Request

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
        tasks="1",
        tasks_per_gpu="-1",
        reservation="r",
        slurm_requeue="True",
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
        "--reservation=r",
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
    ("name", "value", "remedy"),
    [
        *(
            (name, value, "use threads")
            for name in ("nodes", "tasks", "tasks_per_node", "tasks_per_gpu")
            for value in "2x"
        ),
        ("slurm_requeue", "False", "goes on by a requeue"),
        ("cpus_per_gpu", "many", "number"),
        ("slurm_extra", "'unclosed", "shell words"),
    ],
)
def test_what_cannot_be_saved_or_said_is_refused_with_what_would_be_right(name: str, value: str, remedy: str) -> None:
    with pytest.raises(BadSetting, match=remedy) as caught:
        words(**{name: value})
    assert (caught.value.option, caught.value.value) == (f"resource {name}", value)
    assert name in slurm_text.RESOURCES, "else it would not come so far"


@pytest.mark.parametrize("gpus", [{"gpu": "2"}, {"gres": "gpu:1"}, {"gpu_model": "a100"}])
def test_cpus_may_be_asked_for_by_the_gpu_where_there_is_one(gpus: dict[str, str]) -> None:
    said = words(cpus_per_gpu="8", cpus_per_task="3", **gpus)
    assert "--cpus-per-gpu=8" in said and not [word for word in said if word.startswith("--cpus-per-task")]
    assert "--cpus-per-task=3" in words(cpus_per_gpu="8", cpus_per_task="3")


@pytest.mark.parametrize("name", slurm_text.RESOURCES)
def test_every_resource_that_is_known_is_heeded_or_refused(name: str) -> None:
    # With a GPU, where some only count, and values that are no default.
    few: dict[str, str] = {"gpu": "1"} if name != "gpu" else {}
    try:
        assert words(**{**few, name: "7"}) != words(**few)
    except BadSetting as error:
        assert name in error.option


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
        ("jobheldadmin", True, True),
        ("job requeued in held state", True, True),
        ("launch_failed_requeued_held", True, True),
        ("PartitionTimeLimit", False, True),
        ("QOSMaxWallDurationPerJobLimit", False, True),
        ("BadConstraints", False, True),
        ("PartitionConfig", False, True),
        ("ReservationInvalid", False, True),
        ("ReservationDeleted", False, True),
        ("QOSMaxMemoryPerJob", False, True),
        ("QOSMaxMemoryPerNode", False, True),
        ("AssocMaxMemPerJob", False, True),
        ("MaxMemPerLimit", False, True),
        ("QOSMaxCpuPerNode", False, True),
        ("QOSMaxCpuPerJobLimit", False, True),
        ("AssocMaxCpuMinutesPerJobLimit", False, True),
        ("QOSMaxCPUMinutesPerJobLimit", False, True),
        ("QOSMaxNodePerJobLimit", False, True),
        ("QOSMaxGRESPerJob", False, True),
        ("QOSMinCpuNotSatisfied", False, True),
        ("QOSMinMemory", False, True),
        ("QOSMinGRES", False, True),
        ("Resources", False, False),
        ("Reservation", False, False),
        ("QOSMaxJobsPerUserLimit", False, False),
        ("QOSMaxMemoryPerUser", False, False),
        ("QOSMaxSubmitJobPerUserLimit", False, False),
        ("QOSGrpCpuLimit", False, False),
        ("AssocGrpMemLimit", False, False),
        ("AssocMaxJobsLimit", False, False),
        ("MaxMemoryPerAccount", False, False),
        ("PartitionDown", False, False),
        ("ReqNodeNotAvail, UnavailableNodes:node3", False, False),
    ],
)
def test_what_a_job_waits_for_that_does_not_come_by_itself(reason: str, held: bool, hopeless: bool) -> None:
    assert (slurm_text.Row("PENDING", 0, reason).held, slurm_text.Row("PENDING", 0, reason).hopeless) == (
        held,
        hopeless,
    )
    assert not slurm_text.Row("RUNNING", 0, reason).hopeless


def test_a_job_whose_reservation_was_deleted_is_alive_and_held() -> None:
    (row,) = slurm_text.rows("6   RESV_DEL_HOLD   0   Reservation we was deleted  \n").values()
    assert (row.liveness, row.held, row.hopeless) == (Liveness.ALIVE, True, True)


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
