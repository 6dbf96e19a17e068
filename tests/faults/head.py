"""The head of one job as a process of its own, without Snakemake: ``python -m faults.head PLAN``.

It does what the executor does, in its order, so that it can be killed anywhere and run again: opens the job's
folder (or attaches to what an earlier one left), follows `chain.decide` until the job is over, acknowledges.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from faults.plan import Plan
from snakemake_executor_plugin_ckpt.chain import Step
from snakemake_executor_plugin_ckpt.errors import CkptError
from snakemake_executor_plugin_ckpt.head.scripts import write_scripts
from snakemake_executor_plugin_ckpt.head.watched import WatchedJob
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness
from snakemake_executor_plugin_ckpt.schedulers.local import Local
from snakemake_executor_plugin_ckpt.state.records import Job

#: What the head's exit status says of the job.
SUCCEEDED, OWN_FAILURE, GIVEN_UP, TROUBLE = 0, 10, 11, 12
_ROUND = 0.1


def main(plan: Plan) -> int:
    scheduler = Local(plan.state)
    try:
        watched = _open(plan, scheduler)
        if watched.job.acknowledged:
            return SUCCEEDED
        step = watched.next_step(_liveness(watched))
        if step.action == "fail" and not step.retry:
            watched.forgive()
    except (CkptError, OSError) as error:
        print(f"head: {error}", flush=True)
        return TROUBLE
    while True:
        try:
            status = _advance(watched)
        except (CkptError, OSError) as error:
            print(f"head: {error}; looking again", flush=True)
            status = None
        if status is not None:
            return status
        time.sleep(_ROUND)


def _open(plan: Plan, scheduler: Local) -> WatchedJob:
    folder = plan.folder
    folder.make()
    with folder.lock():
        if folder.job() is None:
            write_scripts(folder, str(plan.work), plan.animal.command)
            folder.begin_attempt(
                Job(
                    key=folder.path.name,
                    rule="rule",
                    wildcards="",
                    workdir=str(plan.work),
                    attempt=1,
                    fingerprint="fp",
                    created=time.time(),
                    policy=plan.policy.to_dict(),
                    watched=[str(plan.work / name) for name in plan.animal.watched],
                )
            )
    return WatchedJob(folder, scheduler)


def _liveness(watched: WatchedJob) -> dict[str, Liveness]:
    job_id = watched.job_id
    return {} if job_id is None else watched.scheduler.liveness([job_id])


def _advance(watched: WatchedJob) -> int | None:
    step = watched.next_step(_liveness(watched))
    if step.action == "succeed":
        watched.acknowledge()
        return SUCCEEDED
    if step.action == "fail":
        print(f"head: {step.reason}", flush=True)
        return OWN_FAILURE if step.retry else GIVEN_UP
    _submit_if(watched, step)
    return None


def _submit_if(watched: WatchedJob, step: Step) -> None:
    if step.action == "lost":
        watched.folder.declare_lost(watched.segments()[-1].number, step.reason)
        step = watched.next_step(_liveness(watched))
    if step.action == "submit":
        watched.submit(step)


if __name__ == "__main__":
    sys.exit(main(Plan.read(Path(sys.argv[1]))))
