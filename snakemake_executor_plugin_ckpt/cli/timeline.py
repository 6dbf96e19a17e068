"""A job's segments as bars of text, one after the other: pure, nothing but text from numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from snakemake_executor_plugin_ckpt.cli.view import SegmentView
from snakemake_executor_plugin_ckpt.units import format_duration

STARTING, RESTORING, COMPUTING, WASTED, SAVING = ".", "R", "=", "x", "S"
_MEANING = {
    STARTING: "starting",
    RESTORING: "restoring",
    COMPUTING: "computing",
    SAVING: "saving",
    WASTED: "computed, but lost",
}
#: A gap between two segments (s) that is worth a word.
_GAP = 1.0
#: Seconds below which a part is nothing: there was no image to verify.
_NOTHING = 0.001
_NARROWEST = 10


@dataclass(frozen=True)
class Bar:
    """One segment: a text before the bar, its parts as (character, seconds), and a text behind it."""

    label: str
    parts: list[tuple[str, float]]
    note: str = ""

    @property
    def seconds(self) -> float:
        """Its length."""
        return sum(seconds for _, seconds in self.parts)


def timeline(segments: Sequence[SegmentView], width: int) -> list[str]:
    """The segments as bars on one scale, with a legend; waiting between them is left out, and said.

    Parameters
    ----------
    segments
        In order.
    width
        Characters in a line.
    """
    if not segments:
        return []
    bars = [_bar(one, before) for one, before in zip(segments, [None, *segments[:-1]], strict=True)]
    return [*draw(bars, width), *_legend(bars)]


def draw(bars: Sequence[Bar], width: int) -> list[str]:
    """Bars one after the other on one scale; a part that is shorter than a character is drawn as one."""
    label = max(len(bar.label) for bar in bars)
    note = max(len(bar.note) for bar in bars)
    room = max(_NARROWEST, width - label - note - 6)
    total = sum(bar.seconds for bar in bars) or 1.0
    lines, before = [], 0.0
    for bar in bars:
        start, end = (round(room * at / total) for at in (before, before + bar.seconds))
        before += bar.seconds
        drawn = _fill(bar.parts, end - start)[:room]
        start = min(start, room - len(drawn))
        lines.append(f"{bar.label:<{label}}  |{' ' * start + drawn:<{room}}|  {bar.note}".rstrip())
    return lines


def _fill(parts: Sequence[tuple[str, float]], characters: int) -> str:
    """Parts in proportion, each with at least one character, by the largest remainders."""
    parts = [(character, seconds) for character, seconds in parts if seconds > 0]
    spare = max(0, characters - len(parts))
    total = sum(seconds for _, seconds in parts) or 1.0
    # What a part is due beyond its first character.
    due = [max(0.0, seconds / total * characters - 1) for _, seconds in parts]
    scale = spare / (sum(due) or 1.0)
    counts = [1 + int(share * scale) for share in due]
    remainders = sorted(range(len(parts)), key=lambda at: due[at] * scale % 1, reverse=True)
    for at in remainders[: max(0, characters - sum(counts))]:
        counts[at] += 1
    return "".join(character * count for (character, _), count in zip(parts, counts, strict=True))


def _bar(one: SegmentView, before: SegmentView | None) -> Bar:
    parts = [
        (STARTING, one.starting_seconds),
        (RESTORING, one.restoring_seconds),
        (COMPUTING if one.kept else WASTED, one.computing_seconds),
        (SAVING, one.saving_seconds),
        (WASTED, one.unsaved_seconds),
    ]
    gap = one.started - before.ended if before is not None and before.ended is not None else 0.0
    note = one.outcome + (f", after a wait of {format_duration(gap)}" if gap >= _GAP else "")
    return Bar(str(one.number), [part for part in parts if part[1] >= _NOTHING], note)


def _legend(bars: Sequence[Bar]) -> list[str]:
    used = {character for bar in bars for character, seconds in bar.parts if seconds > 0}
    known = [f"{character} {meaning}" for character, meaning in _MEANING.items() if character in used]
    total = format_duration(sum(bar.seconds for bar in bars))
    return ["   ".join(known), f"{total} in all, without waiting; what is too short to draw is drawn as one character"]
