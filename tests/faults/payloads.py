"""Deterministic programs that write files in every way that a restore can spoil.

``python payloads.py KIND STEPS PAUSE``. All go in small steps with a pause (s) after each, write only in their working
directory (and TMPDIR), and carry from step to step a state that a wrong file would change: a program that continues
with a file of another moment ends with other bytes, or fails.
"""

from __future__ import annotations

import mmap
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_MASK = (1 << 32) - 1


def mixed(value: int, step: int) -> int:
    """The next state: any step left out, repeated or seen twice changes all that follow."""
    return (value * 1664525 + step * 1013904223 + 12345) & _MASK


def steps() -> Iterator[int]:
    pause = float(sys.argv[3])
    for step in range(1, int(sys.argv[2]) + 1):
        yield step
        time.sleep(pause)


def append_open() -> None:
    """One descriptor, held open and appended to; another that is written without O_APPEND."""
    state = 0
    with open("appended", "a") as appended, open("written", "w") as written:
        for step in steps():
            state = mixed(state, step)
            print(step, state, file=appended, flush=True)
            print(step, state, file=written, flush=True)


def append_reopened() -> None:
    """Opened for each line; the state stands in the file alone."""
    path = Path("reopened")
    path.write_text("0 0\n")
    for step in steps():
        state = int(path.read_text().split()[-1])
        with path.open("a") as file:
            print(step, mixed(state, step), file=file)


def rewritten() -> None:
    """A closed file written anew in its place; the state stands in it alone."""
    path = Path("rewritten")
    path.write_bytes(b"0".ljust(4096, b"."))
    for step in steps():
        state = int(path.read_bytes().rstrip(b"."))
        with path.open("r+b") as file:
            file.write(str(mixed(state, step)).encode().ljust(4096, b"."))


def database() -> None:
    """An SQLite database: written in place, with a journal that comes and goes."""
    connection = sqlite3.connect("rows.db", isolation_level=None)
    connection.execute("CREATE TABLE rows (step INTEGER PRIMARY KEY, state INTEGER, filling TEXT)")
    connection.execute("INSERT INTO rows VALUES (0, 0, '')")
    for step in steps():
        connection.execute("BEGIN")
        (state,) = connection.execute("SELECT state FROM rows WHERE step = ?", (step - 1,)).fetchone()
        state = mixed(state, step)
        connection.execute("INSERT INTO rows VALUES (?, ?, ?)", (step, state, "x" * (state % 3000)))
        connection.execute("UPDATE rows SET filling = 'y' WHERE step = ?", (state % step,))
        connection.execute("COMMIT")
    connection.close()


def mapped() -> None:
    """A file mapped into memory and changed in place, as an array on disk is."""
    size = 1 << 18
    Path("array").write_bytes(bytes(size))
    state = 0
    with open("array", "r+b") as file, mmap.mmap(file.fileno(), size) as array:
        for step in steps():
            for _ in range(50):
                state = mixed(state, step)
                at = state % (size - 8)
                state ^= int.from_bytes(array[at : at + 4], "little")
                array[at : at + 4] = state.to_bytes(4, "little")
            if step % 10 == 0:
                array.flush()


def changing() -> None:
    """Files that come, are cut, replaced by a rename and deleted."""
    state = 0
    Path("cut").write_bytes(b"")
    Path("replaced").write_text("0")
    for step in steps():
        state = mixed(int(Path("replaced").read_text()), step)
        Path("replaced.new").write_text(str(state))
        os.replace("replaced.new", "replaced")
        Path(f"part-{step % 12}").write_text(f"{step} {state}\n")
        Path(f"part-{(step + 5) % 12}").unlink(missing_ok=True)
        with open("cut", "ab") as file:
            file.write(str(state).encode())
        if step % 9 == 0:
            os.truncate("cut", state % 40)


def directory() -> None:
    """A folder that is the output: files and folders in it come and go, and its content is the state."""
    root = Path("tree")
    root.mkdir(exist_ok=True)
    for step in steps():
        state = sum(int(path.read_text()) for path in sorted(root.rglob("leaf-*")))
        branch = root / f"branch-{step % 5}"
        branch.mkdir(exist_ok=True)
        (branch / f"leaf-{step % 7}").write_text(str(mixed(state, step)))
        if step % 11 == 0:
            shutil.rmtree(root / f"branch-{state % 5}", ignore_errors=True)


def talking() -> None:
    """A log file that is opened for each line, and both standard streams."""
    state = 0
    for step in steps():
        state = mixed(state, step)
        with open("run.log", "a") as log:
            print(f"step {step}: {state}", file=log)
        print("out", step, state, flush=True)
        print("err", step, state, file=sys.stderr, flush=True)


def temporary() -> None:
    """A file in TMPDIR that carries the state, and is replaced and grown; what it came to is the output."""
    folder = Path(os.environ["TMPDIR"])
    (folder / "state").write_text("0")
    for step in steps():
        state = mixed(int((folder / "state").read_text()), step)
        (folder / "next").write_text(str(state))
        (folder / "next").rename(folder / "state")
        with (folder / "grown").open("a") as file:
            print(step, state, file=file)
    shutil.copy(folder / "grown", "result")
    shutil.rmtree(folder / "cache", ignore_errors=True)


def transformed() -> None:
    """The middle of a pipeline: what comes in by a pipe goes out with a checksum."""
    state = 0
    for line in sys.stdin:
        state = mixed(state, int(line))
        print(line.strip(), state, flush=True)


KINDS: dict[str, Callable[[], None]] = {
    kind.__name__: kind
    for kind in (
        append_open,
        append_reopened,
        rewritten,
        database,
        mapped,
        changing,
        directory,
        talking,
        temporary,
        transformed,
    )
}

if __name__ == "__main__":
    KINDS[sys.argv[1]]()
