"""What kind of file system a folder is on."""

from __future__ import annotations

import os
from pathlib import Path

from snakemake_executor_plugin_ckpt import proc


def file_system(path: Path) -> str:
    """The kind of file system that a path is on, such as ``beegfs`` or ``nfs4``."""
    return kind_of(path, proc.text_of(Path("/proc/self/mountinfo")))


def kind_of(path: Path, mountinfo: str) -> str:
    """The same, by the text of /proc/self/mountinfo (proc_pid_mountinfo(5))."""
    real, best, kind = Path(os.path.realpath(path)), "", "unknown"
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(" - ")
        if not separator or len(left.split()) < 5:
            continue
        mounted = left.split()[4].encode().decode("unicode_escape")  # a blank is \040
        if len(mounted) >= len(best) and real.is_relative_to(mounted):  # the later mount hides the earlier one
            best, kind = mounted, right.split()[0]
    return kind
