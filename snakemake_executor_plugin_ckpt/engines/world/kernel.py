"""The few Linux calls that Python 3.11 does not offer: namespaces, mounts, capabilities, prctl.

Numbers are those of the kernel's user API headers (sched.h, mount.h, capability.h, prctl.h).
"""

from __future__ import annotations

import ctypes
import os
import struct

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18

CAP_SETUID = 7

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE, _PR_CAP_AMBIENT_CLEAR_ALL = 2, 4
_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY = 63

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Move the caller (or its future children) into new namespaces; unshare(2)."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """mount(2)."""
    words = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    _check(_libc.mount(*words[:3], ctypes.c_ulong(flags), words[3]), f"mount on {target}")


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send a signal when the parent dies. Cleared by a change of credentials, so set it last."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl PDEATHSIG")


def become_subreaper() -> None:
    """Orphans below become children of the caller, not of the node's pid 1; survives exec, and CRIU restores it."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl CHILD_SUBREAPER")


def permitted_capabilities() -> int:
    """The caller's permitted set as a bit mask."""
    data = ctypes.create_string_buffer(24)
    _check(_libc.capget(struct.pack("Ii", _CAPABILITY_VERSION_3, 0), data), "capget")
    words = struct.unpack("6I", data.raw)
    return int(words[1] | words[4] << 32)


def set_capabilities(mask: int) -> None:
    """Make a mask the effective, permitted, inheritable and ambient set, so that it survives exec."""
    low, high = mask & 0xFFFFFFFF, mask >> 32
    _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "prctl AMBIENT")
    _check(
        _libc.capset(struct.pack("Ii", _CAPABILITY_VERSION_3, 0), struct.pack("6I", low, low, low, high, high, high)),
        "capset",
    )
    for capability in range(_LAST_CAPABILITY):
        if mask >> capability & 1:
            _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0), "prctl AMBIENT")
