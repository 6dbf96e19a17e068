"""Running `ckpt gc` in a test, and the records that it finds."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from helpers.histories import History
from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.cli.main import main
from snakemake_executor_plugin_ckpt.images import generations
from snakemake_executor_plugin_ckpt.state import durable

KEY = "count-a-0123456789abcdef"
OTHER = "plot-1111111111111111"


def collect(state: Path, capsys: pytest.CaptureFixture[str], *more: str, status: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["gc", "--json", *more]) == status
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    found["paths"] = [str(Path(one["path"]).relative_to(state)) for one in found["removed"]]
    return found


def keeper(state: Path, name: str, **more: object) -> Path:
    me = proc.identify(os.getpid())
    assert me is not None
    folder = state / ".local"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_bytes(durable.to_yaml(asdict(replace(me, **more))))  # type: ignore[arg-type]
    return path


def images(history: History) -> list[int]:
    return generations.numbers(history.folder.images_folder)


def waiting(state: Path, key: str = KEY, number: int = 4) -> History:
    """An unfinished job with more images than it keeps."""
    history = History(state, key)
    for _ in range(number):
        history.saved()
    return history
