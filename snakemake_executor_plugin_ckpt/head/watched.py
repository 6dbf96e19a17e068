"""One job as the head sees it: its folder, its batch job, and the doing of what `chain.decide` says."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from snakemake_executor_plugin_ckpt import chain, faults
from snakemake_executor_plugin_ckpt.errors import CkptError, NoAnswer, SchedulerError, StateError
from snakemake_executor_plugin_ckpt.head.backoff import Backoff
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness, Request, Scheduler, pauses
from snakemake_executor_plugin_ckpt.state.folder import JobFolder
from snakemake_executor_plugin_ckpt.state.records import Job, Segment, Submission

#: Longest pause (s) between two looks at batch jobs that are to end: of this machine's own, and where others ask too.
_LOCAL_PAUSE, _SHARED_PAUSE = 0.1, 2.0


class WatchedJob:
    """See the module.

    Parameters
    ----------
    folder
        The job's folder, with its job file.
    scheduler
        Who runs its segments.

    Attributes
    ----------
    refusal
        What the scheduler said if it refused the newest submission of this head.
    refused
        When the next submission may be tried, if it did.
    alive
        What was known of its batch job at the last look; None: there is none.
    """

    def __init__(self, folder: JobFolder, scheduler: Scheduler) -> None:
        job = folder.job()
        assert job is not None
        self.folder = folder
        self.scheduler = scheduler
        self.job: Job = job
        self.policy = Policy.from_dict(job.policy)
        self.submission: Submission | None = self._newest_submission()
        #: When something new was last heard of the job (s, monotonic clock), and its segments as they were then.
        self.heard = time.monotonic()
        self.last_segments: list[Segment] = []
        self.refusal: str | None = None
        self.refused = Backoff()
        self.alive: Liveness | None = None
        self._over: dict[int, Segment] = {}

    def _newest_submission(self) -> Submission | None:
        mine = self._submissions()
        return mine[-1] if mine else None

    def _submissions(self) -> list[Submission]:
        """Those of this attempt. Of another scheduler's nothing can be asked here: its ids and names mean others."""
        mine = [one for one in self.folder.submissions() if one.attempt == self.job.attempt]
        return [one for one in mine if one.scheduler == self.scheduler.name]

    @property
    def unanswered(self) -> bool:
        """Whether a batch job was asked for, and it is not known whether there is one."""
        return self.submission is not None and self.submission.job_id is None and self.submission.void is None

    @property
    def job_id(self) -> str | None:
        """The id of the newest batch job, looked up by its name if the answer to its submission was lost.

        Also if it was refused: only what is not known by its name was surely not accepted.
        """
        if self.submission is not None and self.unanswered:
            found = self.scheduler.find(self.submission.name)
            if found is not None:
                self.submission = self.folder.submitted(self.submission, found)
            else:
                self.submission = self.folder.void(self.submission, self.refusal or "")
        return None if self.submission is None else self.submission.job_id

    def batch_job_of(self, segment: Segment | None) -> str | None:
        """The id of a segment's batch job; None where it is another scheduler's, or the segment is lost."""
        if segment is None or segment.scheduler != self.scheduler.name or self._lost(segment):
            return None
        return segment.job_id

    def at_work(self) -> str | None:
        """The id of the batch job that has run the chain last, if it does so still or will again.

        It is not the newest one where an answer was lost, and the batch job was not found again: then there are two.
        """
        last = self.folder.last_segment()
        requeued = last is not None and last.outcome == "saved" and not last.parked and last.attempt == self.job.attempt
        return self.batch_job_of(last) if requeued or not self.settled() else None

    def job_ids(self) -> list[str]:
        """The batch jobs that may run something of it: the newest one, and the one that is at work."""
        return [one for one in dict.fromkeys((self.at_work(), self.job_id)) if one is not None]

    @property
    def last(self) -> Segment | None:
        """The last segment, as it was at the last look."""
        return self.last_segments[-1] if self.last_segments else None

    def segments(self) -> list[Segment]:
        """The segments that count now; records of segments that are over are read once."""
        found = []
        for number in self.folder.segment_numbers():
            segment = self._over.get(number) or self.folder.segment(number)
            if segment.outcome != "running":
                self._over[number] = segment
            if segment.attempt == self.job.attempt and number > (self.job.since or 0):
                found.append(segment)
        return found

    def next_step(self, known: Mapping[str, Liveness]) -> chain.Step:
        """What is next, given what the scheduler said of all batch jobs in this round.

        Raises
        ------
        SchedulerError, StateError, OSError
            It cannot be known now.
        """
        job_id = self.job_id
        alive = None if job_id is None else known.get(job_id, Liveness.UNKNOWN)
        segments = self.segments()  # after the scheduler was asked: a job that just ended has its record by now
        last = segments[-1] if segments else None
        gone = alive in (None, Liveness.GONE)
        first = self.batch_job_of(last)
        if last is not None and first not in (None, job_id) and (gone or last.outcome == "running"):
            # Two batch jobs, because an answer was lost and the first was not found again. The one that runs counts,
            # also between two of its segments.
            its = known.get(last.job_id, Liveness.UNKNOWN)
            if last.job_id not in known and not self.scheduler.shared:
                its = self.scheduler.liveness([last.job_id])[last.job_id]
                segments = self.segments()
            # Without an answer a third one must not be queued; on this machine it would fail of the same trouble.
            waits = its is Liveness.ALIVE or (its is Liveness.UNKNOWN and self.scheduler.shared)
            alive = its if last.outcome == "running" or waits else alive
            last = segments[-1]
        lost = self._lost(last)
        self.alive = alive
        self._hear(segments)
        if last is not None and last.outcome == "running" and not lost:
            self._check(last)
        since = self._submitted_since(last)
        unstarted = sum(one.void is None for one in since)
        status = self.folder.exit_status()
        return chain.decide(segments, lost, status, alive, unstarted, self.policy, _refusals(since))

    @property
    def between_segments(self) -> bool:
        """Whether the last segment is over, and what comes next depends on its batch job."""
        return self.last is not None and self.last.outcome != "running"

    def _hear(self, segments: list[Segment]) -> None:
        if _gist(segments) != _gist(self.last_segments):
            self.heard = time.monotonic()
        self.last_segments = segments

    def _lost(self, segment: Segment | None) -> bool:
        return segment is not None and self.folder.lost(segment.number) is not None

    def _submitted_since(self, last: Segment | None) -> list[Submission]:
        """Submissions since the last segment's own; by numbers, because the clocks of head and nodes need not agree."""
        mine = self._submissions()
        started = self.job.submitted or 0
        if last is not None:
            # Its own, by the id too: a node may see a submission later than it is started by it (NFS).
            own = (one.number for one in mine if (one.scheduler, one.job_id) == (last.scheduler, last.job_id))
            started = max(started, last.submission or 0, *own)
        return [one for one in mine if one.number > started]

    def submit(self, step: chain.Step) -> None:
        """Submit a batch job for the next segment.

        Raises
        ------
        NoAnswer
            The next look finds it by its name, if it was accepted.
        SchedulerError, BadSetting, OSError
            It was refused, or could not even be said: see `refusal`.
        """
        self.submission = self.folder.intend(self.job.attempt, self.scheduler.name, step.reason)
        self.refusal = None
        try:
            job_id = self.scheduler.submit(self._request(self.submission, step))
        except NoAnswer:
            raise
        except (CkptError, OSError) as error:
            self.refusal = str(error)
            self.refused.failed()
            raise
        self.refused.succeeded()
        faults.point("submit.answered")
        self.submission = self.folder.submitted(self.submission, job_id)
        self.heard = time.monotonic()

    def _request(self, submission: Submission, step: chain.Step) -> Request:
        # What one segment began, the next ones go on with: also where all before it are lost.
        policy = self.policy.of_later_segments() if self.last_segments else self.policy
        return replace(
            request_of(policy, self.folder, submission.name, self.job.workdir),
            log=self.folder.logs_folder / f"batch-{submission.number:04d}.log",
            exclude=step.exclude,
            node_class=self._node_class(),
        )

    def _node_class(self) -> tuple[str, str] | None:
        """The kind of node on which the newest image was made, where the site has a name for it."""
        name = self.policy.node_property
        made = [one.node.get("class") for one in self.last_segments if one.generation is not None]
        return (name, str(made[-1])) if name and made and made[-1] else None

    def renew(self, policy: Policy) -> None:
        """Take over settings that were changed since the chain began, such as a longer walltime; for later segments."""
        if policy != self.policy:
            self.policy = policy
            self.job = replace(self.job, policy=policy.to_dict())
            self.folder.write_job(self.job)

    def forgive(self) -> None:
        """The user ran the workflow again: failures so far no longer speak against going on from the images."""
        numbers = self.folder.segment_numbers()
        submitted = [one.number for one in self.folder.submissions()]
        self.job = replace(
            self.job,
            since=numbers[-1] if numbers else None,
            submitted=submitted[-1] if submitted else None,
            created=time.time(),
        )
        self.folder.write_job(self.job)

    def set_aside(self, paths: Iterable[str]) -> None:
        """Hide outputs that the images need from Snakemake, which removes those of a job that failed."""
        for path in paths:
            faults.point("aside.begin")
            with suppress(FileNotFoundError):
                os.rename(path, self._aside(path))
            faults.point("aside.done")

    def has_aside(self) -> bool:
        """Whether outputs are hidden."""
        return any(os.path.lexists(self._aside(path)) for path in self.job.watched)

    def put_back(self) -> None:
        """Undo `set_aside`; what is in an output's place by now stays there."""
        for path in self.job.watched:
            aside = self._aside(path)
            if os.path.lexists(aside) and not os.path.lexists(path):
                os.rename(aside, path)

    def _aside(self, path: str) -> str:
        # In the same folder: anywhere else may be another file system.
        folder, name = os.path.split(path)
        return os.path.join(folder, f".ckpt-{self.job.key[-16:]}-{name}")

    def acknowledge(self) -> None:
        """Snakemake was told of the success: images and temporary files are no longer needed; history and logs stay."""
        self.job = replace(self.job, acknowledged=True)
        self.folder.write_job(self.job)
        with suppress(OSError):  # what stays is for `ckpt gc`
            self.folder.discard()

    def check_scheduler(self) -> None:
        """Make sure that whether the job's segment lives can be asked.

        Raises
        ------
        StateError
            Another scheduler runs it.
        """
        last = self.folder.last_segment()
        if last is not None and not self.settled():
            self._check(last)

    def _check(self, last: Segment) -> None:
        if last.scheduler != self.scheduler.name:
            raise StateError(
                f"segment {last.number} of {self.job.key} runs under --ckpt-scheduler {last.scheduler} "
                f"(batch job {last.job_id}). Start snakemake with that one, or again when this job is saved"
            )

    def can_be_refused(self) -> bool:
        """Whether it is sure that no segment of the job runs, and that there is no batch job of which nothing is known.

        A refusal is taken at its word here.
        """
        try:
            return self.settled() and (self.refusal is not None or not self.unanswered)
        except (CkptError, OSError):
            return False

    def settled(self) -> bool:
        """Whether no segment of the job runs."""
        last = self.folder.last_segment()
        return last is None or last.outcome != "running" or self.folder.lost(last.number) is not None


