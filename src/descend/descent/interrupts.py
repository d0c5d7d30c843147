"""Ctrl-C as a question that is asked between steps."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["interrupts"]

LOG = logging.getLogger("descend")


@contextlib.contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a question to be asked between steps; the second one interrupts at once.

    Only in the main thread, and only where nobody else handles SIGINT; elsewhere Ctrl-C does what it always does.
    """
    asked = logging_now = asked_again = False

    def take_note(_signal: int, _frame: FrameType | None) -> None:
        nonlocal asked, logging_now, asked_again
        if logging_now:  # an exception raised within logging would leave its locks taken
            asked_again = True
            return
        if not asked:
            asked = logging_now = True
            LOG.warning("stopping after this step; press Ctrl-C again to stop at once")
            logging_now = False
        else:
            asked_again = True
        if asked_again:
            raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    signal.signal(signal.SIGINT, take_note)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
