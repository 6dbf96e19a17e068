"""A mistake of this package, in a look or a save, ends no payload: it is told like an engine's failure."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from snakemake_executor_plugin_ckpt.errors import EngineError, StateError


@contextmanager
def told() -> Iterator[None]:
    """Turn what nobody expected into an `EngineError`; the batch job's log has the rest. A decorator too.

    Raises
    ------
    EngineError, StateError, OSError
        What callers know how to take stays what it is.
    """
    try:
        yield
    except (EngineError, StateError, OSError):
        raise
    except Exception as error:
        with suppress(OSError):  # the log may be on a disk that is gone
            traceback.print_exc()
        raise EngineError(f"unexpected, please report it: {error!r}") from error
