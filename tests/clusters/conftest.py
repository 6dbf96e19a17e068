"""What the tests on real batch systems share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest

from .cluster import Site, down, shared_folder


@pytest.fixture
def site_of(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Site]]:
    """Makes a site of a kind of cluster; its jobs are over, and its folder is gone, with the test."""
    made: list[Site] = []

    def make(name: str) -> Site:
        if reason := down(name):
            pytest.skip(reason)
        folder = shared_folder(f"{name}-{request.node.name}")
        shutil.rmtree(folder, ignore_errors=True)
        made.append(Site(name, folder))
        return made[-1]

    yield make
    for site in made:
        site.end()
        shutil.rmtree(site.base)
