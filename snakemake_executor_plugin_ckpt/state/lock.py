"""The lock that heads take on a job folder: it excludes across network file system clients, and outlives no owner.

Beneath is filelock's strict soft lock, whose claims are made by link(2): the one that was shown to exclude on NFS,
where flock does not. By itself it never gives up a claim, so a head that is killed would lock a job for ever. Here a
claim is broken when its owner is dead:

- on this host that is seen at once, by number and start of the process;
- elsewhere, when the owner gave no sign of life for `PATIENCE`. An owner touches its claim every few seconds. Only
  changes count, and the watch of the one who waits, so hosts need not agree on the time.

An owner of another host that lives but was stopped for longer than that loses the lock too. So what is true never
rests on the lock alone: ownership of segments and submissions moves by link(2), which needs no lock.

Heads only: a compute node has no need of it, and filelock loads slowly.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from filelock import SoftFileLockProtocolError, StrictSoftFileLock, Timeout

from snakemake_executor_plugin_ckpt import proc

if TYPE_CHECKING:
    from filelock import StrictSoftFileClaim

#: Seconds without a sign of life after which an owner that cannot be seen from here is taken for dead.
PATIENCE = 30.0
#: Seconds between two signs of life; several fit into the patience, so that one may be late.
BEAT = 5.0
#: Seconds for which an owner that lives is waited for; the longest work under the lock ends a batch job first.
LIMIT = 300.0
_POLL = 0.1
#: No pause between two looks counts for more (s): a file system that hangs makes nobody look dead.
_LONGEST = 1.0

_FLEETING = {errno.ENOENT, errno.ESTALE}

_log = logging.getLogger(__name__)


class Busy(Timeout):
    """The owner of a lock lives, and kept it for longer than was to be waited."""

    def __init__(self, lock_file: str, owners: str, waited: float) -> None:
        super().__init__(lock_file)
        self._owners = owners
        self._waited = waited

    def __str__(self) -> str:
        return f"the lock {self.lock_file} is held by {self._owners}, for more than {self._waited:.0f} s by now"


class JobLock:
    """One lock; as a context manager it waits as long as the default says.

    Parameters
    ----------
    path
        The file that names it.
    timeout
        Seconds for which an owner that is known to live is waited for.
    patience
        Seconds after which an owner on another host that gave no sign of life is taken for dead.
    poll
        Seconds between two tries.
    """

    def __init__(self, path: Path, *, timeout: float = LIMIT, patience: float = PATIENCE, poll: float = _POLL) -> None:
        self._path = path
        self._timeout = timeout
        self._patience = patience
        self._poll = poll
        self._lock = StrictSoftFileLock(path, timeout=0, thread_local=False)
        self._lost = False
        self._over = threading.Event()

    def acquire(self, timeout: float | None = None) -> None:
        """Take it, from a dead owner if need be.

        Raises
        ------
        Busy
            Its owner lives, and kept it for the whole time. Whether an owner lives can take up to the patience to see.
        """
        limit = self._timeout if timeout is None else timeout
        watch = _Watch(claims_folder(self._path), self._patience)
        begun = time.monotonic()
        while not self._taken(watch):
            if time.monotonic() - begun >= limit and not watch.in_doubt:
                if watch.fleeting is not None:
                    raise watch.fleeting
                raise Busy(str(self._path), watch.owners(), limit)
            time.sleep(self._poll)
        self._over, self._lost = threading.Event(), False
        threading.Thread(target=self._live, args=(self._over,), name="ckpt-lock", daemon=True).start()

    @property
    def lost(self) -> bool:
        """Whether it was taken away meanwhile, because this process had stood still for the patience."""
        return self._lost

    def release(self) -> None:
        """Give it back."""
        self._over.set()  # before the claim goes, whose absence would be taken for a theft
        self._lock.release()

    def __enter__(self) -> JobLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _taken(self, watch: _Watch) -> bool:
        """Try once, and again if all that was in the way could be broken."""
        while True:
            if not self._path.parent.is_dir():  # filelock would make it, and a removed job would be half there again
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._path.parent))
            try:
                self._lock.acquire(timeout=0)
                return True
            except Timeout:
                claims = self._claims()
            except SoftFileLockProtocolError as error:
                if error.claim_name is None:
                    self._mend(error, watch)
                    continue
                claims = {error.claim_name: None}
            except OSError as error:
                # What another client removes between two calls is shown for a moment still.
                if error.errno not in _FLEETING:
                    raise
                watch.fleeting = error
                return False
            dead = watch.look(claims)
            for name in dead:
                self._break(name, claims[name], watch)
            if not dead or len(dead) < len(claims):
                return False

    def _claims(self) -> dict[str, StrictSoftFileClaim | None]:
        try:
            return {claim.name: claim for claim in self._lock.claims}
        except SoftFileLockProtocolError as error:
            if error.claim_name is None:
                raise
            return {error.claim_name: None}

    def _break(self, name: str, claim: StrictSoftFileClaim | None, watch: _Watch) -> None:
        with suppress(FileNotFoundError):  # somebody else who waits broke it just now
            self._lock.force_break(name)
            if name.startswith("held") or claim is None:
                _log.warning("ckpt: the lock %s was left by %s; taken over", self._path, watch.why(name, claim))

    def _mend(self, error: SoftFileLockProtocolError, watch: _Watch) -> None:
        """Remove a lock file that a power cut left empty; its content excludes nobody, the claims do."""
        watch.mended += 1
        try:
            if self._path.is_symlink() or self._path.read_bytes().strip(b"\0\n"):
                raise error
            self._path.unlink()
        except FileNotFoundError:
            if watch.mended > 1:  # else somebody else removed it just now
                raise error from None
            return
        except OSError:
            raise error from None
        _log.warning("ckpt: the lock file %s was damaged, by a power cut perhaps; made anew", self._path)

    def _live(self, over: threading.Event) -> None:
        """Give signs of life, until it is over."""
        mine: Path | None = None
        while not over.wait(BEAT):
            try:
                if mine is None:
                    mine = self._mine()
                os.utime(mine)
            except FileNotFoundError:
                if not over.is_set():
                    self._lost = True
                    _log.warning("ckpt: the lock %s was taken from this process, which had stood still", self._path)
                return
            except OSError:  # the next try may go well; if none does, the lock is lost, as it must be
                continue

    def _mine(self) -> Path:
        for name, claim in self._claims().items():
            if claim is not None and claim.state == "held" and claim.pid == os.getpid():
                return claims_folder(self._path) / name
        raise FileNotFoundError(self._path)


def claims_folder(path: Path) -> Path:
    """Where filelock has the claims to a lock."""
    return Path(f"{path}.filelock", "claims")


# -- who is in the way, and whether he lives --------------------------------------------------------------------------


@dataclass
class _Seen:
    """One claim as it was seen last: when it was touched, and for how long it has not been since."""

    touched: int
    quiet: float = 0.0


class _Watch:
    """What somebody who waits sees of the claims in the way."""

    def __init__(self, folder: Path, patience: float) -> None:
        self._folder = folder
        self._patience = patience
        self._seen: dict[str, _Seen] = {}
        self._looked = time.monotonic()
        self._stirred = False
        self._unknown = False
        self._owners: set[str] = set()
        self.fleeting: OSError | None = None
        self.mended = 0

    @property
    def in_doubt(self) -> bool:
        """Whether somebody is in the way of whom it is not known yet whether he lives."""
        return self._unknown and not self._stirred

    def owners(self) -> str:
        """Who is in the way."""
        return " and ".join(sorted(self._owners)) or "somebody"

    def why(self, name: str, claim: StrictSoftFileClaim | None) -> str:
        """How it is known that the owner of a claim is dead."""
        if claim is None:
            return f"an owner whose claim cannot be read and did not change for {self._patience:.0f} s"
        if lives(claim) is False:
            return f"{_name(claim)}, which is gone"
        return f"{_name(claim)}, which gave no sign of life for {self._seen[name].quiet:.0f} s"

    def look(self, claims: dict[str, StrictSoftFileClaim | None]) -> list[str]:
        """Look at the claims; those whose owner is dead."""
        self.fleeting = None
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, _LONGEST), now
        if self._seen.keys() - claims.keys():
            self._stirred = True  # an owner came and went
        self._seen = {name: seen for name, seen in self._seen.items() if name in claims}
        self._owners = {_name(claim) for claim in claims.values()}
        self._unknown = False
        dead = []
        for name, claim in claims.items():
            life = None if claim is None else lives(claim)
            if life is None and self._is_quiet(name, passed):
                life = False
            if life is False:
                dead.append(name)
            self._unknown |= life is None
        return dead

    def _is_quiet(self, name: str, passed: float) -> bool:
        """Whether a claim was not touched for the patience."""
        touched = _touched(self._folder / name)
        seen = self._seen.get(name)
        if touched is None or seen is None or seen.touched != touched:
            self._stirred |= seen is not None
            self._seen[name] = _Seen(touched or 0)
            return False
        seen.quiet += passed
        return seen.quiet >= self._patience


def _touched(path: Path) -> int | None:
    """When a file was touched last, by its server's clock; an open has a network file system ask the server."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        try:
            return os.lstat(path).st_mtime_ns
        except OSError:
            return None
    try:
        return os.fstat(opened).st_mtime_ns
    finally:
        os.close(opened)


