"""Results: what the runs say of each entry, in the order of the table."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from descend.comparison.judging.choice import median_cost
from descend.comparison.judging.range_ends import edge, range_ended
from descend.comparison.judging.standings import BEST, NOT_REACHED, Standing, standings
from descend.comparison.planning.entries import Entry
from descend.comparison.planning.plan import Plan
from descend.comparison.planning.task import Chosen
from descend.comparison.running.runs import Run
from descend.intervals import Interval, interval

__all__ = ["EntryResult", "entry_results"]

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class EntryResult:
    """What the runs say of one entry: a row of the table.

    `chosen` has the hyperparameters that each study chose, None where every trial failed. `to_target` is the standing
    by the gradient evaluations to the target, None if there is no target; `test` is that by the test metric at the best
    evaluation. `untuned` has the test metric with the entry's own hyperparameters; None if it was not asked for.
    `seconds` is how long a run takes with no other beside it; None if that was not measured. `verdict` is that of the
    measure which orders the table.
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
        """The learning rates that were chosen, ascending; one for each study that chose one."""
        return sorted({float(point["lr"]) for point in self.chosen if point is not None})

    @property
    def learning_rate(self) -> float | None:
        """The learning rate that was chosen, the middle one of several studies; None if every trial failed."""
        rates = self.learning_rates
        return rates[len(rates) // 2] if rates else None


def entry_results(
    plan: Plan, runs: Sequence[Run], chosen: Sequence[tuple[Chosen, ...]], target: float | None = None
) -> list[EntryResult]:
    """The table, best first.

    By the median of what it took to the target, where anyone reached it, else by the test metric. Ties go to the other
    measure, then to the order of the plan.
    """
    finals = [_phase(runs, "final", i) for i in range(len(plan.entries))]
    studies = [study for study in range(plan.studies) for _ in plan.seeds_of(plan.final_seeds, study)]
    withheld = [range_ended(plan, i, points) for i, points in enumerate(chosen)]
    figures = [_by_seed(plan, g, lambda r: plan.cost(r.test), math.inf) for g in finals]
    quality = standings(figures, studies, withheld=withheld)
    speed: list[Standing] | None = None
    if target is not None:
        reached = [_reached(plan, entry, group, target) for entry, group in zip(plan.entries, finals, strict=True)]
        ties = [standing.median for standing in quality]
        earliest = [[first for first, _ in found] for found in reached]
        latest = [[last for _, last in found] for found in reached]
        speed = standings(latest, studies, ties, NOT_REACHED, earliest, withheld)
    first = quality if speed is None or all(math.isinf(s.median) for s in speed) else speed
    order = sorted(
        range(len(finals)), key=lambda i: (first[i].verdict != BEST, first[i].median, -first[i].hits, quality[i].median)
    )
    return [
        _result(plan, i, runs, chosen[i], None if speed is None else speed[i], quality[i], first[i].verdict)
        for i in order
    ]


def _phase(runs: Sequence[Run], phase: str, entry: int) -> list[Run]:
    return sorted((r for r in runs if r.phase == phase and r.entry == entry), key=lambda r: r.seed)


def _by_seed(plan: Plan, runs: Sequence[Run], cost: Callable[[Run], T], miss: T) -> list[T]:
    """A cost for each final seed; a miss where there is no run, as no study found a trial to run."""
    found = {run.seed: cost(run) for run in runs}
    return [found.get(seed, miss) for seed in plan.final_seeds]


def _reached(plan: Plan, entry: Entry, runs: Sequence[Run], target: float) -> list[tuple[float, float]]:
    """Gradient evaluations to the target for each final seed: the least they may be, and those that were seen."""

    def found(run: Run) -> tuple[float, float]:
        if run.miss:
            return math.inf, math.inf
        before, at = run.reached(target, plan.higher_is_better)
        return min(at, plan.next_step(entry.at(run.hyperparameters), before)), at

    return _by_seed(plan, runs, found, (math.inf, math.inf))


def _result(
    plan: Plan,
    i: int,
    runs: Sequence[Run],
    chosen: tuple[Chosen, ...],
    speed: Standing | None,
    quality: Standing,
    verdict: str,
) -> EntryResult:
    entry, finals, untuned = plan.entries[i], _phase(runs, "final", i), _phase(runs, "untuned", i)
    validation = median_cost([plan.cost(r.validation) for r in finals])
    timed = [r.seconds for r in _phase(runs, "timing", i) if not r.miss]
    sizes = {point.get("batch_size", entry.batch_size) for point in chosen if point is not None} or {entry.batch_size}
    plain = interval([plan.cost(r.test) for r in untuned]) if untuned else None
    return EntryResult(
        entry=i,
        label=entry.label,
        batch_size=sizes.pop() if len(sizes) == 1 else " / ".join(map(str, sorted(sizes, key=str))),
        chosen=chosen,
        at_edge=any(edge(plan, i, study, point) for study, point in enumerate(chosen)),
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


def _oriented_standing(plan: Plan, found: Standing) -> Standing:
    """A standing by cost, turned back into the metric's direction."""
    own = _oriented(plan, found.interval)
    between = None if found.difference is None else _oriented(plan, found.difference)
    return dataclasses.replace(found, median=own.median, low=own.low, high=own.high, difference=between)


def _oriented(plan: Plan, found: Interval) -> Interval:
    """An interval of costs, turned back into the metric's direction."""
    if not plan.higher_is_better:
        return found
    low = None if found.high is None else plan.metric_of(found.high)
    high = None if found.low is None else plan.metric_of(found.low)
    return Interval(plan.metric_of(found.median), low, high)
