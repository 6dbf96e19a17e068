"""/dev/shm of a payload: memory with file names, which CRIU does not carry."""

from __future__ import annotations

import tarfile
from pathlib import Path

from snakemake_executor_plugin_ckpt.engines.world.namespaces import Way


def save(init: int, way: Way, archive: Path) -> None:
    """Write the files of a private world's /dev/shm into an archive; none when it is empty."""
    folder = _folder(init)
    if way == "capabilities" or not any(folder.iterdir()):
        return
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(folder, arcname=".")


def restore(init: int, way: Way, archive: Path) -> None:
    """Put them back, before criu opens them."""
    if way == "capabilities" or not archive.exists():
        return
    with tarfile.open(archive) as tar:
        # The archive is ours and its checksum verified. Python before 3.11.4 (Debian 12) knows no filters.
        tar.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
        tar.extractall(_folder(init))


def _folder(init: int) -> Path:
    # Through the mount namespace of that process; allowed to the owner of its user namespace (proc_pid_root(5)).
    return Path(f"/proc/{init}/root/dev/shm")
