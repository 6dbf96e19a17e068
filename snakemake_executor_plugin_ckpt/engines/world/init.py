"""The first process of a payload's private world: starts it, runs criu beside it, learns how it ended.

It is pid 1 there (or, without namespaces, a subreaper), so it gets the real exit status of the payload after
any number of restores, and when it dies the kernel ends everything else. It knows nothing of images or jobs;
the supervisor talks to it over a socket, one JSON object a message:

========================  ==================================================================================
to init                   answer or event
========================  ==================================================================================
``{"start": 1}``          ``{"started": pid}``: the payload given to `serve`, as a new process
``{"run": {...}}``        ``{"ran": status}``: a criu command; one at a time
``{"stop_running": 1}``   none: kills the criu command (its own ``ran`` follows)
``{"adopt": pid}``        ``{"adopted": pid}``: a restored process is the payload
``{"last_pid": n}``       ``{"last_pid": n}``: the next process gets the number n + 1 or higher
\\                        ``{"ended": status}``: the payload ended, with its wait status
========================  ==================================================================================
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.engines.base import Payload
from snakemake_executor_plugin_ckpt.engines.world import kernel, namespaces

MESSAGE_BYTES = 1 << 17
_STDIN, _STDOUT, _STDERR = 0, 1, 2


def serve(control: socket.socket, way: namespaces.Way, payload: Payload | None) -> NoReturn:
    """Be the first process: furnish the world, then obey until the supervisor is gone.

    Parameters
    ----------
    control
        This end of the socket to the supervisor.
    way
        The way the world was entered.
    payload
        What ``start`` will start, or None when an image is to be restored. It comes by the fork and not by a
        message, since an environment can be larger than a packet.
    """
    try:
        namespaces.furnish(way)
        kernel.become_subreaper()
        if way != "capabilities":
            kernel.die_with_parent(signal.SIGKILL)  # and with this one the kernel ends all of the pid namespace
    except OSError as error:
        _tell(control, {"failed": str(error)})
        os._exit(1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # the supervisor alone decides; a batch system signals everything
    _tell(control, {"ready": os.getpid()})
    _Init(control, way, payload).loop()
    proc.end_below(os.getpid())  # without a pid namespace nobody else would
    os._exit(0)


def _tell(control: socket.socket, message: dict[str, Any]) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):
        control.send(json.dumps(message).encode())


class _Init:
    def __init__(self, control: socket.socket, way: namespaces.Way, to_start: Payload | None) -> None:
        self.control = control
        self.way = way
        self.to_start = to_start
        self.payload = 0
        self.command = 0
        self.stopped = False
        # Statuses of children that ended before they were adopted: a restored payload may be quick.
        self.early: dict[int, int] = {}

    def loop(self) -> None:
        woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        with selectors.DefaultSelector() as selector:
            selector.register(self.control, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fd == woken:
                        os.read(woken, 4096)
                        self.reap()
                    elif not self.obey(self.control.recv(MESSAGE_BYTES)):
                        return

    def obey(self, message: bytes) -> bool:
        if not message:  # the supervisor is gone, and with it the right to run
            return False
        ((verb, value),) = json.loads(message).items()
        match verb:
            case "start":
                assert self.to_start is not None
                self.payload = _start(self.to_start, self.way)
                _tell(self.control, {"started": self.payload})
            case "run":
                self.command, self.stopped = _run(value, self.way), False
            case "stop_running":
                if self.command:
                    self.stopped = True
                    os.kill(self.command, signal.SIGKILL)
            case "adopt":
                self.payload = value
                _tell(self.control, {"adopted": value})
                if value in self.early:
                    _tell(self.control, {"ended": self.early.pop(value)})
            case "last_pid":
                # After a restore new children must not get numbers that criu itself uses at the next one.
                with suppress(OSError):
                    Path("/proc/sys/kernel/ns_last_pid").write_text(str(value))
                _tell(self.control, {"last_pid": value})
        return True

    def reap(self) -> None:
        ended = dict(_ended())
        if os.WIFSIGNALED(ended.get(self.command, 0)) and not self.stopped:
            # Somebody else's kill (the node's memory ran out): criu was perhaps just at work inside the payload's
            # processes, and what they would compute now, or die of, is not the payload's own.
            if self.way == "capabilities":
                proc.end_below(os.getpid())
            os._exit(1)  # and with this process the kernel ends all of the pid namespace
        for pid, status in ended.items():
            if pid == self.command:
                self.command = 0
                _tell(self.control, {"ran": status})
            elif pid == self.payload:
                _tell(self.control, {"ended": status})
            else:
                self.early[pid] = status


def _ended() -> Iterator[tuple[int, int]]:
    """The children that ended, with their wait statuses."""
    with suppress(ChildProcessError):
        while (child := os.waitpid(-1, os.WNOHANG))[0]:
            yield child


def _start(payload: Payload, way: namespaces.Way) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        _reset_signals()
        os.chdir(payload.directory)
        # Opened here, inside the mount namespace: criu refuses a file whose mount it cannot see.
        for wanted, path, flags in (
            (_STDIN, "/dev/null", os.O_RDONLY),
            (_STDOUT, payload.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        ):
            opened = os.open(path, flags, 0o600)
            os.dup2(opened, wanted)
        os.dup2(_STDOUT, _STDERR)
        _close_the_rest()
        kernel.become_subreaper()  # a daemonised child stays in the tree that is saved
        namespaces.drop_capabilities(way)
        os.execve(payload.argv[0], payload.argv, dict(payload.environment))
    except BaseException as error:  # in the child nothing may go back up the stack
        with suppress(OSError):
            os.write(_STDERR, f"ckpt: cannot start the payload: {error}\n".encode())
    os._exit(127)


def _run(command: dict[str, Any], way: namespaces.Way) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        _reset_signals()
        opened = os.open(command["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.dup2(os.open("/dev/null", os.O_RDONLY), _STDIN)
        os.dup2(opened, _STDOUT)
        os.dup2(opened, _STDERR)
        _close_the_rest()
        # criu places its own descriptors above the payload's: a payload with a thousand needs room.
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        mask = namespaces.criu_capabilities(way)
        if mask is not None:
            kernel.set_capabilities(mask)
        os.execve(command["argv"][0], command["argv"], os.environ | command["environment"])
    except BaseException as error:  # as above
        with suppress(OSError):
            os.write(_STDERR, f"ckpt: cannot run {command['argv'][0]}: {error}\n".encode())
    os._exit(127)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _close_the_rest() -> None:
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
