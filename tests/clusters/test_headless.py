"""A chain lives without the `snakemake` that submitted it."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest
from workflows.runs import Flow, numbers, until

from .cluster import Site, computes

pytestmark = [pytest.mark.cluster, pytest.mark.criu, pytest.mark.alone]

SNAKEFILE = """\
rule all:
    input: "out.txt"

rule count:
    output: "out.txt"
    shell: "for i in $(seq 1 100); do echo $i >> {output}; sleep 0.1; done"
"""


def test_with_the_head_killed_a_chain_over_two_nodes_completes_and_a_new_head_runs_nothing(each_site: Site) -> None:
    site, flow = each_site, Flow(each_site.base / "flow", SNAKEFILE)
    ours = ("--ckpt-scheduler", site.name, "--ckpt-walltime", "10min")
    try:
        if site.name == "slurm":
            site.order("requeue-wait", "6")  # nobody hastens it
        head = flow.start(*ours)
        until(lambda: any(one.job_id for job in flow.jobs() for one in job.submissions()), "the submission", head)
        head.kill()
        for number in (1, 2):
            until(partial(computes, flow, "count", number), f"segment {number}")
            segment = flow.segments("count")[-1]
            site.only_without(segment.host)
            site.warn(segment.job_id)
        until(lambda: flow.job("count").exit_status() is not None, "the end of the job")
        until(lambda: flow.segments("count")[-1].outcome == "finished", "its record")
        segments = flow.segments("count")
        flow.unlock()
        done = flow.ckpt(*ours)
        assert done.status == 0, done.said
        assert flow.segments("count") == segments
        assert len(flow.job("count").submissions()) == 1
        assert [segment.outcome for segment in segments] == ["saved", "saved", "finished"]
        assert all(one.host != two.host for one, two in pairwise(segments))
        assert len({segment.job_id for segment in segments}) == 1, "the chain's own requeues, and nothing else"
        assert flow.text("out.txt") == numbers(100)
    finally:
        flow.close()
        if site.name == "slurm":
            site.order("requeue-wait", "60")
