"""One folder seen through several mounts, and processes on them; each mount in a namespace of its own.

Where a folder is mounted twice by other means (``CKPT_TEST_MOUNTS=/mnt/a:/mnt/b``, two mounts of one folder), the tests
of claims and locks run there too. Two NFS clients with caches of their own are had on one machine, as root, by

    exportfs -o rw,no_root_squash,fsid=1 localhost:/srv/ckpt-test
    for m in a b; do mount -t nfs -o vers=4.2,nosharecache,soft,timeo=100 localhost:/srv/ckpt-test /mnt/$m; done
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CLAIMANT = Path(__file__).with_name("claimant.py")

#: Mounts FOLDER at MOUNT, takes the name of another host where there is one, and runs the rest.
_ENTER = 'mount --rbind "$1" "$2"; [ -z "$3" ] || hostname "$3"; shift 3; exec "$@"'


@dataclass(frozen=True)
class Mount:
    """A folder as it is seen by some processes.

    Attributes
    ----------
    folder
        Where they see it.
    prefix
        What a command is to be preceded by to be one of them.
    """

    folder: Path
    prefix: tuple[str, ...] = ()


def bind_mount(folder: Path, mount: Path, host: str = "", first: str = "") -> Mount:
    """A folder bound to another place, in a mount namespace of its own; any user may have that.

    Parameters
    ----------
    folder, mount
        What is mounted, and where.
    host
        A host name for those who see it; none: this host's.
    first
        Shell commands that are run in there before.
    """
    mount.mkdir(exist_ok=True)
    words = ["unshare", "--user", "--map-root-user", "--mount", *(["--uts"] if host else [])]
    return Mount(mount, (*words, "sh", "-euc", f"{first}{_ENTER}", "sh", str(folder), str(mount), host))


class Client:
    """A claimant on a mount, told what to do by lines (see `claimant`)."""

    def __init__(self, mount: Mount, job: str, name: str) -> None:
        argv = [*mount.prefix, sys.executable, str(_CLAIMANT), str(mount.folder / job), name]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def tell(self, *words: object) -> None:
        """Have it do something; the answer is asked for later."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Its next answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the claimant ended: {self.complaints()}"
        return json.loads(line)

    def ask(self, *words: object) -> Any:
        """Have it do something, and wait for its answer."""
        self.tell(*words)
        return self.answer()

    def kill(self) -> None:
        """End it without a chance to clean up."""
        self.process.kill()
        self.process.wait()

    def complaints(self) -> str:
        """End it, and give what it wrote to stderr."""
        self.process.kill()
        return self.process.communicate()[1]


@contextmanager
def clients(mounts: Sequence[Mount], job: str, number: int) -> Iterator[list[Client]]:
    """So many claimants, on the mounts by turns; ended at the end."""
    with ExitStack() as stack:
        made = []
        for index in range(number):
            made.append(Client(mounts[index % len(mounts)], job, f"c{index}"))
            stack.callback(made[-1].complaints)
        for client in made:
            assert client.answer() == "ready"
        yield made


def all_at_once(them: Sequence[Client], *words: object) -> list[Any]:
    """Have all do the same at the same time; their answers."""
    for client in them:
        client.tell(*words)
    return [client.answer() for client in them]
