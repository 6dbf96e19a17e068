"""What the tests on real batch systems share, and who runs when: see `Turns`."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Generator, Iterator
from itertools import count

import pytest

from .cluster import ORDERS, Site, down, shared_folder

#: Groups of tests that may run beside each other, for each cluster (tools/test-clusters.sh has as many workers).
BESIDE = 2
_CLUSTER = re.compile(r"(?<![a-z])(oar|slurm)(?![a-z])")


class Turns:
    """Tests of one cluster run beside each other, but for those marked ``alone``, which change the cluster itself."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put tests into groups for xdist: one of those that run alone, some of the others."""
        others = count()
        for item in items:
            if cluster := _cluster_of(item):
                group = "alone" if _is_alone(item) else str(next(others) // 2 % BESIDE)
                item.add_marker(pytest.mark.xdist_group(f"{cluster}-{group}"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Wait for the turn of a test; it is over with what its fixtures clean up."""
        cluster = _cluster_of(item)
        if cluster is None or ORDERS not in os.environ:
            return (yield)
        path = shared_folder(f".{cluster}.turn")
        path.parent.mkdir(exist_ok=True)
        with open(path, "a") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX if _is_alone(item) else fcntl.LOCK_SH)
            return (yield)


def pytest_configure(config: pytest.Config) -> None:
    """Have `Turns` know of all tests, those of the conformance suite too."""
    config.addinivalue_line("markers", "alone: changes a cluster, so that no other test may run on it meanwhile")
    config.pluginmanager.register(Turns(), "turns on clusters")


def _cluster_of(item: pytest.Item) -> str | None:
    found = _CLUSTER.search(item.nodeid) if item.get_closest_marker("cluster") else None
    return found[1] if found else None


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


@pytest.fixture
def site_of(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Site]]:
    """Makes a site of a kind of cluster; its jobs are over, and its folder is gone, with the test."""
    made: list[Site] = []

    def make(name: str) -> Site:
        if reason := down(name):
            pytest.skip(reason)
        folder = shared_folder(f"{name}-{re.sub(r'[^a-z0-9_]+', '-', request.node.name)}")
        shutil.rmtree(folder, ignore_errors=True)
        made.append(Site(name, folder))
        return made[-1]

    yield make
    for site in made:
        site.end()
        if _is_alone(request.node):
            site.order("idle")
        shutil.rmtree(site.base)


@pytest.fixture(params=["oar", "slurm"])
def each_site(request: pytest.FixtureRequest, site_of: Callable[[str], Site]) -> Site:
    """One cluster after the other."""
    return site_of(request.param)
