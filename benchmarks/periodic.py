"""What a periodic save costs a running payload: how long it stands still, and what is copied.

``python benchmarks/periodic.py [--gib 1 4] [--saves 5]``

The payload holds so much random memory and, between two saves, appends to a large file, rewrites a little of
another one in place, and replaces a small one. Per size, after a first save that is not counted (it has to copy
everything): medians over the saves of the seconds in which the payload stood still (`frozen`), of the whole save
until the image was committed (`took`), and of the bytes of outputs that were copied, beside those that changed and
those that there are.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from save_restore import a_job, make_engine

from snakemake_executor_plugin_ckpt.engines.base import Payload
from snakemake_executor_plugin_ckpt.segment.saving import Saver
from snakemake_executor_plugin_ckpt.units import format_size

_LARGE, _GROWTH, _PLACE, _CHANGE, _SMALL = 1 << 30, 16 << 20, 256 << 20, 1 << 20, 10_000
_PROGRAM = """
import os, sys, time
held = os.urandom({memory})
log, place = open('grows', 'ab', buffering=0), open('place', 'w+b', buffering=0)
log.write(os.urandom({large})); place.write(os.urandom({place}))
step = 0
while True:
    open('small', 'wb').write(os.urandom({small}))
    open('ready-%d' % step, 'w').close()
    while not os.path.exists('go-%d' % step): time.sleep(0.02)
    log.write(os.urandom({growth})); place.seek(step * {change}); place.write(os.urandom({change}))
    step += 1
"""


def main() -> int:
    """Save again and again, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, nargs="+", default=[1, 4])
    parser.add_argument("--saves", type=int, default=5)
    parser.add_argument("--directory", type=Path, help="where all is written (default: a temporary folder here)")
    arguments = parser.parse_args()
    changed, there = _GROWTH + _CHANGE + _SMALL, _LARGE + _PLACE
    print(f"outputs: {format_size(there)}, of which {format_size(changed)} change between two saves")
    print(f"{'memory':>10} {'frozen s':>9} {'took s':>9} {'image':>10} {'copied':>10}")
    for gib in arguments.gib:
        with tempfile.TemporaryDirectory(prefix="ckpt-bench-", dir=arguments.directory or Path.cwd()) as name:
            rows = measure(round(gib * (1 << 30)), arguments.saves, Path(name))
        frozen, took, image, copied = (statistics.median(column) for column in zip(*rows, strict=True))
        sizes = [format_size(size) for size in (gib * (1 << 30), image, copied)]
        print(f"{sizes[0]:>10} {frozen:9.3f} {took:9.3f} {sizes[1]:>10} {sizes[2]:>10}")
    return 0


def measure(memory: int, saves: int, folder: Path) -> list[tuple[float, float, int, int]]:
    """Frozen and whole time (s), bytes of the image and bytes of outputs copied, of each save."""
    engine = make_engine()
    job_folder, job, segment = a_job(folder / "job")
    names = ("grows", "place", "small")
    job.watched = [str(folder / name) for name in names]
    program = _PROGRAM.format(memory=memory, large=_LARGE, place=_PLACE, small=_SMALL, growth=_GROWTH, change=_CHANGE)
    argv = [sys.executable, "-c", program]
    running = engine.launch(Payload(argv, str(folder), str(job_folder.payload_log), dict(os.environ)))
    rows = []
    try:
        saver = Saver(job_folder, job, segment, engine, None, ())
        for step in range(saves + 1):
            while not (folder / f"ready-{step}").exists():
                assert running.poll() is None, job_folder.payload_log.read_text()
                time.sleep(0.05)
            saver.save(running, stop=False, limit=600)
            assert segment.frozen is not None and segment.took is not None
            rows.append((segment.frozen, segment.took, segment.bytes or 0, segment.copied or 0))
            (folder / f"go-{step}").touch()
    finally:
        running.kill()
        engine.close()
    return rows[1:]


if __name__ == "__main__":
    sys.exit(main())
