"""Workflows whose jobs can be held in any state; see `helpers.staged`."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from functools import partial
from pathlib import Path

from helpers import staged

from .runs import Flow, Head, numbers, until

#: Makes half of its steps, waits for the file NAME.go, and makes the others. It writes one output through a descriptor
#: that stays open and one by its name, over and over, and reads both back at the end. NAME.trace is no output: what is
#: computed twice shows there twice.
WORK = """
import hashlib, pathlib, sys, time

name, steps = sys.argv[1], int(sys.argv[2])
trace = pathlib.Path(f"{name}.trace")
def note(text):
    with trace.open("a") as file:
        file.write(f"{text}\\n")
note("start")
with open(f"{name}.held", "w") as held:
    for step in range(1, steps + 1):
        while step > steps // 2 and not pathlib.Path(f"{name}.go").exists():
            time.sleep(0.05)
        note(step)
        held.write(f"{step}\\n")
        held.flush()
        with open(f"{name}.named", "a") as named:
            named.write(f"{step}\\n")
        time.sleep(0.02)
both = pathlib.Path(f"{name}.held").read_bytes() + pathlib.Path(f"{name}.named").read_bytes()
pathlib.Path(f"{name}.sum").write_text(hashlib.sha256(both).hexdigest())
"""
STEPS = 40
SUFFIXES = ("held", "named", "sum")

RULE = """
rule {name}:
    output: "{name}.held", "{name}.named", "{name}.sum"{more}
    shell: "{python} work.py {name} {steps}"
"""
STAGED = (
    *("--ckpt-scheduler", "staged", "--ckpt-engine", "staged", "--ckpt-walltime", "300s"),
    *("--jobs", "20", "--seconds-between-status-checks", "1"),
)


class Stage:
    """A workflow whose jobs can be held in any state.

    Parameters
    ----------
    flow
        Its folder.
    rules
        More lines for each of its rules.
    """

    def __init__(self, flow: Flow, rules: dict[str, str]) -> None:
        self.flow = flow
        self.names = sorted(rules)
        flow.environment |= staged.install(flow.path.parent / "plugins")
        self.gates = Path(flow.environment[staged.VARIABLE])
        targets = ", ".join(f'"{name}.sum"' for name in self.names)
        text = f"rule all:\n    input: {targets}\n"
        for name, more in rules.items():
            text += RULE.format(name=name, more=more and f"\n    {more}", python=sys.executable, steps=STEPS)
        text += '\nlocalrules: ready\n\nrule ready:\n    output: "ready"\n    shell: "touch {output}"\n'
        flow.write("Snakefile", text)
        flow.write("work.py", WORK)

    def hold(self, *gates: str) -> None:
        """Close gates: ``RULE.GATE``."""
        for gate in gates:
            (self.gates / gate).touch()

    def hold_command(self, name: str) -> Path:
        """Have a program wait, wherever jobs run it, as long as a file is there; the file."""
        gate = self.gates / name
        gate.touch()
        real = shutil.which(name)
        assert real is not None
        program = self.gates.with_name("bin") / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(
            f"#!/bin/sh\n[ ! -e {gate} ] || touch {gate}.reached\n"
            f'while [ -e {gate} ]; do sleep 0.05; done\nexec {real} "$@"\n'
        )
        program.chmod(0o755)
        self.flow.environment["PATH"] = f"{program.parent}:{os.environ['PATH']}"
        return gate

    def reached(self, gate: str) -> bool:
        """Whether somebody waits at a gate."""
        return (self.gates / f"{gate}.reached").exists()

    def open(self, gates: str = "*") -> None:
        """Open gates."""
        for gate in self.gates.glob(gates):
            if not gate.name.endswith(".reached"):
                gate.unlink()

    def let_look(self, head: Head) -> None:
        """Have the head ask its scheduler, and decide on the answer."""
        for gate in ("first.asked", "second.asked"):  # when it asks again it has decided
            self.hold(gate)
            until(partial(self.reached, gate), "a question", head)
            self.open(gate)

    def go(self, *names: str) -> None:
        """Let payloads go beyond their half."""
        for name in names:
            (self.flow.path / f"{name}.go").touch()

    def half(self, name: str) -> bool:
        """Whether a payload is at its half."""
        trace = self.flow.path / f"{name}.trace"
        return trace.exists() and trace.read_text() == "start\n" + numbers(STEPS // 2)

    def assert_each_step_was_made_once(self) -> None:
        """No step of any job was made twice or not at all, results are right, and nothing is left of the runs."""
        for name in self.names:
            assert self.flow.text(f"{name}.trace") == "start\n" + numbers(STEPS)
            assert self.flow.text(f"{name}.held") == self.flow.text(f"{name}.named") == numbers(STEPS)
            assert self.flow.text(f"{name}.sum") == hashlib.sha256(2 * numbers(STEPS).encode()).hexdigest()
            segments = self.flow.segments(name)
            assert [one.number for one in segments] == list(range(1, len(segments) + 1))
            assert [one.number for one in segments if one.restored_from is None] == [1]
            folder = self.flow.job(name)
            assert list(folder.images_folder.iterdir()) == []
            assert not folder.tmp_folder.exists()
        until(lambda: not self.flow.processes(), "the end of all processes")

    def marked(self) -> list[Path]:
        """Snakemake's marks of incomplete files."""
        return [path for path in (self.flow.path / ".snakemake" / "incomplete").rglob("*") if path.is_file()]
