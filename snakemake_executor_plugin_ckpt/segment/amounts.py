"""How much there is to save now: asked for at every event, looked at not so often."""

from __future__ import annotations

import time
from collections.abc import Callable

from snakemake_executor_plugin_ckpt.engines.base import Running
from snakemake_executor_plugin_ckpt.errors import EngineError
from snakemake_executor_plugin_ckpt.segment import mistakes

#: Seconds between two looks; so many times longer than what a look takes, as one at many outputs does.
_LEAST, _SHARE = 0.5, 500


class Amount:
    """See the module.

    Parameters
    ----------
    look
        The bytes that a save of a payload would have to handle.
    warn
        Takes why they could not be looked at; then they are what they were.
    """

    def __init__(self, look: Callable[[Running], int], warn: Callable[[str], None]) -> None:
        self._look = look
        self._warn = warn
        self._bytes = 0
        self._next = 0.0

    def __call__(self, running: Running) -> int:
        """Bytes, as of the last look."""
        now = time.monotonic()
        if now >= self._next:
            try:
                with mistakes.told():
                    self._bytes = self._look(running)
            except (EngineError, OSError) as error:
                self._warn(f"what there is to save could not be measured: {error}")
            self._next = now + max(_LEAST, _SHARE * (time.monotonic() - now))
        return self._bytes

    def forget(self) -> None:
        """Look again when it is asked for next."""
        self._next = 0.0
