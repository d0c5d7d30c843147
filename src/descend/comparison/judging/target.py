"""The target: the metric that is good enough, set by reference runs that are no part of the comparison."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from descend.comparison.planning.plan import FROM_REFERENCE, NO_TARGET, Plan
from descend.comparison.planning.task import Task
from descend.comparison.running.runs import Run

__all__ = ["Target", "best_of_pool", "find_target"]

SHORT_OF, SHORT_OF_FUNCTION = 0.02, 1e-3
"""The share of the way from the start to the reference that a target leaves out: on data, and on a function."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A value of the validation metric that is good enough, and where it comes from.

    `value` is ``reference + share · (start − reference)``, rounded to four digits to the easier side (Moré and Wild
    2009, eq. 2.1): `reference` is the median, over its seeds, of the best metric that the pool's best trial reached
    with a larger budget, `start` the median where these runs began. The three are None for a target that was given.
    """

    value: float
    reference: float | None = None
    start: float | None = None
    share: float | None = None


def best_of_pool(plan: Plan, tasks: Sequence[Task], runs: Sequence[Run]) -> Task | None:
    """The reference pool's trial with the best validation metric; None if all failed."""
    ranked = [(plan.cost(run.validation), i) for i, run in enumerate(runs) if run.validation is not None]
    return tasks[min(ranked)[1]] if ranked else None


def find_target(plan: Plan, runs: Sequence[Run]) -> Target | None:
    """The target that was given, or that the reference pool's last runs set; None if there is none.

    They set none unless half of them reach a better metric than they began with.
    """
    if plan.target == NO_TARGET:
        return None
    if plan.target != FROM_REFERENCE:
        return Target(float(plan.target))
    best = float(np.median([plan.cost(run.validation) for run in runs] or [math.inf]))
    start = float(np.median([plan.cost(run.curve[0][2]) for run in runs if run.curve] or [math.inf]))
    if not (math.isfinite(best) and math.isfinite(start) and best < start):
        return None
    share = SHORT_OF_FUNCTION if plan.examples is None else SHORT_OF
    cost = _rounded_up(best + share * (start - best))
    return Target(plan.metric_of(cost), plan.metric_of(best), plan.metric_of(start), share)


def _rounded_up(cost: float) -> float:
    """A cost with four digits, not below it."""
    if cost == 0:
        return cost
    unit = 10.0 ** (math.floor(math.log10(abs(cost))) - 3)
    return float(f"{math.ceil(cost / unit - 1e-9) * unit:.4g}")
