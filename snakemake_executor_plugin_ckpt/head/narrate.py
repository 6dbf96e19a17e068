"""What the head says of its jobs while they run: each thing once, in a line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_ckpt.chain import Step
from snakemake_executor_plugin_ckpt.head.watched import WatchedJob
from snakemake_executor_plugin_ckpt.state.records import Job, Segment
from snakemake_executor_plugin_ckpt.units import format_duration, format_size

_TAIL_LINES, _TAIL_BYTES = 30, 16384


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
                "wait": "it still runs" if segments[-1].outcome == "running" else "its next batch job is submitted",
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

    def waits_in_vain(self, watched: Iterable[WatchedJob], held: Mapping[str, str]) -> None:
        """Batch jobs that do not start unless somebody sees to it, and why (`Scheduler.held`): once each reason."""
        for one in watched if held else ():
            job_id = (one.submission and one.submission.job_id) or ""
            mark = (one.job.key, 0, f"{job_id} {held.get(job_id)}")
            if job_id in held and mark not in self._said:
                self._said.add(mark)
                self._logger.warning(
                    f"ckpt: {_name(one.job)}: batch job {job_id} does not start by itself: {held[job_id]}"
                )

    def _once(self, watched: WatchedJob, segment: Segment, mark: str, text: str, warning: bool = False) -> None:
        mark_of = (watched.job.key, segment.number, mark)
        if mark_of not in self._said:
            self._said.add(mark_of)
            say = self._logger.warning if warning else self._logger.info
            say(f"ckpt: {_name(watched.job)}: {text}")


def _name(job: Job) -> str:
    return f"{job.rule} ({job.wildcards})" if job.wildcards else job.rule


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
