"""`ckpt show JOB`: everything about one job."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from snakemake_executor_plugin_ckpt.cli import facts, view
from snakemake_executor_plugin_ckpt.cli.facts import Facts
from snakemake_executor_plugin_ckpt.cli.text import moment, page_width, plural, table, wrap
from snakemake_executor_plugin_ckpt.cli.timeline import timeline
from snakemake_executor_plugin_ckpt.cli.view import SegmentView
from snakemake_executor_plugin_ckpt.images import generations
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.state.folder import JobFolder
from snakemake_executor_plugin_ckpt.units import format_duration, format_size

#: Segments shown when not all are asked for: the last ones.
RECENT = 40
_HEAD = ("no", "host", "start", "computing", "frozen", "image", "size", "from", "outcome")
_RIGHT = (0, 3, 4, 5, 6, 7)


def run(arguments: argparse.Namespace) -> int:
    """Print all about one job; 0."""
    folder = facts.find_job(arguments.state_dir, arguments.job)
    known = facts.read(folder)
    now = time.time()
    if arguments.json:
        print(json.dumps(as_json(known, now), indent=2))
    else:
        print("\n".join(as_text(known, now, page_width(), None if arguments.all else RECENT)))
    return 0


def as_json(known: Facts, now: float) -> dict[str, object]:
    """A job as plain data: `view.Summary` with its records; segments of all attempts, as `view.SegmentView`."""
    job = known.job
    own = {
        "workdir": job.workdir,
        "fingerprint": job.fingerprint,
        "created": job.created,
        "exit": known.exit,
        "earlier_exits": known.earlier_exits,
        "acknowledged": bool(job.acknowledged),
        "requests": known.requests,
        "watched": job.watched,
        "policy": job.policy,
    }
    attempts = range(1, job.attempt + 1)
    return {
        "schema": 1,
        "job": asdict(view.summary(known, now)) | own,
        "segments": [asdict(one) for attempt in attempts for one in view.segments(known, now, attempt)],
        "submissions": [one.to_dict() for one in known.submissions],
        "images": [
            {"generation": one.generation, "bytes": one.size, "created": one.created, "folder": _image(known, one)}
            for one in known.images
        ],
        "logs": {what: list(map(str, paths)) for what, paths in logs(known.folder).items()},
    }


def as_text(known: Facts, now: float, width: int, recent: int | None) -> list[str]:
    """A job for a reader; its last `recent` segments, or all."""
    segments = view.segments(known, now)
    shown = segments if recent is None else segments[-recent:]
    sections = {
        facts.name_of(known.job): _identity(known, segments, now, width - 2),
        _title("Timeline", segments, shown): timeline(shown, width - 2),
        "Segments": table(_HEAD, [_row(one) for one in shown], _RIGHT) if shown else [],
        "Earlier attempts": list(_earlier(known, now)),
        "Warnings and reasons": list(_said(shown)),
        "Images": [_image_line(known, image) for image in known.images],
        "Logs": [str(path) for paths in logs(known.folder).values() for path in paths],
    }
    lines: list[str] = []
    for title, content in sections.items():
        if content:
            lines += [*([""] if lines else []), title, *(f"  {line}" for line in content)]
    return lines


def _title(word: str, segments: Sequence[SegmentView], shown: Sequence[SegmentView]) -> str:
    hidden = len(segments) - len(shown)
    return f"{word} (the last {len(shown)} of {len(segments)} segments; --all shows all)" if hidden else word


def _identity(known: Facts, segments: Sequence[SegmentView], now: float, width: int) -> list[str]:
    job = known.job
    rows = [
        ("state", view.state(known, now).words),
        ("key", job.key),
        ("folder", str(known.folder)),
        ("workdir", job.workdir),
        ("attempt", f"{job.attempt}, begun {moment(job.created)}"),
        ("time", _times(segments)),
        *([("asked", ", ".join(known.requests))] if known.requests else []),
    ]
    lines = [f"{name:<8}  {value}" for name, value in rows]
    for at, text in enumerate(policy_in_words(Policy.from_dict(job.policy))):
        lines += wrap(f"{'' if at else 'policy':<8}  {text}", width, indent=12)
    return lines


def _times(segments: Sequence[SegmentView]) -> str:
    def total(numbers: Iterator[float]) -> str:
        return format_duration(sum(numbers))

    redone = sum(one.unsaved_seconds + (0.0 if one.kept else one.computing_seconds) for one in segments)
    at_most = "at most " if any(one.unsaved_seconds for one in segments) else ""
    return (
        f"{total(one.computing_seconds for one in segments)} computing; "
        f"{total(one.lost_seconds for one in segments)} lost: "
        f"{total(one.saving_seconds for one in segments)} saving, "
        f"{total(one.restoring_seconds for one in segments)} restoring, "
        f"{at_most}{format_duration(redone)} computed in vain"
    )


def policy_in_words(policy: Policy) -> list[str]:
    """How a job is cut into segments, in a few lines for a reader."""
    walltime = "no limit" if policy.walltime is None else format_duration(policy.walltime)
    memory = "" if policy.mem_mb is None else f", {policy.mem_mb} MB of memory"
    lines = [f"each segment: {policy.scheduler}, walltime {walltime}, {plural(policy.threads, 'thread')}{memory}"]
    if policy.engine == "none":
        return [*lines, "not saved (engine none, or the resource ckpt: 0): what a walltime cuts off is lost"]
    options = ", ".join(f"{name} {value}" for name, value in policy.engine_options.items())
    unsavable = "runs on to the walltime's end" if policy.on_unsavable == "run" else "fails at once"
    no_image = "starts again from the beginning" if policy.on_no_image == "restart" else "fails"
    return [
        *lines,
        f"saved by {policy.engine}"
        + (f" ({options})" if options else "")
        + f"; the last {policy.keep} images are kept",
        f"saved besides: {_period(policy)}",
        f"time kept for a save: {policy.margin:g} times what it is expected to take "
        f"({format_duration(policy.floor)} to {format_duration(policy.ceiling)}), and "
        f"{format_duration(policy.grace)} of grace",
        f"if it cannot be saved, it {unsavable}; without a usable image, it {no_image}",
        f"given up after {plural(policy.max_segments, 'segment')}",
    ]


def _period(policy: Policy) -> str:
    if policy.period is None:
        return "never (--ckpt-period off)"
    if policy.period == "auto":
        return f"as often as is best for nodes that fail every {format_duration(policy.mtbf)}"
    return f"every {format_duration(policy.period)}"


def _row(one: SegmentView) -> tuple[str, ...]:
    return (
        str(one.number),
        one.host,
        moment(one.started),
        format_duration(one.computing_seconds),
        f"{one.frozen_seconds:.2f} s" if one.saves else "-",
        "-" if one.image is None else str(one.image),
        "-" if one.image_bytes is None else format_size(one.image_bytes),
        "-" if one.restored_from is None else str(one.restored_from),
        _outcome(one),
    )


def _outcome(one: SegmentView) -> str:
    words = f"{one.outcome} (exit status {one.exit})" if one.exit is not None else one.outcome
    more = f", {one.saves} saves" if one.saves > 1 else ""
    return words + more


def _earlier(known: Facts, now: float) -> Iterator[str]:
    for attempt in range(1, known.job.attempt):
        segments = view.segments(known, now, attempt)
        status = known.earlier_exits.get(attempt)
        end = f"exit status {status}" if status is not None else "given up without an exit status"
        numbers = f" ({segments[0].number} to {segments[-1].number})" if segments else ""
        computing = format_duration(sum(one.computing_seconds for one in segments))
        yield f"attempt {attempt}: {plural(len(segments), 'segment')}{numbers}, {computing} computing, {end}"


def _said(segments: Sequence[SegmentView]) -> Iterator[str]:
    for one in segments:
        for text in dict.fromkeys([*one.warnings, *([one.reason] if one.reason else [])]):
            first, *others = text.splitlines() or [""]
            yield f"segment {one.number}: {first}"
            yield from (f"  {line}" for line in others)


def _image(known: Facts, image: facts.Image) -> str:
    return str(generations.path_of(JobFolder(known.folder).images_folder, image.generation))


def _image_line(known: Facts, image: facts.Image) -> str:
    made = f"made {moment(image.created)}" if image.created is not None else "without a manifest: it is never restored"
    return f"{image.generation}: {format_size(image.size)}, {made}, {_image(known, image)}"


def logs(path: Path) -> dict[str, list[Path]]:
    """The logs of a job folder that are there.

    Returns
    -------
    dict
        ``payload`` (its output), ``earlier`` (its output before it began anew), ``batch`` (what supervisors and
        the scheduler said, a file per batch job), ``failed_saves`` (the engine's own logs).
    """
    folder = JobFolder(path)
    payload = [folder.payload_log] if folder.payload_log.exists() else []
    return {
        "payload": payload,
        "earlier": sorted(set(folder.logs_folder.glob("payload.*.log"))),
        "batch": sorted(folder.logs_folder.glob("batch-*.log")),
        "failed_saves": sorted(folder.logs_folder.glob("*-failed-*.log")),
    }
