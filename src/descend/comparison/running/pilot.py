"""The pilot: estimates how long a comparison will take, from a few steps of each entry."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable

import numpy as np

from descend.comparison.planning.plan import Plan
from descend.comparison.running.bundles import Bundle
from descend.engines.one_thread import one_thread
from descend.problems import Problem
from descend.training.fit import fit
from descend.training.fit_many import fit_many

__all__ = ["Pilot"]

PATIENCE = 0.04
"""Seconds that the pilot gives each kind of run, about."""
FIRST, FACTOR = 4, 4
"""Steps of the first short descent, and how many times as many the next one has."""
SEED = 2**31
"""From here on the pilot's seeds count: no run has such a one."""


class Pilot:
    """Foretells how long runs will take, from a few steps of each kind.

    Each kind of run makes short descents, stacked as it will be, from a seed that no run has, until one of them is long
    enough to be measured. Their results are thrown away.
    """

    def __init__(self, problem: Problem, plan: Plan) -> None:
        self.problem, self.plan = problem, plan
        self._known: dict[object, tuple[float, float]] = {}

    def estimate(self, bundles: Iterable[Bundle], jobs: int) -> float:
        """About how many seconds the bundles will take on `jobs` processes."""
        return sum(s for s in map(self.seconds, bundles) if not math.isnan(s)) / max(1, jobs)

    def seconds(self, bundle: Bundle) -> float:
        """About how many seconds a bundle will take; NaN if its runs raise."""
        task = bundle.tasks[0]
        entry = self.plan.entry(task)
        kind = (type(entry.rule), entry.batch_size)
        if kind not in self._known:
            with one_thread():  # as the run will have
                self._known[kind] = _measured(self.problem, self.plan, bundle)
        fixed, a_step = self._known[kind]
        return len(bundle.tasks) * (fixed + a_step * self.plan.steps(entry, self.plan.budget_of(task)))


def _measured(problem: Problem, plan: Plan, bundle: Bundle) -> tuple[float, float]:
    """The fixed seconds of a run of a bundle, and the seconds of one of its steps."""
    runs, most, began = len(bundle.tasks), plan.steps(plan.entry(bundle.tasks[0]), plan.budget), time.perf_counter()
    steps, before = min(FIRST, most), (0, 0.0)
    if not _descend(problem, plan, bundle, steps):  # what is loaded or compiled on the way is no part of it
        return math.nan, math.nan
    if time.perf_counter() - began > 1.5 * PATIENCE:  # dear steps: fewer of them tell as much
        steps = 1
    while True:
        start = time.perf_counter()
        _descend(problem, plan, bundle, steps)
        now = time.perf_counter()
        took = now - start
        enough = took > PATIENCE / 4 or now - began > PATIENCE or steps == most
        if enough and (before[0] or steps == most):
            a_step = (took - before[1]) / (steps - before[0])
            return max(0.0, took - a_step * steps) / runs, max(0.0, a_step) / runs
        before = steps, took
        steps = min(most, steps * FACTOR)


def _descend(problem: Problem, plan: Plan, bundle: Bundle, steps: int) -> bool:
    """Make a short descent of a bundle; returns whether it could be made."""
    entry = plan.entry(bundle.tasks[0])
    problem = problem.without_test()
    options = {"steps": steps, **plan.fitting(entry)}
    try:
        # A learning rate of next to nothing: no pilot diverges.
        rules = [dataclasses.replace(plan.entry(task).rule, lr=1e-8) for task in bundle.tasks]
        with np.errstate(all="ignore"):
            if bundle.stacked:
                fit_many(problem, rules, [SEED + task.seed for task in bundle.tasks], **options)
            else:
                fit(problem, rules[0], seed=SEED, history=False, progress=False, **options)
    except Exception:  # the run will say what is wrong
        return False
    return True
