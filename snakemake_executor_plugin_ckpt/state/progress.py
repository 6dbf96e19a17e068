"""Whether a job gets on: pure arithmetic over its segment history."""

from __future__ import annotations

from collections.abc import Sequence

from snakemake_executor_plugin_ckpt.state.records import Segment

#: Segments in a row without progress after which a job is given up.
PATIENCE = 3


def depths(segments: Sequence[Segment]) -> list[float]:
    """How far into the job (s of computing) each segment's newest image is; 0 for one that saved nothing.

    A restored segment goes on from the depth of its image, one that started again from 0.
    """
    of_image: dict[int, float] = {}
    found = []
    for segment in segments:
        begun = of_image.get(segment.restored_from or 0, 0.0)
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
    reasons = [text for segment in over[-PATIENCE:] for text in (segment.reason, *segment.warnings) if text]
    return (
        f"no progress in {PATIENCE} segments: each ended before it came farther than {max(reached):.0f} s of computing "
        f"({reasons[-1] if reasons else 'give the rule more walltime'}). The images are kept"
    )


def too_many(segments: Sequence[Segment], limit: int) -> str | None:
    """Why a job gets no further segment, if it has used up those that it may; else None."""
    if len(segments) < limit:
        return None
    return f"{len(segments)} segments were used, which is the most allowed (--ckpt-max-segments); the images are kept"
