"""Whether a seed is a seed: the same one twice before the first run, and the starts of all runs afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from descend.comparison.running.runs import Run
from descend.parameters.memory import Array, Memory
from descend.problems import Problem
from descend.problems.generators import STEPS, seeded

__all__ = ["same_starts", "unrepeatable"]

AGAIN, ELSEWHERE = 1e-5, 1e-3
"""Relative differences beyond which figures of one process, and of any two, differ by more than the order of sums."""
EXAMPLES = 32


def unrepeatable(problem: Problem, seed: int) -> str:
    """What the same seed gives another time, in words; empty if all is the same.

    The seed makes a start, and there a loss, a gradient and an evaluation, twice. What it does not repeat draws from
    where no seed reaches: a generator of its own, the time, the system, or what a call before has left behind.
    """
    first, second = (_outcome(problem, seed) for _ in range(2))
    for name, found in first.items():
        if not all(_alike(a, b, AGAIN) for a, b in zip(found, second[name], strict=True)):
            return name
    return ""


def _outcome(problem: Problem, seed: int) -> dict[str, list[Any]]:
    """What comes of a seed, in the order in which one follows from another."""
    instance = problem.instance(seed)
    memory = Memory(instance.params, "params")
    start, grad = memory.snapshot(), memory.like()
    examples = () if problem.train is None else tuple(part[:EXAMPLES] for part in problem.train)
    objective = instance.objective(memory)
    with seeded(seed, STEPS), np.errstate(all="ignore"):
        loss = objective(grad, examples)
        validation = objective.apply(instance.measure, *(problem.validation or ()))
    return {"start": start, "loss": [loss], "gradient": grad, "evaluation": list(validation)}


def _alike(a: Array | float, b: Array | float, rounding: float) -> bool:
    """Whether two figures are the same but for rounding."""
    with np.errstate(all="ignore"):
        size = float(np.max(np.abs(a), initial=0.0))
        return np.shape(a) == np.shape(b) and bool(np.allclose(a, b, rtol=0, atol=rounding * size, equal_nan=True))


def same_starts(runs: Iterable[Run]) -> bool:
    """Whether all runs from one seed were evaluated to the same loss before their first step."""
    known: dict[int, float] = {}
    for run in runs:
        if run.curve and run.curve[0][0] == 0 and run.curve[0][1] is not None:
            loss = run.curve[0][1]
            if not _alike(known.setdefault(run.seed, loss), loss, ELSEWHERE):
                return False
    return True
