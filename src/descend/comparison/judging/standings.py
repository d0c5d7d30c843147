"""Standings: how the entries compare by one measure, with intervals and verdicts.

A miss is the worst possible value: it takes part in medians and intervals without being averaged into anything.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from descend.comparison.judging.bootstrap import best_shares, difference, middle
from descend.intervals import CONFIDENCE, Interval, interval

__all__ = [
    "BEST",
    "FAILED",
    "NOT_REACHED",
    "NO_VERDICT",
    "TOO_FEW",
    "UNCLEAR",
    "WORSE",
    "Standing",
    "joint_confidence",
    "pairs",
    "seeds_needed",
    "standings",
]

RESOLUTION = 1e-12
"""Figures closer than this, relative to the larger and at least 1, are the same: both have converged."""
BEST, WORSE, UNCLEAR, TOO_FEW = "best", "clearly worse", "no clear difference", "too few seeds"
FAILED, NOT_REACHED, NO_VERDICT = "failed", "not reached", "no verdict"


@dataclasses.dataclass(frozen=True)
class Standing:
    """How one entry compares by one measure with the entry that is best by it.

    `median`, `low` and `high` are over the final runs, `hits` the runs that have such a figure at all. `difference` is
    to the best entry, paired by seed; None for the best itself. `best_probability` is the share of bootstrap resamples
    of the seeds in which the entry has the best median. `verdict` is ``best``, ``clearly worse``, ``no clear
    difference``, ``too few seeds``, or for not one hit ``failed`` and, of a target, ``not reached``; ``no verdict`` in
    place of what would speak against an entry that was not searched far enough.
    """

    median: float
    low: float | None
    high: float | None
    hits: int
    runs: int
    difference: Interval | None
    best_probability: float
    verdict: str

    @property
    def interval(self) -> Interval:
        """Median and ends together."""
        return Interval(self.median, self.low, self.high)


def pairs(entries: int) -> int:
    """How many pairs of entries there are."""
    return entries * (entries - 1) // 2


def joint_confidence(entries: int) -> float:
    """The confidence that one interval of differences needs, so that those of all pairs hold together at 95 %.

    Bonferroni's correction. It is for all pairs of entries, though only those with the best are shown: which one is
    best was read off the same runs, so any pair might have been.
    """
    return 1.0 - (1.0 - CONFIDENCE) / max(1, pairs(entries))


def seeds_needed(confidence: float) -> int:
    """The fewest seeds for which an interval of a median has that confidence: 1 − 2¹⁻ⁿ reaches it."""
    return math.ceil(1.0 - math.log2(1.0 - confidence) - 1e-9)


def standings(
    costs: Sequence[Sequence[float]],
    studies: Sequence[int],
    ties: Sequence[float] | None = None,
    never: str = FAILED,
    earliest: Sequence[Sequence[float]] | None = None,
    withheld: Sequence[bool] | None = None,
) -> list[Standing]:
    """How each entry stands by a measure of which less is better.

    Parameters
    ----------
    costs
        For each entry, a figure for each seed, the same seeds for all; ∞ for a miss.
    studies
        For each seed, which study it judges. Where there are several, a verdict has to hold in each of them.
    ties
        Which of two entries with equal medians comes first.
    never
        The verdict on an entry without a single hit.
    earliest
        The least that each of the costs may have been, where a run is evaluated from time to time only. Two that may
        have been the same are no difference. Default: the costs are exact.
    withheld
        For each entry, whether a verdict against it is withheld, where another one has a hit. Default: none is.

    Where not even the best entry has a hit in half of its runs, none is called the best.
    """
    seeds, confidence = len(studies), joint_confidence(len(costs))
    own = [interval(c) for c in costs]
    hits = [sum(map(math.isfinite, c)) for c in costs]
    rank = [(own[i].median, -hits[i], 0.0 if ties is None else ties[i], i) for i in range(len(costs))]
    earliest = costs if earliest is None else earliest
    best, shares = min(rank)[-1], best_shares(costs, earliest)
    found = []
    for i, cost in enumerate(costs):
        between, verdict = None, UNCLEAR if math.isinf(own[best].median) else BEST
        if i != best:
            spans = zip(cost, costs[best], earliest[i], earliest[best], strict=True)
            minus = np.array([_minus(*span) for span in spans])
            between = difference(minus, confidence)
            agreed = all(middle(minus[np.equal(studies, study)]) > 0 for study in set(studies))
            verdict = WORSE if between.low is not None and between.low > 0 and agreed else UNCLEAR
            if seeds < seeds_needed(confidence):
                between, verdict = Interval(between.median, None, None), TOO_FEW
        if not hits[i]:
            verdict = never
        if withheld is not None and withheld[i] and verdict in (WORSE, never) and any(hits):
            verdict = NO_VERDICT
        found.append(Standing(own[i].median, own[i].low, own[i].high, hits[i], seeds, between, shares[i], verdict))
    return found


def _minus(a: float, b: float, a_least: float, b_least: float) -> float:
    """A − b; two misses are equal, and so are figures that differ by rounding alone, or may have been the same."""
    if a == b or (a_least <= b and b_least <= a):
        return 0.0
    if math.isinf(a) or math.isinf(b):
        return a - b
    return 0.0 if abs(a - b) <= RESOLUTION * max(1.0, abs(a), abs(b)) else a - b
