"""A rule's `ckpt_files` may stand for nothing that another job reads or writes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from snakemake_executor_plugin_ckpt.errors import BadSetting
from snakemake_executor_plugin_ckpt.head.others import check_files, covers


def job(name: str, **files: list[str]) -> Any:
    return SimpleNamespace(rule=SimpleNamespace(name=name), **{"input": [], "output": [], "log": [], **files})


JOBS = [
    job("mine", input=["in/a.csv"], output=["out/a.tif"], log=["logs/a.log"]),
    job("other", input=["out/a.tif"], output=["out/b.tif", "grids/b"], log=["logs/b.log"]),
]


def check(*patterns: str) -> None:
    check_files([f"/w/{one}" for one in patterns], "mine", ["/w/out/a.tif", "/w/logs/a.log"], JOBS, "/w")


@pytest.mark.parametrize("pattern", ["grids/a", "grids/a/*", "out/a*", "side-?.tmp", "cache/**/x", "in2/*"])
def test_files_of_ones_own_are_let_pass(pattern: str) -> None:
    check(pattern)
    check()


@pytest.mark.parametrize(
    ("pattern", "file"),
    [
        ("out/*", "out/b.tif"),
        ("out", "out/b.tif"),
        ("grids", "grids/b"),
        ("grid*", "grids/b"),
        ("gr*/b", "grids/b"),
        ("logs/*.log", "logs/b.log"),
        ("in/a.csv", "in/a.csv"),
        ("in", "in/a.csv"),
    ],
)
def test_files_of_another_job_are_refused_by_name(pattern: str, file: str) -> None:
    with pytest.raises(BadSetting, match="ckpt_files") as caught:
        check("grids/a", pattern)
    assert file in str(caught.value)
    assert f"'{pattern}'" in str(caught.value)


def test_a_folder_stands_for_all_in_it_and_for_nothing_that_begins_alike() -> None:
    assert covers("/w/grids", "/w/grids/deep/file")
    assert not covers("/w/grids", "/w/grids2")
