"""The table of an answer: values with their errors by name, how well they fit, and how they depend on each other."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from descend.printable import one_line, wrapped
from descend.uncertainty.covariance import Covariance

__all__ = ["Row", "table"]

WIDTH, NAME = 80, 24
"""How wide a table is at most, and a name in it."""
LEAST, MOST = 0.1, 30
"""The least correlation that is listed, and how many are."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One parameter: its name, value, standard error, start, role ("fixed", "tied" or nothing) and bounds."""

    name: str
    value: float
    error: float | None
    start: float | None
    role: str
    bounds: tuple[float, float]

    def cells(self) -> list[str]:
        """What is printed of it."""
        known = self.error is not None and self.role != "fixed"
        error = f"{self.error:.4g}" if known else "-"
        share = "-"
        if known and self.value != 0 and self.error is not None and math.isfinite(self.error):
            share = f"{100 * abs(self.error / self.value):.3g} %"
        low, high = self.bounds
        words = [self.role] if self.role else []
        if self.value in (low, high):
            words.append("at bound")
        start = "" if self.start is None else f"{self.start:.6g}"
        return [_short(self.name), f"{self.value:.8g}", error, share, start, ", ".join(words)]


def table(
    message: str,
    statistics: Sequence[tuple[str, Any]],
    rows: Sequence[Row],
    covariance: Covariance | None,
    notes: Sequence[str],
) -> str:
    """The table as text of 80 columns at most."""
    lines = wrapped(one_line(message), WIDTH)
    wide = max((len(name) for name, _ in statistics), default=0)
    lines += ["", *(f"  {name:<{wide}}  {_number(value)}" for name, value in statistics), ""]
    lines += _fitting([["parameter", "value", "std. error", "relative", "start", ""], *(row.cells() for row in rows)])
    bounded = [row for row in rows if any(map(math.isfinite, row.bounds))]
    if bounded:
        lines += ["", "bounds", *(f"  {_short(r.name)}: {r.bounds[0]:g} to {r.bounds[1]:g}" for r in bounded)]
    lines += _correlations(rows, covariance)
    for note in notes:
        lines += ["", *wrapped(one_line(note), WIDTH)]
    return "\n".join(line.rstrip() for line in lines)


def _fitting(cells: list[list[str]]) -> list[str]:
    """Lines of cells, without the start, and then without relative errors, where they would be too wide."""
    lines = _columns(cells)
    for column in (4, 3):
        if max(map(len, lines)) > WIDTH:
            cells = [row[:column] + row[column + 1 :] for row in cells]
            lines = _columns(cells)
    return lines


def _columns(cells: list[list[str]]) -> list[str]:
    """Lines of cells below each other: names to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = []
    for row in cells:
        name, *numbers, words = row
        line = name.ljust(widths[0]) + "".join(f"  {n:>{w}}" for n, w in zip(numbers, widths[1:], strict=False))
        lines.append(f"{line}  {words}".rstrip())
    return lines


def _correlations(rows: Sequence[Row], covariance: Covariance | None) -> list[str]:
    """The correlations that are not small, the largest first."""
    if covariance is None:
        return []
    free = np.array([i for i, row in enumerate(rows) if not row.role], dtype=int)
    matrix = covariance.correlations.matrix[np.ix_(free, free)]
    one, other = np.triu_indices(free.size, 1)
    sizes = np.abs(matrix[one, other])
    large = [at for at in np.argsort(-sizes, kind="stable") if sizes[at] >= LEAST]
    if not large:
        return ["", f"correlations are all below {LEAST:g}"] if sizes.size else []
    pairs = [(free[one[at]], free[other[at]], matrix[one[at], other[at]]) for at in large[:MOST]]
    shown = [[f"{_short(rows[i].name)}, {_short(rows[j].name)}", f"{value:+.4f}"] for i, j, value in pairs]
    wide = max(len(names) for names, _ in shown)
    lines = ["", f"correlations (those below {LEAST:g} are left out)"]
    lines += [f"  {names:<{wide}}  {value}" for names, value in shown]
    return lines + ([f"  and {len(large) - MOST} more"] if len(large) > MOST else [])


def _short(name: str) -> str:
    name = one_line(name)
    return name if len(name) <= NAME else f"{name[: NAME - 1]}…"


def _number(value: Any) -> str:
    return f"{value:.7g}" if isinstance(value, (float, np.floating)) else str(value)
