"""Workflows in folders of their own, for real runs of snakemake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .runs import Flow
from .stages import Stage

MakeFlow = Callable[[str], Flow]
MakeStage = Callable[[dict[str, str]], Stage]


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


@pytest.fixture
def stage_of(flow: MakeFlow) -> Iterator[MakeStage]:
    """Makes a workflow of its rules' further lines; nobody waits at its gates after the test."""
    made: list[Stage] = []

    def make(rules: dict[str, str]) -> Stage:
        made.append(Stage(flow(""), rules))
        return made[-1]

    yield make
    for stage in made:
        stage.open()
