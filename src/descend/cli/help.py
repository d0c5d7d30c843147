"""How the commands show their help: within the terminal's width, however narrow, and no word broken."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

import click
from click.formatting import HelpFormatter

from descend.printable import wrapped

__all__ = ["Context"]

WIDEST = 80
"""Columns at most: longer lines are hard to read."""


class _Formatter(HelpFormatter):
    """Help as click lays it out, but for breaks within words."""

    def __init__(self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None) -> None:
        columns = shutil.get_terminal_size().columns if width is None else width
        super().__init__(indent_increment, min(columns, max_width or WIDEST))

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write how the command is called."""
        first, *others = wrapped(f"{prefix or 'Usage: '}{prog} {args}", self.width)
        for line in [first, *wrapped(" ".join(others), self.width, " " * 4)]:
            self.write(f"{line}\n")

    def write_text(self, text: str) -> None:
        """Write paragraphs."""
        paragraphs = [wrapped(part, self.width, " " * self.current_indent) for part in text.split("\n\n")]
        self.write("\n\n".join("\n".join(lines) for lines in paragraphs) + "\n")

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write terms with what they mean: beside them or, where a word would be broken, below."""
        terms = list(rows)
        beside = self.current_indent + min(max(len(term) for term, _ in terms), col_max) + col_spacing
        longest = max(len(word) for _, meaning in terms for word in [*meaning.split(), ""])
        fits = beside + longest <= self.width
        indent = " " * (beside if fits else self.current_indent + 4)
        for term, meaning in terms:
            start = f"{' ' * self.current_indent}{term}"
            lines = wrapped(meaning, self.width, indent)
            if lines and fits and len(start) + col_spacing <= beside:
                start += lines.pop(0)[len(start) :]
            self.write("\n".join([start, *lines]) + "\n")


class Context(click.Context):
    """A command's call, which shows help in that way."""

    formatter_class = _Formatter
