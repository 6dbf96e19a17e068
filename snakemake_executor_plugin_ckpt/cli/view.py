"""What the records of a job mean: pure, from facts to plain data (durations in s, times in Unix s, sizes in bytes).

Time is *lost* where a run without a walltime would not have spent it: the payload stopped for saves, images
verified and restored, and computing whose result was not saved and had to be, or has to be, done again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from snakemake_executor_plugin_ckpt import chain
from snakemake_executor_plugin_ckpt.cli.facts import Facts, name_of
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.state.records import Segment

#: A running segment whose walltime is over for so long (s), beyond the grace, is probably lost.
OVERDUE = 60.0


@dataclass(frozen=True)
class State:
    """How a job is.

    Attributes
    ----------
    name
        ``waiting`` (for a batch job), ``running``, ``saved`` (between two segments), ``parked`` (saved and stopped),
        ``lost`` (its segment was; the next one takes over), ``lost?`` (its segment seems to be), ``cancelled``,
        ``failed`` or ``done``.
    host
        Where it runs, or ran when it got lost.
    reason
        What there is to add.
    """

    name: str
    host: str | None = None
    reason: str | None = None

    @property
    def words(self) -> str:
        """For a reader."""
        where = f"{self.name} on {self.host}" if self.host else self.name
        return f"{where}: {self.reason}" if self.reason else where


@dataclass(frozen=True)
class SegmentView:
    """One segment.

    Attributes
    ----------
    ended
        None while it runs; of a lost segment the latest moment at which it can have ended.
    computing_seconds
        The payload ran; of a lost segment up to its last save.
    starting_seconds
        From the start of the batch job's script to the payload, without the restore.
    restoring_seconds
        Image verified and restored.
    frozen_seconds
        Payload stopped by the last save.
    saving_seconds
        By all its saves, each taken to be as long as the last.
    unsaved_seconds
        Of a lost segment: at most so much was computed after its last save.
    lost_seconds
        See the module.
    kept
        Whether what it computed is in the job's result, or in the image it goes on from.
    outcome
        ``running``, ``finished``, ``saved``, ``parked``, ``failed``, ``cancelled``, ``lost`` or ``lost?``.
    """

    number: int
    attempt: int
    host: str
    scheduler: str
    job_id: str
    started: float
    ended: float | None
    outcome: str
    reason: str | None
    exit: int | None
    computing_seconds: float
    starting_seconds: float
    restoring_seconds: float
    frozen_seconds: float
    saving_seconds: float
    unsaved_seconds: float
    lost_seconds: float
    kept: bool
    saves: int
    image: int | None
    image_bytes: int | None
    resident_bytes: int | None
    restored_from: int | None
    warnings: list[str]


@dataclass(frozen=True)
class Summary:
    """One job, by its current attempt."""

    key: str
    name: str
    rule: str
    wildcards: str
    folder: str
    state: State
    attempt: int
    segments: int
    saves: int
    images: int
    image_bytes: int
    computing_seconds: float
    lost_seconds: float


@dataclass(frozen=True)
class Totals:
    """All jobs of a state directory together, by their current attempts."""

    jobs: int
    segments: int
    saves: int
    computing_seconds: float
    lost_seconds: float
    states: dict[str, int]


def summary(facts: Facts, now: float) -> Summary:
    """One job in a line.

    Parameters
    ----------
    facts
        What is on record.
    now
        Unix time, s.
    """
    mine = segments(facts, now)
    job = facts.job
    return Summary(
        key=job.key,
        name=name_of(job),
        rule=job.rule,
        wildcards=job.wildcards,
        folder=str(facts.folder),
        state=state(facts, now),
        attempt=job.attempt,
        segments=len(mine),
        saves=sum(one.saves for one in mine),
        images=len(facts.images),
        image_bytes=sum(image.size for image in facts.images),
        computing_seconds=sum(one.computing_seconds for one in mine),
        lost_seconds=sum(one.lost_seconds for one in mine),
    )


def totals(jobs: Sequence[Summary]) -> Totals:
    """Many jobs together."""
    states: dict[str, int] = {}
    for job in jobs:
        states[job.state.name] = states.get(job.state.name, 0) + 1
    return Totals(
        jobs=len(jobs),
        segments=sum(job.segments for job in jobs),
        saves=sum(job.saves for job in jobs),
        computing_seconds=sum(job.computing_seconds for job in jobs),
        lost_seconds=sum(job.lost_seconds for job in jobs),
        states=states,
    )


# -- the state of a job ------------------------------------------------------------------------------------------


def state(facts: Facts, now: float) -> State:
    """How a job is, as far as its records tell: no scheduler is asked."""
    mine = _of_attempt(facts, facts.job.attempt)
    last = mine[-1] if mine else None
    status = facts.exit
    if status is None and last is not None and last.outcome == "finished":
        status = last.exit
    if status is not None:
        step = chain.decide(mine, False, status, None, 0, Policy.from_dict(facts.job.policy))
        return State("done") if step.action == "succeed" else State("failed", reason=step.reason)
    if last is None:
        return State("waiting", reason=_queued(facts))
    if last.outcome == "running":
        return _running(facts, last, now)
    return _between(facts, mine)


def _queued(facts: Facts) -> str:
    submitted = [one for one in facts.submissions if one.attempt == facts.job.attempt]
    if not submitted:
        return "not submitted yet"
    return f"batch job {submitted[-1].job_id or submitted[-1].name} has not started"


def _running(facts: Facts, last: Segment, now: float) -> State:
    if last.number in facts.lost:
        return State("lost", last.host, facts.lost[last.number].reason)
    if reason := _seems_lost(facts, last, now):
        return State("lost?", last.host, reason)
    return State("running", last.host)


def _seems_lost(facts: Facts, segment: Segment, now: float) -> str | None:
    if segment is facts.segments[-1] and facts.alive is False:
        return f"process {segment.pid} is gone"
    grace = Policy.from_dict(facts.job.policy).grace
    if facts.alive is None and segment.walltime_end is not None and now > segment.walltime_end + grace + OVERDUE:
        return "its walltime is over, and it gave no outcome"
    return None


def _between(facts: Facts, mine: list[Segment]) -> State:
    """After a segment that was saved, or failed: what the chain would do once no batch job is left."""
    last = mine[-1]
    counted = [one for one in mine if one.number > (facts.job.since or 0)]
    step = chain.decide(counted, False, None, None, 0, Policy.from_dict(facts.job.policy))
    hopeless = step.reason if step.action == "fail" else None
    if last.outcome == "saved":
        return State("parked" if last.parked else "saved", reason=hopeless)
    if last.parked:
        return State("cancelled", reason=last.reason)
    if hopeless:
        return State("failed", reason=hopeless)
    return State("waiting", reason=f"segment {last.number} failed: {last.reason or last.failure}; it is tried again")


# -- segments ----------------------------------------------------------------------------------------------------


def segments(facts: Facts, now: float, attempt: int | None = None) -> list[SegmentView]:
    """The segments of an attempt (the current one if None), in order."""
    attempt = facts.job.attempt if attempt is None else attempt
    mine = _of_attempt(facts, attempt)
    kept = _kept(facts, mine, now)
    following = (one.started for one in mine[1:])
    return [_segment(facts, one, next(following, None), now, one.number in kept) for one in mine]


def _of_attempt(facts: Facts, attempt: int) -> list[Segment]:
    return [one for one in facts.segments if one.attempt == attempt]


def _segment(facts: Facts, one: Segment, following: float | None, now: float, kept: bool) -> SegmentView:
    outcome = _outcome(facts, one, now)
    restoring, starting = (one.verify or 0.0) + (one.restore or 0.0), max(0.0, one.startup or 0.0)
    saving = (one.frozen or 0.0) * one.saves
    ended, computing, unsaved = one.ended, one.useful, 0.0
    if outcome.startswith("lost"):
        ended = _latest_end(facts, one, following, now)
        unsaved = max(0.0, ended - one.started - starting - restoring - saving - computing) if one.startup else 0.0
    elif outcome == "running" and one.startup is not None:
        computing = max(computing, now - one.started - starting - restoring)
    return SegmentView(
        number=one.number,
        attempt=one.attempt,
        host=one.host,
        scheduler=one.scheduler,
        job_id=one.job_id,
        started=one.started,
        ended=ended,
        outcome=outcome,
        reason=facts.lost[one.number].reason if one.number in facts.lost else one.reason,
        exit=one.exit,
        computing_seconds=computing,
        starting_seconds=starting,
        restoring_seconds=restoring,
        frozen_seconds=one.frozen or 0.0,
        saving_seconds=saving,
        unsaved_seconds=unsaved,
        lost_seconds=saving + restoring + unsaved + (0.0 if kept else computing),
        kept=kept,
        saves=one.saves,
        image=one.generation,
        image_bytes=one.bytes,
        resident_bytes=one.resident,
        restored_from=one.restored_from,
        warnings=list(one.warnings),
    )


def _outcome(facts: Facts, one: Segment, now: float) -> str:
    if one.outcome == "running":
        if one.number in facts.lost or one is not facts.segments[-1]:
            return "lost"
        return "lost?" if _seems_lost(facts, one, now) else "running"
    if one.parked:
        return {"saved": "parked", "failed": "cancelled"}.get(one.outcome, one.outcome)
    return one.outcome


def _latest_end(facts: Facts, one: Segment, following: float | None, now: float) -> float:
    lost = facts.lost.get(one.number)
    known = [at for at in (following, one.walltime_end, lost.declared if lost else None) if at is not None]
    return max(one.started, min([*known, now]))


def _kept(facts: Facts, mine: list[Segment], now: float) -> set[int]:
    """The segments whose computing the job still has: from the last one back along the images they began with."""
    current = _newest_standing(facts, mine, now)
    kept: set[int] = set()
    while current is not None:
        kept.add(current.number)
        if _outcome(facts, current, now) == "running" and current.startup is None:
            # It has not said yet how it began; most likely with the newest image.
            current = _newest_maker(mine, current.number)
        else:
            current = _maker(mine, current)
    return kept


def _newest_standing(facts: Facts, mine: list[Segment], now: float) -> Segment | None:
    if mine and _outcome(facts, mine[-1], now) in ("running", "finished"):
        return mine[-1]
    return _newest_maker(mine)


def _newest_maker(mine: list[Segment], before: int | None = None) -> Segment | None:
    made = [one for one in mine if one.generation is not None and (before is None or one.number < before)]
    return made[-1] if made else None


def _maker(mine: list[Segment], segment: Segment) -> Segment | None:
    """The segment that wrote the image which this one began with."""
    image = segment.restored_from
    for one in reversed([one for one in mine if one.number < segment.number]):
        if image is not None and one.generation is not None and one.generation - one.saves < image <= one.generation:
            return one
    return None
