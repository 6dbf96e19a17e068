"""Does for the tests what only root may do to a cluster: ``warden.py SOCKET USER``, as root, while the tests run.

An order is one line, such as ``slurm kill-node node1``: a cluster's script in this folder and its words. The answer is
the script's exit status and what it said. Several may come at once: two clusters are tested at a time.
"""

from __future__ import annotations

import os
import pwd
import re
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_ORDER = re.compile(r"(oar|slurm)((?: [a-z0-9-]+){1,4})", re.ASCII)
_LIMIT = 200.0


def obey(order: str) -> str:
    """Run an order; its exit status on the first line, then what was said."""
    found = _ORDER.fullmatch(order)
    if not found:
        return f"2\nno such order: {order!r}"
    try:
        done = subprocess.run(
            [str(_HERE / f"{found[1]}.sh"), *found[2].split()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LIMIT,
        )
    except subprocess.TimeoutExpired:
        return f"124\n{order!r} did not end within {_LIMIT:.0f} s"
    return f"{done.returncode}\n{done.stdout}"


def main(path: str, user: str) -> None:
    """Take orders of one user until the end."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    with socket.socket(socket.AF_UNIX) as server:
        os.umask(0o177)
        server.bind(path)
        os.chown(path, pwd.getpwnam(user).pw_uid, -1)
        os.umask(0o022)
        server.listen()
        while True:
            client, _ = server.accept()
            threading.Thread(target=_serve, args=(client,), daemon=True).start()


def _serve(client: socket.socket) -> None:
    with suppress(OSError), client, client.makefile("rw") as lines:
        lines.write(obey(lines.readline().strip()))
        lines.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
