"""What the runs say: the learning rate of each entry, and how the entries differ on fresh seeds.

Everything rests on order statistics. A miss is the worst possible value, so it takes part in medians and intervals
without being averaged into anything; intervals make no assumption on how the figures are distributed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from descend.comparison.plan import Plan
from descend.comparison.runs import Run
from descend.intervals import CONFIDENCE, Interval, interval

__all__ = [
    "Row",
    "Sensitivity",
    "best_shares",
    "choose",
    "joint_confidence",
    "pairs",
    "rows",
    "seeds_needed",
    "sensitivity",
]

RESAMPLES = 10_000
"""How often the seeds are drawn anew to see how sure it is which entry is best."""
RESOLUTION = 1e-12
"""Figures closer than this, relative to the larger and at least 1, are the same: both have converged."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One entry of the table. `difference` is to the best entry, paired by seed; None for the best itself.

    `untuned` has the figures with the entry's own learning rate, `own_learning_rate`; None if nobody asked for them.
    `best_probability` is the share of bootstrap resamples of the seeds in which the entry has the best median.
    `verdict` is ``best``, ``clearly worse``, ``no clear difference``, ``too few seeds`` or ``failed``.
    """

    entry: int
    label: str
    batch_size: int | str
    learning_rate: float | None
    at_edge: bool
    validation: float | None
    test: Interval
    misses: int
    runs: int
    examples: int
    difference: Interval | None
    own_learning_rate: float
    untuned: Interval | None
    untuned_misses: int | None
    best_probability: float
    verdict: str


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """How one entry fares at each learning rate: the median of the best validation metric, and the misses."""

    entry: int
    learning_rates: list[float]
    validation: list[float | None]
    misses: list[int]


def choose(plan: Plan, runs: Sequence[Run]) -> list[float | None]:
    """The learning rate of each entry: best median validation metric over the tuning seeds.

    A miss counts as the worst. Ties go to the lower median validation loss, then to the smaller rate. None where no
    rate has a finite median.
    """
    chosen: list[float | None] = []
    for i in range(len(plan.entries)):
        ranked = []
        for rate in plan.learning_rates:
            tried = [r for r in runs if r.phase == "tuning" and r.entry == i and r.learning_rate == rate]
            metric = float(np.median([_cost(plan, r.validation) for r in tried])) if tried else math.inf
            loss = float(np.median([math.inf if r.validation_loss is None else r.validation_loss for r in tried]))
            if math.isfinite(metric):
                ranked.append((metric, loss, rate))
        chosen.append(min(ranked)[2] if ranked else None)
    return chosen


def _cost(plan: Plan, value: float | None) -> float:
    """A metric as something to be minimised; a miss is infinite."""
    if value is None:
        return math.inf
    return -value if plan.higher_is_better else value


def sensitivity(plan: Plan, runs: Sequence[Run]) -> list[Sensitivity]:
    """Each entry's tuning runs, by learning rate."""
    found = []
    for i in range(len(plan.entries)):
        medians: list[float | None] = []
        misses = []
        for rate in plan.learning_rates:
            tried = [r for r in runs if r.phase == "tuning" and r.entry == i and r.learning_rate == rate]
            median = float(np.median([_cost(plan, r.validation) for r in tried])) if tried else math.inf
            medians.append(_signed(plan, median) if math.isfinite(median) else None)
            misses.append(sum(r.miss for r in tried))
        found.append(Sensitivity(i, list(plan.learning_rates), medians, misses))
    return found


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


def rows(plan: Plan, runs: Sequence[Run], chosen: Sequence[float | None]) -> list[Row]:
    """The table, best median first. Ties keep the order of the plan."""
    finals = [[r for r in runs if r.phase == "final" and r.entry == i] for i in range(len(plan.entries))]
    for group in finals:
        group.sort(key=lambda r: r.seed)
    costs = [[_cost(plan, r.test) for r in group] for group in finals]
    medians = [interval(c).median if c else math.inf for c in costs]
    order = sorted(range(len(costs)), key=lambda i: (medians[i], float(np.mean(np.isinf(costs[i] or [math.inf])))))
    best = order[0]
    confidence = joint_confidence(len(costs))
    shares = best_shares(costs)
    untuned = [[r for r in runs if r.phase == "untuned" and r.entry == i] for i in range(len(plan.entries))]
    for i, rate in enumerate(chosen):
        if plan.untuned and rate == plan.entries[i].rule.lr:
            untuned[i] = finals[i]
    return [_row(plan, i, best, finals, untuned[i], costs, chosen[i], confidence, shares[i]) for i in order]


