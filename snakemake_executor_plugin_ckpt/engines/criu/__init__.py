"""CRIU: saves any process tree, and needs neither root nor a daemon nor a change of the program."""

from snakemake_executor_plugin_ckpt.engines.criu.engine import CriuEngine

__all__ = ["CriuEngine"]
