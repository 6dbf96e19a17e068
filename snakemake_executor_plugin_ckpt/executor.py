"""The executor: hands jobs to their chains and tells Snakemake how they end. No rule of a chain is decided here."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.real import RealExecutor
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.settings import SharedFSUsage
from snakemake_interface_executor_plugins.utils import format_cli_arg

from snakemake_executor_plugin_ckpt.chain import Step
from snakemake_executor_plugin_ckpt.errors import BadSetting, CkptError, NoAnswer, StateError
from snakemake_executor_plugin_ckpt.head import chains, interrupt, narrate, preflight, snakejob
from snakemake_executor_plugin_ckpt.head.asking import Asker
from snakemake_executor_plugin_ckpt.head.others import check_files
from snakemake_executor_plugin_ckpt.head.refusing import set_aside, stop_writing
from snakemake_executor_plugin_ckpt.head.scripts import write_scripts
from snakemake_executor_plugin_ckpt.head.trouble import Trouble
from snakemake_executor_plugin_ckpt.head.watched import WatchedJob, stop
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness, load_scheduler
from snakemake_executor_plugin_ckpt.settings import ExecutorSettings, base_policy, policy_for
from snakemake_executor_plugin_ckpt.state import durable
from snakemake_executor_plugin_ckpt.state.folder import JobFolder
from snakemake_executor_plugin_ckpt.state.records import Job

#: Seconds between two looks at the records: where they are on this machine, and where on a cluster's disk.
_LOCAL_ROUND, _SHARED_ROUND = 0.5, 5.0
#: Seconds that a batch job may take to end when its rule was changed.
_STOP_LIMIT = 120.0
#: Seconds after Ctrl-C that a submission under way has to come to its end.
_LAST_STEP = 3.0
#: A rule's `retries` are for the head, which asks for other resources with each attempt; but the in-job Snakemake
#: would make them too (slurm plugin's issue 284: --retries 0 does not hold for them, and this does).
_NO_RETRIES_INSIDE = "--preemptible-rules --preemptible-retries 0"


class Executor(RemoteExecutor):
    """See the module, and `RemoteExecutor` for the methods that Snakemake calls."""

    def __init__(self, workflow: Any, logger: Any) -> None:
        # The status thread starts inside super().__init__, before all that it uses is there; and if it fails so early,
        # it is gone without a word, and Snakemake waits for ever.
        self._made = threading.Event()
        settings = workflow.executor_settings or ExecutorSettings()
        self._workdir = os.getcwd()
        self._watched: dict[str, WatchedJob] = {}
        self._earlier: chains.Survey | None = None
        self._narrator = narrate.Narrator(logger)
        self._on_interrupt = settings.on_interrupt
        self._trouble = Trouble(logger)
        self._ending = False
        self._step_lock = threading.Lock()
        try:
            self._base: Policy = base_policy(settings)
            known = snakejob.fixed_resources(workflow)
            policies = [(rule, policy_for(self._base, rule, resources, threads=1)) for rule, resources in known]
            self._state_dir = preflight.open_state_dir(settings.state_dir, self._workdir)
            self._scheduler = load_scheduler(self._base.scheduler_place, self._state_dir)
            self._asker = Asker(self._scheduler)
            for rule, policy in policies:
                preflight.check_resources(rule, policy, self._scheduler)
            preflight.check(self._base, self._scheduler)
            self._lease = preflight.lease(self._state_dir, self._workdir, logger.warning)
        except (CkptError, OSError) as error:
            raise WorkflowError(str(error)) from None
        super().__init__(workflow, logger)
        self.next_seconds_between_status_checks = _SHARED_ROUND if self._scheduler.shared else _LOCAL_ROUND
        self._made.set()

    # -- submitting ------------------------------------------------------------------------------------------------

    def run_job(self, job: JobExecutorInterface) -> None:
        """Start a job's chain, or attach to the one that an earlier head left."""
        watched, external = None, None
        try:
            watched = self._open(job)
            self._watched[watched.job.key] = watched  # by now, for a Ctrl-C while it is submitted
            self._take_up(watched)
            external = None if watched.unanswered else watched.job_id
        except NoAnswer as error:
            self._wait_for_scheduler(error)
        except (CkptError, OSError) as error:
            if watched is None or watched.can_be_refused():
                self._forget(watched.job.key if watched else None)
                self._refuse(job, error)
                return
            self._tell_trouble(watched.job.key, error)  # to watch it needs no answer now
        key = watched.job.key if watched else None  # None: see _open_late
        self.report_job_submission(SubmittedJobInfo(job, external_jobid=external, aux={"key": key}))

    def _open_late(self, info: SubmittedJobInfo) -> bool:
        """Open a job that has an earlier chain, of which nothing could be known when it came; whether it failed now."""
        if not self._asker.outage.over:
            return False
        try:
            watched = self._open(info.job)
        except NoAnswer:
            raise
        except (CkptError, OSError) as error:
            self._keep_outputs(self._stop_writing(info.job, error), info.job, str(error))
            self._fail(info, error)
            return True
        self._watched[watched.job.key] = watched
        info.aux["key"] = watched.job.key
        return False

    def _take_up(self, watched: WatchedJob) -> None:
        if not self._asker.can_step(watched):
            return
        known = self._asker.at_once(watched)
        step = watched.next_step(known)
        if step.action == "fail":
            watched.forgive()
            step = watched.next_step(known)
        self._narrator.attached(watched, step)
        self._submit_if(watched, step, known)

    def _refuse(self, job: JobExecutorInterface, error: CkptError | OSError) -> None:
        """Fail a job before it is registered: the one way to fail it alone. Nothing of its chain is lost."""
        made = self._stop_writing(job, error)
        try:
            self._keep_outputs(made, job, str(error))
        except StateError as trouble:  # later, as one of which nothing could be known when it came
            self._tell_trouble(snakejob.name_of(job), trouble)
            self.report_job_submission(SubmittedJobInfo(job, aux={"key": None}))
            return
        info = SubmittedJobInfo(job)
        self.report_job_submission(info, register_job=False)
        self._take_out(info)
        self._fail(info, error)

    def _fail(self, info: SubmittedJobInfo, error: CkptError | OSError) -> None:
        if isinstance(error, BadSetting):
            snakejob.give_up(info.job)
        self._report(info, f"{error} ")

    def _stop_writing(self, job: JobExecutorInterface, error: CkptError | OSError) -> list[WatchedJob]:
        return stop_writing(job, error, self._scheduler, self._workdir, self.logger)

    def _keep_outputs(self, made: list[WatchedJob], job: JobExecutorInterface, why: str) -> None:
        if not self.workflow.execution_settings.keep_incomplete:
            set_aside(made, snakejob.outputs_of(job, self._workdir), why)

    def _open(self, job: JobExecutorInterface) -> WatchedJob:
        """The job's folder: the one of an unfinished chain with the same code and inputs, else begun anew."""
        rule, mine = snakejob.name_of(job), snakejob.watched_of(job, self._workdir)
        policy = policy_for(self._base, rule, dict(job.resources), job.threads)
        preflight.check_resources(rule, policy, self._scheduler)
        check_files(policy.files, rule, mine, self.workflow.dag.jobs, self._workdir)
        key = snakejob.key_of(job, self._workdir)
        folder = JobFolder(self._state_dir / key)
        if job.is_group() and (watched := self._regrouped(job, key, policy)):
            return watched
        folder.make()
        fingerprint = snakejob.fingerprint_of(job, self._workdir, policy.engine)
        with folder.lock():
            old = folder.job()
            if old is not None:
                self._uncover(WatchedJob(folder, self._scheduler), job)
            if old is not None and self._goes_on(folder, old, old.fingerprint == fingerprint, job):
                return self._attach(folder, policy)
            if old is not None:
                self._stop([WatchedJob(folder, self._scheduler)])
                if old.fingerprint != fingerprint and folder.exit_status() is None:
                    self._narrator.stale(old)
            self._begin(folder, key, job, policy, fingerprint, old)
        return WatchedJob(folder, self._scheduler)

    def _stop(self, chains: list[WatchedJob]) -> None:
        if not self._asker.outage.over and any(watched.submission for watched in chains):
            raise NoAnswer("whether an earlier batch job runs cannot be asked now")
        stop(chains, _STOP_LIMIT)

    def _uncover(self, watched: WatchedJob, job: JobExecutorInterface) -> None:
        """Put a job's outputs back in their places, marked as incomplete before the first one is seen there."""
        watched.check_scheduler()
        if watched.has_aside():
            job.register()
        watched.put_back()

    def _attach(self, folder: JobFolder, policy: Policy) -> WatchedJob:
        folder.clear_request("park")
        folder.clear_request("cancel")
        watched = WatchedJob(folder, self._scheduler)
        watched.renew(policy)
        return watched

    def _regrouped(self, job: JobExecutorInterface, key: str, policy: Policy) -> WatchedJob | None:
        """The chain of a larger group of which this one is left, since its other jobs are done.

        A chain that makes the same files and cannot be gone on with is ended: two would write at once.
        """
        files, attached, ended = snakejob.watched_of(job, self._workdir), None, []
        makers = self._survey().known(key, files, snakejob.group_of(job))
        for path in {makers[file] for file in files if file in makers and makers[file].name != key}:
            folder = JobFolder(path)
            with folder.lock():
                old = folder.job()
                if old is None or old.acknowledged:
                    continue
                self._uncover(WatchedJob(folder, self._scheduler), job)
                fingerprint = snakejob.fingerprint_of(job, self._workdir, policy.engine, set(old.watched))
                if self._goes_on(folder, old, snakejob.covers(old.fingerprint, fingerprint), job):
                    attached = self._attach(folder, policy)
                    break
                if old.key not in self._watched:
                    ended.append(WatchedJob(folder, self._scheduler))
        self._stop(ended)
        for watched in ended:
            if watched.folder.exit_status() is None:
                self._narrator.stale(watched.job)
        return attached

    def _survey(self) -> chains.Survey:
        if self._earlier is None:
            self._earlier = chains.survey(self._state_dir, self._workdir)
            if text := self._earlier.passed_over():
                self.logger.warning(f"ckpt: {text}")
        return self._earlier

    def _goes_on(self, folder: JobFolder, old: Job, unchanged: bool, job: JobExecutorInterface) -> bool:
        if not unchanged or old.acknowledged:
            return False
        status = folder.exit_status()
        if status is None:
            return folder.run_script.exists()
        # It ended while no head was there to see it.
        return status == 0 and snakejob.outputs_exist(job, self._workdir)

    def _begin(
        self, folder: JobFolder, key: str, job: JobExecutorInterface, policy: Policy, fingerprint: str, old: Job | None
    ) -> None:
        # A job file and scripts of two attempts are never found together: without run.sh it is no chain to go on with.
        folder.run_script.unlink(missing_ok=True)
        durable.fsync_path(folder.path)
        attempt = old.attempt + 1 if old else 1
        folder.begin_attempt(snakejob.record_of(job, key, self._workdir, policy, fingerprint, attempt))
        write_scripts(folder, self._workdir, self.format_job_exec(job))

    def get_job_args(self, job: JobExecutorInterface, **kwargs: Any) -> str:
        """The in-job Snakemake's arguments; it must not wait for the head's temporary folder, which dies with it."""
        arguments = f"{RealExecutor.get_job_args(self, job, **kwargs)} {_NO_RETRIES_INSIDE}"
        if SharedFSUsage.INPUT_OUTPUT not in self.workflow.storage_settings.shared_fs_usage:
            return arguments
        # In a file of the job folder: a list of thousands of inputs is too long for a command line.
        listed = JobFolder(self._state_dir / snakejob.key_of(job, self._workdir)).path / "wait-for-files"
        durable.replace(listed, "".join(f"{path}\n" for path in job.get_wait_for_files()).encode())
        return f"{arguments} {format_cli_arg('--wait-for-files-file', str(listed))}"

    def _submit_if(self, watched: WatchedJob, step: Step, known: dict[str, Liveness]) -> None:
        if step.action == "lost":
            watched.folder.declare_lost(watched.segments()[-1].number, step.reason)
            step = watched.next_step(known)
        if step.action == "submit" and self._asker.outage.over and watched.refused.over:
            watched.submit(step)
            self._asker.outage.succeeded()

    # -- watching --------------------------------------------------------------------------------------------------

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Look at all jobs once; one question to the scheduler for all of them."""
        self._made.wait()
        infos = [info for info in active_jobs if info.aux]
        async with self.status_rate_limiter:
            known = self._ask(dict.fromkeys(info.aux["key"] for info in infos))
        for info in infos:
            # A job that is being parked must not get a next segment in the same moment.
            with self._step_lock:
                over = not self._ending and self._turn(info, known)
            if not over:
                yield info
        if not self._asker.outage.failing:
            self._narrator.answers(self._scheduler.name)

    def _ask(self, keys: Iterable[str | None]) -> dict[str, Liveness]:
        watched = [found for key in keys if key and (found := self._watched.get(key))]
        try:
            known = self._asker.liveness(watched)
            self._narrator.waits_in_vain(watched, self._asker.held, self._asker.silent)
        except Exception as error:  # see _turn; what is not known is asked again
            self._tell_trouble(self._scheduler.name, error)
            return {}
        return known

    def _turn(self, info: SubmittedJobInfo, known: dict[str, Liveness]) -> bool:
        """Do the next step of a job; whether it is over.

        Whatever goes wrong, no exception leaves this: it would end the watching of all jobs, and leave them alone.
        """
        key = info.aux["key"]
        try:
            return self._open_late(info) if key is None else self._advance(self._chain_of(key), info, known)
        except NoAnswer as error:
            self._wait_for_scheduler(error)
        except Exception as error:
            self._tell_trouble(key or snakejob.name_of(info.job), error)
        return False

    def _chain_of(self, key: str) -> WatchedJob:
        # Two jobs can be parts of one chain, of a group that was larger (see _regrouped): one may be over before the
        # other, and is forgotten.
        return self._watched.get(key) or self._watched.setdefault(
            key, WatchedJob(JobFolder(self._state_dir / key), self._scheduler)
        )

    def _advance(self, watched: WatchedJob, info: SubmittedJobInfo, known: dict[str, Liveness]) -> bool:
        if not self._asker.can_step(watched):
            return False
        step = watched.next_step(known)
        self._narrator.progress(watched)
        match step.action:
            case "succeed":
                # Before the report: Snakemake may end with it, and a job that was never acknowledged would not be
                # computed again when the user forces it.
                watched.acknowledge()
                self._forget(watched.job.key)
                self.report_job_success(info)
                return True
            case "fail":
                self._report_failure(watched, info, step)
                return True
            case "lost":
                # It may have died when its Snakemake had ended, and removed the mark; now outputs are rolled back.
                info.job.register(external_jobid=info.external_jobid)
                self._submit_if(watched, step, known)
            case _:
                self._submit_if(watched, step, known)
        return False

    def _tell_trouble(self, name: str, error: Exception) -> None:
        watched = self._watched.get(name)
        refused = watched is not None and str(error) == watched.refusal  # that is rare: see WatchedJob.refused
        self._trouble.tell(name, error, always=refused)

    def _wait_for_scheduler(self, error: NoAnswer) -> None:
        self._asker.outage.failed()
        self._narrator.outage(self._scheduler.name, error)

    def _report_failure(self, watched: WatchedJob, info: SubmittedJobInfo, step: Step) -> None:
        if not step.retry:
            self._keep_outputs([watched], info.job, step.reason)
            snakejob.give_up(info.job)
        log = watched.folder.payload_log
        message = f"{step.reason}\n{narrate.tail(log)}Job folder: {watched.folder.path}\n"
        self._forget(watched.job.key)  # nothing but the report comes after it: what fails before is done again
        self._report(info, message, [str(log)])

    def _report(self, info: SubmittedJobInfo, message: str, logs: list[str] | None = None) -> None:
        if info.job.is_group():  # Snakemake leaves a group's message out
            self.logger.error(f"ckpt: {snakejob.name_of(info.job)}: {message}")
        self.report_job_error(info, msg=message, aux_logs=logs or [])

    def _forget(self, key: str | None) -> None:
        if key:
            self._watched.pop(key, None)

    def _take_out(self, info: SubmittedJobInfo) -> None:
        with self.lock, suppress(ValueError):  # the status thread has it already, and passes it over
            self.active_jobs.remove(info)

    # -- ending ----------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Ctrl-C, or an error of the workflow: park, leave or end the jobs, by ``--ckpt-on-interrupt``."""
        self._ending = True
        if not self._step_lock.acquire(timeout=_LAST_STEP):
            self._scheduler.leave()  # it does not answer; what was just submitted parks, or is found by its name later
            self.logger.info("ckpt: waiting for a step that is under way (Ctrl-C again: leave at once)")
            self._step_lock.acquire()
        self._step_lock.release()
        try:
            # Not active_jobs: that list is empty while a round is under way.
            interrupt.end(list(self._watched.values()), self._on_interrupt, self.logger)
        finally:
            self._scheduler.leave()  # a question that nobody needs an answer to any more
            self.shutdown()

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """See `cancel`, which does not come here."""

    def shutdown(self) -> None:
        """See `RemoteExecutor.shutdown`."""
        if self._watched and not (self._ending or self.workflow.remote_execution_settings.immediate_submit):
            self.cancel()  # the status thread is dead: Snakemake does not do it then, and would leave its jobs alone
        else:
            super().shutdown()
            self._lease.release()
