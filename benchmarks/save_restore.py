"""Save and restore against raw criu on the same tree, side by side in one run.

``python benchmarks/save_restore.py [--mib 64 1024] [--pairs 5]``

The tree is a Python process that holds so much random memory, and a shell above it. Per size, pairs in turn:

raw
    ``criu dump`` and ``criu restore`` in the same namespaces and with the same options; nothing is synced,
    checked or noted. What CRIU itself can do.
ours
    From the freeze to the committed image (files checksummed and on the disk, outputs noted, manifest sealed and
    renamed), and from the choice of an image (every byte verified, outputs compared) to the running tree.

Both write to the same folder (--directory). Printed: medians in seconds, and the median of the pairs' ratios.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_ckpt.engines.base import Payload, find_engine, load_engine
from snakemake_executor_plugin_ckpt.engines.criu.engine import CriuEngine
from snakemake_executor_plugin_ckpt.engines.world.world import World
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.segment import beginning
from snakemake_executor_plugin_ckpt.segment.saving import Saver
from snakemake_executor_plugin_ckpt.state.folder import JobFolder
from snakemake_executor_plugin_ckpt.state.records import Job, Segment

_HOLD = "import os,sys,time; held = os.urandom({mib} << 20); print('ready', flush=True); time.sleep(1e6)"
_LIMIT = 600.0


@dataclass
class Timing:
    """Seconds of one save and one restore."""

    save: float
    restore: float


def main() -> int:
    """Run the pairs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, nargs="+", default=[64, 1024])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--directory", type=Path, help="where images go (default: a temporary folder here)")
    arguments = parser.parse_args()
    print(f"{'MiB':>6} {'':8} {'raw criu':>9} {'ours':>9} {'ratio':>7}")
    for mib in arguments.mib:
        pairs = []
        for _ in range(arguments.pairs):
            with tempfile.TemporaryDirectory(prefix="ckpt-bench-", dir=arguments.directory or Path.cwd()) as name:
                pairs.append((measure_raw(mib, Path(name)), measure_ours(mib, Path(name))))
        for what in ("save", "restore"):
            raw, ours = ([getattr(timing, what) for timing in column] for column in zip(*pairs, strict=True))
            ratio = statistics.median(b / a for a, b in zip(raw, ours, strict=True))
            print(f"{mib:6d} {what:8} {statistics.median(raw):9.3f} {statistics.median(ours):9.3f} {ratio:7.2f}")
    return 0


def a_job(path: Path, **policy: Any) -> tuple[JobFolder, Job, Segment]:
    """A job folder with a job in its first segment."""
    folder = JobFolder(path)
    folder.make()
    job = Job("job", "rule", "", str(path), 1, "fp", time.time(), Policy(**policy).to_dict())
    folder.write_job(job)
    return folder, job, Segment(1, 1, "local", "id", "host", "boot", 1, 1, time.time())


@contextmanager
def held(engine: CriuEngine, mib: int, folder: Path) -> Iterator[tuple[World, Payload]]:
    """A tree that holds some MiB."""
    log = folder / "log"
    program = f'"{sys.executable}" -c "{_HOLD.format(mib=mib)}"; exit $?'
    payload = Payload(["/bin/sh", "-c", program], str(folder), str(log), dict(os.environ))
    log.unlink(missing_ok=True)
    running = engine.launch(payload)
    try:
        while not log.exists() or "ready" not in log.read_text():
            time.sleep(0.02)
        yield running, payload
    finally:
        running.kill()


def make_engine() -> CriuEngine:
    """The engine as the plugin would have it."""
    engine = load_engine(find_engine("criu"), {})
    assert isinstance(engine, CriuEngine)
    return engine


def measure_raw(mib: int, folder: Path) -> Timing:
    """criu as it is."""
    engine = make_engine()
    image, work = folder / "raw", folder / "raw-work"
    image.mkdir()
    work.mkdir()
    with held(engine, mib, folder) as (running, _):
        # The engine's own command less its script; the clocks are noted as the restore needs them.
        clocks = running.clocks_now()
        argv = engine.criu.dump(running.payload, image, work, Path("/bin/true"), stop=True)
        start = time.monotonic()
        assert (
            running.ask("run", command([word for word in argv if "action-script" not in word], work), "ran", _LIMIT)
            == 0
        )
        save = time.monotonic() - start
    restored = World(engine.way, clocks, None)
    try:
        restored.ask("last_pid", 5000, "last_pid")
        start = time.monotonic()
        argv = engine.criu.restore(image, work, work / "pid")
        assert restored.ask("run", command(argv, work), "ran", _LIMIT) == 0
        restore = time.monotonic() - start
    finally:
        restored.kill()
        engine.close()
        shutil.rmtree(image)
    return Timing(save, restore)


def command(argv: list[str], work: Path) -> dict[str, object]:
    """A command for the tree's init process."""
    return {"argv": argv, "output": str(work / "out"), "environment": {"XDG_RUNTIME_DIR": str(work)}}


def measure_ours(mib: int, folder: Path) -> Timing:
    """The plugin's own steps around it."""
    engine = make_engine()
    job_folder, job, segment = a_job(folder / "job")
    with held(engine, mib, folder) as (running, _):
        start = time.monotonic()
        Saver(job_folder, job, segment, engine, None, ()).save(running, stop=True, limit=_LIMIT)
        save = time.monotonic() - start
    later = replace(segment, number=2)
    start = time.monotonic()
    begun = beginning.begin(job_folder, job, later, [segment], engine, _LIMIT)
    restore = time.monotonic() - start
    assert later.restored_from == 1
    begun.running.kill()
    engine.close()
    shutil.rmtree(job_folder.path)
    return Timing(save, restore)


if __name__ == "__main__":
    sys.exit(main())
