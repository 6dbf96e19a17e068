"""A short campaign of random kills; the long one is `make faults`."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults import campaign

pytestmark = pytest.mark.criu

_TRIALS, _SEED = 22, 20


def test_jobs_whose_processes_are_killed_at_random_end_as_if_nothing_had_been(tmp_path: Path) -> None:
    said: list[str] = []
    tally = campaign.run(tmp_path, _TRIALS, _SEED, said.append)
    print(f"seed {_SEED}", *said, *tally.lines(), sep="\n")
    assert tally.wrong == []
    assert tally.trouble == []
    assert tally.trials == _TRIALS
    assert tally.kills.total() >= _TRIALS
    assert tally.images >= _TRIALS
