"""What the runs say: the hyperparameters of each entry, and how the entries differ on fresh seeds.

A miss is the worst possible value: it takes part in medians and intervals without being averaged into anything.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from descend.comparison.planning.entries import Entry
from descend.comparison.planning.plan import Chosen, Plan
from descend.comparison.running.runs import Run
from descend.intervals import CONFIDENCE, Interval, interval
from descend.parameters.memory import Array

__all__ = [
    "Row",
    "Sensitivity",
    "Standing",
    "best_shares",
    "choose",
    "difference",
    "joint_confidence",
    "pairs",
    "resampled_median",
    "rows",
    "seeds_needed",
    "sensitivity",
    "standings",
]

T = TypeVar("T")

RESAMPLES = 10_000
"""How often the seeds are drawn anew to find out who is best."""
MANY = 1_000
"""Seeds up to which the bootstrap distribution of a median is written down."""
RESOLUTION = 1e-12
"""Figures closer than this, relative to the larger and at least 1, are the same: both have converged."""
BEST, WORSE, UNCLEAR, TOO_FEW = "best", "clearly worse", "no clear difference", "too few seeds"
FAILED, NOT_REACHED = "failed", "not reached"


@dataclasses.dataclass(frozen=True)
class Standing:
    """How one entry did by one measure, and beside the entry that is best by it.

    `median`, `low` and `high` are over the final runs, `hits` the runs that have such a figure at all. `difference` is
    to the best entry, paired by seed; None for the best itself. `best_probability` is the share of bootstrap resamples
    of the seeds in which the entry has the best median. `verdict` is ``best``, ``clearly worse``, ``no clear
    difference``, ``too few seeds``, or for not one hit ``failed`` and, of a target, ``not reached``.
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


