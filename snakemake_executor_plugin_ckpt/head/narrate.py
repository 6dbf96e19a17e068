"""What the head says of its jobs while they run: each thing once, in a line."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_ckpt.chain import Step
from snakemake_executor_plugin_ckpt.head.asking import Silence
from snakemake_executor_plugin_ckpt.head.watched import WatchedJob
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness
from snakemake_executor_plugin_ckpt.state.records import Job, Segment
from snakemake_executor_plugin_ckpt.units import format_duration, format_size

_TAIL_LINES, _TAIL_BYTES = 30, 16384
#: Batch jobs that are named in one message.
_NAMED = 5


class Narrator:
    """Keeps in mind what was said."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._said: set[tuple[str, int, str]] = set()
        self._outage = False

    def attached(self, watched: WatchedJob, step: Step) -> None:
        """A job whose folder was there already."""
        segments = watched.segments()
        for segment in segments:
            self._said.add((watched.job.key, segment.number, segment.outcome))
            self._said.update((watched.job.key, segment.number, text) for text in segment.warnings)
        if segments:
            what = {
                "wait": _waits(segments[-1], watched.alive),
                "succeed": "it has finished",
                "lost": "its last segment was lost",
            }
            self._logger.info(f"ckpt: {_name(watched.job)} was found: {what.get(step.action, step.reason)}")

    def outage(self, scheduler: str, error: object) -> None:
        """The scheduler does not answer: once an outage."""
        if not self._outage:
            self._logger.warning(
                f"ckpt: {scheduler} does not answer: {error}. Jobs that are to be submitted wait until it does; what "
                "runs goes on"
            )
        self._outage = True

    def answers(self, scheduler: str) -> None:
        """The scheduler answers, perhaps again."""
        if self._outage:
            self._logger.info(f"ckpt: {scheduler} answers again")
        self._outage = False

    def stale(self, old: Job) -> None:
        """A job whose images no longer fit."""
        self._logger.warning(
            f"ckpt: {_name(old)} begins anew: its code, params, inputs or software changed since it was saved"
        )

    def progress(self, watched: WatchedJob) -> None:
        """News of a job's segments."""
        for segment in watched.segments():
            # A job of one segment is told by Snakemake itself.
            if segment.outcome != "running" and (segment.outcome != "finished" or segment.number > 1):
                self._once(watched, segment, segment.outcome, _told(segment))
            elif segment.outcome == "running" and (lost := watched.folder.lost(segment.number)) is not None:
                self._once(watched, segment, "lost", f"segment {segment.number} was lost: {lost}", warning=True)
            for text in segment.warnings:
                self._once(watched, segment, text, f"segment {segment.number}: {text}", warning=True)

    def waits_in_vain(
        self, watched: Collection[WatchedJob], held: Mapping[str, str], silent: Mapping[str, Silence] | None = None
    ) -> None:
        """Batch jobs that somebody must see to, each reason once.

        Parameters
        ----------
        watched
            The jobs.
        held
            Of batch jobs that do not start by themselves: why (`Scheduler.held`).
        silent
            Of batch jobs of which nothing was heard for long: since when.
        """
        theirs = {job_id: one for one in watched for job_id in _batch_jobs(one)} if held or silent else {}
        for job_id, why in held.items():
            if job_id in theirs and self._is_new(f"{job_id} {why}"):
                name = _name(theirs[job_id].job)
                self._logger.warning(f"ckpt: {name}: batch job {job_id} does not start by itself: {why}")
        late = {job_id: silence for job_id, silence in (silent or {}).items() if job_id in theirs}
        for job_id, silence in late.items():
            if silence.why and self._is_new(f"{job_id} since {silence.since}"):
                what = f"{_name(theirs[job_id].job)}: whether batch job {job_id} still runs"
                self._logger.warning(f"ckpt: {what} is not known since {_at(silence)}: {silence.why}")
        for since in dict.fromkeys(silence.since for silence in late.values() if not silence.why):
            if self._is_new(f"silent since {since}"):
                same = {job_id: theirs[job_id] for job_id in late if late[job_id].since == since}
                self._tell_silence(same, next(one for one in late.values() if one.since == since))

    def _tell_silence(self, jobs: Mapping[str, WatchedJob], silence: Silence) -> None:
        """In one line: in an outage it is all jobs."""
        scheduler = next(iter(jobs.values())).scheduler.name
        named = [f"{job_id} of {_name(one.job)}{_on(one.last)}" for job_id, one in list(jobs.items())[:_NAMED]]
        more = f" and {len(jobs) - _NAMED} more" if len(jobs) > _NAMED else ""
        self._logger.warning(
            f"ckpt: {scheduler} does not say since {_at(silence)} whether these batch jobs still run or wait: "
            f"{', '.join(named)}{more}. Those that run go on, and their ends are seen; where one was lost, nothing "
            f"follows until {scheduler} says that it is gone. Of one that you know to be dead, end the batch job "
            "yourself: its chain then goes on from its last image"
        )

    def _is_new(self, text: str) -> bool:
        mark = ("", 0, text)
        new = mark not in self._said
        self._said.add(mark)
        return new

    def _once(self, watched: WatchedJob, segment: Segment, mark: str, text: str, warning: bool = False) -> None:
        mark_of = (watched.job.key, segment.number, mark)
        if mark_of not in self._said:
            self._said.add(mark_of)
            say = self._logger.warning if warning else self._logger.info
            say(f"ckpt: {_name(watched.job)}: {text}")


def _name(job: Job) -> str:
    return f"{job.rule} ({job.wildcards})" if job.wildcards else job.rule


def _batch_jobs(watched: WatchedJob) -> list[str]:
    """What is known without a look-up."""
    found = (watched.submission and watched.submission.job_id, watched.batch_job_of(watched.last))
    return [one for one in found if one]


def _waits(last: Segment, alive: Liveness | None) -> str:
    """What a job waits for that was found; whether its batch job is there may not have been asked yet."""
    if alive is Liveness.ALIVE:
        return "it still runs" if last.outcome == "running" else "its next batch job is submitted"
    if last.outcome == "running":
        return f"it ran on {last.host}; whether it still does is not known yet"
    return "its last segment is over; whether its next batch job waits is not known yet"


def _at(silence: Silence) -> str:
    return time.strftime("%H:%M", time.localtime(time.time() - silence.lasted))


def _on(last: Segment | None) -> str:
    return f" (on {last.host})" if last is not None and last.outcome == "running" else ""


def _told(segment: Segment) -> str:
    start = f"segment {segment.number} on {segment.host}"
    if segment.outcome == "saved":
        return (
            f"{start} saved after {format_duration(segment.useful)} "
            f"(image {segment.generation}, {format_size(segment.bytes or 0)}, frozen {segment.frozen or 0:.2f} s)"
        )
    if segment.outcome == "finished":
        return f"{start} ended after {format_duration(segment.useful)} with exit status {segment.exit}"
    return f"{start} failed ({segment.failure}): {segment.reason}"


def tail(log: Path) -> str:
    """The last lines of the payload's output, as a block for an error message; empty when there are none."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]
    except OSError:
        return ""
    return f"Last lines of {log}:\n" + "".join(f"    {line}\n" for line in lines) if lines else ""
