"""Named points at which a test may end or fail this process: before and after each step that changes the disk.

Nothing happens unless ``CKPT_FAULT`` was set when the process started; see ``tests/faults/``. It is one of

``trace``
    Note the name of each point that is reached, a line each, in the file ``trace``.
``NAME@NTH:ACTION``
    Strike at the NTH time (from 1) that the point NAME is reached: ``kill`` this process, or fail the step with
    ``enospc`` or ``eio``. ``@1`` and ``:kill`` may be left out.

A chain consists of many processes, so what was counted is in files, in the folder ``CKPT_FAULT_STATE``: the file
``1`` for the first time, and so on. That a fault struck is seen by its file; it never strikes again.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
from pathlib import Path

WANTED, STATE = "CKPT_FAULT", "CKPT_FAULT_STATE"
TRACE = "trace"

_WANTED = os.environ.get(WANTED)
_ERRORS = {"enospc": errno.ENOSPC, "eio": errno.EIO}


def point(step: str, path: Path | None = None) -> None:
    """A place where the process may die in a test.

    Parameters
    ----------
    step
        What is about to be done, or was done last.
    path
        What it is done to: makes each kind of record a point of its own.

    Raises
    ------
    OSError
        The test wishes that the disk failed here.
    """
    if _WANTED:
        _reach(_WANTED, Path(os.environ[STATE]), step if path is None else f"{step}:{_kind(path)}")


def _kind(path: Path) -> str:
    """Folder and name of a record, without what tells it from the others of its kind (all of them are numbered)."""
    folder, name, suffix = path.parent.name, path.name, path.suffix
    if any(map(str.isdigit, name)):
        name = "*" if any(map(str.isdigit, suffix)) else f"*{suffix}"
    return f"{'*' if any(map(str.isdigit, folder)) else folder}/{name}"


def _reach(wanted: str, state: Path, name: str) -> None:
    if wanted == TRACE:
        with open(state / TRACE, "a") as file:
            file.write(f"{name}\n")
        return
    mine, _, rest = wanted.rpartition("@") if "@" in wanted else (wanted, "", "1")
    nth, _, action = rest.partition(":")
    if name == mine and _count(state) == int(nth):
        _strike(action or "kill", name)


def _count(state: Path) -> int:
    """How often the point was reached by now, this time included, by all processes."""
    for number in itertools.count(1):
        try:
            (state / str(number)).touch(exist_ok=False)
        except FileExistsError:
            continue
        return number
    raise AssertionError


def _strike(action: str, name: str) -> None:
    if action != "kill":
        raise OSError(_ERRORS[action], f"{os.strerror(_ERRORS[action])} (as a test wished)", name)
    os.kill(os.getpid(), signal.SIGKILL)
