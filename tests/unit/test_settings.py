"""Settings and rule resources become one policy, or one message that names option, value and remedy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_plugin_ckpt import settings as module
from snakemake_executor_plugin_ckpt.errors import BadSetting
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.schedulers.base import find_scheduler
from snakemake_executor_plugin_ckpt.schedulers.local import Local
from snakemake_executor_plugin_ckpt.settings import ExecutorSettings, base_policy, policy_for


@pytest.fixture(autouse=True)
def nothing_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine may have a cluster's programs."""
    monkeypatch.setattr(module, "detect", lambda: "local")


def policy(resources: dict[str, Any] | None = None, **settings: Any) -> Policy:
    return policy_for(base_policy(ExecutorSettings(**settings)), "align", resources or {}, 2)


def refused(resources: dict[str, Any] | None = None, **settings: Any) -> BadSetting:
    with pytest.raises(BadSetting) as caught:
        policy(resources, **settings)
    error = caught.value
    assert str(error) == f"{error.option}: {error.value!r} cannot be used: {error.remedy}"
    assert error.remedy
    return error


def test_the_defaults_make_a_policy() -> None:
    made = policy()
    assert (made.engine, made.scheduler, made.walltime, made.threads, made.keep) == ("criu", "local", None, 2, 2)
    assert made.engine_place.endswith(":CriuEngine")
    assert made.scheduler_place.endswith(":Local")


@pytest.mark.parametrize(
    ("setting", "value", "option", "remedy"),
    [
        ("scheduler", "pbs", "--ckpt-scheduler", "local"),
        ("scheduler", "LOCAL", "--ckpt-scheduler", "local"),
        ("engine", "dmtpc", "--ckpt-engine", "criu"),
        ("engine", " ", "--ckpt-engine", "criu"),
        ("walltime", "10", "--ckpt-walltime", "90s"),
        ("walltime", "-5s", "--ckpt-walltime", "90s"),
        ("walltime", "", "--ckpt-walltime", "90s"),
        ("walltime", "soon", "--ckpt-walltime", "90s"),
        ("walltime", "0s", "--ckpt-walltime", "longer than nothing"),
        ("walltime", "00:00:00", "--ckpt-walltime", "longer than nothing"),
        ("margin", 0.5, "--ckpt-margin", "1 or more"),
        ("margin", float("nan"), "--ckpt-margin", "1 or more"),
        ("margin", float("inf"), "--ckpt-margin", "1 or more"),
        ("margin", None, "--ckpt-margin", "1 or more"),
        ("margin", "much", "--ckpt-margin", "1 or more"),
        ("keep", 1, "--ckpt-keep", "2"),
        ("keep", -3, "--ckpt-keep", "2"),
        ("keep", float("inf"), "--ckpt-keep", "2"),
        ("keep", None, "--ckpt-keep", "2"),
        ("copy_limit", "much", "--ckpt-copy-limit", "512M"),
        ("copy_limit", None, "--ckpt-copy-limit", "512M"),
        ("max_segments", 0, "--ckpt-max-segments", "1 or more"),
        ("max_segments", float("inf"), "--ckpt-max-segments", "1 or more"),
        ("grace", "2", "--ckpt-grace", "90s"),
        ("grace", "0s", "--ckpt-grace", "longer than nothing"),
        ("grace", None, "--ckpt-grace", "90s"),
        ("save_floor", "1e3s", "--ckpt-save-floor", "90s"),
        ("save_ceiling", "1s", "--ckpt-save-ceiling", "--ckpt-save-floor"),
        ("on_unsavable", "cry", "--ckpt-on-unsavable", "run or fail"),
        ("on_unsavable", None, "--ckpt-on-unsavable", "run or fail"),
        ("on_no_image", "", "--ckpt-on-no-image", "restart or fail"),
    ],
)
def test_a_bad_setting_is_named_with_value_and_remedy(setting: str, value: Any, option: str, remedy: str) -> None:
    error = refused(**{setting: value})
    assert error.option == option
    assert error.value == value or value != value
    assert remedy in error.remedy


@pytest.mark.parametrize(
    ("resources", "name", "remedy"),
    [
        ({"ckpt_foo": 1}, "ckpt_foo", "ckpt_walltime"),
        ({"ckptwalltime": "5h"}, "ckptwalltime", "ckpt_walltime"),
        ({"ckpt": 2}, "ckpt", "use 0"),
        ({"ckpt": "no"}, "ckpt", "use 0"),
        ({"ckpt_engine": "dmtpc"}, "ckpt_engine", "criu"),
        ({"ckpt_walltime": 10}, "ckpt_walltime", "90s"),
        ({"ckpt_walltime": "-5s"}, "ckpt_walltime", "90s"),
        ({"runtime": 0}, "runtime", "minutes"),
        ({"runtime": -5}, "runtime", "minutes"),
        ({"runtime": "long"}, "runtime", "minutes"),
        ({"runtime": float("nan")}, "runtime", "minutes"),
        ({"mem_mb": 0}, "mem_mb", "more than 0"),
        ({"mem_mb": "lots"}, "mem_mb", "more than 0"),
        ({"mem_mb": float("inf")}, "mem_mb", "more than 0"),
    ],
)
def test_a_bad_resource_is_named_with_rule_value_and_remedy(resources: dict[str, Any], name: str, remedy: str) -> None:
    error = refused(resources)
    assert error.option == f"rule align, resource {name}"
    assert remedy in error.remedy


