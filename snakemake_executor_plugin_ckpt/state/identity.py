"""Who a job is (its key) and what its result depends on (its fingerprint): pure functions of plain data."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

_READABLE = 60


def job_key(workdir: str, rule: str, wildcards: Mapping[str, str], outputs: Iterable[str]) -> str:
    """The name of a job's folder: readable in front, unique behind, the same for every head.

    Parameters
    ----------
    workdir
        The workflow's working directory, absolute.
    rule
        The rule's or group's name.
    wildcards
        The wildcards' values; for reading only.
    outputs
        The declared outputs: with workdir and rule they tell a job from every other one.
    """
    digest = _digest({"workdir": workdir, "rule": rule, "outputs": sorted(outputs)})
    words = "-".join([rule, *wildcards.values()])
    readable = re.sub(r"[^A-Za-z0-9_.+]+", "-", words).strip("-.")[:_READABLE].strip("-.")
    return f"{readable}-{digest[:16]}"


def fingerprint(parts: Mapping[str, Any]) -> str:
    """Hash of what a result depends on: code, params, inputs' size and mtime, software, engine format."""
    return _digest(parts)[:32]


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=repr).encode()).hexdigest()
