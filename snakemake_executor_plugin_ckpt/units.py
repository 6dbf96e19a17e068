"""Durations, sizes and file patterns as people write them."""

from __future__ import annotations

import os
import re

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(min|[smhdw])", re.ASCII)
# Without seconds it would be hours and minutes to some and minutes and seconds to others (Slurm).
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)", re.ASCII)
_BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_WILD = re.compile(r"[*?[]")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.ASCII)


def parse_duration(text: str) -> float:
    """Seconds of a duration such as ``90s``, ``15min``, ``2d12h``, ``48:00:00`` or ``2-00:00:00``.

    Raises
    ------
    ValueError
        The text is not a duration; a bare number is refused because its unit would be a guess.
    """
    text = text.strip().lower()
    if clock := _CLOCK.fullmatch(text):
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    parts = _PART.findall(text)
    if not parts or _PART.sub("", text).strip():
        raise ValueError("write a duration with its unit, such as 90s, 15min, 48h, 2d or 48:00:00")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def format_duration(seconds: float) -> str:
    """A duration for a reader: ``8.3 s``, ``2 min 05 s``, ``3 h 20 min``, ``2 d 04 h``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def parse_size(text: str) -> int:
    """Bytes of a size such as ``512M``, ``2GiB`` or ``100000``; units are powers of 1024.

    Raises
    ------
    ValueError
        The text is not a size.
    """
    found = _SIZE.fullmatch(text.strip().lower())
    if not found:
        raise ValueError("write a size such as 512M or 2GiB")
    return int(float(found[1]) * _BYTES[found[2]])


def format_size(size: float) -> str:
    """A size for a reader, in powers of 1024: ``90.3 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def parse_patterns(text: str, workdir: str) -> list[str]:
    """The absolute patterns of a rule's ``ckpt_files``, such as ``cache/{month}:side-*.tmp``.

    Raises
    ------
    ValueError
        One is too wide: what it stands for is removed and put back, so it must be the job's own.
    """
    patterns = [os.path.abspath(os.path.join(workdir, part.strip())) for part in text.split(":") if part.strip()]
    if not patterns:
        raise ValueError("name files and folders with ':' between them; * ? [] and ** are wildcards")
    for pattern in patterns:
        wild = _WILD.search(pattern)
        # The fixed part of a pattern must lead into the working directory or elsewhere, never to what is around it.
        fixed = pattern[: wild.start()] if wild else pattern.rstrip("/") + "/"
        if f"{workdir}/".startswith(fixed) or pattern.startswith(f"{workdir}/.snakemake"):
            raise ValueError(f"{pattern} also stands for what is not the job's: begin it with a folder or a name")
    return patterns
