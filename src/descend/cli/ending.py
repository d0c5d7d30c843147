"""The end of the process, which no thread that a problem has left behind holds up."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time

__all__ = ["end_in_time"]

PATIENCE = 5.0
"""Seconds that such threads have, once everything else is done."""


def end_in_time(status: int) -> None:
    """See that this process ends with a status soon after its main thread does, whatever other threads are at."""
    left = [t for t in threading.enumerate() if t is not threading.current_thread() and not t.daemon]
    if left:
        threading.Thread(target=_end_after_main, args=(status,), daemon=True).start()


def _end_after_main(status: int) -> None:
    while threading.main_thread().is_alive():
        time.sleep(0.1)
    time.sleep(PATIENCE)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(status)
