"""Watching a ``criu dump`` from the moment the tree stands still to the verdict.

criu runs an action script at each stage with the stage's name in CRTOOLS_SCRIPT_ACTION (criu(8)). Ours says
``post-dump`` into one fifo and takes its exit status from another, so the supervisor can do its part while the
tree is stopped. The fifos lie on the node: a shared file system need not have any.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_plugin_ckpt.errors import Halfway

if TYPE_CHECKING:
    from snakemake_executor_plugin_ckpt.engines.world.world import World

#: Seconds between two calls of what is done while criu writes.
_TICK = 0.1
#: Seconds in which a criu that was killed has ended, unless it hangs in the kernel (a disk that is gone).
_DIES = 10.0
_SCRIPT = """#!/bin/sh
[ "$CRTOOLS_SCRIPT_ACTION" = post-dump ] || exit 0
echo post-dump > "$CKPT_STAGE" || exit 1
read -r verdict < "$CKPT_VERDICT" || exit 1
exit "$verdict"
"""


class Stages:
    """One dump; a context manager that owns the script and the fifos.

    Attributes
    ----------
    folder
        A private folder on the node, for criu's logs too; gone at the end.
    status
        criu's wait status; that of one that was killed, if it hangs and has not ended.
    error
        What the caller's part raised while the tree was stopped; criu then let the tree go on.
    accepted
        Whether the caller's part was done.
    """

    def __init__(self, scratch: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dump-", dir=scratch))
        self.script = self.folder / "script"
        self._stage, self._verdict = self.folder / "stage", self.folder / "verdict"
        self.environment = {"CKPT_STAGE": str(self._stage), "CKPT_VERDICT": str(self._verdict)}
        self.status = 0
        self.error: Exception | None = None
        self.accepted = False

    def __enter__(self) -> Stages:
        self.script.write_text(_SCRIPT)
        self.script.chmod(0o700)
        os.mkfifo(self._stage, 0o600)
        os.mkfifo(self._verdict, 0o600)
        # Both ends are held here, so that no open blocks, on either side, whoever dies.
        self._from_script = os.open(self._stage, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._to_script = os.open(self._verdict, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._from_script)
        os.close(self._to_script)
        shutil.rmtree(self.folder, ignore_errors=True)

    def watch(
        self,
        running: World,
        command: dict[str, Any],
        stopped: Callable[[], None],
        limit: float,
        meanwhile: Callable[[], None],
    ) -> None:
        """Run the dump; call `stopped` when the tree is written; give up after `limit` seconds.

        Until then `meanwhile` is called a few times a second.

        Raises
        ------
        Halfway
            criu was still writing at the limit and was killed. The tree goes on, or will when that criu has ended.
        """
        until = time.monotonic() + limit
        running.take_command_end()  # of an earlier one that hung: it is not the end of this one
        running.tell("run", command)
        poller = select.poll()
        poller.register(self._from_script, select.POLLIN)
        poller.register(running.fileno(), select.POLLIN)
        late = False
        while True:
            ready = dict(poller.poll(max(0.0, min(until - time.monotonic(), _TICK)) * 1000))
            if not ready and time.monotonic() < until:
                if not self.accepted:
                    meanwhile()
                continue
            if self._from_script in ready:
                os.read(self._from_script, 64)
                os.write(self._to_script, b"0\n" if self._call(stopped) else b"1\n")
                until = time.monotonic() + limit
            status = running.take_command_end() if running.fileno() in ready else None
            if status is not None:
                self.status = status
                break
            if not ready and late:
                # No more is known than of one that died of the kill: it will, and may be inside the tree's processes.
                self.status = signal.SIGKILL
                break
            if not ready:
                late = True
                running.tell("stop_running", 1)
                until = time.monotonic() + _DIES
        if late and self.status != 0 and not self.accepted:
            raise Halfway(f"criu dump did not end within {limit:.0f} s and was stopped; the job goes on")

    def _call(self, stopped: Callable[[], None]) -> bool:
        try:
            stopped()
        except Exception as error:  # whatever it is: criu waits for a verdict with the tree stopped
            self.error = error
            return False
        self.accepted = True
        return True
