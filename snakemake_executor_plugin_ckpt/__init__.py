"""What Snakemake loads: the settings, the capabilities and the executor of `--executor ckpt`.

The three names are imported when Snakemake asks for them and not before (PEP 562): what runs on the
compute node is in this package too, and must start without Snakemake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snakemake_executor_plugin_ckpt.executor import Executor
    from snakemake_executor_plugin_ckpt.settings import ExecutorSettings, common_settings

__all__ = ["Executor", "ExecutorSettings", "common_settings"]


def __getattr__(name: str) -> Any:
    if name == "Executor":
        from snakemake_executor_plugin_ckpt.executor import Executor

        return Executor
    if name in {"ExecutorSettings", "common_settings"}:
        from snakemake_executor_plugin_ckpt import settings

        return getattr(settings, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
