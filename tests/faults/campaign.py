"""Many chains, each with processes killed at random instants: ``python -m faults.campaign TRIALS [SEED]``.

What holds at the end of each one is checked; the result must be that of a run that nobody troubled, byte for byte.
`make faults N=200 SEED=7` runs it. The folders of trials that went wrong are kept.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults.outcome import Outcome
from faults.plan import Plan
from faults.trial import LIMIT
from faults.zoo import Result, differences, run_uninterrupted, zoo

#: Chains mostly wait, so there can be more of them at a time than there are processors.
JOBS = 3 * (os.cpu_count() or 1)
_STEPS, _PAUSE = 90, 0.05
#: How the segments end and what is saved between; the walltimes are such that a job needs several.
_WAYS: list[tuple[float | None, dict[str, Any]]] = [
    (1.5, {"period": 0.7}),
    (2.0, {}),
    (None, {"walltime": 6.0, "floor": 2.5, "grace": 0.5}),
    (None, {"walltime": 8.0, "floor": 2.5, "grace": 0.5, "period": 1.0}),
]
_MOST_KILLS = 5
_SPAN = 7.0


@dataclass
class Tally:
    """What came of a campaign."""

    trials: int = 0
    segments: int = 0
    images: int = 0
    restarts: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    def add(self, name: str, outcome: Outcome, expected: Result) -> bool:
        """Count a trial; whether all was well."""
        wrong = differences(expected, outcome.result)
        self.trials += 1
        self.segments += outcome.segments
        self.images += outcome.images
        self.restarts += outcome.restarts
        self.kills.update(outcome.kills)
        self.wrong += [f"{name}: {'; '.join(wrong)}"] if wrong else []
        self.trouble += [f"{name}: {text}" for text in outcome.trouble]
        return not wrong and not outcome.trouble

    def lines(self) -> Iterator[str]:
        """A summary for a reader, what went wrong at its end."""
        doubles = sum("payloads live at once" in text for text in self.trouble)
        zero = sum("from zero although" in text for text in self.trouble)
        roles = ", ".join(f"{count} {role}" for role, count in sorted(self.kills.items()))
        yield f"trials                            {self.trials}"
        yield f"processes killed                  {self.kills.total()} ({roles})"
        yield f"segments, images                  {self.segments}, {self.images}"
        yield f"begun again before any image      {self.restarts - zero}"
        yield f"begun again in spite of an image  {zero}"
        yield f"two payloads at once              {doubles}"
        yield f"wrong bytes                       {len(self.wrong)}"
        yield f"other trouble                     {len(self.trouble) - doubles - zero}"
        yield from self.wrong + self.trouble


def run_trial(plan: Plan) -> Outcome:
    """A trial in a process of its own, which leaves nothing running."""
    plan.write()
    tests = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": f"{tests}:{os.environ.get('PYTHONPATH', '')}"}
    argv = [sys.executable, "-P", "-m", "faults.trial", str(plan.file)]
    with open(plan.base / "trial.log", "wb") as log:
        trial = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        try:
            trial.wait(LIMIT + 60)
        except BaseException:
            trial.terminate()  # it ends what it started
            trial.wait()
            raise
    if trial.returncode != 0:
        raise AssertionError(f"the trial itself failed: {(plan.base / 'trial.log').read_text()}")
    return Outcome.read(plan.base)


def run(base: Path, trials: int, seed: int, say: Callable[[str], object] = print) -> Tally:
    """A campaign of so many trials; the same seed chooses the same ones."""
    animals = zoo(_STEPS, _PAUSE)
    with ThreadPoolExecutor(JOBS) as pool:
        references = {name: pool.submit(run_uninterrupted, animal, base / name) for name, animal in animals.items()}
        expected = {name: reference.result() for name, reference in references.items()}
        tally = Tally()
        names = [f"{list(animals)[number % len(animals)]}-{seed}-{number}" for number in range(trials)]
        for name, outcome in zip(names, pool.map(run_trial, map(_plan(base, seed), range(trials))), strict=True):
            well = tally.add(name, outcome, expected[name.split("-")[0]])
            if well:
                shutil.rmtree(base / name)
            say(f"{name}: {'well' if well else 'WRONG'} ({', '.join(outcome.kills) or 'nothing was killed'})")
    return tally


def _plan(base: Path, seed: int) -> Callable[[int], Plan]:
    animals = list(zoo(_STEPS, _PAUSE).items())

    def plan(number: int) -> Plan:
        name, animal = animals[number % len(animals)]
        chance = random.Random(f"{seed} {number}")
        stay, settings = chance.choice(_WAYS)
        return Plan(
            base / f"{name}-{seed}-{number}",
            animal,
            settings,
            stay,
            kills=chance.randint(1, _MOST_KILLS),
            seed=chance.randrange(1 << 32),
            span=_SPAN,
        )

    return plan


def main(words: Sequence[str]) -> int:
    trials = int(words[0])
    seed = int(words[1]) if len(words) > 1 else random.SystemRandom().randrange(1 << 16)
    base = Path(tempfile.mkdtemp(prefix="ckpt-faults-"))
    print(f"{trials} trials, seed {seed}, {JOBS} at a time, in {base}")
    began = time.monotonic()
    tally = run(base, trials, seed)
    print(f"\n{time.monotonic() - began:.0f} s, seed {seed}")
    print("\n".join(tally.lines()))
    if tally.wrong or tally.trouble:
        return 1
    shutil.rmtree(base)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
