"""The central daemons of a real cluster are away for two minutes, in the middle of a workflow whose head lives on."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from itertools import pairwise
from subprocess import TimeoutExpired

import pytest
from workflows.runs import Flow, numbers

from snakemake_executor_plugin_ckpt.state.records import Segment

from .cluster import LIMIT, NODES, Site, computes, meanwhile

pytestmark = [pytest.mark.cluster, pytest.mark.criu]

OUTAGE = 120.0
#: In an outage a head asks after 40 s, 80 s, and so on; here after 10 s, 20 s, and so on.
SOONER = "from snakemake_executor_plugin_ckpt.head import backoff\nbackoff.EVERY = 5.0\n"
#: Of each job, what it counts to (5 a second) and its resources; `waits` may only run on the last node, which takes no
#: jobs until the outage is over.
COUNTS = {"through": 850, "cut": 350, "ends": 150, "next": 10, "waits": 10}
SNAKEFILE = """\
COUNTS = {counts}

rule all:
    input: expand("{{name}}.txt", name=COUNTS)
"""
RULE = """
rule {name}:
    input: {input}
    output: "{name}.txt"
    resources: {resources}
    shell: "for i in $(seq 1 {count}); do echo $i >> {{output}}; sleep 0.2; done"
"""


def snakefile(site: Site) -> str:
    *others, last = NODES[site.name]
    only = (
        f"slurm_extra='--exclude={','.join(others)}'" if site.name == "slurm" else f"oar_properties=\"host = '{last}'\""
    )
    resources = {"cut": "ckpt_walltime='40s'", "waits": only}
    rules = [
        RULE.format(
            name=name,
            input="'ends.txt'" if name == "next" else "",
            resources=resources.get(name, ""),
            count=count,
        )
        for name, count in COUNTS.items()
    ]
    return SNAKEFILE.format(counts=list(COUNTS)) + "".join(rules)


@pytest.mark.alone
def test_two_minutes_without_the_central_daemons_cost_nothing(each_site: Site) -> None:
    """Nor does OAR's data base. Jobs compute, end, are cut off by their walltime, wait, are submitted meanwhile."""
    site, flow = each_site, Flow(each_site.base / "flow", snakefile(each_site))
    flow.change_heads(SOONER)
    try:
        site.order("drain", NODES[site.name][-1], "on")
        head = flow.start("--ckpt-scheduler", site.name, "--ckpt-walltime", "10min", "--jobs", "8")
        for name in ("through", "cut", "ends"):
            meanwhile(head, partial(computes, flow, name, 1), f"the start of {name}")
        meanwhile(head, lambda: flow.job("waits").submissions()[-1].job_id, "the submission of the one that waits")
        began = time.time()
        for words in {"oar": ("server-down", "db-down"), "slurm": ("ctld-down",)}[site.name]:
            site.order(words)
        down = time.time()
        meanwhile(head, lambda: time.time() > down + OUTAGE, "the end of the outage")
        up = time.time()
        for words in {"oar": ("db-up", "server-up"), "slurm": ("ctld-up",)}[site.name]:
            site.order(words)
        site.order("drain", NODES[site.name][-1], "off")
        with suppress(TimeoutExpired):
            head.process.wait(LIMIT)
        status, said = head.process.poll(), head.said()
        told = {name: flow.segments(name) for name in COUNTS}
        seen = {name: [(one.outcome, one.host, one.reason) for one in told[name]] for name in COUNTS}
        assert status == 0, f"{seen}\n{said}\n{site.order('status')}"
        assert {name: flow.text(f"{name}.txt") for name in COUNTS} == {name: numbers(COUNTS[name]) for name in COUNTS}
        assert {name: len(told[name]) for name in COUNTS if name != "cut"} == dict.fromkeys(
            ("through", "ends", "next", "waits"), 1
        )
        assert told["ends"][0].ended is not None and began < told["ends"][0].ended < up
        assert flow.job("next").submissions()[0].submitted < up, "submitted in the outage"
        assert told["next"][0].started > up and told["waits"][0].started > up
        _nothing_is_lost(told["cut"])
        first, second, *_ = told["cut"]
        assert first.walltime_end is not None and down < first.walltime_end < up
        assert first.ended is not None and first.ended < first.walltime_end < second.started
    finally:
        flow.close()


def _nothing_is_lost(segments: list[Segment]) -> None:
    """All were saved by their walltime's end, and each went on from where the one before ended."""
    assert [one.outcome for one in segments] == ["saved"] * (len(segments) - 1) + ["finished"]
    assert [one.restored_from for one in segments] == [None, *[one.generation for one in segments[:-1]]]
    for one, later in pairwise(segments):
        assert one.generation is not None and one.useful - one.images[one.generation] < 2, (one, later)