@pytest.mark.parametrize(
    ("resources", "settings", "named"),
    [
        ({"runtime": 0.05}, {}, "resource runtime"),
        ({"ckpt_walltime": "4s"}, {}, "resource ckpt_walltime"),
        ({}, {"walltime": "4s"}, "--ckpt-walltime"),
        ({}, {"walltime": "60s", "grace": "30s", "save_floor": "30s"}, "--ckpt-walltime"),
    ],
)
def test_a_walltime_in_which_nothing_could_be_computed_is_refused_with_the_arithmetic(
    resources: dict[str, Any], settings: dict[str, Any], named: str
) -> None:
    error = refused(resources, **settings)
    assert named in error.option
    for part in ("--ckpt-save-floor", "--ckpt-grace", "longer than"):
        assert part in error.remedy


def test_a_job_that_is_not_saved_may_have_any_walltime() -> None:
    assert policy({"ckpt": 0, "ckpt_walltime": "1s"}).walltime == 1.0
    assert policy({"ckpt_engine": "none", "ckpt_walltime": "1s"}).walltime == 1.0


@pytest.mark.parametrize(
    ("resources", "setting", "seconds"),
    [
        ({}, None, None),
        ({}, "2h", 7200),
        ({"runtime": 90}, "2h", 5400),
        ({"runtime": 90}, None, 5400),
        ({"ckpt_walltime": "30s"}, "2h", 30),
        ({"runtime": 90, "ckpt_walltime": "30s"}, "2h", 30),
        ({"runtime": "90"}, None, 5400),
        ({"runtime": 0.5}, None, 30),
    ],
)
def test_the_walltime_comes_from_the_rule_before_the_setting(
    resources: dict[str, Any], setting: str | None, seconds: float | None
) -> None:
    assert policy(resources, walltime=setting).walltime == seconds


@pytest.mark.parametrize("switch", [0, "0", False, "False"])
def test_ckpt_0_switches_saving_off(switch: object) -> None:
    made = policy({"ckpt": switch})
    assert made.engine == "none"
    assert made.engine_place.endswith(":Plain")


@pytest.mark.parametrize("switch", [1, "1", True, "True"])
def test_ckpt_1_changes_nothing(switch: object) -> None:
    assert policy({"ckpt": switch}) == policy()


FOREIGN = {"slurm_account": "x", "lsf_queue": "long", "oar_project": 7, "tasks": 1, "_cores": 1, "disk_mb": 5}


@pytest.mark.parametrize(
    ("scheduler", "extra"),
    [
        ("slurm", {"slurm_account": "x", "tasks": "1"}),
        ("lsf", {"lsf_queue": "long", "tasks": "1"}),
        ("oar", {"oar_project": "7"}),
        ("local", {}),
    ],
)
def test_a_scheduler_gets_its_own_resources_and_those_of_others_are_ignored(
    scheduler: str, extra: dict[str, str]
) -> None:
    refused = {"slurm": "slurm_acount", "lsf": "lsf_qeue", "oar": "oar_projekt"}
    others = {name: "x" for other, name in refused.items() if other != scheduler}
    assert policy({**FOREIGN, **others, "mpi": False}, scheduler=scheduler).extra == extra


@pytest.mark.parametrize(
    ("scheduler", "name", "remedy"),
    [
        ("slurm", "slurm_partiton", "did you mean slurm_partition?"),
        ("slurm", "slurm_wckey", "slurm_partition"),
        ("oar", "oar_property", "did you mean oar_properties?"),
        ("lsf", "lsf_que", "did you mean lsf_queue?"),
        ("lsf", "lsf_app", "lsf_extra"),
    ],
)
def test_a_resource_that_its_scheduler_does_not_know_is_refused_with_the_nearest_name(
    scheduler: str, name: str, remedy: str
) -> None:
    error = refused({name: "x"}, scheduler=scheduler)
    assert error.option == f"rule align, resource {name}"
    assert f"{scheduler} has no such resource" in error.remedy and remedy in error.remedy
    error = refused({"ckpt_later": f"runtime=5 {name}=x"}, scheduler=scheduler)
    assert error.option == "rule align, resource ckpt_later"
    assert error.remedy.startswith(f"{name}: ") and remedy in error.remedy


