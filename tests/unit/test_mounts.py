"""The kind of file system that a folder is on."""

from __future__ import annotations

from pathlib import Path

from snakemake_executor_plugin_ckpt.state import mounts


def test_the_file_system_of_a_path_is_that_of_the_nearest_mount() -> None:
    mountinfo = (
        "1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        "2 1 0:40 / /bettik rw shared:2 - beegfs beegfs rw\n"
        "3 1 0:41 / /my\\040disk rw - nfs4 host:/x rw\n"
        "garbage\n"
    )
    assert mounts.kind_of(Path("/bettik/user/ckpt"), mountinfo) == "beegfs"
    assert mounts.kind_of(Path("/bettikx"), mountinfo) == "ext4"
    assert mounts.kind_of(Path("/my disk/a"), mountinfo) == "nfs4"
    assert mounts.kind_of(Path("/x"), "") == "unknown"


def test_this_machine_says_what_its_folders_are_on() -> None:
    assert mounts.file_system(Path("/proc")) == "proc"
