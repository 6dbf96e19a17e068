"""`make demo`: the downscaling example under walltimes of a few seconds, and what became of its jobs.

With --size valley, a valley at 25 m in all months: an hour on two cores, in segments of two minutes.
Run again after a Ctrl-C, it resumes from the images; with --again it starts from nothing.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORKFLOW = ROOT / "workflows" / "downscaling"
TOOLS = Path(sys.executable).parent
CONFIGURATIONS = {"demo": "config.yaml", "valley": "valley.yaml"}


def main() -> int:
    """Run the example; the exit status of Snakemake."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--size", choices=CONFIGURATIONS, default="demo", help="minutes, or an hour (default: %(default)s)"
    )
    parser.add_argument("--directory", type=Path, help="where to run (default: a folder of the size's name)")
    parser.add_argument("--again", action="store_true", help="remove what an earlier run left there")
    parser.add_argument("--uninterrupted", action="store_true", help="run it without walltimes, to compare")
    arguments, others = parser.parse_known_args()
    directory: Path = arguments.directory or ROOT / arguments.size
    if arguments.again and directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    status = subprocess.call(command(arguments.size, directory, arguments.uninterrupted, others))
    if status == 0:
        report(directory, time.monotonic() - started, arguments.uninterrupted)
    return status


def command(size: str, directory: Path, uninterrupted: bool, others: list[str]) -> list[str]:
    """The snakemake that runs a size."""
    profile = ["--cores", "2"] if uninterrupted else ["--profile", str(WORKFLOW / "profiles" / size)]
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(WORKFLOW / "workflow" / "Snakefile")),
        *("--configfile", str(WORKFLOW / "config" / CONFIGURATIONS[size])),
        *("--directory", str(directory), *profile, *others),
    ]


def report(directory: Path, seconds: float, uninterrupted: bool) -> None:
    """Print the jobs' summary and where the pictures are."""
    state = directory / ".snakemake" / "ckpt"
    if not uninterrupted:
        print("\nThe jobs and their segments (more: ckpt show JOB):\n", flush=True)
        subprocess.call([TOOLS / "ckpt", "list", "--state-dir", state])
    print(f"\nDone in {seconds:.0f} s. The maps:")
    for picture in sorted((directory / "results" / "maps").glob("*.png")):
        print(f"  {picture}")


if __name__ == "__main__":
    sys.exit(main())
