"""Which way CRIU gets its rights, by what the node allows."""

from __future__ import annotations

import os

import pytest

from snakemake_executor_plugin_ckpt.engines.criu import locate, trial
from snakemake_executor_plugin_ckpt.engines.criu.engine import CriuEngine
from snakemake_executor_plugin_ckpt.errors import BadSetting


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A node that has a criu; what else it has, the test says."""
    monkeypatch.setattr(locate, "locate", lambda _: ("/opt/criu", (4, 2)))
    return monkeypatch


def _allow(node: pytest.MonkeyPatch, uid: int, ways: set[str], file_capabilities: bool = False) -> None:
    node.setattr(os, "getuid", lambda: uid)
    node.setattr(trial, "enters", lambda way: None if way in ways else "not allowed")
    node.setattr(trial, "has_file_capabilities", lambda _: file_capabilities)


def test_an_ordinary_user_saves_rootless(node: pytest.MonkeyPatch) -> None:
    _allow(node, 1000, {"rootless"}, file_capabilities=True)
    assert CriuEngine({}).way == "rootless"


def test_where_user_namespaces_are_forbidden_a_capable_criu_is_used(node: pytest.MonkeyPatch) -> None:
    _allow(node, 1000, set(), file_capabilities=True)
    assert CriuEngine({}).way == "capabilities"


def test_where_nothing_is_allowed_the_trial_is_left_to_say_why(node: pytest.MonkeyPatch) -> None:
    _allow(node, 1000, set())
    assert CriuEngine({}).way == "rootless"


def test_root_saves_as_root(node: pytest.MonkeyPatch) -> None:
    _allow(node, 0, {"root", "rootless"})
    assert CriuEngine({}).way == "root"


def test_root_in_a_container_without_mounts_saves_rootless(node: pytest.MonkeyPatch) -> None:
    _allow(node, 0, {"rootless"})
    assert CriuEngine({}).way == "rootless"


def test_a_wish_is_followed(node: pytest.MonkeyPatch) -> None:
    _allow(node, 0, {"root", "rootless"})
    assert CriuEngine({"criu-way": "capabilities"}).way == "capabilities"


def test_an_unknown_way_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadSetting, match=r"--ckpt-criu-way.*'magic'.*rootless, root, capabilities"):
        CriuEngine({"criu-way": "magic"})
