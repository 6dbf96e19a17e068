"""`ckpt log JOB`: what the payload wrote, in one piece over all segments; or what was said of a segment."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from snakemake_executor_plugin_ckpt.cli import facts
from snakemake_executor_plugin_ckpt.cli.facts import UsageError
from snakemake_executor_plugin_ckpt.state.folder import JobFolder

_BLOCK = 1 << 16
_PAUSE = 0.5


def run(arguments: argparse.Namespace) -> int:
    """Print a log; 1 if there is none yet."""
    folder = facts.find_job(arguments.state_dir, arguments.job)
    lines = None if arguments.all else arguments.lines
    if arguments.segment is not None:
        return _segment(folder, arguments.segment, lines)
    output = sys.stdout.buffer
    if arguments.follow:
        follow(folder.payload_log, output, lines, lambda: folder.exit_status() is not None, _note)
        return 0
    if not folder.payload_log.exists():
        _note(f"no output yet: {folder.payload_log} is not there")
        return 1
    copy(folder.payload_log, output, lines)
    output.flush()
    return 0


def _note(text: str) -> None:
    print(f"ckpt: {text}", file=sys.stderr)


def copy(path: Path, output: BinaryIO, lines: int | None) -> int:
    """Write the last `lines` lines of a file (None: all) to `output`; the position (bytes) behind them."""
    with open(path, "rb") as file:
        if lines is not None:
            file.seek(tail_start(file, lines))
        while block := file.read(_BLOCK):
            output.write(block)
        return file.tell()


def tail_start(file: BinaryIO, lines: int) -> int:
    """Where the last `lines` lines of a file begin, in bytes; its whole is not read."""
    at = file.seek(0, os.SEEK_END)
    if lines <= 0:
        return at
    wanted, end = lines, at
    while at > 0:
        size = min(_BLOCK, at)
        at = file.seek(at - size)
        block = file.read(size)
        if at + size == end and block.endswith(b"\n"):
            block = block[:-1]  # it ends the last line, and begins none
        count = block.count(b"\n")
        if count >= wanted:
            return at + _nth_from_behind(block, wanted) + 1
        wanted -= count
    return 0


def _nth_from_behind(block: bytes, number: int) -> int:
    at = len(block)
    for _ in range(number):
        at = block.rindex(b"\n", 0, at)
    return at


def follow(
    path: Path,
    output: BinaryIO,
    lines: int | None,
    over: Callable[[], bool],
    note: Callable[[str], None],
    pause: float = _PAUSE,
) -> None:
    """Write a log as it grows, until the job is over.

    Parameters
    ----------
    path
        The log; it need not be there yet.
    output
        Takes its bytes.
    lines
        Lines to begin with, from the end; None: all.
    over
        Whether the job has ended, so that nothing more will come.
    note
        Told when a restore cut the log back to the last save, or the job began anew with an empty one.
    pause
        Between two looks, in seconds: the log may be written on another node, which gives no sign of it.
    """
    inode, position = None, 0
    while True:
        last = over()  # before the look: what was written before the end is shown
        if (found := _stat(path)) is not None:
            if inode is None:
                position = copy(path, output, lines)
            elif found.st_ino != inode:
                note("the job began anew; its output so far is in another file of the folder logs")
                position = 0
            elif found.st_size < position:
                note("the job was restored: its output after the last save was taken back and comes again")
                position = found.st_size
            inode = found.st_ino
            position = _more(path, output, position)
            output.flush()
        if last:
            return
        time.sleep(pause)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _more(path: Path, output: BinaryIO, position: int) -> int:
    try:
        with open(path, "rb") as file:
            file.seek(position)
            while block := file.read(_BLOCK):
                output.write(block)
            return file.tell()
    except FileNotFoundError:
        return position


def _segment(folder: JobFolder, number: int, lines: int | None) -> int:
    """Print what scheduler, supervisor and engine said of a segment; 1 if nothing is kept."""
    output = sys.stdout.buffer
    paths = segment_logs(folder, number)
    for path in paths:
        output.write(f"==> {path} <==\n".encode())
        copy(path, output, lines)
    output.flush()
    if not any(path.stat().st_size for path in paths):
        _note(f"segment {number} said nothing (one that goes well does not); see `ckpt show {folder.path.name}`")
    return 0 if paths else 1


def segment_logs(folder: JobFolder, number: int) -> list[Path]:
    """The logs about one segment: of its batch job, which may have had several segments, and of saves that failed.

    Raises
    ------
    UsageError
        There is no such segment.
    """
    numbers = folder.segment_numbers()
    if number not in numbers:
        have = f"it has {numbers[0]} to {numbers[-1]}" if numbers else "it has none yet"
        raise UsageError(f"{folder.path.name} has no segment {number}; {have}")
    job_id = folder.segment(number).job_id
    batch = [
        folder.logs_folder / f"batch-{one.number:04d}.log"
        for one in folder.submissions()
        if one.job_id == job_id or one.name == job_id
    ]
    failed = sorted(folder.logs_folder.glob(f"{number:04d}-failed-*.log"))
    return [path for path in (*batch, *failed) if path.exists()]
