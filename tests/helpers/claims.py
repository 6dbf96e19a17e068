"""What must hold between processes on different mounts of one folder, whatever the file system."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from helpers.mounts import Mount, all_at_once, clients
from snakemake_executor_plugin_ckpt.state import durable
from snakemake_executor_plugin_ckpt.state.folder import JobFolder

CONTESTANTS = 4


def job_on(mount: Mount, name: str = "job") -> JobFolder:
    """An empty job folder, made through this process's own view of a mount."""
    folder = JobFolder(mount.folder / name)
    folder.make()
    return folder


def one_claims_each_segment(mounts: Sequence[Mount], job: Path, rounds: int) -> None:
    """The bare claim, by number: K try, one has it, and the record is his."""
    with clients(mounts, job.name, CONTESTANTS) as them:
        for number in range(1, rounds + 1):
            won = all_at_once(them, "claim", number)
            assert sorted(won) == [False] * (CONTESTANTS - 1) + [True]
            assert JobFolder(job).segment(number).host == f"c{won.index(True)}"


def one_begins_each_segment(mounts: Sequence[Mount], job: Path, rounds: int) -> None:
    """The claim with all its checks, as supervisors make it: never two begin, and no number is left out."""
    with clients(mounts, job.name, CONTESTANTS) as them:
        for number in range(1, rounds + 1):
            begun = all_at_once(them, "begin", number)
            assert [one for one in begun if one is not None] == [number]
            them[begun.index(number)].ask("end")


def one_creates_each_file(mounts: Sequence[Mount], job: Path, rounds: int) -> None:
    """`durable.create`: one creates, and what is there is his."""
    with clients(mounts, job.name, CONTESTANTS) as them:
        for number in range(rounds):
            won = all_at_once(them, "create", f"prize-{number}")
            assert sorted(won) == [False] * (CONTESTANTS - 1) + [True]
            assert (job / f"prize-{number}").read_text() == f"c{won.index(True)}"


def no_two_submissions_have_a_number(mounts: Sequence[Mount], job: Path, rounds: int) -> None:
    """`intend`: each gets a number of its own, and all numbers are used."""
    with clients(mounts, job.name, CONTESTANTS) as them:
        numbers = [number for turn in range(rounds) for number in all_at_once(them, "intend", turn)]
    assert sorted(numbers) == list(range(1, rounds * CONTESTANTS + 1))


def a_segment_is_lost_once(mounts: Sequence[Mount], job: Path, rounds: int) -> None:
    """`declare_lost`: whoever says it, all see the same reason, and it never changes."""
    with clients(mounts, job.name, CONTESTANTS) as them:
        for number in range(1, rounds + 1):
            seen = set(all_at_once(them, "lose", number)) | {JobFolder(job).lost(number)}
            assert len(seen) == 1 and None not in seen


def one_has_the_lock(mounts: Sequence[Mount], job: Path, holds: int) -> None:
    """The lock: no two holds overlap, and what one wrote under it the next one reads."""
    durable.replace(job / "counter", b"0")
    held = no_two_hold_the_lock(mounts, job, holds)
    assert [value for *_, value in held] == list(range(1, holds * CONTESTANTS + 1))


def no_two_hold_the_lock(mounts: Sequence[Mount], job: Path, holds: int) -> list[list[float]]:
    """The lock: no two holds overlap; all of them in order."""
    with clients(mounts, job.name, CONTESTANTS) as them:
        held: list[list[float]] = sorted(hold for answer in all_at_once(them, "hold", holds) for hold in answer)
    assert len(held) == holds * CONTESTANTS
    assert [pair for pair in pairwise(held) if pair[0][1] > pair[1][0]] == []
    return held


def a_reader_sees_old_or_new(mounts: Sequence[Mount], job: Path, times: int) -> None:
    """`durable.replace`: through the other mount too a file is whole, and never older than it was."""
    with clients(mounts, job.name, 2) as (writer, reader):
        writer.ask("write", "file", 1)
        reader.tell("read", "file", times)
        writer.ask("write", "file", times)
        reads, halves, backward = reader.answer()
    assert (halves, backward) == (0, 0) and reads > 1
