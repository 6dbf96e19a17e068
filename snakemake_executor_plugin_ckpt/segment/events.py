"""Waiting for the next event without using the CPU: signals, the payload's news, requests, a point in time."""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

#: Wake-ups when nothing happens: a request written on another node shows no event here.
IDLE = 10.0

#: LSF's warning is SIGURG (see `schedulers.lsf_text`); what SIGTSTP and SIGCONT mean is for `suspending` to say.
_HINTS = (
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGXCPU,
    signal.SIGURG,
    signal.SIGTSTP,
    signal.SIGCONT,
)
_IN_CLOEXEC_NONBLOCK = os.O_CLOEXEC | os.O_NONBLOCK
_IN_MOVED_TO, _IN_CREATE = 0x80, 0x100


class Events:
    """A context manager; while it is open the batch system's signals are events and kill nothing."""

    def __init__(self, requests: Path) -> None:
        self._requests = requests
        self._selector = selectors.DefaultSelector()
        self._signals: list[int] = []

    def __enter__(self) -> Events:
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # Before the handlers, which do nothing themselves: what comes between would be lost.
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in _HINTS:
            signal.signal(number, lambda *_: None)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._watch = _watch(self._requests)
        if self._watch is not None:
            self._selector.register(self._watch, selectors.EVENT_READ)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # OAR repeats its signal, and Python takes its handlers away before it ends: one that comes then would make
        # a batch job that was saved (99) one that was killed, and no successor would start.
        for number in _HINTS:
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        self._selector.close()
        for opened in (self._woken, self._wake, self._watch):
            if opened is not None:
                os.close(opened)

    def follow(self, payload: int) -> None:
        """Wake up when the payload has news."""
        self._selector.register(payload, selectors.EVENT_READ)

    def wait(self, until: float) -> None:
        """Sleep until something happens, or a time of the monotonic clock, or for `IDLE` seconds."""
        for key, _ in self._selector.select(max(0.0, min(until - time.monotonic(), IDLE))):
            if key.fd == self._woken:
                self._signals += self._caught()
            elif key.fd == self._watch:
                with suppress(BlockingIOError):
                    os.read(key.fd, 65536)

    def signals(self) -> list[int]:
        """The signals since the last call, in the order in which they came."""
        got, self._signals = [*self._signals, *self._caught()], []
        return got

    def _caught(self) -> bytes:
        # Python calls the handlers of signals that came together by their numbers; what is written here is in order.
        try:
            return os.read(self._woken, 65536)
        except BlockingIOError:
            return b""


def _watch(folder: Path) -> int | None:
    """An inotify descriptor for new files in a folder; None where there is none to be had (their limit is low)."""
    libc = ctypes.CDLL(None, use_errno=True)
    opened = libc.inotify_init1(_IN_CLOEXEC_NONBLOCK)
    if opened < 0:
        return None
    if libc.inotify_add_watch(opened, os.fsencode(folder), _IN_MOVED_TO | _IN_CREATE) < 0:
        os.close(opened)
        return None
    return int(opened)
