"""Workflows in folders of their own, for real runs of snakemake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .runs import Flow

MakeFlow = Callable[[str], Flow]


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[MakeFlow]:
    """Makes a workflow from its Snakefile's text; ends what is left of it after the test."""
    made: list[Flow] = []

    def make(snakefile: str) -> Flow:
        made.append(Flow(tmp_path / f"flow{len(made)}", snakefile))
        return made[-1]

    yield make
    for one in made:
        one.close()