def best_shares(costs: Sequence[Sequence[float]]) -> list[float]:
    """How often each entry has the lowest median, as the seeds are drawn with replacement (Efron 1979).

    The same seeds are drawn for all entries, which keeps them paired; a draw that ends in a tie is shared. An entry
    without runs, or all of whose runs failed, is never best.
    """
    seeds = max(map(len, costs), default=0)
    whole = np.full((len(costs), seeds), math.inf)
    for row, found in zip(whole, costs, strict=True):
        row[: len(found)] = found
    alive = np.isfinite(whole).any(axis=1)
    if not alive.any():
        return [0.0] * len(costs)
    drawn = np.random.default_rng(0).integers(seeds, size=(RESAMPLES, seeds))
    with np.errstate(invalid="ignore"):  # costs of the best kind may be −∞, of the worst ∞
        medians = np.array([np.median(row[drawn], axis=1) for row in whole[alive]])
    medians = np.where(np.isnan(medians), math.inf, medians)
    best = medians <= medians.min(axis=0)
    shares = np.zeros(len(costs))
    shares[alive] = (best / best.sum(axis=0)).mean(axis=1)
    return [float(share) for share in shares]


def _row(
    plan: Plan,
    i: int,
    best: int,
    finals: list[list[Run]],
    untuned: list[Run],
    costs: list[list[float]],
    rate: float | None,
    confidence: float,
    share: float,
) -> Row:
    entry, group = plan.entries[i], finals[i]
    edges = (plan.learning_rates[0], plan.learning_rates[-1])
    validation = interval([_cost(plan, r.validation) for r in group]).median if group else math.inf
    misses = sum(r.miss for r in group) if group else len(plan.final_seeds)
    difference = None
    if i != best and group and finals[best]:
        both = zip(costs[i], costs[best], strict=True)
        difference = interval([_minus(a, b) for a, b in both], confidence)
    return Row(
        entry=i,
        label=entry.label,
        batch_size=entry.batch_size,
        learning_rate=rate,
        at_edge=rate in edges and len(plan.learning_rates) > 1,
        validation=_signed(plan, validation) if math.isfinite(validation) else None,
        test=_oriented(plan, interval(costs[i])) if group else Interval(_worst(plan), None, None),
        misses=misses,
        runs=len(plan.final_seeds),
        examples=int(np.median([r.examples for r in group])) if group else 0,
        difference=None if difference is None else _oriented(plan, difference),
        own_learning_rate=entry.rule.lr,
        untuned=_oriented(plan, interval([_cost(plan, r.test) for r in untuned])) if untuned else None,
        untuned_misses=sum(r.miss for r in untuned) if untuned else None,
        best_probability=share,
        verdict=_verdict(i, best, group, difference, misses),
    )


def _minus(a: float, b: float) -> float:
    """A − b; two misses are equal, and so are figures that differ by rounding alone."""
    if a == b:
        return 0.0
    if math.isinf(a) or math.isinf(b):
        return a - b
    return 0.0 if abs(a - b) <= RESOLUTION * max(1.0, abs(a), abs(b)) else a - b


def _verdict(i: int, best: int, group: list[Run], difference: Interval | None, misses: int) -> str:
    if not group or misses == len(group):
        return "failed"
    if i == best:
        return "best"
    if difference is None or difference.low is None:
        return "too few seeds"
    return "clearly worse" if difference.low > 0 else "no clear difference"


def _oriented(plan: Plan, found: Interval) -> Interval:
    """An interval of costs, turned back into the metric's direction."""
    if not plan.higher_is_better:
        return found
    low = None if found.high is None else _signed(plan, found.high)
    high = None if found.low is None else _signed(plan, found.low)
    return Interval(_signed(plan, found.median), low, high)


def _signed(plan: Plan, cost: float) -> float:
    """A cost as the metric it came from."""
    return 0.0 - cost if plan.higher_is_better else cost


def _worst(plan: Plan) -> float:
    return -math.inf if plan.higher_is_better else math.inf
