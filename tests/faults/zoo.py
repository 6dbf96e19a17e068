"""The jobs that the campaign runs: a command and what it declares to write."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PROGRAM = Path(__file__).with_name("payloads.py")


@dataclass(frozen=True)
class Animal:
    """One job.

    Attributes
    ----------
    command
        Shell code. It removes first what an earlier run left, as the in-job Snakemake does with outputs.
    watched
        Declared outputs and logs, relative to the working directory.
    """

    command: str
    watched: tuple[str, ...]


def zoo(steps: int, pause: float) -> dict[str, Animal]:
    """All of them, by name; each goes so many steps with a pause (s) after each."""

    def program(kind: str) -> str:
        return f"{shlex.join([sys.executable, '-E', str(_PROGRAM), kind])} {steps} {pause}"

    loop = f"n=0; while [ $n -lt {steps} ]; do n=$((n + 1))"
    pipeline = f"{{ {loop}; echo $n; sleep {pause}; done; }} | {program('transformed')} | tee copied > passed"
    watched: dict[str, tuple[str, ...]] = {
        "append_open": ("appended", "written"),
        "append_reopened": ("reopened",),
        "rewritten": ("rewritten",),
        "database": ("rows.db",),
        "mapped": ("array",),
        "changing": ("cut", "replaced", *(f"part-{number}" for number in range(12))),
        "directory": ("tree",),
        "talking": ("run.log",),
        "temporary": ("result",),
    }
    animals = {
        **{kind: Animal(program(kind), files) for kind, files in watched.items()},
        "shell": Animal(f"{loop}; echo $n >> lines; sleep {pause}; done; exit 7", ("lines",)),
        "pipeline": Animal(pipeline, ("copied", "passed")),
    }
    return {name: Animal(f"rm -rf *; {animal.command}", animal.watched) for name, animal in animals.items()}


@dataclass(frozen=True)
class Result:
    """All that a job left behind.

    Attributes
    ----------
    status
        Its exit status; None when there is none.
    said
        Both its standard streams.
    files
        Content by path; folders end with a slash.
    """

    status: int | None
    said: bytes
    files: Mapping[str, bytes]


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder, and the folders."""
    return {
        f"{path.relative_to(folder)}{'/' if path.is_dir() else ''}": b"" if path.is_dir() else path.read_bytes()
        for path in folder.rglob("*")
    }


def run_uninterrupted(animal: Animal, base: Path) -> Result:
    """What a job leaves behind when nobody troubles it."""
    work, temporary = base / "work", base / "tmp"
    work.mkdir(parents=True)
    temporary.mkdir()
    done = subprocess.run(
        ["/bin/sh", "-c", animal.command],
        cwd=work,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return Result(done.returncode, done.stdout, content(work))


def differences(expected: Result, got: Result) -> list[str]:
    """In what two results differ."""
    found = []
    if expected.status != got.status:
        found.append(f"exit status {got.status} instead of {expected.status}")
    if expected.said != got.said:
        found.append(_first_difference("stdout and stderr", expected.said, got.said))
    for path in sorted(expected.files.keys() | got.files.keys()):
        if path not in got.files:
            found.append(f"{path} is missing")
        elif path not in expected.files:
            found.append(f"{path} should not be there")
        elif expected.files[path] != got.files[path]:
            found.append(_first_difference(path, expected.files[path], got.files[path]))
    return found


def _first_difference(name: str, expected: bytes, got: bytes) -> str:
    at = next((n for n, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b), min(len(expected), len(got)))
    near = slice(max(0, at - 20), at + 20)
    return f"{name} differs at byte {at}: {expected[near]!r} became {got[near]!r}"
