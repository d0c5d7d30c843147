"""One thread for all arithmetic of a run, so that its figures do not depend on how many runs share the machine."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

from descend.engines.native.workers import threads

__all__ = ["one_thread"]

_LIMITING = threading.Lock()
_LIMITED: list[contextlib.ExitStack] = []
"""One for each run that is being made in this process; the first one takes its limits back when the last run ends."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread for BLAS, OpenMP, torch and steps in machine code, however many runs this process makes at a time."""
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    with _LIMITING:
        back = contextlib.ExitStack()
        back.callback(threadpool_limits(limits=1).restore_original_limits)  # OpenMP has one for each thread
        if torch is not None:
            back.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
        if not _LIMITED:
            back.enter_context(threads.limited(1))
        _LIMITED.append(back)
    try:
        yield
    finally:
        with _LIMITING:
            if len(_LIMITED) > 1:
                del _LIMITED[-1]
            else:
                _LIMITED.pop().close()
