"""One suite for all schedulers that are registered and can be used here: the contract of schedulers/base.py.

LSF is no free software, so what is tested here is a fake of its clients (`lsf_fake`): see `helpers/fake_lsf`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from _pytest.mark import ParameterSet
from helpers.fake_lsf import FakeLsf
from helpers.waiting import processes_with, wait_for, wait_for_text

from snakemake_executor_plugin_ckpt.errors import SchedulerError
from snakemake_executor_plugin_ckpt.schedulers.base import (
    REQUEUE,
    Liveness,
    Request,
    Scheduler,
    find_scheduler,
    load_scheduler,
    scheduler_names,
)

ALIVE, GONE, UNKNOWN = Liveness.ALIVE, Liveness.GONE, Liveness.UNKNOWN
#: Schedulers that are never tested for real.
FAKES = {"lsf": FakeLsf}


class Site:
    """A scheduler under test, and batch jobs that are over with the test."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.place = find_scheduler(name)
        self.scheduler: Scheduler = load_scheduler(self.place, self.state)
        self.marker = f"ckpt-test-{uuid4().hex}"
        self.ids: list[str] = []
        self.count = 0

    def request(self, script: str, walltime: float | None = None, grace: float = 1.0) -> Request:
        self.count += 1
        path = self.folder / f"script-{self.count}"
        path.write_text(f"#!/bin/sh\nMARKER={self.marker}; export MARKER\ncd {self.folder}\n{script}\n")
        path.chmod(0o700)
        name = f"ckpt-{self.marker[-8:]}-{self.count}"
        return Request(name, path, self.folder / "batch.log", walltime, grace)

    def submit(self, script: str, walltime: float | None = None, grace: float = 1.0) -> str:
        job_id = self.scheduler.submit(self.request(script, walltime, grace))
        self.ids.append(job_id)
        return job_id

    def liveness(self, job_id: str) -> Liveness:
        return self.scheduler.liveness([job_id])[job_id]

    def wait_gone(self, job_id: str) -> None:
        def gone() -> bool:
            found = self.liveness(job_id)
            self.scheduler.hasten([job_id], {})
            return found is GONE

        wait_for(gone, f"the end of {job_id}")

    def running(self) -> list[int]:
        return processes_with(self.marker)

    def said(self, name: str = "said") -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def end(self) -> None:
        self.scheduler.cancel(self.ids)
        for job_id in self.ids:
            self.wait_gone(job_id)


def _schedulers(exact: bool) -> list[ParameterSet]:
    """Those to test; a cluster's only where `make test-clusters` has brought one up, but for those that are faked."""
    found = []
    for name in scheduler_names():
        made = load_scheduler(find_scheduler(name), Path("/nonexistent"))
        if name in FAKES and not exact:
            found.append(pytest.param(name, id=f"{name}_fake"))
        elif made.exact or not exact:
            found.append(pytest.param(name, marks=[pytest.mark.cluster] if made.shared else []))
    return found


def _a_site(name: str, folder: Path) -> Iterator[Site]:
    made = Site(name, folder)
    if reason := made.scheduler.missing():
        pytest.skip(reason)
    yield made
    made.end()


