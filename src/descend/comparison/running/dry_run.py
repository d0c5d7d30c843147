"""A dry run: one step of every rule, so that what is broken says so before the first run and not from a worker."""

from __future__ import annotations

import numpy as np

from descend.comparison.planning.plan import Plan
from descend.engines import engine
from descend.errors import DescendError, OptionError, ProblemError
from descend.parameters.memory import Memory
from descend.problems import Problem

__all__ = ["dry_run"]


def dry_run(problem: Problem, plan: Plan) -> None:
    """Evaluate the problem on one example and step every rule once; raises `ProblemError` or `OptionError`."""
    try:
        instance = problem.instance(plan.tuning_seeds[0])
        memory = Memory(instance.params, "params")
        batch = () if problem.train is None else tuple(part[:1] for part in problem.train)
        grad = memory.like()
        objective = instance.objective(memory)
        objective(grad, batch)
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
