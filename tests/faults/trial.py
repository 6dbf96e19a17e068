"""One chain and all that is done to it, in a process of its own: ``python -m faults.trial PLAN``.

That process is the parent of everything that the trial starts, so nothing of it escapes its eyes, nothing else is
ever killed, and nothing is left running.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from faults import checker, head, killer, tree
from faults.observer import Observer
from faults.outcome import Outcome
from faults.plan import Plan
from faults.zoo import Result, content
from snakemake_executor_plugin_ckpt import faults
from snakemake_executor_plugin_ckpt.state.records import Segment

#: Seconds that a chain may take to its end.
LIMIT = 240.0
#: Runs of the workflow, after the head gave the job up or found trouble, before that is a failure of the chain.
_MOST_HEADS = 12
_TICK = 0.02
#: Seconds that a victim computes: too few for a save.
_VICTIMS_STAY = 0.3
_TESTS = Path(__file__).resolve().parents[1]


class Trial:
    """See the module."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.killer = killer.Killer(plan)
        self.heads: Counter[int] = Counter()
        self.head: subprocess.Popen[bytes] | None = None
        self.asked: set[int] = set()
        self.status: int | None = None

    def run(self) -> Outcome:
        """The chain, from its beginning to its end."""
        with Observer(self.plan.folder) as observer:
            trouble = self._to_the_end()
        # Once the job is over nothing of it may go on; keepers and supervisors have a moment to see that.
        trouble += observer.seen.trouble
        if not self._quiet(20.0):
            trouble.append(f"still running when the job was over: {[one.role for one in tree.members()]}")
        tree.end_all()
        folder = self.plan.folder
        segments = folder.segments()
        trouble += checker.violations(segments, folder.exit_status(), observer.seen.committed)
        return Outcome(
            result=self._result(),
            trouble=trouble,
            restarts=checker.restarts(segments),
            segments=len(segments),
            images=len(observer.seen.committed),
            struck=sorted(int(path.name) for path in self.plan.struck.iterdir() if path.name.isdigit()),
            kills=self.killer.done,
        )

    def _to_the_end(self) -> list[str]:
        until = time.monotonic() + LIMIT
        while time.monotonic() < until:
            if self._look_after_the_head():
                return []
            if sum(self.heads.values()) > _MOST_HEADS + self.plan.kills:
                return [f"the job could not be brought to its end: heads ended with {dict(self.heads)}"]
            self.killer.act()
            self._look_after_segments()
            tree.bury(self.head.pid if self.head else None)
            time.sleep(_TICK)
        return [f"the job did not end within {LIMIT:.0f} s"]

    def _look_after_the_head(self) -> bool:
        """Start the head, again and again as a user would; whether it says that the job is over."""
        if self.head is None:
            self.head = self._start_head()
        status = self.head.poll()
        if status is None:
            return False
        self.head = None
        self.heads[status] += 1
        return status in (head.SUCCEEDED, head.OWN_FAILURE)

    def _start_head(self) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "PYTHONPATH": f"{_TESTS}:{os.environ.get('PYTHONPATH', '')}",
            "TMPDIR": str(self.plan.scratch),
        }
        if self.plan.fault:
            environment |= {faults.WANTED: self.plan.fault, faults.STATE: str(self.plan.struck)}
        with open(self.plan.base / "head.log", "ab") as log:
            argv = [sys.executable, "-P", "-m", "faults.head", str(self.plan.file)]
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)

    def _look_after_segments(self) -> None:
        """Ask each segment once to save and end when it had its time, or end it if it is to be a victim."""
        with contextlib.suppress(OSError):
            last = self.plan.folder.last_segment()
            if last is None or last.startup is None or last.outcome != "running" or last.number in self.asked:
                return
            computed = time.time() - last.started - last.startup
            if last.number in self.plan.victims and computed > _VICTIMS_STAY:
                self._signal(last, signal.SIGKILL)
            elif self.plan.stay is not None and computed > self.plan.stay and not self.killer.waits():
                self._signal(last, signal.SIGUSR2)

    def _signal(self, segment: Segment, number: int) -> None:
        self.asked.add(segment.number)
        for member in tree.members():
            if (member.pid, member.start) == (segment.pid, segment.pid_start):
                tree.kill(member, number)

    def _quiet(self, limit: float) -> bool:
        until = time.monotonic() + limit
        while tree.members():
            tree.bury(None)
            if time.monotonic() > until:
                return False
            time.sleep(_TICK)
        return True

    def _result(self) -> Result:
        folder = self.plan.folder
        said = b"".join(_lines(folder.payload_log))
        return Result(folder.exit_status(), said, content(self.plan.work))


def _lines(path: Path) -> Iterator[bytes]:
    if path.exists():
        yield path.read_bytes()


def main(plan: Plan) -> None:
    tree.adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        Trial(plan).run().write(plan.base)
    finally:
        tree.end_all()


if __name__ == "__main__":
    main(Plan.read(Path(sys.argv[1])))
