from __future__ import annotations

import re
from pathlib import Path

import pytest

from snakemake_executor_plugin_ckpt.state.identity import fingerprint, job_key


def test_a_key_does_not_depend_on_the_order_of_outputs() -> None:
    assert job_key("/w", "r", {}, ["a", "b"]) == job_key("/w", "r", {}, ["b", "a"])


@pytest.mark.parametrize(
    "other",
    [
        ("/v", "r", ["a", "b"]),
        ("/w", "s", ["a", "b"]),
        ("/w", "r", ["a"]),
        ("/w", "r", ["a", "b", "b"]),
        ("/w", "r", ["ab"]),
    ],
)
def test_another_workdir_rule_or_output_is_another_job(other: tuple[str, str, list[str]]) -> None:
    workdir, rule, outputs = other
    assert job_key(workdir, rule, {}, outputs) != job_key("/w", "r", {}, ["a", "b"])


@pytest.mark.parametrize(
    ("rule", "wildcards"),
    [
        ("align", {"sample": "A1"}),
        ("align", {"sample": "../../etc/passwd"}),
        ("align", {"sample": "x" * 500}),
        ("align", {"sample": "ünï cödé\n\0"}),
        (".", {}),
        ("", {"a": "-..-"}),
        ("a rule: with/odd;chars", {"w": "$(rm -rf /)", "v": "'\""}),
    ],
)
def test_a_key_is_one_harmless_folder_name(tmp_path: Path, rule: str, wildcards: dict[str, str]) -> None:
    key = job_key("/w", rule, wildcards, ["out"])
    assert re.fullmatch(r"[A-Za-z0-9_.+-]{17,}", key)
    assert len(key) <= 80
    (tmp_path / key).mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [key]


def test_a_key_can_be_read() -> None:
    assert job_key("/w", "align", {"sample": "A1"}, []).startswith("align-A1-")


def test_a_fingerprint_changes_with_any_part_and_only_then() -> None:
    parts = {"shell": "sort", "params": ["1"], "inputs": [["a", 5, 7]]}
    same = {"inputs": [["a", 5, 7]], "params": ["1"], "shell": "sort"}
    assert fingerprint(parts) == fingerprint(same)
    for name, value in (("shell", "sort -n"), ("params", ["2"]), ("inputs", [["a", 5, 8]])):
        assert fingerprint({**parts, name: value}) != fingerprint(parts)


def test_a_fingerprint_takes_values_that_json_does_not_know() -> None:
    assert fingerprint({"path": Path("/a")}) != fingerprint({"path": Path("/b")})
