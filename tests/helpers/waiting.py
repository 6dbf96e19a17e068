"""Waiting for something to become true, with a limit far above what it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
LIMIT = 60.0


def wait_for(look: Callable[[], T], what: str = "", limit: float = LIMIT) -> T:
    """The first true value of `look`."""
    until = time.monotonic() + limit
    while True:
        if found := look():
            return found
        assert time.monotonic() < until, f"waited {limit:.0f} s in vain for {what or look}"
        time.sleep(0.02)


def wait_for_text(path: Path, text: str, limit: float = LIMIT) -> str:
    """Wait until a file holds a text; all of its text."""

    def look() -> str:
        content = path.read_text(errors="replace") if path.exists() else ""
        return content if text in content else ""

    return wait_for(look, f"{text!r} in {path}", limit)


def processes_with(marker: str) -> list[int]:
    """The processes of this node that have a word in their command line or environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            text = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            state = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        except OSError:
            continue
        if marker.encode() in text and state not in "ZX":
            found.append(int(folder.name))
    return found
