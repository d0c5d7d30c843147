"""A dry run: one step of every rule, so that what is broken says so before the first run and not from a worker."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from descend.comparison.planning.plan import Plan
from descend.engines import engine
from descend.errors import DescendError, OptionError, ProblemError
from descend.parameters.memory import Memory
from descend.problems import Problem
from descend.problems.splits import Split
from descend.training.batches import batch, batches_of

__all__ = ["dry_run"]


def dry_run(problem: Problem, plan: Plan) -> None:
    """Evaluate the problem on the batches of an epoch's ends and step every rule once.

    Raises `ProblemError` or `OptionError`.
    """
    try:
        instance = problem.instance(plan.tuning_seeds[0])
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
    for entry in plan.entries:
        try:
            with np.errstate(all="ignore"):
                engine(entry.rule, memory.snapshot(), plan.steps(entry, plan.budget)).step(grad)
        except Exception as error:
            raise OptionError(f"{entry.label} cannot make a step: {type(error).__name__}: {error}") from error


def _batches(problem: Problem, plan: Plan) -> Iterator[Split]:
    """The first and the last batch of an epoch, which may be shorter, of each size that runs have."""
    for size in dict.fromkeys(plan.fitting(entry)["batch_size"] for entry in plan.all_entries):
        batches = batches_of(problem, size, plan.tuning_seeds[0])
        for step in (0,) if batches is None or batches.per_epoch == 1 else (0, batches.per_epoch - 1):
            yield batch(problem, batches, step)