def _name(claim: StrictSoftFileClaim | None) -> str:
    # In a container filelock adds the name of its space of process numbers, which says nothing to a reader.
    return "an unknown process" if claim is None else f"process {claim.pid} on {claim.hostname.partition('?')[0]}"


def lives(claim: StrictSoftFileClaim) -> bool | None:
    """Whether the owner of a claim lives; None when that cannot be seen from here."""
    here, token = _here(), getattr(claim, "start", None)  # older filelocks note no start
    if here is None or token is None or (claim.hostname, token >> 64) != here:
        return None
    stat = proc.read_stat(claim.pid)
    return stat is not None and stat.start == token % 2**64 and stat.state not in "ZX"


@functools.cache
def _here() -> tuple[str, int] | None:
    """The host name, with the space of process numbers, and the boot as filelock notes them; None if it does not.

    Read off a claim of one's own, because how they are made up is filelock's business.
    """
    with tempfile.TemporaryDirectory(prefix="ckpt-") as folder:
        try:
            with StrictSoftFileLock(Path(folder, "lock")) as lock:
                claim = lock.claims[0]
        except (OSError, IndexError):
            return None
    token, stat = getattr(claim, "start", None), proc.read_stat(os.getpid())
    if not token or stat is None or token % 2**64 != stat.start or not token >> 64:
        return None
    return claim.hostname, token >> 64
