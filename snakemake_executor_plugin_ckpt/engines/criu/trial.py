"""Shows, rather than guesses, whether this node can save and restore: a real dump and restore of a small tree."""

from __future__ import annotations

import os
import select
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from snakemake_executor_plugin_ckpt.engines.base import Engine, Payload, Probe
from snakemake_executor_plugin_ckpt.engines.criu import locate
from snakemake_executor_plugin_ckpt.engines.world.namespaces import WAYS, Way
from snakemake_executor_plugin_ckpt.engines.world.world import World
from snakemake_executor_plugin_ckpt.errors import EngineError

_STATUS = 7
#: A shell, a pipe and a child; it ends, with a status of its own, when the file `go` is there.
_TREE = """
echo started
{ until [ -e "$1/go" ]; do sleep 0.02; done; echo end; } | { read -r word; echo "$word"; }
exit 7
"""
_LIMIT = 20.0
_ALLOW = (
    "An admin can allow it: sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces > 0 and, on Ubuntu, "
    "kernel.apparmor_restrict_unprivileged_userns=0"
)


def enters(way: Way) -> str | None:
    """None if this node lets this user make the way's private world, else why not."""
    try:
        running = World(way, None, None)
    except EngineError as error:
        return str(error)
    running.kill()
    return None


def has_file_capabilities(binary: str) -> bool:
    """Whether an admin gave the program file capabilities (xattr security.capability)."""
    try:
        return bool(os.getxattr(binary, "security.capability"))
    except OSError:
        return False


def probe(engine: Engine, taken: Way, wish: str) -> Probe:
    """Try the way that the engine would take; when it fails, say of every way why it does not work."""
    try:
        binary, numbers = locate.locate(engine.options)
    except EngineError as error:
        return Probe(False, problems=[str(error)])
    version = ".".join(map(str, numbers))
    try:
        _round_trip(engine)
    except (EngineError, OSError) as error:
        problems = [f"{taken}: {error}"]
        problems += [f"{way}: {reason}" for way in WAYS if way != taken and (reason := _missing(way, binary))]
        if wish != "auto":
            problems.append(f"--ckpt-criu-way {wish} was asked for; auto might find another way")
        return Probe(False, taken, version, problems)
    finally:
        engine.close()
    return Probe(True, taken, version, _limits(taken))


def _round_trip(engine: Engine) -> None:
    with tempfile.TemporaryDirectory(prefix="ckpt-trial-") as name:
        folder = Path(name)
        log, image = folder / "log", folder / "image"
        image.mkdir()
        payload = Payload(["/bin/sh", "-c", _TREE, "trial", name], name, str(log), {"PATH": os.defpath})
        running = engine.launch(payload)
        try:
            _wait(lambda: log.exists() and "started" in log.read_text(), "start of the trial tree")
            engine.save(running, image, lambda: None, stop=True, limit=_LIMIT)
        finally:
            running.kill()
        (folder / "go").touch()
        running = engine.restore(image, payload, _LIMIT)
        try:
            select.select([running.fileno()], [], [], _LIMIT)
            status = running.poll()
        finally:
            running.kill()
        if status != _STATUS or log.read_text() != "started\nend\n":
            raise EngineError(f"the restored trial tree ended with status {status} and wrote {log.read_text()!r}")


def _wait(true: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + _LIMIT
    while not true():
        if time.monotonic() > until:
            raise EngineError(f"no {what} within {_LIMIT:.0f} s")
        time.sleep(0.01)


def _missing(way: Way, binary: str) -> str:
    """What a way lacks here and who can give it; empty when it is not known to lack anything."""
    if way == "root":
        return (
            "" if os.getuid() == 0 else "you are not root (only needed in containers and for what rootless cannot save)"
        )
    if way == "rootless":
        reason = enters(way)
        return "" if reason is None else f"{reason}. {_ALLOW}"
    if not has_file_capabilities(binary):
        return (
            f"an admin can give it once per node: setcap cap_checkpoint_restore+eip {binary} "
            "(cap_checkpoint_restore,cap_setpcap+eip where jobs run with a reduced bounding set)"
        )
    return ""


def _limits(way: Way) -> list[str]:
    if way == "rootless":
        return [
            "works as you are, without an admin; not saved this way: multiprocessing's locks (deleted mapped "
            "files), System V shared memory, memfd shared memory, seccomp sandboxes, native AIO"
        ]
    if way == "capabilities":
        return [
            "without namespaces of its own a restore needs the process numbers of the save to be free on the "
            "node, and the program's monotonic clock jumps"
        ]
    return []
