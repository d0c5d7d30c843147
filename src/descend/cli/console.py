"""Where the commands print: rich consoles, lists that fit, and the names of folders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from descend.printable import one_line, printable, say, wrapped

__all__ = ["default_folder", "listed", "make_console"]

GAP = "  "
"""What stands between two columns."""


class _Console(Console):
    """A console that shows what steers a terminal instead of passing it on.

    It does not end the process when its reader has gone: `main` decides what that means.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def make_console(*, to_stderr: bool = False) -> Console:
    """A console on standard output, or on standard error for what is not the answer."""
    return _Console(stderr=to_stderr)


def listed(console: Console, rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> None:
    """Print rows whose last cell is a text: as a table or, where its words would be broken, as indented lines."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    last = len(cells[0]) - 1
    names_wide = [max(cell_len(row[i]) for row in [*cells, *([head] if head else [])]) for i in range(last)]
    longest = max(cell_len(word) for row in cells for word in [*row[-1].split(), ""])
    if sum(names_wide) + len(GAP) * last + longest > console.width:
        for *names, text in cells:
            for line in [GAP.join(names), *wrapped(text, console.width, " " * 4)]:
                say(console, line)
        return
    table = Table(box=None, pad_edge=False, padding=(0, len(GAP), 0, 0), header_style="bold", show_header=bool(head))
    for i in range(last + 1):
        table.add_column(head[i] if head else "", no_wrap=i < last)
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table, highlight=False)


def default_folder(problem: str) -> Path:
    """The folder for what is found about a problem, unless a folder is named: another one for other settings.

    Files of one name in different folders have different ones, too: descend-p for p.py, descend-tests-p for tests/p.py.
    """
    name = problem.strip()
    if name.endswith(".py") or "/" in name:
        path, here = Path(name).expanduser().absolute(), Path.cwd()
        path = path.relative_to(here) if path.is_relative_to(here) else Path(name).expanduser()
        name = "-".join(part for part in path.with_suffix("").parts if part.strip("./"))
    words = re.sub(r"[^\w.=-]+", "-", name).strip("-")
    return Path(f"descend-{words}")
