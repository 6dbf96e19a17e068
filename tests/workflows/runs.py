"""A workflow in a folder of its own, run by a real snakemake, and what its job folders tell afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from snakemake_executor_plugin_ckpt.state.folder import JobFolder, job_folders
from snakemake_executor_plugin_ckpt.state.records import Segment

#: A walltime that leaves about 3.5 s of computing to a segment, so that jobs of 10 s need three or four.
WALLTIME = ("--ckpt-walltime", "6s", "--ckpt-save-floor", "1.5s", "--ckpt-grace", "1s")
#: After this many seconds without a word of the head a test that waits for something has failed; no result depends on
#: it. A busy machine makes a workflow long, and not silent: each end of a segment is told.
PATIENCE = 120.0


@dataclass
class Done:
    """How a snakemake ended, and all that it said."""

    status: int
    said: str

    def lines(self, *words: str) -> list[str]:
        """The lines that hold all of these words."""
        return [line for line in self.said.splitlines() if all(word in line for word in words)]


class Head:
    """A snakemake that runs in the background."""

    def __init__(self, argv: list[str], workdir: Path, log: Path, environment: dict[str, str]) -> None:
        self.log = log
        with open(log, "wb") as file:
            self.process = subprocess.Popen(
                argv,
                cwd=workdir,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                env=environment,
            )

    def said(self) -> str:
        """What it said so far."""
        return self.log.read_text()

    def kill(self) -> None:
        """End it as a crash of the login node does: no handler runs."""
        self.process.kill()
        self.process.wait()

    def interrupt(self) -> Done:
        """Ctrl-C, and wait for its end."""
        self.process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self) -> Done:
        """Wait for its end."""
        patience = Patience(self)
        while True:
            try:
                return Done(self.process.wait(timeout=1.0), self.said())
            except subprocess.TimeoutExpired:
                patience.check("the head's end")


class Patience:
    """Runs out when nothing new has been heard for a while, from a head if there is one."""

    def __init__(self, head: Head | None) -> None:
        self.head = head
        self.heard = ""
        self.since = time.monotonic()

    def check(self, what: str) -> None:
        """Fail, saying what was waited for, when it has run out."""
        said = self.head.said() if self.head else ""
        now = time.monotonic()
        if said != self.heard:
            self.heard, self.since = said, now
        assert now - self.since < PATIENCE, f"{what} did not come, and nothing was heard for {PATIENCE:.0f} s\n{said}"


class Flow:
    """See the module.

    Parameters
    ----------
    path
        The workflow's working directory.
    snakefile
        Text of the Snakefile; none for a workflow that is elsewhere.
    """

    def __init__(self, path: Path, snakefile: str = "") -> None:
        self.path = path
        self.environment = _environment()
        self._heads: list[Head] = []
        path.mkdir(parents=True, exist_ok=True)
        if snakefile:
            self.write("Snakefile", snakefile)

    def write(self, name: str, text: str) -> Path:
        """Put a file into the working directory."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def change_heads(self, code: str) -> None:
        """Have each head run Python code first, at its start."""
        head = f'import sys\n\nif "ckpt" in sys.orig_argv:\n{textwrap.indent(code, "    ")}'
        folder = self.write(f"../{self.path.name}.site/sitecustomize.py", head).resolve().parent
        self.environment["PYTHONPATH"] = f"{folder}:{self.environment.get('PYTHONPATH', '')}"

    def text(self, name: str) -> str:
        """A file of the working directory."""
        return (self.path / name).read_text()

    # -- running ---------------------------------------------------------------------------------------------------

    def run(self, *arguments: str) -> Done:
        """Run snakemake to its end, with these arguments alone."""
        return self._start(arguments).wait()

    def ckpt(self, *arguments: str) -> Done:
        """Run under ckpt, with short walltimes."""
        return self.start(*arguments).wait()

    def start(self, *arguments: str) -> Head:
        """The same in the background."""
        # The local scheduler also where a cluster's is found; what is given later counts.
        mine = ("--executor", "ckpt", "--ckpt-scheduler", "local", "--jobs", "5")
        return self._start((*mine, *WALLTIME, *arguments))

    def resume(self, *arguments: str) -> Done:
        """What a user does when a head died: unlock, then run on."""
        self.unlock()
        return self.ckpt(*arguments)

    def unlock(self) -> None:
        """Say that no snakemake runs; Snakemake cannot know."""
        unlocked = self.run("--unlock")
        assert unlocked.status == 0, unlocked.said

    def _start(self, arguments: tuple[str, ...]) -> Head:
        log = self.path.parent / f"{self.path.name}.head-{len(self._heads)}.log"
        argv = [sys.executable, "-m", "snakemake", "--nocolor", *arguments]
        head = Head(argv, self.path, log, self.environment)
        self._heads.append(head)
        return head

    # -- looking ---------------------------------------------------------------------------------------------------

    @property
    def state_dir(self) -> Path:
        """The default one."""
        return self.path / ".snakemake" / "ckpt"

    def jobs(self) -> list[JobFolder]:
        """All job folders."""
        return list(job_folders(self.state_dir))

    def job(self, rule: str) -> JobFolder:
        """The one job folder of a rule."""
        found = [folder for folder in self.jobs() if (job := folder.job()) and job.rule == rule]
        assert len(found) == 1, f"{len(found)} job folders of {rule}"
        return found[0]

    def segments(self, rule: str) -> list[Segment]:
        """The segments of a rule's job, of all attempts; none when it has no folder yet."""
        folders = [folder for folder in self.jobs() if (job := folder.job()) and job.rule == rule]
        return folders[0].segments() if folders else []

    def saves(self, rule: str) -> int:
        """How many segments of a rule's job ended with a save."""
        return sum(segment.outcome == "saved" for segment in self.segments(rule))

    def processes(self) -> list[str]:
        """Command lines of all processes that work in or on the working directory, heads excepted."""
        heads = {head.process.pid for head in self._heads} | {os.getpid()}
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) not in heads:
                try:
                    command = Path("/proc", name, "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    where = os.readlink(f"/proc/{name}/cwd")
                except OSError:
                    continue  # ended, or another user's
                if command and (str(self.path) in command or where.startswith(str(self.path))):
                    found.append(f"{name}: {command}")
        return found

    def close(self) -> None:
        """End all that a failed test may have left."""
        for head in self._heads:
            if head.process.poll() is None:
                head.kill()
        for line in self.processes():
            try:
                os.kill(int(line.partition(":")[0]), signal.SIGKILL)
            except OSError:
                continue


def until(true: Callable[[], object], what: str, head: Head | None = None) -> None:
    """Wait until something holds."""
    patience = Patience(head)
    while not true():
        patience.check(what)
        assert head is None or head.process.poll() is None, f"the head ended before {what} came\n{head.said()}"
        time.sleep(0.1)


def numbers(count: int) -> str:
    """The lines 1 to count."""
    return "".join(f"{number}\n" for number in range(1, count + 1))


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1", "SNAKEMAKE_PROFILE": "none"}
