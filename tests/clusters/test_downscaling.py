"""The example workflow on real clusters: its long job, cut into segments on several nodes, writes the same bytes."""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock
from workflows.runs import Flow, Head

from workflows.downscaling import NEEDS_SAGA, QUICK

from .cluster import LIMIT, Site, computes, meanwhile

#: The quick configuration with one tile, but enough work in it for some segments.
ARGUMENTS = (
    *QUICK,
    "cell=100",
    "hour_step=0.5",
    "months=[1]",
    "tiles=1",
)

pytestmark = [pytest.mark.cluster, pytest.mark.criu, *NEEDS_SAGA]


def test_the_example_over_three_segments_and_two_nodes_writes_the_same_bytes(
    each_site: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    site, flow = each_site, Flow(each_site.base / "flow")
    try:
        head = flow.start("--ckpt-scheduler", site.name, "--ckpt-walltime", "10min", "--jobs", "8", *ARGUMENTS)
        for number in (1, 2):
            meanwhile(head, partial(computes, flow, "radiation", number), f"segment {number}")
            time.sleep(2)
            segment = flow.segments("radiation")[-1]
            site.only_without(segment.host)
            site.warn(segment.job_id)
        reference = _uninterrupted(tmp_path_factory)
        status = head.process.wait(LIMIT)
        segments = flow.segments("radiation")
        assert status == 0, head.said()
        assert [one.outcome for one in segments] == ["saved", "saved", "finished"], [one.reason for one in segments]
        assert [one.restored_from for one in segments] == [None, segments[0].generation, segments[1].generation]
        assert len({one.host for one in segments}) >= 2
        assert min(one.useful for one in segments) > 1
        ours, theirs = _results(flow), _results(reference)
        assert len(theirs) > 30
        assert ours.keys() == theirs.keys()
        assert [name for name in theirs if ours[name] != theirs[name]] == []
    finally:
        flow.close()
        for node in (one.host for one in flow.segments("radiation")):
            site.order("drain", node, "off")


def _uninterrupted(factory: pytest.TempPathFactory) -> Flow:
    """The workflow without ckpt; once for both clusters, where several workers test them."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "whole"
    with FileLock(f"{folder}.lock"):
        flow, done = Flow(folder), folder / "done"
        if not done.exists():
            argv = [sys.executable, "-m", "snakemake", "--nocolor", "--executor", "local", "--cores", "2", *ARGUMENTS]
            head = Head(argv, folder, Path(f"{folder}.log"), flow.environment)
            assert head.process.wait(LIMIT) == 0, head.said()
            done.touch()
    return flow


def _results(flow: Flow) -> dict[str, bytes]:
    folder = flow.path / "results"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
