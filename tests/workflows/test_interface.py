"""Snakemake's own tests of an executor plugin."""

from __future__ import annotations

from pathlib import Path

import pytest
from snakemake.common.tests import TestWorkflowsLocalStorageBase
from snakemake_interface_executor_plugins.settings import ExecutorSettingsBase

from snakemake_executor_plugin_ckpt import ExecutorSettings

pytestmark = pytest.mark.criu


class TestInterface(TestWorkflowsLocalStorageBase):  # type: ignore[misc]  # Snakemake ships no types
    """The test methods are the base's: a simple workflow, and one with a group."""

    __test__ = True

    @pytest.fixture(autouse=True)
    def _stay(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)  # Snakemake changes it, and does not come back

    def get_executor(self) -> str:
        return "ckpt"

    def get_executor_settings(self) -> ExecutorSettingsBase | None:
        return ExecutorSettings(scheduler="local", walltime="30s")
