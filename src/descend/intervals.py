"""A median and how far it can be trusted: order statistics, so no assumption on how figures are distributed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["CONFIDENCE", "Interval", "interval"]

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Interval:
    """A median with its distribution-free interval. Infinite values are misses; None: too few seeds for an interval."""

    median: float
    low: float | None
    high: float | None

    @property
    def known(self) -> bool:
        """Whether there were enough seeds for an interval."""
        return self.low is not None


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Median, and the interval between order statistics that covers it with at least `confidence`.

    Exact for any distribution (binomial; Conover 1999, section 3.2). Below 6 values there is none at 95 %.
    """
    from scipy.stats import quantile_test

    data = np.sort(np.asarray(values, dtype=float))
    n = len(data)
    if n == 0:
        return Interval(math.nan, None, None)
    # Of an even number, the two middle values are averaged; with a miss among them, the median is a miss.
    with np.errstate(invalid="ignore"):
        middle = float(np.median(data))
    if math.isnan(middle):
        middle = float(data[n // 2])
    # quantile_test is asked about ranks, which are finite; its answer picks the order statistics.
    found: Any = quantile_test(np.arange(n, dtype=float), p=0.5).confidence_interval(confidence)
    if math.isnan(found.low) or math.isnan(found.high):
        return Interval(middle, None, None)
    return Interval(middle, float(data[int(found.low)]), float(data[int(found.high)]))
