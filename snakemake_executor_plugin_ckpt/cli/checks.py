"""The checks of `ckpt doctor`: each looks at one thing and says how it is, what would mend it, and who can."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from snakemake_executor_plugin_ckpt.engines.base import Engine, Probe
from snakemake_executor_plugin_ckpt.errors import CkptError, EngineError
from snakemake_executor_plugin_ckpt.segment.bandwidth import write_bandwidth
from snakemake_executor_plugin_ckpt.state import durable
from snakemake_executor_plugin_ckpt.state.mounts import file_system
from snakemake_executor_plugin_ckpt.units import format_duration, format_size

Status = Literal["ok", "warning", "problem"]

ADMIN, YOU = "an admin", "you"

_OLDEST_PYTHON = (3, 11)
#: CAP_CHECKPOINT_RESTORE, without which criu needs root, came with Linux 5.9; time namespaces with 5.6.
_OLDEST_KERNEL = (5, 9)
_SLOW = 20 * 2**20
_SMALL, _TOO_SMALL = 2 * 2**30, 64 * 2**20
_OF_ONE_NODE = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "overlay", "f2fs", "bcachefs"}
_IN_MEMORY = {"tmpfs", "ramfs"}


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes
    ----------
    name
        What was looked at.
    status
        ``ok``, ``warning`` (jobs can be saved all the same) or ``problem`` (they cannot).
    found
        How it is.
    remedy, who
        What would mend it, and who can do that: ``you`` or ``an admin``; empty when nothing is to be done.
    details
        Further lines.
    """

    name: str
    status: Status
    found: str
    remedy: str = ""
    who: str = ""
    details: tuple[str, ...] = ()


# -- programs and kernel -----------------------------------------------------------------------------------------


def python() -> Check:
    """The interpreter, which must be the same on head and nodes."""
    found = f"{platform.python_version()}, {sys.executable}"
    if sys.version_info[:2] < _OLDEST_PYTHON:
        return Check("python", "problem", found, "install Python 3.11 or newer, for instance with conda", YOU)
    return Check("python", "ok", found)


def kernel(release: str | None = None) -> Check:
    """The kernel's version."""
    release = release or os.uname().release
    found = f"Linux {release}, {os.uname().machine}"
    numbers = release.split("-")[0].split(".")
    version = tuple(int(part) for part in numbers[:2] if part.isdigit())
    if version and version < _OLDEST_KERNEL:
        return Check("kernel", "problem", found, "a Linux kernel of version 5.9 or newer", ADMIN)
    return Check("kernel", "ok", found)


def _sysctl(proc_sys: Path, name: str) -> int | None:
    """A number below /proc/sys; None where the kernel does not have it."""
    try:
        return int((proc_sys / name.replace(".", "/")).read_text())
    except (OSError, ValueError):
        return None


#: Settings that forbid user namespaces: name, whether a value forbids, and the value that allows.
_NAMESPACES: tuple[tuple[str, Callable[[int], bool], int], ...] = (
    ("user.max_user_namespaces", lambda value: value <= 0, 15000),
    ("kernel.unprivileged_userns_clone", lambda value: value == 0, 1),
    ("kernel.apparmor_restrict_unprivileged_userns", lambda value: value != 0, 0),
)


def user_namespaces(proc_sys: Path = Path("/proc/sys")) -> Check:
    """Whether an ordinary user may make user namespaces, which the way `rootless` rests on."""
    values = [(name, _sysctl(proc_sys, name), forbids, right) for name, forbids, right in _NAMESPACES]
    found = ", ".join(f"{name} = {value}" for name, value, _, _ in values if value is not None)
    wrong = [
        f"sysctl -w {name}={right}" for name, value, forbids, right in values if value is not None and forbids(value)
    ]
    if wrong:
        return Check("user namespaces", "problem", found, "; ".join(wrong), ADMIN)
    return Check("user namespaces", "ok", found or "no limit is set")


def ptrace(proc_sys: Path = Path("/proc/sys")) -> Check:
    """Whether Yama lets criu attach to the payload; in its own user namespace it may, below scope 3."""
    scope = _sysctl(proc_sys, "kernel.yama.ptrace_scope")
    if scope is None:
        return Check("ptrace", "ok", "not restricted (no Yama)")
    found = f"kernel.yama.ptrace_scope = {scope}"
    if scope >= 3:
        remedy = "scope 3 forbids ptrace to all until the next boot: set 1 in /etc/sysctl.d and boot again"
        return Check("ptrace", "problem", found, remedy, ADMIN)
    return Check("ptrace", "ok", found)


