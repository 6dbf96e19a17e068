"""Engines and schedulers that are installed: found by entry point on the head, loaded by their place on the node."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from snakemake_executor_plugin_ckpt.errors import BadSetting, CkptError


def names(group: str) -> list[str]:
    """All that are installed in an entry point group."""
    from importlib.metadata import entry_points  # slow to import, and the node has no need of it

    return sorted(point.name for point in entry_points(group=group))


def place_of(group: str, name: str, option: str) -> str:
    """Where the class of one is (``module:Class``).

    Raises
    ------
    BadSetting
        None of that name is installed; the message names the option and those that are.
    """
    from importlib.metadata import entry_points

    for point in entry_points(group=group, name=name):
        return point.value
    raise BadSetting(option, name, f"those installed here are {', '.join(names(group))}")


def load(place: str, failure: type[CkptError], *arguments: object) -> Any:
    """Make one from its place, without searching the installation, which is slow on a shared disk.

    Raises
    ------
    CkptError
        Of the class `failure`: it cannot be imported here.
    """
    module, _, name = place.partition(":")
    try:
        made = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise failure(f"{place!r} cannot be loaded: {error}") from error
    return made(*arguments)
