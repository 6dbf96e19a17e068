"""A program that works in steps, each of which waits until it may begin: run as a script, in its folder.

``steps.py BEHAVIOUR GATES``: step n begins when the folder GATES has a file ``n``, and says ``done-n`` there when it
is over. Every behaviour is a way in which programs write files; what it leaves depends on nothing but the steps.
"""

from __future__ import annotations

import mmap
import os
import shutil
import sqlite3
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

STEPS = 6


def append_by_an_open_descriptor() -> Iterator[None]:
    with open("out", "w") as file:
        for step in range(STEPS):
            file.write(f"line {step}\n")
            file.flush()
            yield


def append_by_reopening() -> Iterator[None]:
    for step in range(STEPS):
        with open("out", "a") as file:
            file.write(f"line {step}\n")
        yield


def rewrite_a_closed_file_in_place() -> Iterator[None]:
    Path("out").write_bytes(bytes(100_000))
    for step in range(STEPS):
        with open("out", "r+b") as file:
            value = file.read(1)[0]
            file.seek(0)
            file.write(bytes([value + step + 1]))
            file.seek(50_000 + step)
            file.write(bytes([value]))
        yield


def sqlite(mode: str) -> Iterator[None]:
    with sqlite3.connect("out") as database:
        database.execute(f"pragma journal_mode={mode}")
        database.execute("create table t (step integer, total integer)")
        for step in range(STEPS):
            (total,) = database.execute("select coalesce(sum(total), 1) from t").fetchone()
            database.execute("insert into t values (?, ?)", (step, total))
            database.execute("update t set total = total + 1 where step = 0")
            database.commit()
            yield
    database.close()


def sqlite_with_a_journal() -> Iterator[None]:
    return sqlite("delete")


def sqlite_with_a_log_beside() -> Iterator[None]:
    return sqlite("wal")


def a_mapped_array() -> Iterator[None]:
    Path("out").write_bytes(bytes(80_000))
    with open("out", "r+b") as file, mmap.mmap(file.fileno(), 0) as array:
        file.close()
        for step in range(STEPS):
            for place in range(0, 80_000, 8_000):
                (old,) = struct.unpack_from("<q", array, place)
                struct.pack_into("<q", array, place, 3 * old + step + 1)
            yield


def create() -> Iterator[None]:
    Path("folder").mkdir()
    for step in range(STEPS):
        with open(f"folder/{step}", "x") as file:  # fails if it is there already
            file.write(str(step))
        yield


def truncate_and_go_on() -> Iterator[None]:
    Path("out").write_text("0123456789" * 10)
    for step in range(STEPS):
        os.truncate("out", os.path.getsize("out") // 2)
        with open("out", "a") as file:
            file.write(f"step {step} ")
        yield


def write_beside_and_rename() -> Iterator[None]:
    Path("out").write_text("begin ")
    for step in range(STEPS):
        Path("out.part").write_text(Path("out").read_text() + f"{step} ")
        os.rename("out.part", "out")
        yield


def rename_while_it_is_open() -> Iterator[None]:
    with open("part-0", "w") as file:
        for step in range(STEPS):
            file.write(f"{step}\n")
            file.flush()
            os.rename(f"part-{step}", f"part-{step + 1}")
            yield
    os.rename(f"part-{STEPS}", "out")


def hand_on_and_delete() -> Iterator[None]:
    Path("stage-0").write_text("begin")
    for step in range(STEPS):
        Path(f"stage-{step + 1}").write_text(Path(f"stage-{step}").read_text() + f" {step}")
        os.unlink(f"stage-{step}")
        yield
    os.rename(f"stage-{STEPS}", "out")


def fill_and_clear_a_folder() -> Iterator[None]:
    for step in range(STEPS):
        shutil.rmtree("folder", ignore_errors=True)
        Path("folder/deep").mkdir(parents=True)
        for number in range(step + 1):
            Path(f"folder/deep/{number}").write_text(f"{step} {number}")
        yield


def use_temporary_files() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "0").write_text("begin")
        for step in range(STEPS):
            before = Path(folder, str(step))
            Path(folder, str(step + 1)).write_text(before.read_text() + f" {step}")
            before.unlink()
            yield
        shutil.copyfile(Path(folder, str(STEPS)), "out")


def say() -> Iterator[None]:
    for step in range(STEPS):
        print(f"step {step}", flush=True)
        print(f"warning {step}", file=sys.stderr, flush=True)
        yield


BEHAVIOURS = {
    made.__name__: made
    for made in (
        append_by_an_open_descriptor,
        append_by_reopening,
        rewrite_a_closed_file_in_place,
        sqlite_with_a_journal,
        sqlite_with_a_log_beside,
        a_mapped_array,
        create,
        truncate_and_go_on,
        write_beside_and_rename,
        rename_while_it_is_open,
        hand_on_and_delete,
        fill_and_clear_a_folder,
        use_temporary_files,
        say,
    )
}


def main(behaviour: str, gates: Path) -> None:
    """Go through the steps of a behaviour."""
    for step, _ in enumerate(BEHAVIOURS[behaviour]()):
        (gates / f"done-{step}").touch()
        while not (gates / str(step)).exists():
            time.sleep(0.01)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
