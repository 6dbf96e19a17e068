"""Snakemake's own tests of an executor plugin, and what its interface leaves to chance."""

from __future__ import annotations

from pathlib import Path

import pytest
from snakemake.common.tests import TestWorkflowsLocalStorageBase
from snakemake_interface_executor_plugins.settings import ExecutorSettingsBase

from snakemake_executor_plugin_ckpt import ExecutorSettings

from .runs import Flow

pytestmark = pytest.mark.criu

#: For a head. The status thread is started right before the throttler is made that it uses.
SLOW = """\
import time, throttler

def slowly(self, *arguments, begin=throttler.Throttler.__init__, **more):
    time.sleep(2)
    begin(self, *arguments, **more)

throttler.Throttler.__init__ = slowly
"""


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


def test_a_status_thread_that_is_faster_than_what_starts_it_does_not_end_in_silence(tmp_path: Path) -> None:
    """It would fail before Snakemake has a scheduler to tell, and the workflow would wait for ever."""
    flow = Flow(tmp_path / "flow", "rule one:\n    output: 'one'\n    shell: 'touch {output}'\n")
    flow.change_heads(SLOW)
    try:
        done = flow.ckpt()
        assert done.status == 0, done.said
        assert (flow.path / "one").exists()
    finally:
        flow.close()
