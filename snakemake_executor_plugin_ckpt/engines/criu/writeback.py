"""Having the disk begin while criu still writes: the tree stands still for as long as that takes.

The kernel leaves written pages in memory for a while, and slows a writer down when they are more than a share of
the memory (vm.dirty_ratio): then criu writes at the speed of the disk. To begin at once keeps below that, and there
is less left for the fsync at the end.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

_SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h: begin, and do not wait
#: Bytes from which on a file is worth it.
_LARGE = 16 << 20

_libc = ctypes.CDLL(None, use_errno=True)


def begin(folder: Path) -> None:
    """Have what is written of the large files in a folder go to the disk; a hint, which no file system must take."""
    call = getattr(_libc, "sync_file_range", None)  # only where the C library has it (not in musl before 1.1.20)
    if call is None:
        return
    with suppress(OSError):
        for entry in os.scandir(folder):
            if entry.stat().st_size >= _LARGE:
                opened = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC)
                call(opened, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)
                os.close(opened)
