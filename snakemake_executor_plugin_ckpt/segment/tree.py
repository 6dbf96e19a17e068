"""What a segment asks the kernel of its own process and of those below it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.engines.base import Running
from snakemake_executor_plugin_ckpt.errors import EngineError

#: Seconds in which a process dies of a save that was killed half-way, if it does.
_SETTLE = 0.3


def only_child() -> tuple[int, int] | tuple[None, None]:
    """The first process of the payload's world, as `claim` needs it to see that the payload is gone."""
    children = [found for pid in proc.children(os.getpid()) if (found := proc.identify(pid)) is not None]
    return (children[0].pid, children[0].start) if children else (None, None)


def ending(running: Running) -> bool:
    """Whether the payload's first process ended, and only its status is not known yet."""
    pids = running.pids()
    stat = proc.read_stat(pids[0]) if pids else None
    return stat is None or stat.state in "ZX"


def died(running: Running) -> bool:
    """Whether the payload is gone, and not by its own end."""
    try:
        running.poll()
    except EngineError:
        return True
    return False


def torn(running: Running, before: Sequence[proc.ProcessId]) -> str | None:
    """What a save that was killed half-way did to the payload's processes; None if all lived through it.

    A process that is let go with the saver's code in its registers dies of it at once (seen: SIGTRAP). What the rest
    then makes of it, be it an exit status, is no word of the job. Nor will it be where the saver still holds them,
    since it hangs and has yet to die.
    """
    time.sleep(_SETTLE)
    if dead := sum(not one.alive() for one in before):
        return f"{dead} of the job's processes may have died of it"
    return "it hangs and holds the job still" if proc.held_from_outside(running.pids()) else None


def own_age() -> float:
    """Seconds since this process was started."""
    stat = proc.read_stat(os.getpid())
    assert stat is not None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - stat.start / os.sysconf("SC_CLK_TCK")
