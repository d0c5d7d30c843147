"""Choosing: which trial each study finds for each entry, and how much the learning rate matters to an entry."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from descend.comparison.planning.plan import Plan
from descend.comparison.planning.task import Chosen
from descend.comparison.running.runs import Run

__all__ = ["Sensitivity", "choose", "median_cost", "sensitivity"]


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """The median of the best validation metric at each trial of an entry, by learning rate.

    The lists have one item for each trial; `hyperparameters` has all that a trial set, `misses` counts its failed runs.
    `good` is the interval of learning rates around the best one whose medians reach the target; None without a target,
    or if the best one does not.
    """

    entry: int
    learning_rates: list[float]
    hyperparameters: list[dict[str, Any]]
    validation: list[float | None]
    misses: list[int]
    good: tuple[float, float] | None


def choose(plan: Plan, runs: Sequence[Run]) -> list[tuple[Chosen, ...]]:
    """The trial that each study chooses for each entry: the best median validation metric over the tuning seeds.

    A miss counts as the worst. Ties go to the lower median validation loss, then to the smaller learning rate. None
    where no trial has a finite median. A seed from which no run of anybody made a step tells nothing of the trials.
    """
    stepped = {run.seed for run in runs if run.examples > 0 or not run.miss}
    runs = [run for run in runs if run.seed in stepped]
    return [tuple(_best_trial(plan, runs, i, study) for study in range(plan.studies)) for i in range(len(plan.entries))]


def _best_trial(plan: Plan, runs: Sequence[Run], entry: int, study: int) -> Chosen:
    ranked: list[tuple[float, float, float, int, dict[str, Any]]] = []
    for point, tried in _trials(plan, runs, entry, study):
        metric = median_cost([plan.cost(r.validation) for r in tried])
        loss = median_cost([math.inf if r.validation_loss is None else r.validation_loss for r in tried])
        if math.isfinite(metric):
            ranked.append((metric, loss, point["lr"], len(ranked), point))
    return min(ranked)[-1] if ranked else None


def _trials(plan: Plan, runs: Sequence[Run], entry: int, study: int) -> list[tuple[dict[str, Any], list[Run]]]:
    """Each trial of an entry in a study, with its runs."""
    own = [r for r in runs if r.phase == "tuning" and r.entry == entry and r.study == study]
    points = plan.points(plan.entries[entry], study)
    return [(point, [r for r in own if r.hyperparameters == point]) for point in points]


def median_cost(costs: Sequence[float]) -> float:
    """The median of some costs; ∞ of none."""
    return float(np.median(costs)) if costs else math.inf


def sensitivity(plan: Plan, runs: Sequence[Run], target: float | None = None) -> list[Sensitivity]:
    """Each entry's tuning runs, by learning rate."""
    found = []
    for i in range(len(plan.entries)):
        trials = [t for study in range(plan.studies) for t in _trials(plan, runs, i, study)]
        trials.sort(key=lambda t: float(t[0]["lr"]))
        costs = [median_cost([plan.cost(r.validation) for r in tried]) for _, tried in trials]
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
    """The interval of rates around the best one whose costs are within the target."""
    best = int(np.argmin(costs)) if costs else 0
    if not costs or not costs[best] <= target:
        return None
    low = high = best
    while low > 0 and costs[low - 1] <= target:
        low -= 1
    while high + 1 < len(costs) and costs[high + 1] <= target:
        high += 1
    return rates[low], rates[high]
