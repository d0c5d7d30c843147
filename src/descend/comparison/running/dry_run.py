"""A dry run: one step of every rule, so that what is broken says so before the first run and not from a worker."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from descend.comparison.planning.plan import Plan
from descend.engines import engine
from descend.errors import DescendError, OptionError, ProblemError
from descend.parameters.memory import Array, Memory
from descend.problems import Problem
from descend.problems.splits import Split
from descend.training.batches import batch, batches_of

__all__ = ["dry_run"]


STARTS = 5
"""Starts that are tried: a loss may raise at some of them, which is a counted miss of those runs."""


def dry_run(problem: Problem, plan: Plan) -> int:
    """Evaluate the problem on the batches of an epoch's ends and step every rule once.

    Raises `ProblemError` or `OptionError`. Returns the seed of the start from which that went well: the first of a few.
    """
    seed, memory, grad = _first_that_works(problem, plan)
    for entry in plan.entries:
        try:
            with np.errstate(all="ignore"):
                engine(entry.rule, memory.snapshot(), plan.steps(entry, plan.budget)).step(grad)
        except Exception as error:
            raise OptionError(f"{entry.label} cannot make a step: {type(error).__name__}: {error}") from error
    return seed


def _first_that_works(problem: Problem, plan: Plan) -> tuple[int, Memory, list[Array]]:
    """A seed, and parameters and gradient at its start; raises what the first seed raised if none of them works."""
    first: ProblemError | None = None
    for seed in range(plan.tuning_seeds[0], plan.tuning_seeds[0] + STARTS):
        try:
            return seed, *_evaluated(problem, plan, seed)
        except ProblemError as error:
            first = first or error
    assert first is not None
    raise first


def _evaluated(problem: Problem, plan: Plan, seed: int) -> tuple[Memory, list[Array]]:
    """Parameters and gradient at a start, where loss, gradient and metric have been computed; raises `ProblemError`."""
    try:
        instance = problem.instance(seed)
        memory = Memory(instance.params, "params")
        grad = memory.like()
        objective = instance.objective(memory)
        for examples in _batches(problem, plan):
            objective(grad, examples)
        objective.apply(instance.measure, *(problem.validation or ()))
    except DescendError as error:
        raise ProblemError(f"{problem.name}: {error}") from error
    except Exception as error:
        raise ProblemError(f"{problem.name}: its metric raised {type(error).__name__}: {error}") from error
    return memory, grad


def _batches(problem: Problem, plan: Plan) -> Iterator[Split]:
    """The first and the last batch of an epoch, which may be shorter, of each size that runs have."""
    for size in dict.fromkeys(plan.fitting(entry)["batch_size"] for entry in plan.all_entries):
        batches = batches_of(problem, size, plan.tuning_seeds[0])
        for step in (0,) if batches is None or batches.per_epoch == 1 else (0, batches.per_epoch - 1):
            yield batch(problem, batches, step)
