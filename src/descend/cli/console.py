"""Where the commands print: a rich console, and the names of folders."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

__all__ = ["default_folder", "listing", "make_console"]


class _Console(Console):
    """A console that does not end the process when its reader has gone: `main` decides what that means."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def make_console(*, to_stderr: bool) -> Console:
    """A console on standard output, or on standard error where the other is for machines."""
    return _Console(stderr=to_stderr)


def listing(first: str, second: str, rows: dict[str, str]) -> Table:
    """A table of names, each with a line about it."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(first, no_wrap=True)
    table.add_column(second)
    for name, line in rows.items():
        table.add_row(name, line)
    return table


def default_folder(problem: str) -> Path:
    """The folder for what is found about a problem, unless a folder is named."""
    return Path(f"descend-{Path(problem).stem.partition(':')[0]}")
