"""/dev/shm of a payload: memory with file names, which CRIU does not carry."""

from __future__ import annotations

import tarfile
from pathlib import Path

from snakemake_executor_plugin_ckpt.engines.world.namespaces import Way, shm_of


def save(init: int, way: Way, archive: Path) -> None:
    """Write the files of a private world's /dev/shm into an archive; none when it is empty."""
    folder = shm_of(init, way)
    if folder is None or not any(folder.iterdir()):
        return
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(folder, arcname=".")


def restore(init: int, way: Way, archive: Path) -> None:
    """Put them back, before criu opens them."""
    folder = shm_of(init, way)
    if folder is None or not archive.exists():
        return
    with tarfile.open(archive) as tar:
        # The archive is ours and its checksum verified. Python before 3.11.4 (Debian 12) knows no filters.
        tar.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
        tar.extractall(folder)
