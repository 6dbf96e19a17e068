"""What must hold of a chain that is over, whatever was done to it: pure functions over its records."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from snakemake_executor_plugin_ckpt.state.records import Segment

AGAIN = "started again from the beginning"


def violations(segments: Sequence[Segment], exit_status: int | None, committed: Mapping[int, float]) -> list[str]:
    """What does not hold; nothing if all does.

    Parameters
    ----------
    segments
        The records of all segments.
    exit_status
        The payload's own.
    committed
        When (Unix time, s) each image was seen to be there.
    """
    return [
        *_contiguous(segments),
        *_one_after_the_other(segments),
        *_finished_once(segments, exit_status),
        *_own_images(segments),
        *itertools.chain.from_iterable(_well_begun(segments[:n], segments[n], committed) for n in range(len(segments))),
    ]


def restarts(segments: Sequence[Segment]) -> int:
    """How often the job began anew (which is right only while there is no image)."""
    return sum(any(text.startswith(AGAIN) for text in segment.warnings) for segment in segments)


def _contiguous(segments: Sequence[Segment]) -> list[str]:
    numbers = [segment.number for segment in segments]
    return [] if numbers == list(range(1, len(numbers) + 1)) else [f"the segments are numbered {numbers}"]


def _one_after_the_other(segments: Sequence[Segment]) -> list[str]:
    return [
        f"segment {after.number} began before segment {before.number} ended"
        for before, after in itertools.pairwise(segments)
        if before.ended is not None and after.started < before.ended
    ]


def _finished_once(segments: Sequence[Segment], exit_status: int | None) -> list[str]:
    found = [
        f"segment {one.number} finished, and others followed" for one in segments[:-1] if one.outcome == "finished"
    ]
    if exit_status is None:
        found.append("there is no exit status")
    return found


def _own_images(segments: Sequence[Segment]) -> list[str]:
    """Each generation is of one segment, and they increase."""
    written = [generation for segment in segments for generation in sorted(segment.images)]
    return [] if written == sorted(set(written)) else [f"the images were written in the order {written}"]


def _well_begun(history: Sequence[Segment], segment: Segment, committed: Mapping[int, float]) -> list[str]:
    there = {generation for generation, seen in committed.items() if seen < segment.started}
    there |= {generation for earlier in history for generation in earlier.images}
    newest = max(there, default=None)
    ran = segment.startup is not None or segment.outcome in ("saved", "finished")
    if segment.restored_from is None:
        # A segment that never came to run its payload restored nothing, and lost nothing.
        wrong = newest is not None and (ran or restarts([segment]))
        return [f"segment {segment.number} began from zero although image {newest} was there"] if wrong else []
    if segment.restored_from not in there:
        return [f"segment {segment.number} restored image {segment.restored_from}, which nobody had committed"]
    refused = [text for text in segment.warnings if text.startswith(f"image {newest}:")]
    if segment.restored_from != newest and not refused:
        return [f"segment {segment.number} restored image {segment.restored_from} and not the newest, {newest}"]
    return []
