"""Where the criu program is, and whether it is new enough."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from snakemake_executor_plugin_ckpt.engines.criu.commands import OLDEST, parse_version
from snakemake_executor_plugin_ckpt.errors import EngineError

#: Where administrators put programs; not on every user's PATH.
_SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def candidates(options: Mapping[str, str]) -> list[str]:
    """Programs to try: the one that was named, else the private prefix of this installation, else the system's."""
    named = options.get("criu") or os.environ.get("CKPT_CRIU")
    if named:
        return [named]
    private = Path(sys.prefix, "opt", "criu", "sbin", "criu")
    found = [str(private)] if private.exists() else []
    for path in (os.environ.get("PATH", ""), _SYSTEM):
        if (program := shutil.which("criu", path=path)) and program not in found:
            found.append(program)
    return found


def locate(options: Mapping[str, str]) -> tuple[str, tuple[int, ...]]:
    """The first usable criu and its version.

    Raises
    ------
    EngineError
        There is none, or only ones that are too old.
    """
    refused = []
    for program in candidates(options):
        try:
            done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            refused.append(f"{program}: {error}")
            continue
        version = parse_version(done.stdout)
        if version >= OLDEST:
            return program, version
        said = ".".join(map(str, version)) or (done.stderr or done.stdout).strip()[:200] or "no version"
        refused.append(f"{program}: version {said}, needed is {'.'.join(map(str, OLDEST))} or newer")
    raise EngineError(
        "CRIU is missing: " + ("; ".join(refused) or "no program 'criu' was found") + ". "
        "Install CRIU 4.2 or newer (tools/install-criu.sh PREFIX needs no root) and name it with --ckpt-criu "
        "or the environment variable CKPT_CRIU"
    )
