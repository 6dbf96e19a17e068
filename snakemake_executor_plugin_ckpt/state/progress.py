"""Whether a job gets on: pure arithmetic over its segment history."""

from __future__ import annotations

from collections.abc import Sequence

from snakemake_executor_plugin_ckpt.state.records import Segment
from snakemake_executor_plugin_ckpt.units import format_duration

#: Segments in a row without progress after which a job is given up.
PATIENCE = 3


def depths(segments: Sequence[Segment]) -> list[float]:
    """How far into the job (s of computing) each segment's newest image is; 0 for one that saved nothing.

    A restored segment goes on from the depth of its image, one that started again from 0. An image that is in no
    record, because its segment died before it could note it, is at least as deep as the one before it.
    """
    of_image: dict[int, float] = {0: 0.0}
    found = []
    for segment in segments:
        begun = of_image[max(image for image in of_image if image <= (segment.restored_from or 0))]
        for generation, useful in segment.images.items():
            of_image[generation] = begun + useful
        found.append(max((of_image[generation] for generation in segment.images), default=0.0))
    return found


def stuck(segments: Sequence[Segment]) -> str | None:
    """Why a job no longer gets on; None while it does.

    It is stuck when its last `PATIENCE` segments are over and none brought it farther than it had been before.
    """
    over = [segment for segment in segments if segment.failure != "restore"]
    if len(over) <= PATIENCE:
        return None
    reached = depths(over)
    if max(reached[-PATIENCE:]) > max(reached[:-PATIENCE]):
        return None
    return (
        f"no progress in {PATIENCE} segments: none came farther than the {format_duration(max(reached))} of computing "
        f"that were saved before. {_why(over[-PATIENCE:])}. The images are kept: run Snakemake again to go on from them"
    )


def _why(idle: Sequence[Segment]) -> str:
    """What kept segments from getting on, and what can be done."""
    cut_off = [segment.save_given for segment in idle if segment.save_given is not None]
    if cut_off:
        return (
            f"In {len(cut_off)} of them the walltime ended in the middle of a save, which needs more than the "
            f"{format_duration(max(cut_off))} that it had. Give saves more time (--ckpt-save-floor "
            f"{2 * max(cut_off):.0f}s, or a larger --ckpt-margin), or the rule a longer walltime (runtime)"
        )
    reasons = [text for segment in idle for text in (segment.reason, *segment.warnings) if text]
    if reasons:
        return f"The last one said: {reasons[-1]}"
    return (
        "They ended before they were saved again: give the rule more walltime (runtime, --ckpt-walltime), "
        "or save more often (--ckpt-period)"
    )


def too_many(segments: Sequence[Segment], limit: int) -> str | None:
    """Why a job gets no further segment, if it has used up those that it may; else None."""
    if len(segments) < limit:
        return None
    saved = format_duration(max(depths(segments), default=0.0))
    return (
        f"the job is not done after {len(segments)} segments with {saved} of computing saved, and "
        f"--ckpt-max-segments {limit} allows no more. The images are kept: run Snakemake again to go on from the "
        "newest one, with more runtime or a larger --ckpt-max-segments if it needs many more"
    )
