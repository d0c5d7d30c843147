"""The tables of the report: each row as text, with the marks of its small picture."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from descend import plots
from descend.comparison.judging.results import EntryResult
from descend.comparison.judging.standings import BEST, UNCLEAR, Standing
from descend.comparison.reporting.wording import (
    besides,
    duration,
    evaluations,
    figure,
    percent,
    rate,
    signed,
    signed_evaluations,
    spell_test,
    spread,
)
from descend.plots import styles

if TYPE_CHECKING:
    from descend.comparison.reporting.comparison import Comparison

__all__ = ["suite_cell", "target_rows", "test_rows", "test_scale"]

WIDE = 30.0
"""From this ratio of the largest figure to the smallest on, the table's pictures are logarithmic."""


def suite_cell(row: EntryResult | None) -> str:
    """The evaluations of an entry to the target, marked by its verdict, for the table of several problems."""
    if row is None or row.to_target is None:
        return "–"
    found = row.to_target
    mark = {BEST: "★ ", UNCLEAR: "≈ "}.get(found.verdict, "")
    if math.isfinite(found.median):
        return mark + evaluations(found.median)
    return f"{mark}{found.hits} of {found.runs} runs" if found.hits else "never"


def test_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The rows of the table of test figures as text, each with the marks of its picture."""
    place, _ = test_scale(comparison)
    spell = functools.partial(figure, spell=spell_test(comparison))
    shown = []
    for row in comparison.by_test:
        runs = comparison.runs_of(row.entry)
        shown.append(
            {
                **_named(row),
                "untuned": _untuned(row),
                "median": spell(row.test.median),
                "interval": spread(row.test.interval, spell) if runs else "",
                "standing": row.test,
                "difference": _difference(row.test, signed),
                "share": _share(row.test),
                "dots": [place(r.test) for r in runs if r.test is not None],
                "line": _ends(row, place, comparison.plan.higher_is_better),
                "missed": (0 if comparison.plan.higher_is_better else 100) if row.misses else None,
                "middle": place(row.test.median) if math.isfinite(row.test.median) else None,
            }
        )
    return shown


def target_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The rows of the table of gradient evaluations to the target; none without a target."""
    target, higher = comparison.target, comparison.plan.higher_is_better
    shown = []

    def reached(value: float | None) -> str:
        finite = value is not None and math.isfinite(value)
        return evaluations(value) if finite else f">\N{NO-BREAK SPACE}{comparison.plan.budget:,}"

    for row in comparison.rows if target is not None else ():
        standing = row.to_target
        assert standing is not None
        assert target is not None
        finals = comparison.runs_of(row.entry)
        times = [r.reached(target.value, higher)[1] / comparison.plan.budget for r in finals if not r.miss]
        middle, ends = standing.median / comparison.plan.budget, (standing.low, standing.high)
        line = [min(1.0, e / comparison.plan.budget) for e in ends if e is not None]
        size = comparison.plan.examples
        shown.append(
            {
                **_named(row),
                "standing": standing,
                "median": reached(standing.median) if standing.hits else "never",
                "epochs": f"{standing.median / size:.3g} passes" if size and math.isfinite(standing.median) else "",
                "interval": spread(standing.interval, reached) if standing.hits else "",
                "difference": _difference(standing, signed_evaluations),
                "share": _share(standing),
                "dots": [5 + 90 * t for t in times if math.isfinite(t)],
                "line": [5 + 90 * e for e in line] if len(line) == 2 and standing.hits else None,
                "missed": 100 if standing.hits < standing.runs else None,
                "middle": 5 + 90 * middle if math.isfinite(middle) else None,
                "seconds": "" if row.seconds is None else duration(row.seconds.median),
            }
        )
    return shown


def _named(row: EntryResult) -> dict[str, Any]:
    return {
        "row": row,
        "key": _key(plots.style(row.entry)),
        "rate": rate(row, ""),
        "others": besides(row),
        "untuned": "",
        "epochs": "",
        "seconds": "",
    }


def _share(standing: Standing) -> str:
    return "" if not standing.hits else f"best in {percent(round(standing.best_probability, 2))} of resamples"


def _untuned(row: EntryResult) -> str:
    """The test metric of the entry with its own learning rate."""
    return "" if row.untuned is None else f"untuned, at {row.own_learning_rate:g}: {figure(row.untuned.median)}"


def _difference(standing: Standing, spell: Callable[[float | None], str]) -> str:
    """The difference to the best with its interval, where there is one."""
    if standing.difference is None or not standing.hits:
        return ""
    interval = f" {spread(standing.difference, spell)}" if standing.difference.known else ""
    return spell(standing.difference.median) + interval


def test_scale(comparison: Comparison) -> tuple[Callable[[float], float], dict[str, Any]]:
    """The place of a test figure in the table's pictures, from 0 to 100; and the labels of both ends."""
    shift = plots.above_minimum(comparison, "metric")
    values = np.array([r.test for r in comparison.runs if r.phase == "final" and r.test is not None], dtype=float)
    if not values.size:
        return (lambda _: 50.0), {"low": "", "high": "", "log": False}
    above = np.maximum(values - shift, styles.CONVERGED)
    wide = float(above.max()) > WIDE * float(above.min())
    log = wide and not comparison.plan.higher_is_better and styles.logarithmic(values - shift)

    def height(value: float) -> float:
        return math.log10(max(value - shift, styles.CONVERGED)) if log else value

    low, high = height(float(values.min())), height(float(values.max()))

    def place(value: float) -> float:
        return round(5 + 90 * (height(value) - low) / (high - low), 2) if high > low else 50.0

    clamped = log and shift == 0 and float(values.min()) < styles.CONVERGED
    least = f"≤\N{NO-BREAK SPACE}{styles.CONVERGED:.0e}".replace("-", "−") if clamped else figure(float(values.min()))
    return place, {"low": least, "high": figure(float(values.max())), "log": log}


def _ends(row: EntryResult, place: Callable[[float], float], higher: bool) -> tuple[float, float] | None:
    """The ends of the interval's line; a miss lies at the worse edge."""
    if row.test.low is None or row.test.high is None:
        return None
    bad = 0.0 if higher else 100.0
    low, high = (place(v) if math.isfinite(v) else bad for v in (row.test.low, row.test.high))
    return (low, high) if high > low or math.isfinite(row.test.median) else None


_SHAPES = {
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "square": "M-3.5-3.5h7v7h-7z",
    "diamond": "M0-5L5 0L0 5L-5 0z",
    "triangle-up": "M0-4.6L4.4 3.4H-4.4z",
    "triangle-down": "M0 4.6L4.4-3.4H-4.4z",
    "cross": "M-1.6-4.6h3.2v3h3v3.2h-3v3h-3.2v-3h-3v-3.2h3z",
    "x": "M-2.2-4.4L0-2.2L2.2-4.4L4.4-2.2L2.2 0L4.4 2.2L2.2 4.4L0 2.2L-2.2 4.4L-4.4 2.2L-2.2 0L-4.4-2.2z",
}


def _key(drawn: plots.Style) -> dict[str, str]:
    """A line and a marker as SVG has them."""
    colour = "currentColor" if drawn.colour == styles.INK else drawn.colour
    return {
        "colour": colour,
        "dash": "none" if drawn.dash == "solid" else drawn.dash.replace("px", ""),
        "shape": _SHAPES[drawn.marker],
    }
