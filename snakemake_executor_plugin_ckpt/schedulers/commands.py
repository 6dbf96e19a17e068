"""Running the client programs of a batch system: a list of words and no shell, within a time, never longer."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from snakemake_executor_plugin_ckpt.errors import SchedulerError

#: Longest part of what a program said that is repeated to the user.
_WORDS = 400
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

    def checked(self) -> Finished:
        """Itself, if it succeeded.

        Raises
        ------
        SchedulerError
            It failed; with its own words.
        """
        if self.status != 0:
            raise SchedulerError(f"{self.command} failed (exit status {self.status}): {self.words}")
        return self


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
    SchedulerError
        It is not there, cannot be run, or did not end in time.
    """
    _abandoned[:] = [client for client in _abandoned if client.poll() is None]
    try:
        client = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=environment,
            start_new_session=True,  # Ctrl-C is for the head; and what a client starts is killed along with it
        )
    except OSError as error:
        raise SchedulerError(f"{argv[0]} cannot be run: {error.strerror}") from error
    try:
        stdout, stderr = client.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired:
        _abandon(client)
        raise SchedulerError(f"{argv[0]} did not answer within {timeout:.0f} s") from None
    except BaseException:  # of a head that is being ended
        _abandon(client)
        raise
    return Finished(os.path.basename(argv[0]), client.returncode, stdout, stderr)


def _abandon(client: subprocess.Popen[str]) -> None:
    """Kill a client and what it started, if that is allowed, and wait for nothing."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(client.pid, signal.SIGKILL)
    for pipe in (client.stdin, client.stdout, client.stderr):
        if pipe is not None:
            with suppress(OSError, ValueError):  # what was not written yet has no reader
                pipe.close()
    _abandoned.append(client)
