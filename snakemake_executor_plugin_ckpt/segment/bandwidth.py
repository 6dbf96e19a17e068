"""How fast the state directory takes data, measured when no save of this job tells it yet."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

_BYTES = 16 << 20


def write_bandwidth(folder: Path) -> float | None:
    """Bytes per second of writing and syncing 16 MiB; None when it could not be measured."""
    path = folder / ".bandwidth"
    block = os.urandom(1 << 20)  # random: a file system may compress
    begin = time.monotonic()
    try:
        with open(path, "wb") as file:
            for _ in range(_BYTES // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        return _BYTES / (time.monotonic() - begin)
    except OSError:
        return None
    finally:
        with suppress(OSError):
            path.unlink()
