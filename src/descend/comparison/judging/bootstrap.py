"""The bootstrap of a median: intervals of paired differences, and how often each entry is best."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from descend.intervals import Interval, interval
from descend.parameters.memory import Array

__all__ = ["best_shares", "difference", "middle", "resampled_median"]

RESAMPLES = 10_000
"""How often the seeds are drawn anew to estimate how often each entry is best."""
MANY = 1_000
"""Seeds up to which the bootstrap distribution of a median is computed exactly."""


def difference(minus: Array, confidence: float) -> Interval:
    """The median of paired differences, with its percentile bootstrap interval (Efron 1979).

    Of a median, the bootstrap distribution is known without drawing (`resampled_median`), so that the interval depends
    neither on the order of the seeds nor on chance. Of few seeds such an interval is too narrow. Its percentiles are
    therefore those that would make the interval of a mean as wide as Student's t does (Hesterberg 2015, section 4.1:
    the "expanded percentile"). Of more than a thousand, it is the interval between order statistics, which is the same.
    """
    from scipy.stats import norm, t

    n = len(minus)
    if n > MANY:
        return dataclasses.replace(interval(minus.tolist(), confidence), median=float(middle(minus)))
    if n < 2 or np.all(minus == minus[0]):
        return Interval(middle(minus), float(minus[0]), float(minus[0])) if n else Interval(math.nan, None, None)
    tail = float(norm.cdf(-math.sqrt(n / (n - 1)) * t.ppf((1 + confidence) / 2, n - 1)))
    medians, weights = resampled_median(minus)
    below, above = np.cumsum(weights), np.cumsum(weights[::-1])
    low, high = medians[np.argmax(below > tail)], medians[::-1][np.argmax(above > tail)]
    return Interval(float(middle(minus)), float(low), float(high))


def resampled_median(values: Array) -> tuple[Array, Array]:
    """The medians that a bootstrap of some values can draw, ascending, and the probability of each.

    Of n draws from n values, the number that are among the i lowest is binomial. With n = 2m, the lower middle one of
    the draws is among the i lowest and the upper one is not among the j lowest, j ≥ i, when m draws are of the former
    and m are not of the latter: C(2m, m) (i/n)ᵐ (1 − j/n)ᵐ.

    >>> medians, weights = resampled_median(np.array([3.0, 1.0, 2.0]))
    >>> medians.tolist(), (27 * weights).round(9).tolist()
    ([1.0, 2.0, 3.0], [7.0, 13.0, 7.0])
    """
    from scipy.stats import binom

    ordered, n = np.sort(values), len(values)
    shares = np.arange(n + 1) / n
    single = np.diff(binom.sf((n + 1) // 2 - 1, n, shares))
    if n % 2:
        return ordered, single
    m = n // 2
    rise, fall = np.diff(shares**m), -np.diff((1 - shares) ** m)
    lower, upper = np.triu_indices(n, 1)
    apart = binom.pmf(m, n, 0.5) * 2.0**n * rise[lower] * fall[upper]
    together = single - np.bincount(lower, apart, n)
    medians = middle(np.stack([np.append(ordered, ordered[lower]), np.append(ordered, ordered[upper])]), axis=0)
    weights = np.append(np.maximum(together, 0.0), apart)
    order = np.argsort(medians, kind="stable")
    return medians[order], weights[order]


def middle(values: Array, axis: int = -1) -> Any:
    """The median; of +∞ and −∞ in the middle, the one that is worse."""
    ordered, n = np.sort(values, axis=axis), np.shape(values)[axis]
    low, high = np.take(ordered, (n - 1) // 2, axis=axis), np.take(ordered, n // 2, axis=axis)
    with np.errstate(invalid="ignore"):
        middle = (low + high) / 2
    return np.where(np.isnan(middle), high, middle)[()]


def best_shares(costs: Sequence[Sequence[float]], earliest: Sequence[Sequence[float]] | None = None) -> list[float]:
    """How often each entry has the lowest median, as the seeds are drawn with replacement (Efron 1979).

    The same seeds are drawn for all entries, which keeps them paired; a draw that ends in a tie is shared, and so is
    one whose lowest medians may have been the same (`earliest`, as in `standings`). An entry without runs, or all of
    whose runs failed, is never best.
    """
    seeds = max(map(len, costs), default=0)
    whole, least = np.full((2, len(costs), seeds), math.inf)
    for row, found in zip((*whole, *least), (*costs, *(costs if earliest is None else earliest)), strict=True):
        row[: len(found)] = found
    alive = np.isfinite(whole).any(axis=1)
    if not alive.any():
        return [0.0] * len(costs)
    drawn = np.random.default_rng(0).integers(seeds, size=(RESAMPLES, seeds))
    medians, lowest = (np.array([middle(row[drawn]) for row in rows[alive]]) for rows in (whole, least))
    best = lowest <= medians.min(axis=0)
    shares = np.zeros(len(costs))
    shares[alive] = (best / best.sum(axis=0)).mean(axis=1)
    return [float(share) for share in shares]
