"""A chain that was parked under one scheduler is gone on with under another, and the other way round."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from .conftest import MakeStage
from .runs import Flow, until

pytestmark = pytest.mark.criu

#: The local scheduler with numbers for ids, as a batch system has them, which notes what it is asked about.
PLUGIN = """
import os, zlib
from dataclasses import replace
from snakemake_executor_plugin_ckpt.schedulers.base import Liveness
from snakemake_executor_plugin_ckpt.schedulers.local import Local

def number(name):
    return str(zlib.crc32(name.encode()))

class Numbered(Local):
    name = "numbered"

    def submit(self, request):
        return number(super().submit(request))

    def find(self, name):
        found = super().find(name)
        return found and number(found)

    def liveness(self, job_ids):
        self.note(job_ids)
        names = {number(path.stem): path.stem for path in self._folder.glob("*.yaml")}
        known = super().liveness(list(names.values()))
        missing = {one: Liveness.GONE if one.isdecimal() else Liveness.UNKNOWN for one in job_ids}
        return missing | {one: known[name] for one, name in names.items() if one in missing}

    def cancel(self, job_ids):
        self.note(job_ids)
        super().cancel([path.stem for path in self._folder.glob("*.yaml") if number(path.stem) in job_ids])

    def allocation(self, environment):
        own = super().allocation(environment)
        return replace(own, job_id=number(own.job_id))

    def note(self, job_ids):
        with open(os.path.join(os.path.dirname(__file__), "asked"), "a") as file:
            file.writelines(f"{one}\\n" for one in job_ids)
"""


def install(flow: Flow) -> Path:
    """Have snakemake find it, as if it were installed; the file with what it was asked about."""
    folder = flow.path.parent / "numbered"
    found = folder / "numbered-1.dist-info"
    found.mkdir(parents=True)
    (folder / "numbered_scheduler.py").write_text(PLUGIN)
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: numbered\nVersion: 1\n")
    place = "numbered_scheduler:Numbered"
    (found / "entry_points.txt").write_text(f"[snakemake_executor_plugin_ckpt.schedulers]\nnumbered = {place}\n")
    flow.environment["PYTHONPATH"] = os.pathsep.join([str(folder), flow.environment["PYTHONPATH"]])
    return folder / "asked"


def test_a_parked_chain_goes_on_under_another_scheduler_and_comes_back(stage_of: MakeStage) -> None:
    stage = stage_of({"job": ""})
    ours = stage.flow
    asked = install(ours)
    schedulers = ["local", "numbered", "local"]

    def computes(number: int) -> bool:
        found = ours.segments("job")
        return len(found) == number and found[-1].startup is not None and stage.half("job")

    for number, scheduler in enumerate(schedulers, start=1):
        head = ours.start("--ckpt-scheduler", scheduler, "--ckpt-walltime", "300s")
        until(partial(computes, number), f"segment {number}", head)
        if number < len(schedulers):
            done = head.interrupt()
            assert "1 of 1 job saved" in done.said, done.said
    stage.go("job")
    done = head.wait()
    assert done.status == 0, done.said
    assert [one.scheduler for one in ours.segments("job")] == schedulers
    assert all(word.isdecimal() for word in asked.read_text().split()), "and not what is local's"
    stage.assert_each_step_was_made_once()