@pytest.fixture
def _fakes(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The fake clients first in PATH, where the scheduler has some."""
    name = request.node.callspec.params.get("site")
    if name not in FAKES:
        yield
        return
    fake = FAKES[name](tmp_path / "fake", JOB_TERMINATE_INTERVAL=0.3)
    monkeypatch.setenv("PATH", f"{fake.bin}:{os.environ['PATH']}")
    yield
    fake.end()


@pytest.fixture(params=_schedulers(exact=False))
def site(request: pytest.FixtureRequest, tmp_path: Path, _fakes: None) -> Iterator[Site]:
    yield from _a_site(request.param, tmp_path)


@pytest.fixture(params=_schedulers(exact=True))
def exact_site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """One that keeps walltimes to the second."""
    yield from _a_site(request.param, tmp_path)


def test_a_job_is_alive_until_its_script_ends(site: Site) -> None:
    job_id = site.submit("until [ -e go ]; do sleep 0.02; done")
    assert site.liveness(job_id) is ALIVE
    (site.folder / "go").touch()
    site.wait_gone(job_id)


def test_a_job_is_found_by_its_name(site: Site) -> None:
    request = site.request("until [ -e go ]; do sleep 0.02; done")
    job_id = site.scheduler.submit(request)
    site.ids.append(job_id)
    assert site.scheduler.find(request.name) == job_id
    assert site.scheduler.find(f"{request.name}-not") is None
    # Another head, which knows nothing but the state directory, finds it too.
    assert load_scheduler(site.place, site.state).find(request.name) == job_id
    (site.folder / "go").touch()


def test_jobs_that_nobody_submitted_are_not_alive(site: Site) -> None:
    job_id = site.submit("until [ -e go ]; do sleep 0.02; done")
    found = site.scheduler.liveness([job_id, "999999999"])
    assert found.keys() == {job_id, "999999999"}
    assert found[job_id] is ALIVE
    assert found["999999999"] in (GONE, UNKNOWN)
    assert site.scheduler.liveness([]) == {}
    (site.folder / "go").touch()


def test_a_cancelled_job_is_gone_with_its_process(site: Site) -> None:
    job_id = site.submit("echo up > said; exec sleep 300")
    wait_for_text(site.folder / "said", "up")
    site.scheduler.cancel([job_id])
    site.wait_gone(job_id)
    wait_for(lambda: not site.running(), "the end of the script")
    site.scheduler.cancel([job_id, "999999999"])


def test_a_cancelled_job_that_asks_to_go_on_does_not(site: Site) -> None:
    script = f"echo up >> said; trap 'exit {REQUEUE}' TERM; while :; do sleep 0.05; done"
    job_id = site.submit(script, grace=20.0)
    wait_for_text(site.folder / "said", "up")
    time.sleep(0.2)
    site.scheduler.cancel([job_id])
    site.wait_gone(job_id)
    assert site.said() == "up\n"


def test_one_name_is_never_kept_twice(site: Site) -> None:
    request = site.request("echo up >> said; until [ -e go ]; do sleep 0.02; done")
    site.ids.append(site.scheduler.submit(request))
    wait_for_text(site.folder / "said", "up")
    with suppress(SchedulerError):
        site.scheduler.submit(request)
    time.sleep(1.0)
    assert site.said() == "up\n"
    (site.folder / "go").touch()


def test_many_heads_with_one_name_get_one_job(site: Site) -> None:
    request = site.request("echo up >> said; until [ -e go ]; do sleep 0.02; done")
    code = _submits(site, request)
    heads = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) for _ in range(4)]
    for head in heads:
        head.wait(60)
    found = site.scheduler.find(request.name)
    assert found is not None
    site.ids.append(found)
    wait_for_text(site.folder / "said", "up")
    time.sleep(0.5)
    assert site.said() == "up\n"
    (site.folder / "go").touch()


def _submits(site: Site, request: Request) -> str:
    """Python code of a head that submits and ends."""
    return (
        "from pathlib import Path\n"
        "from snakemake_executor_plugin_ckpt.schedulers.base import Request, load_scheduler\n"
        f"s = load_scheduler({site.place!r}, Path({str(site.state)!r}))\n"
        f"print(s.submit(Request({request.name!r}, Path({str(request.script)!r}), Path({str(request.log)!r}),"
        f" {request.walltime!r}, {request.grace!r})))"
    )


def test_a_job_outlives_who_submitted_it(site: Site) -> None:
    request = site.request("until [ -e go ]; do sleep 0.02; done; echo done > said")
    done = subprocess.run(
        [sys.executable, "-c", _submits(site, request)], capture_output=True, text=True, timeout=60, check=True
    )
    job_id = done.stdout.strip()
    site.ids.append(job_id)
    assert site.liveness(job_id) is ALIVE
    (site.folder / "go").touch()
    site.wait_gone(job_id)
    assert site.said() == "done\n"


def test_at_the_walltime_comes_sigterm_and_after_the_grace_sigkill(exact_site: Site) -> None:
    script = "trap 'echo term $(date +%s.%N) >> said' TERM; date +%s.%N >> said; while :; do sleep 0.05; done"
    job_id = exact_site.submit(script, walltime=1.0, grace=1.5)
    exact_site.wait_gone(job_id)
    ended = time.time()
    wait_for(lambda: not exact_site.running(), "the end of the script")
    began, *terms = exact_site.said().splitlines()
    assert len(terms) == 1
    term = float(terms[0].removeprefix("term "))
    assert term - float(began) > 0.8
    assert ended - term > 1.0


def test_a_job_that_ends_at_sigterm_is_not_killed(exact_site: Site) -> None:
    job_id = exact_site.submit(
        "trap 'sleep 0.5; echo end >> said; exit 3' TERM; while :; do sleep 0.05; done", 0.7, 30.0
    )
    exact_site.wait_gone(job_id)
    assert exact_site.said() == "end\n"


@pytest.mark.parametrize("status", [0, 1, 98, 137])
def test_any_other_exit_status_ends_the_job(site: Site, status: int) -> None:
    job_id = site.submit(f"echo up >> said; exit {status}")
    site.wait_gone(job_id)
    assert site.said() == "up\n"


def test_a_job_that_asks_for_more_starts_again_with_a_new_walltime(site: Site) -> None:
    """What a saved segment does at its end."""
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from snakemake_executor_plugin_ckpt.schedulers.base import load_scheduler\n"
        f"s = load_scheduler({site.place!r}, Path({str(site.state)!r}))\n"
        "began = time.monotonic()\n"
        "a = s.allocation(os.environ)\n"
        "print(a.job_id, a.end, os.getpid(), file=open('said', 'a'), flush=True)\n"
        "sys.exit(s.requeue(a, began) if len(open('said').readlines()) < 3 else 0)"
    )
    (site.folder / "ask.py").write_text(code)
    job_id = site.submit(f"exec {sys.executable} ask.py", walltime=60.0)
    assert site.liveness(job_id) is ALIVE
    site.wait_gone(job_id)
    runs = [line.split() for line in site.said().splitlines()]
    assert [run[0] for run in runs] == [job_id] * 3
    ends = [float(run[1]) for run in runs]
    assert ends == sorted(set(ends))
    assert abs(ends[-1] - 60 - time.time()) < 30


def test_where_no_walltime_was_asked_for_it_is_the_sites_own(site: Site) -> None:
    code = (
        "import os; from pathlib import Path\n"
        "from snakemake_executor_plugin_ckpt.schedulers.base import load_scheduler\n"
        f"print(load_scheduler({site.place!r}, Path('x')).allocation(os.environ).end, file=open('said', 'w'))"
    )
    (site.folder / "ask.py").write_text(code)
    site.wait_gone(site.submit(f"{sys.executable} ask.py"))
    # OAR has one for those who do not ask (DEFAULT_JOB_WALLTIME, 2 h).
    assert site.said() == "None\n" or float(site.said()) > time.time() + 1800


def test_what_the_script_says_is_in_the_log(site: Site) -> None:
    site.wait_gone(site.submit("echo out; echo err >&2"))
    assert (site.folder / "batch.log").read_text() == "out\nerr\n"


def test_a_script_that_cannot_be_run_is_an_end_and_not_a_loop(site: Site) -> None:
    request = site.request("true")
    request.script.chmod(0o600)
    with suppress(SchedulerError):
        site.wait_gone(site.scheduler.submit(request))


def test_outside_of_a_job_there_is_no_allocation(site: Site) -> None:
    with pytest.raises(SchedulerError, match="not a job"):
        site.scheduler.allocation({"PATH": os.environ["PATH"]})


def test_a_job_is_not_ended_by_the_end_of_its_submitters_session(site: Site) -> None:
    job_id = site.submit("trap '' HUP; until [ -e go ]; do sleep 0.02; done; ps -o sid= -p $$ > said")
    (site.folder / "go").touch()
    site.wait_gone(job_id)
    assert int(site.said()) != os.getsid(0)


def test_the_script_dies_with_who_answers_for_it(site: Site) -> None:
    """A node's daemon that dies takes its job along; the local keeper must too."""
    find: dict[str, Callable[[str], int]] = {"local": _local_keeper}
    if site.scheduler.name not in find:
        return
    request = site.request("echo up > said; exec sleep 300")
    site.ids.append(site.scheduler.submit(request))
    wait_for_text(site.folder / "said", "up")
    os.kill(find[site.scheduler.name](str(site.state / ".local" / f"{request.name}.yaml")), 9)
    site.wait_gone(site.ids[-1])
    wait_for(lambda: not site.running(), "the end of the script")


def _local_keeper(record: str) -> int:
    from snakemake_executor_plugin_ckpt.state.durable import read_yaml

    return int(read_yaml(Path(record))["pid"])