def request_of(policy: Policy, folder: JobFolder, name: str, workdir: str) -> Request:
    """What is asked of a scheduler for a segment, as far as the policy tells."""
    return Request(
        name=name,
        script=folder.run_script,
        log=folder.payload_log,
        walltime=policy.walltime,
        grace=policy.grace,
        threads=policy.threads,
        mem_mb=policy.mem_mb,
        extra=policy.extra,
        workdir=workdir,
    )


def stop(jobs: Sequence[WatchedJob], limit: float) -> None:
    """End the batch jobs of jobs of one scheduler and wait until they are gone, with one question a round for all.

    Raises
    ------
    StateError
        Another scheduler runs one of them.
    NoAnswer
        It is not known whether they are gone.
    SchedulerError
        One is still there after `limit` seconds.
    """
    for job in jobs:
        job.check_scheduler()
    # Also of a twin of the newest one: what it runs would write its exit status after it was thought to be gone.
    ids = {job_id: job for job in jobs for job_id in job.job_ids()}
    if not ids:
        return
    scheduler = jobs[0].scheduler
    for job in ids.values():
        job.folder.request("cancel")
    scheduler.cancel(list(ids))
    until, pause = time.monotonic() + limit, pauses(_SHARED_PAUSE if scheduler.shared else _LOCAL_PAUSE)
    left = list(ids)
    while left := [one for one, found in scheduler.liveness(left).items() if found is not Liveness.GONE]:
        if time.monotonic() > until:
            error = SchedulerError if scheduler.liveness(left)[left[0]] is Liveness.ALIVE else NoAnswer
            raise error(f"batch job {left[0]} of {ids[left[0]].job.key} did not end within {limit:.0f} s")
        time.sleep(next(pause))
    for job in ids.values():
        job.folder.clear_request("cancel")


def _refusals(submissions: Sequence[Submission]) -> list[str]:
    """What the scheduler said to the newest of these, if it refused them; no answer is neither yes nor no."""
    found: list[str] = []
    for one in submissions:
        found = [] if one.void is None else [*found, one.void] if one.void else found
    return found


def _gist(segments: list[Segment]) -> tuple[object, ...]:
    """What changes when a job goes on."""
    last = segments[-1] if segments else None
    return (last.number, last.outcome, last.saves, last.init) if last else ()
