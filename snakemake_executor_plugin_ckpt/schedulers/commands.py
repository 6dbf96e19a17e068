"""Running the client programs of a batch system: a list of words and no shell, within a time, never longer."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from snakemake_executor_plugin_ckpt.errors import NoAnswer, SchedulerError

#: Longest part of what a program said that is repeated to the user.
_WORDS = 400
#: Seconds after which a client that has not ended is known to be left behind (see `leave`).
_LOOK = 0.2
#: What this machine may be short of for a moment: nothing was started, and later it may be.
SHORT = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
#: Calls of `leave` so far.
_left = 0
#: Clients that did not end in time and could not be killed; kept so that those that end later are buried.
_abandoned: list[subprocess.Popen[str]] = []


@dataclass(frozen=True)
class Finished:
    """A client program that ended.

    Attributes
    ----------
    command
        Its name.
    status
        Its exit status (minus a signal's number).
    """

    command: str
    status: int
    stdout: str
    stderr: str

    @property
    def words(self) -> str:
        """What it said of a failure, on one line and not too long."""
        text = " ".join((self.stderr.strip() or self.stdout.strip() or "no message").split())
        return text if len(text) <= _WORDS else f"{text[:_WORDS]}..."

    def checked(self, outage: re.Pattern[str] | None = None) -> Finished:
        """Itself, if it succeeded.

        Raises
        ------
        SchedulerError
            It failed; see `failure`.
        """
        if self.status != 0:
            raise self.failure(outage)
        return self

    def failure(self, outage: re.Pattern[str] | None = None) -> SchedulerError:
        """That it failed, in its own words; a `NoAnswer` if it was killed, or says what `outage` stands for."""
        text = f"{self.command} failed (exit status {self.status}): {self.words}"
        unheard = self.status < 0 or (outage is not None and outage.search(f"{self.stderr}\n{self.stdout}") is not None)
        return NoAnswer(text) if unheard else SchedulerError(text)


def run(
    argv: Sequence[str],
    timeout: float = 30.0,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Finished:
    """Run a client program; how it ended, whatever its status.

    Parameters
    ----------
    argv
        The program, looked up in PATH, and its arguments.
    timeout
        Seconds after which it is killed. One that cannot be killed (OAR's clients run as another user by sudo) is
        left behind: nothing here waits for it.
    stdin
        What it reads; nothing when None.
    environment
        Its environment; this process's when None.

    Raises
    ------
    NoAnswer
        It did not end in time, or this process is ending (`leave`), or this machine can start nothing now.
    SchedulerError
        It is not there, or cannot be run.
    """
    _abandoned[:] = [client for client in _abandoned if client.poll() is None]
    try:
        with _file_of(stdin or "") as told:
            client = subprocess.Popen(
                argv,
                stdin=told,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                env=environment,
                start_new_session=True,  # Ctrl-C is for the head; and what a client starts is killed along with it
            )
    except OSError as error:
        kind = NoAnswer if error.errno in SHORT else SchedulerError
        raise kind(f"{argv[0]} cannot be run: {error.strerror}") from error
    try:
        stdout, stderr = _communicate(client, os.path.basename(argv[0]), timeout)
    except BaseException:  # also of a head that is being ended
        _abandon(client)
        raise
    return Finished(os.path.basename(argv[0]), client.returncode, stdout, stderr)


def leave() -> None:
    """Have clients that other threads wait for now be left behind, because the head is ending."""
    global _left
    _left += 1


def _file_of(text: str) -> IO[bytes]:
    """A file that holds a text, without a disk. A pipe would have to be fed while it is waited for."""
    file = os.fdopen(os.memfd_create("stdin"), "w+b")
    file.write(text.encode())
    file.seek(0)
    return file


def _communicate(client: subprocess.Popen[str], name: str, timeout: float) -> tuple[str, str]:
    until, left = time.monotonic() + timeout, _left
    while True:
        try:
            return client.communicate(timeout=max(0.0, min(_LOOK, until - time.monotonic())))
        except subprocess.TimeoutExpired:
            if left != _left:
                raise NoAnswer(f"{name} was left behind") from None
            if time.monotonic() >= until:
                raise NoAnswer(f"{name} did not answer within {timeout:.0f} s") from None


def _abandon(client: subprocess.Popen[str]) -> None:
    """Kill a client and what it started, if that is allowed, and wait for nothing."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(client.pid, signal.SIGKILL)
    for pipe in (client.stdout, client.stderr):
        if pipe is not None:
            pipe.close()
    _abandoned.append(client)
