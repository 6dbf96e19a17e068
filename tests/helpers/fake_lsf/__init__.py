"""A fake of LSF's clients, from the documentation of IBM Spectrum LSF 10.1: it is not LSF, and no proof for one.

What it says, and with which exit status, is worded as the pages of the command reference have it. Jobs are processes of
this machine, each kept by a daemon of its own (`sbatchd`). What a page does not say is done in the way that is hardest
for who relies on it: all process groups of a job get its signals, and a killed job that ends with 99 is requeued.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from helpers.fake_lsf.store import Store
from helpers.waiting import wait_for

CLIENTS = ("bsub", "bjobs", "bkill", "bstop", "bresume", "brequeue", "lshosts")
_TESTS = Path(__file__).resolve().parents[2]
_STUB = """#!/bin/sh
exec {python} -S -c 'import sys; sys.path.insert(0, sys.argv[1]); from helpers.fake_lsf.clients import main
sys.exit(main(sys.argv[2:]))' {tests} {folder} {client} "$@"
"""


class FakeLsf:
    """A cluster of one host, in a folder; its clients are in `bin`.

    Parameters
    ----------
    folder
        Takes all of it; must not be there yet.
    settings
        See `store.DEFAULTS`.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self.store = Store(folder)
        self.store.configure(**settings)
        words = {"python": sys.executable, "tests": str(_TESTS), "folder": str(folder)}
        for client in CLIENTS:
            stub = self.bin / client
            stub.write_text(_STUB.format(client=client, **{name: shlex.quote(word) for name, word in words.items()}))
            stub.chmod(0o700)

    def end(self) -> None:
        """Leave nothing running."""
        for job_id in self.store.ids():
            self.store.order(job_id, "abandon")
        wait_for(lambda: not any(self.store.kept(job_id) for job_id in self.store.ids()), "the fake's daemons")
