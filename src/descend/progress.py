"""A progress bar on standard error, for work that turns out to be long."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

__all__ = ["Bar"]

PATIENCE = 1.0
"""Seconds before a bar appears: short work stays silent."""
BETWEEN = 0.1
"""Seconds between updates."""


class Bar:
    """Shows ``to(done)`` of `total` steps.

    Only on a terminal; with `show` None only after a second, with False never.
    """

    def __init__(self, what: str, total: int, show: bool | None) -> None:
        self.what, self.total = what, total
        self.wanted = show is not False and sys.stderr.isatty()
        self._next = time.perf_counter() + (PATIENCE if show is None else 0.0)
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Bar:
        return self

    def to(self, done: int) -> None:
        """Show that `done` steps are done."""
        if not self.wanted or (done & 15 and done != self.total):
            return
        now = time.perf_counter()
        if now < self._next and done != self.total:
            return
        self._next = now + BETWEEN
        if self._bar is None:
            if done == self.total:
                return
            self._open()
        self._bar.update(self._task, completed=done)

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps, left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(self.what, total=self.total)
        self._bar.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
