"""What all tests share: which tests run for whom, and that nothing is skipped unseen where CKPT_NO_SKIP=1."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from helpers.engines import Trial
from helpers.writers import Place

#: Markers of tests that `make test` runs apart.
APART = ("root", "cluster")
#: Chains whose walltimes are seconds. Of each group one runs at a time: many at once would wait for each other's
#: processors too long. Those of the last group are many processes at once themselves.
TIMED = {
    "chains": re.compile("conformance/test_(supervisor|claims|crashes|images|lsf|schedulers)"),
    "heads": re.compile("workflows/test_(?!downscaling|same_bytes)"),
    "many": re.compile("workflows/test_same_bytes|faults/"),
}


def pytest_configure() -> None:
    """Have programs under test hear Ctrl-C, also where the tests themselves were started in the background."""
    # A background job of a shell ignores SIGINT, and what it starts inherits that; a handler is not inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks at the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave tests that need root, or a cluster that root has brought up, to those who ask for them (``-m root``)."""
    unwanted = [name for name in APART if not re.search(rf"\b{name}\b", config.option.markexpr)]
    left = [item for item in items if any(item.get_closest_marker(name) for name in unwanted)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]
    _group(items)


def _group(items: list[pytest.Item]) -> None:
    """Tell pytest-xdist what stays together: timed tests, which begin at once; of the others, those of a file."""
    groups = list(TIMED)
    items.sort(key=lambda item: groups.index(group) if (group := _timed(item)) else len(groups))
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(_timed(item) or item.nodeid.partition("::")[0]))


def _timed(item: pytest.Item) -> str | None:
    return next((name for name, pattern in TIMED.items() if pattern.search(item.nodeid)), None)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.CallInfo[None], None]:
    """Have a skipped test fail where nothing may be missing."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()  # type: ignore[attr-defined]
    must_run = _no_skip() and item.get_closest_marker("root") is None
    if must_run and report.skipped and not hasattr(report, "wasxfail"):
        reason = _reason(report)
        report.outcome = "failed"
        report.longrepr = f"skipped, and CKPT_NO_SKIP is 1: {reason}"


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report() -> Generator[None, None, None]:
    """The same for whole modules."""
    outcome = yield
    report: pytest.CollectReport = outcome.get_result()  # type: ignore[attr-defined]
    if _no_skip() and report.skipped:
        reason = _reason(report)
        report.outcome = "failed"
        report.longrepr = f"skipped, and CKPT_NO_SKIP is 1: {reason}"


def _no_skip() -> bool:
    return os.environ.get("CKPT_NO_SKIP") == "1"


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    """Payloads under an engine, all ended with the test."""
    with Trial(tmp_path) as made:
        yield made


@pytest.fixture
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests write need not outlive a power cut, and shared disks are slow."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory that is not there yet, named by the environment."""
    path = tmp_path / "state"
    monkeypatch.setenv("CKPT_STATE_DIR", str(path))
    return path


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A working directory, the images of what is written in it, and writers; all ended with the test."""
    made = Place(tmp_path)
    yield made
    made.end()


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid
