"""Resources that are for a scheduler alone are looked at before anything is submitted."""

from __future__ import annotations

from pathlib import Path

import pytest

from snakemake_executor_plugin_ckpt.errors import BadSetting
from snakemake_executor_plugin_ckpt.head import preflight
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.schedulers.base import find_scheduler, load_scheduler

BAD = [
    ("slurm", "slurm_extra", "--time=5"),
    ("slurm", "slurm_extra", "'open"),
    ("slurm", "nodes", "2"),
    *(("slurm", "cpus_per_task", value) for value in ("many", "0", "-1", "nan", "inf", "")),
    ("slurm", "mem_mb_per_cpu", "1G"),
    ("oar", "oar_extra", "-l core=3"),
    ("oar", "oar_extra", "'open"),
    ("oar", "oar_properties", "cpu = 'x"),
    ("lsf", "lsf_extra", "-J x"),
    ("lsf", "lsf_extra", "sleep 5"),
    ("lsf", "cpus_per_task", "many"),
    ("lsf", "mem_mb_per_cpu", "1G"),
]


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(("name", "resource", "value"), BAD)
def test_a_bad_value_is_named_with_its_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, resource: str, value: str, later: bool
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # nobody is asked
    scheduler = load_scheduler(find_scheduler(name), tmp_path / "state")
    policy = Policy(**{"later" if later else "extra": {resource: value}})  # type: ignore[arg-type]
    with pytest.raises(BadSetting, match=f"^rule align, resource {resource}: "):
        preflight.check_resources("align", policy, scheduler)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("name", ["local", "slurm", "oar", "lsf"])
def test_what_another_scheduler_would_refuse_is_of_no_matter(tmp_path: Path, name: str) -> None:
    extra = {resource: value for other, resource, value in BAD if resource.startswith(other) and other != name}
    preflight.check_resources("align", Policy(extra=extra), load_scheduler(find_scheduler(name), tmp_path))
