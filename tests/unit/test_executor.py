"""The watching of jobs goes on whatever happens to one of them. A real executor, to which no workflow belongs."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.histories import History
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from snakemake_executor_plugin_ckpt.executor import Executor
from snakemake_executor_plugin_ckpt.head import trouble
from snakemake_executor_plugin_ckpt.head.asking import Asker
from snakemake_executor_plugin_ckpt.head.narrate import Narrator
from snakemake_executor_plugin_ckpt.head.trouble import Trouble
from snakemake_executor_plugin_ckpt.head.watched import WatchedJob
from snakemake_executor_plugin_ckpt.schedulers.local import Local

pytestmark = pytest.mark.usefixtures("no_fsync")


class Watching(Executor):
    """An executor without a Snakemake: what it reports is kept, and rounds are made by hand."""

    def __init__(self, state: Path) -> None:
        logger = logging.getLogger("watching")
        self.logger = logger
        self.reported: list[str] = []
        self.status_rate_limiter = _Unlimited()
        self._made = threading.Event()
        self._made.set()
        self._state_dir = state
        self._scheduler = Local(state)
        self._asker = Asker(self._scheduler)
        self._narrator = Narrator(logger)
        self._trouble = Trouble(logger)
        self._watched = {}
        self._ending = False
        self._step_lock = threading.Lock()

    def watch(self, history: History, name: str = "") -> SubmittedJobInfo:
        key = history.folder.path.name
        self._watched[key] = WatchedJob(history.folder, self._scheduler)
        job = SimpleNamespace(name=name or key, is_group=lambda: False)
        return SubmittedJobInfo(job, aux={"key": key})

    def report_job_success(self, info: Any) -> None:
        self.reported.append(info.job.name)

    def round(self, infos: list[SubmittedJobInfo]) -> list[SubmittedJobInfo]:
        """Look at all of these once; those that are not over."""

        async def look() -> list[SubmittedJobInfo]:
            return [info async for info in self.check_active_jobs(infos)]

        return asyncio.run(look())


class _Unlimited(nullcontext[None]):
    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


def finished(state: Path, key: str) -> History:
    made = History(state, key)
    made.finished()
    return made


def spoil(*_: object) -> object:
    raise KeyError("spoiled")


def test_a_part_of_a_chain_is_watched_on_when_another_part_was_over_before(tmp_path: Path) -> None:
    executor, chain = Watching(tmp_path), finished(tmp_path, "pair")
    first, second = executor.watch(chain, "first"), executor.watch(chain, "second")
    assert executor.round([first]) == []
    assert executor.round([second]) == []  # it came while the first one's round was under way
    assert executor.reported == ["first", "second"]


def test_what_nobody_foresaw_of_one_job_is_told_with_its_traceback_and_all_are_watched_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = Watching(tmp_path)
    odd, plain = (executor.watch(finished(tmp_path, name)) for name in ("odd", "plain"))

    def spoiled(self: WatchedJob, known: object) -> object:
        return spoil() if self.job.key == "odd" else of_old(self, known)

    of_old: Any = WatchedJob.next_step
    monkeypatch.setattr(WatchedJob, "next_step", spoiled)
    assert executor.round([odd, plain]) == [odd]
    assert executor.reported == ["plain"]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert said[0].startswith("ckpt: odd: KeyError('spoiled') was not foreseen; looking again")
    assert "Traceback" in said[0]
    for _ in range(2 * trouble.SAY_EVERY):
        assert executor.round([odd]) == [odd]
    assert len(caplog.records) == 3, "neither silence nor a line in each round"
    monkeypatch.undo()
    assert executor.round([odd]) == []
    assert executor.reported == ["plain", "odd"]


def test_a_scheduler_that_answers_with_an_error_nobody_foresaw_is_told_of_and_asked_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = Watching(tmp_path)
    job = executor.watch(finished(tmp_path, "job"))
    monkeypatch.setattr(Asker, "liveness", spoil)
    executor.round([job])
    assert [record.getMessage().partition(" was not")[0] for record in caplog.records] == [
        "ckpt: local: KeyError('spoiled')"
    ]


def test_each_job_in_trouble_is_told_of_however_many_there_are(caplog: pytest.LogCaptureFixture) -> None:
    told = Trouble(logging.getLogger("watching"))
    for _ in range(trouble.SAY_EVERY + 1):
        for name in ("a", "b"):
            told.tell(name, OSError("the disk is full"))
    assert [record.getMessage() for record in caplog.records] == [
        f"ckpt: {name}: the disk is full; looking again" for name in ("a", "b", "a", "b")
    ]