def criu(options: Mapping[str, str]) -> Check:
    """Whether there is a CRIU that is new enough."""
    from snakemake_executor_plugin_ckpt.engines.criu.commands import OLDEST
    from snakemake_executor_plugin_ckpt.engines.criu.locate import locate

    try:
        binary, version = locate(options)
    except EngineError as error:
        needed = ".".join(map(str, OLDEST))
        remedy = (
            f"install CRIU {needed} or newer (tools/install-criu.sh PREFIX needs no root), "
            "and name it with --criu or CKPT_CRIU"
        )
        return Check("criu", "problem", str(error).partition(". Install CRIU")[0], remedy, YOU)
    return Check("criu", "ok", f"{'.'.join(map(str, version))}, {binary}")


def trial(engine: Engine, wish: str, means: list[Check]) -> tuple[Probe, Check]:
    """A real save and restore of a small tree.

    Parameters
    ----------
    engine
        What saves.
    wish
        The way that was asked for, or ``auto``.
    means
        What was found of the things that it needs; a problem among them is named as the cause.
    """
    name = "save and restore"
    try:
        probe = engine.probe()
    except (CkptError, OSError) as error:
        probe = Probe(False, problems=[str(error)])
    if probe.usable:
        return probe, Check(
            name, "ok", f"a small tree was saved and restored: {probe.way}", details=tuple(probe.problems)
        )
    found, details = "a small tree could not be saved and restored", tuple(probe.problems)
    if causes := [one for one in means if one.status == "problem"]:
        remedy = "first mend " + ", ".join(one.name for one in causes)
        return probe, Check(name, "problem", found, remedy, causes[0].who, details)
    if wish != "auto":
        return probe, Check(name, "problem", found, f"try without --criu-way {wish}", YOU, details)
    return probe, Check(name, "problem", found, "make one of the ways below possible on this node", ADMIN, details)


# -- the state directory -----------------------------------------------------------------------------------------


def state_dir(path: Path) -> list[Check]:
    """Writing, speed, hard links, kind and free space of a state directory; the trial folder is removed."""
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".ckpt-doctor-", dir=place) as folder:
            return [
                Check("state directory", "ok", f"{path} can be {'written' if place == path else 'made and written'}"),
                _kind(place),
                _links(Path(folder)),
                _speed(Path(folder)),
                _space(place),
            ]
    except OSError as error:
        found = f"{path} cannot be written: {place}: {error.strerror}"
        return [Check("state directory", "problem", found, "name a folder that you can write (--state-dir)", YOU)]


def _links(folder: Path) -> Check:
    """One owner at most of a name: what keeps two segments of a job apart."""
    name, probe = "exclusive creation", folder / "probe"
    if not (durable.create(probe, b"1") and not durable.create(probe, b"2") and probe.read_bytes() == b"1"):
        remedy = "use another file system (--state-dir): here two segments of one job could run at once"
        return Check(name, "problem", "a file that was there could be created again", remedy, YOU)
    try:
        os.link(probe, folder / "link")
    except OSError as error:
        found = f"no hard links ({error.strerror}), and the lock of a job needs them"
        return Check(name, "problem", found, "use a file system with hard links (--state-dir)", YOU)
    return Check(name, "ok", "holds (hard links work)")


def _speed(folder: Path) -> Check:
    rate = write_bandwidth(folder)
    if rate is None:
        return Check("write speed", "problem", "16 MiB could not be written", "free space, or your quota", YOU)
    found = f"{format_size(rate)}/s: 1 GiB of memory takes about {format_duration(2**30 / rate)} to save"
    if rate < _SLOW:
        return Check("write speed", "warning", found, "prefer a faster file system (--state-dir)", YOU)
    return Check("write speed", "ok", found)


def _space(place: Path) -> Check:
    """Free space; a quota of the user is not in it."""
    numbers = os.statvfs(place)
    free = numbers.f_bavail * numbers.f_frsize
    found = f"{format_size(free)} (each job keeps 2 images, for a moment 3, each about as large as its memory)"
    if free < _SMALL:
        status: Status = "problem" if free < _TOO_SMALL else "warning"
        return Check("free space", status, found, "free some space, or use another file system (--state-dir)", YOU)
    return Check("free space", "ok", found)


def _kind(place: Path) -> Check:
    name, kind = "file system", file_system(place)
    if os.statvfs(place).f_flag & os.ST_NOEXEC:
        remedy = "use a file system that lets scripts run (--state-dir): run.sh is in the job folder"
        return Check(name, "problem", f"{kind}, mounted noexec", remedy, YOU)
    if kind in _IN_MEMORY:
        remedy = "use a disk (--state-dir)"
        return Check(name, "warning", f"{kind}: images take the node's memory and are gone when it boots", remedy, YOU)
    if kind in _OF_ONE_NODE:
        return Check(name, "ok", f"{kind}: of this machine; jobs on a cluster need one that all nodes share")
    return Check(name, "ok", kind)
