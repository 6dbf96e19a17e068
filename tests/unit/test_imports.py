"""Imports go one way (design, section 3), and what runs on a node needs nothing but the standard library and yaml."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import snakemake_executor_plugin_ckpt

NAME = "snakemake_executor_plugin_ckpt"
ROOT = Path(snakemake_executor_plugin_ckpt.__file__).parent

#: What the modules under each prefix may import of this package. The longest prefix that fits counts.
BASIC = {"errors", "units", "proc", "plugins", "faults"}
RECORDS = BASIC | {"state", "policy"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "faults": set(),
    "plugins": {"errors"},
    "units": set(),
    "proc": set(),
    "policy": set(),
    "state": BASIC | {"state"},
    "images": BASIC | {"state", "images"},
    "engines": BASIC | {"engines"},
    "schedulers": BASIC | {"schedulers", "state"},
    "segment": RECORDS | {"images", "engines.base", "schedulers.base", "segment"},
    "chain": RECORDS | {"images", "schedulers.base"},
    "head": RECORDS | {"images", "chain", "engines.base", "schedulers.base", "head"},
    "cli": RECORDS | {"images", "chain", "engines.base", "engines.criu", "segment.bandwidth", "head.preflight", "cli"},
    "settings": RECORDS | {"engines.base", "schedulers.base", "head.incomplete"},
}
#: Who may import Snakemake's interface.
HEAD = {"", "settings", "executor", "head"}


def modules() -> dict[str, Path]:
    """All modules by their dotted name below the package."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imported(path: Path) -> set[str]:
    """What a module imports anywhere in it, TYPE_CHECKING included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _within(name: str, parents: set[str]) -> bool:
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


MODULES = modules()


@pytest.mark.parametrize("module", [name for name in sorted(MODULES) if _within(name, set(ALLOWED))])
def test_imports_go_one_way(module: str) -> None:
    allowed = next(ALLOWED[prefix] for prefix in sorted(ALLOWED, reverse=True) if _within(module, {prefix}))
    own = {name.removeprefix(f"{NAME}.") for name in imported(MODULES[module]) if name.startswith(f"{NAME}.")}
    assert [name for name in sorted(own) if not _within(name, allowed)] == []


@pytest.mark.parametrize("module", sorted(MODULES))
def test_only_the_head_knows_snakemake(module: str) -> None:
    foreign = {name for name in imported(MODULES[module]) if name.startswith(("snakemake.", "snakemake_interface"))}
    if not _within(module, HEAD) and module != "":
        assert foreign == set()


@pytest.mark.parametrize("kind", ["engines", "schedulers"])
def test_engines_and_schedulers_know_nothing_of_their_siblings(kind: str) -> None:
    for module, path in MODULES.items():
        parts = module.split(".")
        if parts[0] != kind or len(parts) < 2 or parts[1] == "base":
            continue
        stem = parts[1].partition("_")[0]
        for name in imported(path):
            if name.startswith(f"{NAME}.{kind}."):
                other = name.split(".")[2]
                assert other in ("base", "world", "commands") or other.partition("_")[0] == stem, (module, name)


def _loaded_by(statement: str) -> set[str]:
    """Modules that a fresh interpreter has after a statement and not before it."""
    code = f"import sys\nbefore = set(sys.modules)\n{statement}\nprint(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


ON_THE_NODE = [
    f"import {NAME}.segment.__main__, {NAME}.engines.criu, {NAME}.engines.plain, {NAME}.schedulers.local",
    f"import {NAME}.schedulers.slurm, {NAME}.schedulers.oar, {NAME}.schedulers.lsf",
    f"import {NAME}.schedulers.local_keeper",
]


@pytest.mark.parametrize("statement", ON_THE_NODE, ids=["segment", "clusters", "keeper"])
def test_what_runs_on_a_node_loads_nothing_that_is_slow_or_may_be_absent(statement: str) -> None:
    loaded = _loaded_by(statement)
    tops = {name.partition(".")[0] for name in loaded}
    assert tops & {"snakemake", "filelock", "asyncio", "snakemake_interface_common"} == set()
    assert {top for top in tops if top.startswith("snakemake")} == {NAME}
    outside = {top for top in tops if top not in sys.stdlib_module_names and not top.startswith("_")}
    assert outside <= {NAME, "yaml", "cython_runtime"}
    assert "importlib.metadata" not in loaded


def test_the_package_itself_loads_nothing_until_snakemake_asks() -> None:
    tops = {name.partition(".")[0] for name in _loaded_by(f"import {NAME}")}
    assert {top for top in tops if top not in sys.stdlib_module_names} == {NAME}


def test_snakemake_finds_what_it_asks_for() -> None:
    for name in ("Executor", "ExecutorSettings", "common_settings"):
        assert getattr(snakemake_executor_plugin_ckpt, name) is not None
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = snakemake_executor_plugin_ckpt.Nonsense
