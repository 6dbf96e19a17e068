"""Aligned columns and the like: pure functions of text."""

from __future__ import annotations

import shutil
import textwrap
import time
from collections.abc import Collection, Sequence

#: Columns of a page where the terminal does not say.
WIDTH = 100
_NARROWEST_LAST = 24


def page_width() -> int:
    """Characters in a line: the terminal's, at most `WIDTH`, which also holds for a pipe."""
    return max(60, min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH))


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int] = (), width: int | None = None
) -> list[str]:
    """Lines of a table.

    Parameters
    ----------
    head, rows
        Cells as text.
    right
        Columns that are aligned to the right.
    width
        Characters that a line should fit; the last column is cut to it. None: nothing is cut.
    """
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    if width is not None:
        widths[-1] = min(widths[-1], max(_NARROWEST_LAST, width - sum(widths[:-1]) - 2 * len(widths[:-1])))
    lines = []
    for row in (head, *rows):
        cells = [
            cell.rjust(space)
            if column in right
            else cut(cell, space).ljust(space)
            if column == len(head) - 1
            else cell.ljust(space)
            for column, (cell, space) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def cut(text: str, width: int) -> str:
    """A text in one line, of at most `width` characters."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3].rstrip() + "..."


def wrap(text: str, width: int, indent: int = 0) -> list[str]:
    """A text in lines of at most `width` characters, those after the first indented; no word is broken."""
    return textwrap.wrap(
        text, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    ) or [""]


def moment(seconds: float) -> str:
    """A point in time (Unix time, s) as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def plural(number: int, one: str, many: str = "") -> str:
    """``1 job``, ``2 jobs``."""
    return f"{number} {one if number == 1 else many or one + 's'}"