@pytest.mark.parametrize(
    ("scheduler", "name", "value", "remedy"),
    [
        *(("slurm", name, "b", "default one") for name in ("cluster", "clusters", "slurm_cluster")),
        ("slurm", "mpi", "srun", "one task on one node"),
        ("lsf", "mpi", "mpirun", "one task on one node"),
        *(("lsf", name, "5", "use runtime") for name in ("time", "time_min", "walltime")),
    ],
)
def test_what_snakemakes_plugin_for_a_scheduler_heeds_and_a_chain_cannot_is_refused_with_what_would_be_right(
    scheduler: str, name: str, value: str, remedy: str
) -> None:
    error = refused({name: value}, scheduler=scheduler)
    assert (error.option, error.value) == (f"rule align, resource {name}", value)
    assert remedy in error.remedy
    assert f"{name}: " in refused({"ckpt_later": f"{name}={value}"}, scheduler=scheduler).remedy
    assert policy({name: value}).extra == {}, "what another scheduler refuses is of no matter"
    policy({name: ""}, scheduler=scheduler)


class Pbs(Local):
    """Somebody else's scheduler, with resources of its own."""

    name = "pbs"
    resources = ("pbs_queue", "select")
    prefixes = ("pbs_",)
    refused: Mapping[str, str] = {"place": "use select"}


def test_a_scheduler_of_others_names_its_own_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    place = f"{__name__}:{Pbs.__name__}"
    monkeypatch.setattr(module, "find_scheduler", lambda name: place if name == "pbs" else find_scheduler(name))
    resources = {"pbs_queue": "q", "select": 2, "ckpt_later": "pbs_queue=long"}
    made = policy({**FOREIGN, **resources}, scheduler="pbs")
    assert made.extra == {"pbs_queue": "q", "select": "2"}
    assert made.of_later_segments().extra == {"pbs_queue": "long", "select": "2"}
    assert "did you mean pbs_queue?" in refused({"pbs_queu": "q"}, scheduler="pbs").remedy
    assert refused({"place": "pack"}, scheduler="pbs").remedy == "use select"


def test_options_of_the_engine_go_along() -> None:
    made = policy(criu="/opt/criu", tcp="close")
    assert made.engine_options == {"criu": "/opt/criu", "criu-way": "auto", "tcp": "close"}


def test_every_setting_has_a_help_text_and_a_usable_default() -> None:
    for item in fields(ExecutorSettings):
        assert item.metadata["help"].endswith((".", ")")), item.name
        if "choices" in item.metadata:
            assert item.default in item.metadata["choices"], item.name
    assert isinstance(ExecutorSettings(state_dir=Path("x")).state_dir, Path)


def test_files_of_a_rule_are_patterns_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = policy({"ckpt_files": "cache/*: side-[0-9].tmp :/elsewhere/mine:../up/one"})
    here = str(tmp_path)
    up = str(tmp_path.parent / "up" / "one")
    assert made.files == [f"{here}/cache/*", f"{here}/side-[0-9].tmp", "/elsewhere/mine", up]
    assert policy({}).files == []


@pytest.mark.parametrize(
    "value", ["", " : ", "*", "**", "*.tmp", ".", "..", "/", "/*", "cache:../*", ".snakemake", ".snakemake/log/*", "./"]
)
def test_files_of_a_rule_that_would_be_others_are_refused(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert refused({"ckpt_files": value}).option == "rule align, resource ckpt_files"


def test_a_scheduler_that_is_not_named_is_the_one_that_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "detect", lambda: "slurm")
    assert policy().scheduler == "slurm"
    assert policy(scheduler="local").scheduler == "local"


def test_later_segments_may_have_other_resources() -> None:
    first = policy(
        {"runtime": 60, "mem_mb": 100, "slurm_partition": "short", "ckpt_later": "runtime=600 slurm_partition=long"},
        scheduler="slurm",
    )
    later = first.of_later_segments()
    assert (first.walltime, first.mem_mb, first.extra) == (3600.0, 100, {"slurm_partition": "short"})
    assert (later.walltime, later.mem_mb, later.extra) == (36000.0, 100, {"slurm_partition": "long"})
    said = {"ckpt_later": "oar_properties=\"host = 'a'\" mem_mb=7 slurm_partition=long"}
    assert policy(said, scheduler="oar").later == {"oar_properties": "host = 'a'", "mem_mb": "7"}
    assert policy(said).later == {"mem_mb": "7"}, "one profile may serve several"


@pytest.mark.parametrize(
    "value", ["runtime", "threads=3", "runtime=long", "mem_mb=-1", "ckpt_walltime=3h", "walltime=3"]
)
def test_resources_of_later_segments_that_make_no_sense_are_refused(value: str) -> None:
    assert refused({"ckpt_later": value}).option.startswith("rule align, resource ckpt_later")


def test_resources_of_later_segments_with_an_open_quote_are_refused() -> None:
    assert "shell words" in refused({"ckpt_later": "slurm_extra='x"}).remedy
