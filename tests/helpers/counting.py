"""A payload whose every step is seen afterwards: in its outputs, in its log, and in a journal that no restore cuts."""

from __future__ import annotations

import itertools

from helpers.jobs import LocalJob

WATCHED = ["appended", "copied"]


def count(lines: int = 40, pause: float = 0.05) -> str:
    """The command: two processes that write numbers, in ways that a careless restore would spoil; it exits with 7."""
    return (
        f"n=0; while [ $n -lt {lines} ]; do n=$((n + 1)); echo $n; echo $n >> appended; echo $n >> journal; "
        f"sleep {pause}; done | tee -a copied; exit 7"
    )


def assert_as_one_run(job: LocalJob, lines: int = 40) -> None:
    """The outputs are those of a run that nobody disturbed, and never two payloads ran at once."""
    expected = "".join(f"{number}\n" for number in range(1, lines + 1))
    assert job.folder.exit_status() == 7
    assert (job.work / "appended").read_text() == expected
    assert (job.work / "copied").read_text() == expected
    assert job.said() == expected
    runs = journal(job)
    assert len(runs) <= len(job.folder.segments()), runs


def journal(job: LocalJob) -> list[list[int]]:
    """What was written, as runs of consecutive numbers: one a segment; two payloads at once would make many."""
    numbers = [int(line) for line in (job.work / "journal").read_text().split()]
    breaks = [0, *(at for at in range(1, len(numbers)) if numbers[at] != numbers[at - 1] + 1), len(numbers)]
    return [numbers[start:end] for start, end in itertools.pairwise(breaks)]
