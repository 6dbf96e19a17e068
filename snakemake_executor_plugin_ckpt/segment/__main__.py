"""``python -m snakemake_executor_plugin_ckpt.segment JOBFOLDER``: what run.sh executes in its own place."""

from __future__ import annotations

import sys
from pathlib import Path

from snakemake_executor_plugin_ckpt.errors import CkptError
from snakemake_executor_plugin_ckpt.schedulers.base import FAILED
from snakemake_executor_plugin_ckpt.segment.supervisor import run


def main(arguments: list[str]) -> int:
    """Run one segment; the exit status of the batch job."""
    if len(arguments) != 1:
        print("usage: python -m snakemake_executor_plugin_ckpt.segment JOBFOLDER", file=sys.stderr)
        return 2
    try:
        return run(Path(arguments[0]))
    except (CkptError, OSError) as error:
        print(f"ckpt: {error}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