@dataclasses.dataclass(frozen=True)
class Row:
    """One entry of the table.

    `chosen` has the hyperparameters that each study found, None where none served. `to_target` counts gradient
    evaluations to the target, None if there is no target; `test` is the test metric at the best look. `untuned` has the
    test metric with the entry's own hyperparameters; None if nobody asked for it. `seconds` is how long a run takes
    with no other beside it; None if that was not measured. `verdict` is that of the measure which orders the table.
    """

    entry: int
    label: str
    batch_size: int | str
    chosen: tuple[Chosen, ...]
    at_edge: bool
    validation: float | None
    to_target: Standing | None
    test: Standing
    misses: int
    runs: int
    examples: int
    own_learning_rate: float
    untuned: Interval | None
    untuned_misses: int | None
    seconds: Interval | None
    verdict: str

    @property
    def learning_rates(self) -> list[float]:
        """The learning rates that were chosen, ascending; one for each study that found one."""
        return sorted({float(point["lr"]) for point in self.chosen if point is not None})

    @property
    def learning_rate(self) -> float | None:
        """The learning rate that was chosen, the middle one of several studies; None if none served."""
        rates = self.learning_rates
        return rates[len(rates) // 2] if rates else None


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """How one entry fares at each of its trials, by learning rate: the median of the best validation metric.

    Lists go together; `hyperparameters` has all that a trial set, and `misses` its runs that failed. `good` is the
    stretch of learning rates around the best one whose medians reach the target; None without a target, or if the best
    one does not.
    """

    entry: int
    learning_rates: list[float]
    hyperparameters: list[dict[str, Any]]
    validation: list[float | None]
    misses: list[int]
    good: tuple[float, float] | None


def choose(plan: Plan, runs: Sequence[Run]) -> list[tuple[Chosen, ...]]:
    """What each study found for each entry: the trial with the best median validation metric over the tuning seeds.

    A miss counts as the worst. Ties go to the lower median validation loss, then to the smaller learning rate. None
    where no trial has a finite median.
    """
    return [tuple(_best_trial(plan, runs, i, study) for study in range(plan.studies)) for i in range(len(plan.entries))]


def _best_trial(plan: Plan, runs: Sequence[Run], entry: int, study: int) -> Chosen:
    ranked: list[tuple[float, float, float, int, dict[str, Any]]] = []
    for point, tried in _trials(plan, runs, entry, study):
        metric = _median([plan.cost(r.validation) for r in tried])
        loss = _median([math.inf if r.validation_loss is None else r.validation_loss for r in tried])
        if math.isfinite(metric):
            ranked.append((metric, loss, point["lr"], len(ranked), point))
    return min(ranked)[-1] if ranked else None


def _trials(plan: Plan, runs: Sequence[Run], entry: int, study: int) -> list[tuple[dict[str, Any], list[Run]]]:
    """Each trial of an entry in a study, with its runs."""
    own = [r for r in runs if r.phase == "tuning" and r.entry == entry and r.study == study]
    points = plan.points(plan.entries[entry], study)
    return [(point, [r for r in own if r.hyperparameters == point]) for point in points]


def _median(costs: Sequence[float]) -> float:
    return float(np.median(costs)) if costs else math.inf


def sensitivity(plan: Plan, runs: Sequence[Run], target: float | None = None) -> list[Sensitivity]:
    """Each entry's tuning runs, by learning rate."""
    found = []
    for i in range(len(plan.entries)):
        trials = [t for study in range(plan.studies) for t in _trials(plan, runs, i, study)]
        trials.sort(key=lambda t: float(t[0]["lr"]))
        costs = [_median([plan.cost(r.validation) for r in tried]) for _, tried in trials]
        rates = [float(point["lr"]) for point, _ in trials]
        found.append(
            Sensitivity(
                entry=i,
                learning_rates=rates,
                hyperparameters=[point for point, _ in trials],
                validation=[plan.metric_of(c) if math.isfinite(c) else None for c in costs],
                misses=[sum(r.miss for r in tried) for _, tried in trials],
                good=None if target is None else _good(rates, costs, plan.cost(target)),
            )
        )
    return found


def _good(rates: Sequence[float], costs: Sequence[float], target: float) -> tuple[float, float] | None:
    """The stretch of rates around the best one whose costs are within the target."""
    best = int(np.argmin(costs)) if costs else 0
    if not costs or not costs[best] <= target:
        return None
    low = high = best
    while low > 0 and costs[low - 1] <= target:
        low -= 1
    while high + 1 < len(costs) and costs[high + 1] <= target:
        high += 1
    return rates[low], rates[high]


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


def rows(
    plan: Plan, runs: Sequence[Run], chosen: Sequence[tuple[Chosen, ...]], target: float | None = None
) -> list[Row]:
    """The table, best first.

    By the median of what it took to the target, where anyone reached it, else by the test metric. Ties go to the other
    measure, then to the order of the plan.
    """
    finals = [_phase(runs, "final", i) for i in range(len(plan.entries))]
    studies = [study for study in range(plan.studies) for _ in plan.seeds_of(plan.final_seeds, study)]
    quality = standings([_by_seed(plan, g, lambda r: plan.cost(r.test), math.inf) for g in finals], studies)
    speed: list[Standing] | None = None
    if target is not None:
        reached = [_reached(plan, entry, group, target) for entry, group in zip(plan.entries, finals, strict=True)]
        ties = [standing.median for standing in quality]
        earliest = [[first for first, _ in found] for found in reached]
        speed = standings([[last for _, last in found] for found in reached], studies, ties, NOT_REACHED, earliest)
    first = quality if speed is None or all(math.isinf(s.median) for s in speed) else speed
    order = sorted(
        range(len(finals)), key=lambda i: (first[i].verdict != BEST, first[i].median, -first[i].hits, quality[i].median)
    )
    return [
        _row(plan, i, runs, chosen[i], None if speed is None else speed[i], quality[i], first[i].verdict) for i in order
    ]


def _phase(runs: Sequence[Run], phase: str, entry: int) -> list[Run]:
    return sorted((r for r in runs if r.phase == phase and r.entry == entry), key=lambda r: r.seed)


def _by_seed(plan: Plan, runs: Sequence[Run], cost: Callable[[Run], T], miss: T) -> list[T]:
    """A cost for each final seed; a miss where there is no run, as no study found a trial to run."""
    found = {run.seed: cost(run) for run in runs}
    return [found.get(seed, miss) for seed in plan.final_seeds]


def _reached(plan: Plan, entry: Entry, runs: Sequence[Run], target: float) -> list[tuple[float, float]]:
    """Gradient evaluations to the target for each final seed: at the earliest, and those of the look that saw it."""

    def found(run: Run) -> tuple[float, float]:
        if run.miss:
            return math.inf, math.inf
        before, at = run.reached(target, plan.higher_is_better)
        return min(at, plan.next_step(entry.at(run.hyperparameters), before)), at

    return _by_seed(plan, runs, found, (math.inf, math.inf))


def standings(
    costs: Sequence[Sequence[float]],
    studies: Sequence[int],
    ties: Sequence[float] | None = None,
    never: str = FAILED,
    earliest: Sequence[Sequence[float]] | None = None,
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
        What each of the costs may have been in truth, at the least, where it was only looked at from time to time. Two
        that may have been the same are no difference. Default: the costs are exact.

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
            agreed = all(_middle(minus[np.equal(studies, study)]) > 0 for study in set(studies))
            verdict = WORSE if between.low is not None and between.low > 0 and agreed else UNCLEAR
            if seeds < seeds_needed(confidence):
                between, verdict = Interval(between.median, None, None), TOO_FEW
        if not hits[i]:
            verdict = never
        found.append(Standing(own[i].median, own[i].low, own[i].high, hits[i], seeds, between, shares[i], verdict))
    return found


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
        return dataclasses.replace(interval(minus.tolist(), confidence), median=float(_middle(minus)))
    if n < 2 or np.all(minus == minus[0]):
        return Interval(_middle(minus), float(minus[0]), float(minus[0])) if n else Interval(math.nan, None, None)
    tail = float(norm.cdf(-math.sqrt(n / (n - 1)) * t.ppf((1 + confidence) / 2, n - 1)))
    medians, weights = resampled_median(minus)
    below, above = np.cumsum(weights), np.cumsum(weights[::-1])
    low, high = medians[np.argmax(below > tail)], medians[::-1][np.argmax(above > tail)]
    return Interval(float(_middle(minus)), float(low), float(high))


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
    medians = _middle(np.stack([np.append(ordered, ordered[lower]), np.append(ordered, ordered[upper])]), axis=0)
    weights = np.append(np.maximum(together, 0.0), apart)
    order = np.argsort(medians, kind="stable")
    return medians[order], weights[order]


def _middle(values: Array, axis: int = -1) -> Any:
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
    medians, lowest = (np.array([_middle(row[drawn]) for row in rows[alive]]) for rows in (whole, least))
    best = lowest <= medians.min(axis=0)
    shares = np.zeros(len(costs))
    shares[alive] = (best / best.sum(axis=0)).mean(axis=1)
    return [float(share) for share in shares]


def _row(
    plan: Plan,
    i: int,
    runs: Sequence[Run],
    chosen: tuple[Chosen, ...],
    speed: Standing | None,
    quality: Standing,
    verdict: str,
) -> Row:
    entry, finals, untuned = plan.entries[i], _phase(runs, "final", i), _phase(runs, "untuned", i)
    validation = _median([plan.cost(r.validation) for r in finals])
    timed = [r.seconds for r in _phase(runs, "timing", i) if not r.miss]
    sizes = {point.get("batch_size", entry.batch_size) for point in chosen if point is not None} or {entry.batch_size}
    plain = interval([plan.cost(r.test) for r in untuned]) if untuned else None
    return Row(
        entry=i,
        label=entry.label,
        batch_size=sizes.pop() if len(sizes) == 1 else " / ".join(map(str, sorted(sizes, key=str))),
        chosen=chosen,
        at_edge=any(_at_edge(plan, i, study, point) for study, point in enumerate(chosen)),
        validation=plan.metric_of(validation) if math.isfinite(validation) else None,
        to_target=speed,
        test=_oriented_standing(plan, quality),
        misses=quality.runs - quality.hits,
        runs=quality.runs,
        examples=int(np.median([r.examples for r in finals])) if finals else 0,
        own_learning_rate=entry.rule.lr,
        untuned=None if plain is None else _oriented(plan, plain),
        untuned_misses=sum(r.miss for r in untuned) if untuned else None,
        seconds=interval(timed) if timed else None,
        verdict=verdict,
    )


def _at_edge(plan: Plan, entry: int, study: int, point: Chosen) -> bool:
    """Whether the learning rate is the lowest or the highest that was tried."""
    rates = {trial["lr"] for trial in plan.points(plan.entries[entry], study)}
    return point is not None and len(rates) > 1 and point["lr"] in (min(rates), max(rates))


def _oriented_standing(plan: Plan, found: Standing) -> Standing:
    """A standing by cost, turned back into the metric's direction."""
    own = _oriented(plan, found.interval)
    between = None if found.difference is None else _oriented(plan, found.difference)
    return dataclasses.replace(found, median=own.median, low=own.low, high=own.high, difference=between)


def _minus(a: float, b: float, a_least: float, b_least: float) -> float:
    """A − b; two misses are equal, and so are figures that differ by rounding alone, or may have been the same."""
    if a == b or (a_least <= b and b_least <= a):
        return 0.0
    if math.isinf(a) or math.isinf(b):
        return a - b
    return 0.0 if abs(a - b) <= RESOLUTION * max(1.0, abs(a), abs(b)) else a - b


def _oriented(plan: Plan, found: Interval) -> Interval:
    """An interval of costs, turned back into the metric's direction."""
    if not plan.higher_is_better:
        return found
    low = None if found.high is None else plan.metric_of(found.high)
    high = None if found.low is None else plan.metric_of(found.low)
    return Interval(plan.metric_of(found.median), low, high)
