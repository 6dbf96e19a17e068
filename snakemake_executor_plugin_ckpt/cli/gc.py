"""`ckpt gc`: removes what no job needs any more, and says each thing; or, with --dry-run, only says it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from snakemake_executor_plugin_ckpt.cli import facts, litter
from snakemake_executor_plugin_ckpt.cli.facts import Facts
from snakemake_executor_plugin_ckpt.cli.litter import Thing
from snakemake_executor_plugin_ckpt.cli.text import plural
from snakemake_executor_plugin_ckpt.errors import CkptError, StateError
from snakemake_executor_plugin_ckpt.state import durable
from snakemake_executor_plugin_ckpt.state.folder import JobFolder
from snakemake_executor_plugin_ckpt.units import format_size

#: Seconds to wait for a head that is just changing a job.
_LOCK = 2.0


@dataclass(frozen=True)
class Left:
    """What was left alone although it may seem to be of no use, and why."""

    path: str
    reason: str


@dataclass
class Result:
    """What was done, or would be.

    Attributes
    ----------
    removed
        In this order.
    left
        Left alone on purpose.
    failed
        Could not be removed, or not even be looked at.
    """

    state_dir: str
    dry_run: bool
    removed: list[Thing] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    failed: list[Left] = field(default_factory=list)


def run(arguments: argparse.Namespace) -> int:
    """Remove what is not needed; 1 if something could not be removed or read, else 0."""
    path = facts.existing_state_dir(arguments.state_dir)
    tell = _silent if arguments.json else _tell(path.resolve(), arguments.dry_run)
    result = collect(path, arguments.dry_run, arguments.older_than, tell)
    if arguments.json:
        print(json.dumps(as_json(result), indent=2))
        return 1 if result.failed else 0
    for one in result.left:
        print(f"left alone: {one.path}: {one.reason}")
    print(_totals(result))
    for one in result.failed:
        print(f"ckpt: {one.path}: {one.reason}", file=sys.stderr)
    return 1 if result.failed else 0


def collect(
    path: Path, dry_run: bool, older_than: float | None = None, tell: Callable[[Thing], None] = lambda _: None
) -> Result:
    """Remove what is not needed from a state directory.

    Parameters
    ----------
    path
        The state directory.
    dry_run
        Only find it.
    older_than
        Also remove the whole folders of jobs that ended well, and of which Snakemake was told, so long ago (s).
    tell
        Called with each thing that was (or would be) removed.
    """
    return _Collector(path.resolve(), dry_run, older_than, tell).run()


class _Collector:
    def __init__(self, root: Path, dry_run: bool, older_than: float | None, tell: Callable[[Thing], None]) -> None:
        self.root = root
        self.older_than = older_than
        self.tell = tell
        self.result = Result(str(root), dry_run)

    def run(self) -> Result:
        # Before the jobs: whose record is here by now has its job on record.
        keepers, names = litter.keepers(self.root), litter.names(self.root)
        known, unreadable = facts.read_all(self.root)
        self.result.failed += [Left(folder, f"cannot be read: {reason}") for folder, reason in unreadable.items()]
        needed = {one.name for job in known if not litter.finished(job) for one in job.submissions}
        if not unreadable:  # else nobody knows which of them are that job's
            for keeper in keepers:
                if keeper.path.stem not in needed and keeper.gone:
                    self.remove(keeper.thing())
            for path in names:
                if path.name not in needed:
                    self.remove(Thing(str(path), litter.size(path), "no unfinished job has a batch job of that name"))
        for job in known:
            try:
                self.job(job)
            except (CkptError, OSError) as error:
                self.result.failed.append(Left(str(job.folder), str(error)))
        for thing in litter.of_state_dir(self.root):
            self.remove(thing)
        return self.result

    def job(self, known: Facts) -> None:
        """One job: nothing of it while a segment runs."""
        if reason := litter.refused(self.root, known.folder):
            self.leave(known.folder, reason)
            return
        if litter.running(known):
            self.leave(known.folder, "a segment runs, or may run")
            return
        if self.older_than is not None and litter.disposable(known, self.older_than, time.time()):
            self.whole(known)
            return
        things = self.things(known)
        if not things:
            return
        if self.result.dry_run:
            for thing in things:
                self.remove(thing)
            return
        # The lock keeps heads from beginning the job anew meanwhile; that no segment began is looked at each time.
        with _locked(JobFolder(known.folder)):
            for thing in things:
                if _changed(known):
                    self.leave(known.folder, "the job went on meanwhile")
                    return
                self.remove(thing)

    def things(self, known: Facts) -> list[Thing]:
        things, links = litter.of_job(self.root, known)
        for path in links:
            self.leave(path, litter.LINK)
        return things

    def whole(self, known: Facts) -> None:
        """The folder of a job that is over, unless its batch jobs may still be there, or a Snakemake is."""
        names = {one.name for one in known.submissions}
        for keeper in litter.keepers(self.root):
            # A record that stayed would be taken for the keeper of the next batch job of that name.
            if keeper.path.stem in names and not (self.result.dry_run and keeper.gone):
                self.leave(known.folder, f"{keeper.path.name} in .local: its keeper runs, or is not of this host")
                return
        thing = Thing(str(known.folder), litter.size(known.folder), "the job is done, and old", known.job.key)
        if self.result.dry_run:
            self.remove(thing)
            return
        from snakemake_executor_plugin_ckpt.head.preflight import lease  # imports slowly

        try:
            held = lease(self.root, known.job.workdir)
        except StateError:
            self.leave(known.folder, f"snakemake works on {known.job.workdir}")
            return
        try:
            if _changed(known):
                self.leave(known.folder, "the job went on meanwhile")
            else:
                self.remove(thing)
        finally:
            held.release()

    def remove(self, thing: Thing) -> None:
        path = Path(thing.path)
        if not self.result.dry_run:
            if reason := litter.refused(self.root, path):
                self.leave(path, reason)
                return
            try:
                _remove(path)
            except OSError as error:
                self.result.failed.append(Left(thing.path, f"cannot be removed: {error.strerror}"))
                return
        self.result.removed.append(thing)
        self.tell(thing)

    def leave(self, path: Path, reason: str) -> None:
        self.result.left.append(Left(str(path), reason))


@contextmanager
def _locked(folder: JobFolder) -> Iterator[None]:
    """The lock of a job, waited for only shortly; a `StateError` if a head has it."""
    from filelock import Timeout

    lock = folder.lock()
    try:
        lock.acquire(timeout=_LOCK)
    except Timeout:
        raise StateError("a snakemake has its lock; try again later") from None
    try:
        yield
    finally:
        lock.release()


def _changed(known: Facts) -> bool:
    """Whether anything happened to a job since it was looked at."""
    now = facts.read(JobFolder(known.folder))
    return (
        (now.job, now.segments, now.exit, now.lost) != (known.job, known.segments, known.exit, known.lost)
        or len(now.submissions) != len(known.submissions)
        or litter.running(now)
    )


def _remove(path: Path) -> None:
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    durable.remove_tree(path)
    # It goes on over what it cannot remove, and what stays has another name by then.
    doomed = path.with_name(f".{path.name}.removed.{os.uname().nodename}.{os.getpid()}")
    if doomed.exists():
        raise OSError(0, f"not all of it could be removed; the rest is {doomed}")


# -- what is said -------------------------------------------------------------------------------------------------


def _silent(_: Thing) -> None:
    pass


def _tell(root: Path, dry_run: bool) -> Callable[[Thing], None]:
    verb = "would remove" if dry_run else "removed"

    def tell(thing: Thing) -> None:
        path = thing.path
        with suppress(ValueError):
            path = str(Path(path).relative_to(root))
        print(f"{verb} {format_size(thing.bytes):>10}  {path}: {thing.reason}", flush=True)

    return tell


def _totals(result: Result) -> str:
    verb = "would be removed" if result.dry_run else "removed"
    size = format_size(sum(one.bytes for one in result.removed))
    if not result.removed:
        return f"nothing to remove in {result.state_dir}"
    return f"{plural(len(result.removed), 'thing')} {verb}, {size}"


def as_json(result: Result) -> dict[str, object]:
    """What was done as plain data; see `Result`, `litter.Thing` and `Left` for the fields."""
    totals = {"things": len(result.removed), "bytes": sum(one.bytes for one in result.removed)}
    return {"schema": 1, **asdict(result), "totals": totals}
