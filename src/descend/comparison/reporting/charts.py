"""The charts of the report, each with words and a table that say the same."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from descend import plots
from descend.comparison.phrases import counted
from descend.comparison.reporting.wording import figure
from descend.plots import styles

if TYPE_CHECKING:
    from descend.comparison.reporting.comparison import Comparison

__all__ = ["charts", "transparent"]

QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)


def charts(comparison: Comparison) -> list[dict[str, Any]]:
    """The charts in their order, each with words and a table that say the same."""
    plan, data = comparison.plan, bool(comparison.shape["train"])
    seeds = f"{len(plan.final_seeds)} fresh seeds"
    reading = (
        f"The line is the median over {seeds}; the band holds the middle half of the runs (between the quartiles)."
    )
    if any(row.misses for row in comparison.rows):
        reading += " A run that failed counts as the worst from where it ended: a line stops once half the runs have."
    loss = "validation loss" if data else "loss"
    reading += " The table above counts each run at its best evaluation."
    shown = [_curve(comparison, "loss", "How the loss fell", loss, reading)]
    if plan.metric != "loss":
        verb = "rose" if plan.higher_is_better else "fell"
        title = f"How the {plan.metric} {verb}"
        if plan.higher_is_better:
            reading += " The axis begins above the first climb."
        shown.append(_curve(comparison, "metric", title, f"validation {plan.metric}" if data else plan.metric, reading))
    shown.append(_rates(comparison))
    return shown


def _curve(comparison: Comparison, what: plots.What, title: str, name: str, reading: str) -> dict[str, Any]:
    plan, found = comparison.plan, plots.bands(comparison, what)
    evaluated = sorted({int(e) for band in found for e in band.examples})
    marks = sorted({max(e for e in evaluated if e <= round(q * plan.budget)) for q in QUARTERS}) if evaluated else []
    cells = []
    for band in found:
        seen = [_at(band, mark) for mark in marks]
        cells.append((band.label, [(figure(m), f"{figure(lo)} … {figure(hi)}") for lo, m, hi in seen]))
    last = [f"{label} {figures[-1][0]}" for label, figures in cells if figures]
    chart = transparent(plots.curves(comparison, what))
    if any(styles.CONVERGED in line.y for line in chart.data):
        reading += f" What is below {styles.CONVERGED:g} has converged, and is drawn there."
    return {
        "id": what,
        "title": title,
        "figure": chart,
        "alt": f"Line chart of the {name} against gradient evaluations. At the end: {', '.join(last)}.",
        "caption": reading,
        "table": f"Median {name} with quartiles, in the course of the budget",
        "columns": [f"after {mark:,}" for mark in marks],
        "cells": cells,
    }


def _at(band: plots.Band, mark: int) -> tuple[float, float, float]:
    """Low, median and high of the last evaluation no later than `mark`."""
    i = int(np.searchsorted(band.examples, mark, side="right")) - 1
    return (float(band.low[i]), float(band.median[i]), float(band.high[i])) if i >= 0 else (math.nan,) * 3


def _rates(comparison: Comparison) -> dict[str, Any]:
    plan, data = comparison.plan, bool(comparison.shape["train"])
    name = f"validation {plan.metric}" if data else plan.metric
    seeds = counted(len(plan.tuning_seeds), "seed")
    crosses = "; crosses below count the runs that failed" if any(any(s.misses) for s in comparison.sensitivity) else ""
    by_entry = {s.entry: s for s in comparison.sensitivity}
    columns = sorted({rate for s in comparison.sensitivity for rate in s.learning_rates})
    cells = []
    for row in comparison.rows:
        found = by_entry[row.entry]
        each: dict[float, tuple[str, str]] = {}
        for x in found.learning_rates:  # trials that differ in other hyperparameters may share a rate
            here = [i for i, rate_ in enumerate(found.learning_rates) if rate_ == x]
            reached = [v for v in (found.validation[i] for i in here) if v is not None]
            best = (max if plan.higher_is_better else min)(reached, default=None)
            chosen_here = any(found.hyperparameters[i] in row.chosen for i in here)
            n = sum(found.misses[i] for i in here)
            each[x] = figure(best), " · ".join([*["chosen"] * chosen_here, *[f"{n} missed"] * bool(n)])
        cells.append((row.label, [each.get(x, ("–", "")) for x in columns]))
    wide = [
        f"{row.label} {' … '.join(f'{end:g}' for end in dict.fromkeys(found.good))}"
        for row in comparison.rows
        if (found := by_entry[row.entry]).good is not None
    ]
    good = f" Learning rates that reach the target: {'; '.join(wide)}." if wide else ""
    chosen = [f"{r.label} {r.learning_rate:g}" for r in comparison.rows if r.learning_rate is not None]
    return {
        "id": "rates",
        "title": "How much the learning rate matters",
        "figure": transparent(plots.sensitivity(comparison)),
        "alt": f"Line chart of the best {name} against the learning rate, on a logarithmic axis. "
        f"Chosen: {', '.join(chosen)}.",
        "caption": f"The best {name} of each tuning run, median over {seeds}. A wide, flat stretch forgives a wrong "
        f"guess; a narrow one does not. A ring marks what was chosen{crosses}.{good}",
        "table": f"Median best {name} by learning rate",
        "columns": [f"{rate:g}" for rate in columns],
        "cells": cells,
    }


def transparent(figure: Any) -> Any:
    """A figure without a background of its own, for a light or a dark page."""
    return figure.update_layout(paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)")
