"""The ready profiles, read by Snakemake's own parser: every line is an option, and the scheduler takes every value."""

from __future__ import annotations

import re
from argparse import Namespace
from pathlib import Path

import pytest
from snakemake.cli import parse_args
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

from snakemake_executor_plugin_ckpt.errors import BadSetting
from snakemake_executor_plugin_ckpt.head.preflight import check_resources, state_dir_of
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.schedulers.base import load_scheduler, scheduler_names
from snakemake_executor_plugin_ckpt.settings import ExecutorSettings, base_policy, policy_for

ROOT = Path(__file__).resolve().parents[2]
PROFILES = sorted([*ROOT.glob("profiles/*/config.yaml"), *ROOT.glob("workflows/*/profiles/*/config.yaml")])
#: A line of a profile that is there to be used by taking its mark away.
_OFFERED = re.compile(r"^( *)# ( *[a-z][a-z_-]*:(?: .*)?)$", re.M)


def used(profile: Path) -> tuple[Namespace, Policy]:
    """Snakemake's arguments and the plugin's policy that a profile makes, up to the first submission."""
    _, arguments = parse_args(["--profile", str(profile), "--workflow-profile", "none"])
    settings = ExecutorPluginRegistry().get_plugin(arguments.executor).get_settings(arguments)
    assert isinstance(settings, ExecutorSettings)
    base = base_policy(settings)
    about = {"input": Namespace(size_mb=0), "attempt": 1, "threads": 1, "rulename": "any", "async_run": None}
    defaults = {name: one.evaluate({}, **about).value for name, one in (arguments.default_resources or {}).items()}
    policy = policy_for(base, "any", defaults, threads=1)
    scheduler = load_scheduler(base.scheduler_place, state_dir_of(settings.state_dir, "/w"))
    check_resources("any", policy, scheduler)
    return arguments, policy


def with_all_that_it_offers(profile: Path, folder: Path) -> Path:
    """A copy of a profile in which what it has as a comment is used too."""
    (folder / "config.yaml").write_text(_OFFERED.sub(r"\1\2", profile.read_text()))
    return folder


@pytest.mark.parametrize("path", PROFILES, ids=[str(path.parent.relative_to(ROOT)) for path in PROFILES])
def test_a_ready_profile_is_taken_as_it_is_and_with_all_that_it_offers(path: Path, tmp_path: Path) -> None:
    arguments, policy = used(path.parent)
    assert arguments.ckpt_scheduler is not None, "it is for one scheduler, and says so"
    assert policy.walltime is not None, "without one nothing is cut into segments"
    files = [file for file in (arguments.snakefile, *(arguments.configfile or ())) if file]
    assert [file for file in files if not Path(file).exists()] == []
    used(with_all_that_it_offers(path, tmp_path))


def test_there_is_a_ready_profile_of_each_kind_of_cluster() -> None:
    kinds = {used(path.parent)[1].scheduler for path in PROFILES}
    assert kinds >= set(scheduler_names())


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("ckpt-waltime: 2h", SystemExit),
        ("ckpt-walltime: 2", BadSetting),
        ("default-resources:\n  slurm_partiton: long", BadSetting),
        ("default-resources:\n  tasks: 4", BadSetting),
    ],
)
def test_a_slip_of_the_pen_in_a_profile_is_seen(tmp_path: Path, line: str, error: type[BaseException]) -> None:
    (tmp_path / "config.yaml").write_text(f"executor: ckpt\nckpt-scheduler: slurm\n{line}\n")
    with pytest.raises(error):
        used(tmp_path)
