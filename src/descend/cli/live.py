"""The display of a comparison while its runs are being made."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from descend.printable import say

if TYPE_CHECKING:
    from rich.console import Console

    from descend.comparison import Plan, Run

__all__ = ["Live"]

_PHASES = {
    "reference": "setting the target",
    "tuning": "tuning",
    "final": "judging on fresh seeds",
    "timing": "timing, one at a time",
}


class Live:
    """Shows the plan, then a bar and the leaders on a terminal, or a line for each phase elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.done = 0
        self._before = 0
        self._phase = ""
        self._bar: Any = None
        self._shown: Any = None
        self._board: Any = None
        self._task: Any = None

    def __enter__(self) -> Live:
        return self

    def announce(self, text: str) -> None:
        """Print the plan; the bar of the problem before is taken away."""
        self.close()
        say(self.console, text)

    def progress(self, phase: str, done: int, total: int) -> None:
        """Show how many runs of a phase are done."""
        new = phase != self._phase
        if new and self._phase:
            self._before = self.done
        self._phase, self.done = phase, self._before + done
        words = _PHASES.get(phase, phase)
        if not sys.stderr.isatty():
            if new:
                kept = f" ({done} are finished already)" if done else ""
                click.echo(f"{words}: {total} runs{kept}", err=True)
            return
        if self._bar is None:
            self._open()
        if new:
            self._board = None
            self._shown.update(self._picture())
            self._task = self._bar.add_task(words, total=total)
        self._bar.update(self._task, completed=done)

    def leaders(self, plan: Plan, runs: Sequence[Run]) -> None:
        """Show each entry's best median so far."""
        if self._shown is not None:
            from descend.comparison.reporting.tables import leaderboard

            self._board = leaderboard(plan, runs)
            self._shown.update(self._picture())

    def _picture(self) -> Any:
        from rich.console import Group

        return self._bar if self._board is None else Group(self._bar, self._board)

    def _open(self) -> None:
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("runs, left"),
            TimeRemainingColumn(),
        )
        self._shown = Live(self._picture(), console=self.console, transient=True, refresh_per_second=4)
        self._shown.start()

    def close(self) -> None:
        """Take the bar away."""
        if self._shown is not None:
            self._shown.stop()
            self._shown = self._bar = self._board = None

    def __exit__(self, *error: object) -> None:
        self.close()
