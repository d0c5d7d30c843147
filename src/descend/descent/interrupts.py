"""Ctrl-C as a question that is asked between steps."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Interrupts", "interrupts"]

LOG = logging.getLogger("descend")


class Interrupts:
    """What Ctrl-C has asked for: a call says whether it was pressed, `at_once` whether it was pressed again."""

    def __init__(self) -> None:
        self.asked = self.at_once = self._logging = False

    def __call__(self) -> bool:
        return self.asked

    def take_note(self, _signal: int, _frame: FrameType | None) -> None:
        """Take note of a press; raises `KeyboardInterrupt` at the second one."""
        if self._logging:  # an exception raised within logging would leave its locks taken
            self.at_once = True
            return
        if not self.asked:
            self.asked = self._logging = True
            LOG.warning("stopping after this step; press Ctrl-C again to stop at once")
            self._logging = False
        else:
            self.at_once = True
        if self.at_once:
            raise KeyboardInterrupt


@contextlib.contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Turn the first Ctrl-C into a question to be asked between steps; the second one interrupts at once.

    Only in the main thread, and only where nobody else handles SIGINT; elsewhere Ctrl-C does what it always does.
    """
    noted = Interrupts()
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield noted
        return
    signal.signal(signal.SIGINT, noted.take_note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
