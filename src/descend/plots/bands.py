"""Bands: the final runs of a comparison's entries in the course of the budget, as numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from descend.checks import one_of
from descend.parameters.memory import Array

if TYPE_CHECKING:
    from descend.comparison import Comparison, EntryResult, Run

__all__ = ["Band", "What", "bands"]

What = Literal["loss", "metric"]


@dataclasses.dataclass(frozen=True)
class Band:
    """The median and the quartiles of an entry's final runs over the seeds, in the course of the budget.

    All four arrays have one number for each evaluation. A run that failed counts as the worst from where it ended;
    where that makes the median the worst, it is infinite. The quartiles are order statistics: at least half the runs
    lie between them.
    """

    entry: int
    label: str
    examples: Array
    low: Array
    median: Array
    high: Array
    misses: int
    runs: int


def bands(comparison: Comparison, what: What = "loss") -> list[Band]:
    """What `curves` draws, as numbers: a band for each entry, in the table's order.

    Parameters
    ----------
    comparison
        What `descend.compare` returned.
    what
        ``"loss"``, the validation loss (on a problem without data, the loss), or ``"metric"``, the validation metric.

    Returns
    -------
    list of Band
        ``examples``, ``low``, ``median``, ``high`` have shape (evaluations,); they are empty for an entry that has no
        final runs.

    Raises
    ------
    OptionError
        `what` is something else.

    Examples
    --------
    >>> import descend
    >>> found = descend.compare("booth", ["gd", "adam"], learning_rates=[0.1], budget=100, tuning_seeds=1,
    ...                         final_seeds=6, jobs=1)
    >>> [(band.label, band.median.shape, band.misses) for band in descend.plots.bands(found)]
    [('GD', (51,), 0), ('Adam', (51,), 0)]
    """
    one_of("what", what, ("loss", "metric"))
    return [_band(comparison, row, what) for row in comparison.rows]


def _band(comparison: Comparison, row: EntryResult, what: What) -> Band:
    column, worst = 1, math.inf
    if what == "metric":
        column, worst = 2, -math.inf if comparison.plan.higher_is_better else math.inf
    runs = comparison.runs_of(row.entry)
    whole = [run for run in runs if not run.miss] or runs
    examples = sorted({int(point[0] or 0) for run in whole for point in run.curve})
    values = np.array([_held(run, column, examples, worst) for run in runs] or [[]])
    return Band(
        entry=row.entry,
        label=row.label,
        examples=np.array(examples),
        low=np.quantile(values, 0.25, axis=0, method="lower"),
        median=np.median(values, axis=0),
        high=np.quantile(values, 0.75, axis=0, method="higher"),
        misses=row.misses,
        runs=row.runs,
    )


def _held(run: Run, column: int, examples: Sequence[int], worst: float) -> list[float]:
    """A run's figure at each of some costs: that of its last evaluation, and the worst from where a miss has ended."""
    seen = {int(point[0] or 0): point[column] for point in run.curve}
    held, values = worst, []
    for at in examples:
        if at in seen:
            found = seen[at]
            held = worst if found is None else found
        elif run.miss and at > max(seen, default=0):
            held = worst
        values.append(held)
    return values
