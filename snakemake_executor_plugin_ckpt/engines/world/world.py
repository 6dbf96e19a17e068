"""A payload in its private world, as the supervisor holds it: the other end of the socket of `init`."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.engines.base import Payload
from snakemake_executor_plugin_ckpt.engines.world import init, kernel, namespaces
from snakemake_executor_plugin_ckpt.errors import EngineError

#: The payload's first process; criu's own numbers in a fresh namespace stay far below.
_FIRST_PID = 1000
_PATIENCE = 30.0  # seconds for what needs a few milliseconds: to make the namespaces, to start a process


class World:
    """See `snakemake_executor_plugin_ckpt.engines.base.Running`."""

    def __init__(self, way: namespaces.Way, clocks: namespaces.Clocks | None, payload: Payload | None) -> None:
        """Make the private world; nothing of the payload runs yet.

        Raises
        ------
        EngineError
            The node does not allow it.
        """
        self.way = way
        self._status: int | None = None
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        kernel.become_subreaper()  # the helper between us and init ends at once, and init becomes our child
        self.init = _enter(way, clocks, payload, self._control, theirs)
        self._pidfd = os.pidfd_open(self.init)
        self.payload = 0

    def fileno(self) -> int:
        """See `Running.fileno`."""
        return self._control.fileno()

    def poll(self) -> int | None:
        """See `Running.poll`."""
        while self._status is None and _readable(self._control, 0):
            self._take(self._receive())
        return self._status

    def pids(self) -> list[int]:
        """See `Running.pids`; without criu, which runs beside the payload."""
        for root in proc.children(self.init):
            if proc.number_inside(root) == self.payload:
                return [root, *proc.descendants(root)]
        return []

    def shm(self) -> Path | None:
        """See `Running.shm`."""
        return namespaces.shm_of(self.init, self.way)

    def end(self) -> None:
        """See `Running.end`; the kernel ends all of a pid namespace with its first process."""
        if self.way == "capabilities":
            proc.end_below(self.init)
        with suppress(ProcessLookupError):
            os.kill(self.init, signal.SIGKILL)

    def kill(self) -> None:
        """See `Running.kill`."""
        if self._control.fileno() < 0:
            return  # done already: the number may be another process's by now
        self.end()
        with suppress(ChildProcessError):
            os.waitpid(self.init, 0)
        self._control.close()
        os.close(self._pidfd)

    def ask(self, verb: str, value: Any, answer: str, limit: float = _PATIENCE) -> Any:
        """Send init a message and wait for its answer; the payload's end is noted on the way.

        Raises
        ------
        EngineError
            No answer within the limit (s), or init is gone.
        """
        try:
            self._control.send(json.dumps({verb: value}).encode())
        except OSError as error:
            raise EngineError(f"the payload's init process is gone: {error}") from error
        until = time.monotonic() + limit
        while True:
            if not _readable(self._control, max(0.0, until - time.monotonic())):
                raise EngineError(f"no answer to {verb!r} within {limit:.0f} s")
            message = self._receive()
            if answer in message:
                return message[answer]
            self._take(message)

    def tell(self, verb: str, value: Any) -> None:
        """Send init a message that has no answer of its own."""
        with suppress(OSError):
            self._control.send(json.dumps({verb: value}).encode())

    def take_command_end(self) -> int | None:
        """The wait status of the criu command if its end has been said; the payload's end is noted as well."""
        while _readable(self._control, 0):
            message = self._receive()
            if "ran" in message:
                return int(message["ran"])
            self._take(message)
        return None

    def clocks_now(self) -> namespaces.Clocks:
        """What the payload's monotonic clocks show now."""
        here = namespaces.Clocks.now()
        offsets = _time_offsets(self.init)
        return namespaces.Clocks(
            here.monotonic + offsets.get("monotonic", 0), here.boottime + offsets.get("boottime", 0)
        )

    def _receive(self) -> dict[str, Any]:
        try:
            message = self._control.recv(init.MESSAGE_BYTES)
        except OSError:
            message = b""
        if not message:
            raise EngineError("the payload's init process was killed, and with it the payload")
        received: dict[str, Any] = json.loads(message)
        return received

    def _take(self, message: dict[str, Any]) -> None:
        if "ended" in message:
            self._status = os.waitstatus_to_exitcode(message["ended"])


def start(way: namespaces.Way, payload: Payload) -> World:
    """Start a payload in a private world of its own.

    Raises
    ------
    EngineError
        The node does not allow it.
    """
    # A world of its own for the clocks from the start, or a later restore could not put them back.
    running = World(way, None, payload)
    try:
        if way != "capabilities":
            running.ask("last_pid", _FIRST_PID - 1, "last_pid")
        running.payload = running.ask("start", 1, "started")
    except EngineError:
        running.kill()
        raise
    return running


def _enter(
    way: namespaces.Way,
    clocks: namespaces.Clocks | None,
    payload: Payload | None,
    ours: socket.socket,
    theirs: socket.socket,
) -> int:
    """Fork a helper that makes the namespaces and forks init in them; init's number on the node. Closes `theirs`."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    helper = os.fork()
    if helper == 0:
        try:
            os.close(reading)
            ours.close()
            _help(way, clocks, payload, writing, theirs)
        finally:
            # Nothing may go back up the stack, whatever was raised: that would be a second supervisor.
            os._exit(1)
    os.close(writing)
    said = os.read(reading, 4096).decode()
    os.close(reading)
    os.waitpid(helper, 0)
    theirs.close()  # held open here, init's death would never be seen on ours
    if not said.isdigit():
        raise EngineError(f"this node does not let the way {way!r} make its namespaces: {said or 'helper died'}")
    message = b""
    with suppress(ConnectionError):  # init died
        ours.send(b"adopted")
        message = ours.recv(init.MESSAGE_BYTES)
    answer = json.loads(message or b'{"failed": "init died"}')
    if "failed" in answer:
        os.waitpid(int(said), 0)
        raise EngineError(f"this node does not let the way {way!r} furnish its namespaces: {answer['failed']}")
    return int(said)


def _help(
    way: namespaces.Way,
    clocks: namespaces.Clocks | None,
    payload: Payload | None,
    writing: int,
    theirs: socket.socket,
) -> NoReturn:
    """Be the helper, and in its child init."""
    try:
        namespaces.enter(way, clocks)
        first = os.fork()
    except OSError as error:
        os.write(writing, f"{error}".encode())
        os._exit(1)
    if first:
        os.write(writing, str(first).encode())
        os._exit(0)
    os.close(writing)
    _adopted(theirs)
    init.serve(theirs, way, payload)


def _time_offsets(pid: int) -> dict[str, float]:
    """Offsets (s) of a process's time namespace to the node's clocks; time_namespaces(7)."""
    lines = Path(f"/proc/{pid}/timens_offsets").read_text().split("\n")
    words = [line.split() for line in lines if line]
    return {name: int(seconds) + int(nanoseconds) / 1e9 for name, seconds, nanoseconds in words}


def _adopted(control: socket.socket) -> None:
    """Wait, in init, until the helper is gone: only then is the supervisor the parent whose death counts."""
    if control.recv(64) != b"adopted":
        os._exit(1)


def _readable(sock: socket.socket, timeout: float) -> bool:
    # poll and not select: a supervisor under a site's wrapper may hold descriptors above 1023
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(timeout * 1000))
