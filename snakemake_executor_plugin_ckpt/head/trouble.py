"""Trouble with one job, of which nothing is lost as it is looked at again: told at once, and then now and then."""

from __future__ import annotations

import traceback
from collections import Counter
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_ckpt.errors import CkptError

#: Looks that end in the same kind of trouble between two messages of it.
SAY_EVERY = 30
#: What is said in words that are meant for a reader. All else is a fault of this package or of a plugin's.
_EXPECTED = (CkptError, OSError, WorkflowError)


class Trouble:
    """Keeps in mind how often each job was in trouble. Of each there is a word, also where all are in trouble."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._looks: Counter[tuple[str, type[Exception]]] = Counter()

    def tell(self, name: str, error: Exception, always: bool = False) -> None:
        """Say what a look at a job ended in, unless that was said a short while ago.

        Parameters
        ----------
        name
            The job's key, or who else it is about.
        error
            The trouble; with its traceback if nobody foresaw it.
        always
            Whether to say it in any case, because it is rare.
        """
        kind = (name, type(error))
        if always or self._looks[kind] % SAY_EVERY == 0:
            self._logger.warning(f"ckpt: {name}: {_text(error)}")
        self._looks[kind] += 1


def _text(error: Exception) -> str:
    if isinstance(error, _EXPECTED):
        return f"{error}; looking again"
    trace = "".join(traceback.format_exception(error)).rstrip()
    return f"{error!r} was not foreseen; looking again. Please report this:\n{trace}"
