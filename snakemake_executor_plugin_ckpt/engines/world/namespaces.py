"""The private world in which a payload lives: the same shape on every node, so that CRIU saves no namespace.

Three ways to have it, by what a node allows (measured; docs/further.md):

rootless
    An ordinary user's own user namespace with pid, mount and time namespaces in it. No admin, no daemon.
root
    The same without the user namespace, for root in a container or CI: CRIU may then read map_files, which
    saves more (multiprocessing's unlinked semaphores).
capabilities
    No namespace at all: the criu binary carries file capabilities. For nodes that forbid user namespaces.
"""

from __future__ import annotations

import math
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from snakemake_executor_plugin_ckpt.engines.world import kernel

Way = Literal["rootless", "root", "capabilities"]
WAYS: tuple[Way, ...] = ("rootless", "root", "capabilities")


@dataclass(frozen=True)
class Clocks:
    """What the payload's monotonic clocks show, in seconds."""

    monotonic: float
    boottime: float

    @classmethod
    def now(cls) -> Clocks:
        """The clocks as the caller sees them."""
        return cls(time.clock_gettime(time.CLOCK_MONOTONIC), time.clock_gettime(time.CLOCK_BOOTTIME))


def enter(way: Way, clocks: Clocks | None) -> None:
    """Have the caller's next child be the first process of a new private world.

    Parameters
    ----------
    way
        How to make it.
    clocks
        What the payload's clocks showed at the save, or None at the first launch. ``criu --unprivileged``
        leaves the clocks alone (its timens.c), and a sleep to an absolute time would hang on a node with less
        uptime; so the time namespace is made here.

    Raises
    ------
    OSError
        The node does not allow it.
    """
    if way == "capabilities":
        return
    uid, gid = os.getuid(), os.getgid()
    flags = kernel.CLONE_NEWPID | kernel.CLONE_NEWNS | kernel.CLONE_NEWTIME
    kernel.unshare(flags | (kernel.CLONE_NEWUSER if way == "rootless" else 0))
    _set_clocks(clocks)
    if way == "rootless":
        # user_namespaces(7): without a helper one may map only oneself, and only after giving up setgroups;
        # the supplementary groups keep their rights all the same.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _set_clocks(clocks: Clocks | None) -> None:
    if clocks is None:
        return
    now = Clocks.now()
    lines = []
    for name, then, here in (
        ("monotonic", clocks.monotonic, now.monotonic),
        ("boottime", clocks.boottime, now.boottime),
    ):
        # Rounded up: a monotonic clock must never seem to go back. The nanoseconds are never negative.
        seconds, nanoseconds = divmod(math.ceil((then - here) * 1e9), 10**9)
        lines.append(f"{name} {seconds} {nanoseconds}\n")
    Path("/proc/self/timens_offsets").write_text("".join(lines))


def furnish(way: Way) -> None:
    """Give the first process of the new world its own /proc, /dev/shm and pseudo terminals."""
    if way == "capabilities":
        return
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    # A tmpfs of its own: its files are memory, so they travel in the image (see Engine.save).
    kernel.mount("tmpfs", "/dev/shm", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777")
    kernel.mount(
        "devpts",
        "/dev/pts",
        "devpts",
        kernel.MS_NOSUID | kernel.MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=0620",
    )
    with suppress(OSError):  # where /dev/ptmx is already a link to pts/ptmx there is nothing to bind
        kernel.mount("/dev/pts/ptmx", "/dev/ptmx", None, kernel.MS_BIND)


def shm_of(first: int, way: Way) -> Path | None:
    """The /dev/shm that `furnish` gave to the world of a first process, as it is seen from outside; None: the node's.

    Through the mount namespace of that process; allowed to the owner of its user namespace (proc_pid_root(5)).
    """
    return None if way == "capabilities" else Path(f"/proc/{first}/root/dev/shm")


def criu_capabilities(way: Way) -> int | None:
    """The capabilities that criu gets, as a mask, or None to leave them as they are.

    With CAP_SETUID criu would setuid(0) in the restored task, and uid 0 is not mapped in an ordinary user's
    namespace (criu/cr-restore.c, prepare_userns_creds).
    """
    if way != "rootless":
        return None
    permitted = kernel.permitted_capabilities()
    return permitted if os.getuid() == 0 else permitted & ~(1 << kernel.CAP_SETUID)


def drop_capabilities(way: Way) -> None:
    """Take from the payload what it has only because of the user namespace."""
    if way == "rootless" and os.getuid() != 0:
        kernel.set_capabilities(0)
