"""Batch jobs that wait for somebody: the head says so, and what to do."""

from __future__ import annotations

import re

import pytest
from workflows.runs import Flow, numbers

from .cluster import LIMIT, NODES, Site, client, meanwhile

pytestmark = [pytest.mark.cluster, pytest.mark.alone]

#: A head asks about a job that was silent for a minute; here sooner.
SOONER = "from snakemake_executor_plugin_ckpt.head import asking\nasking.SILENT = 5.0\n"
HOLD = {"oar": ("oarhold",), "slurm": ("scontrol", "hold")}
SNAKEFILE = """\
rule all:
    input: "out.txt"

rule count:
    output: "out.txt"
    resources: ckpt=0
    shell: "seq 1 10 > {output}"
"""


def test_a_job_that_is_held_in_the_queue_is_told_of_and_goes_on_when_it_is_released(each_site: Site) -> None:
    site, flow = each_site, Flow(each_site.base / "flow", SNAKEFILE)
    flow.change_heads(SOONER)
    try:
        for node in NODES[site.name]:
            site.order("drain", node, "on")
        head = flow.start("--ckpt-scheduler", site.name, "--ckpt-walltime", "10min")
        meanwhile(head, lambda: any(one.job_id for job in flow.jobs() for one in job.submissions()), "the submission")
        job_id = str(flow.job("count").submissions()[-1].job_id)
        client(*HOLD[site.name], job_id)
        told = f"batch job {job_id} does not start by itself: "
        meanwhile(head, lambda: told in head.said(), "word of it")
        for node in NODES[site.name]:
            site.order("drain", node, "off")
        advice = re.search("`(.*)`", head.said().partition(told)[2])
        assert advice is not None and advice[1].endswith(job_id), head.said()
        assert flow.segments("count") == []
        client(*advice[1].split())
        assert head.process.wait(LIMIT) == 0, head.said()
        assert head.said().count(told) == 1
        assert flow.text("out.txt") == numbers(10)
    finally:
        flow.close()
