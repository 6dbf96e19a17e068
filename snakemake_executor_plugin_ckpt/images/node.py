"""What of a node an image depends on."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any


@cache
def node_class() -> dict[str, Any]:
    """Architecture, kernel, C library and CPU instructions of this node."""
    uname = os.uname()
    return {
        "machine": uname.machine,
        "kernel": uname.release,
        "libc": " ".join(platform.libc_ver()),
        "cpu_flags": _cpu_flags(Path("/proc/cpuinfo").read_text()),
    }


def node_summary() -> dict[str, Any]:
    """The same for a reader: the CPU's model instead of its hundred flags."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")), "")
    return {name: value for name, value in node_class().items() if name != "cpu_flags"} | {"cpu": model}


def _cpu_flags(cpuinfo: str) -> str:
    for line in cpuinfo.splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return " ".join(sorted(flags.split()))
    return ""


def incompatible(image: dict[str, Any], here: dict[str, Any]) -> str | None:
    """Why an image of one node class cannot be restored on another; None when nothing speaks against it.

    A program chose its instructions when it started (ifunc, BLAS kernels), so each one that the old node had
    must be here; more of them do no harm.
    """
    if image.get("machine") != here.get("machine"):
        return f"it is of a {image.get('machine')} node, this is {here.get('machine')}"
    missing = set(str(image.get("cpu_flags", "")).split()) - set(str(here.get("cpu_flags", "")).split())
    if missing:
        return "this node's CPU lacks " + ", ".join(sorted(missing)[:8])
    return None
