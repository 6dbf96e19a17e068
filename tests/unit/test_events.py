"""What a segment hears, from the first moment on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_plugin_ckpt.segment.events import Events


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """As they were, when the test is over."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_that_comes_as_soon_as_it_ends_nothing_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install, sent = signal.signal, []

    def hurried(number: int, handler: Any) -> Any:
        before = install(number, handler)
        if number == signal.SIGUSR2 and callable(handler):
            os.kill(os.getpid(), number)
            sent.append(number)
        return before

    monkeypatch.setattr(signal, "signal", hurried)
    with Events(tmp_path) as events:
        assert sent == [signal.SIGUSR2]
        assert events.signals() == sent
