"""Making the plan: what the user asked for, checked against the problem."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descend.code_hash import of_problem
from descend.comparison.planning.entries import BATCH, Entry, can_take, entries_for
from descend.comparison.planning.plan import FROM_REFERENCE, REFERENCE_SEEDS, Plan
from descend.comparison.planning.spaces import Choice
from descend.errors import OptionError, ProblemError
from descend.problems import Problem
from descend.rules import Adam, Momentum
from descend.training.batches import Batches, least_batch

if TYPE_CHECKING:
    from descend.comparison.options import CompareOptions

__all__ = ["EPOCHS", "STEPS", "make_plan", "starting_at"]

EPOCHS = 20
"""The default budget on a problem with data, as passes over the training data."""
STEPS = 500
"""The default budget on a problem without data, in gradient evaluations."""
EVALUATIONS = 40
"""How often a run is evaluated on validation data, about; at most twice in a pass over the training data."""
TUNING_SEEDS, FINAL_SEEDS = 0, 1000
"""Where the seeds of tuning runs and of final runs begin: no final run has a seed that another run has seen."""
POOL = (Momentum, Adam)
"""The rules of the reference pool, whatever is compared: one with momentum, one adaptive."""


def make_plan(
    problem: Problem, rules: Iterable[Any] | None, options: CompareOptions, source: Path | str | None
) -> Plan:
    """The plan of a comparison on a problem that came from `source`; raises `OptionError` or `ProblemError`."""
    if problem.train is not None and (problem.validation is None or problem.test is None):
        missing = "validation" if problem.validation is None else "test"
        raise ProblemError(
            f"{problem.name} has no {missing} data: hyperparameters are chosen on validation data and judged on test "
            f"data; give data= to be split, or {missing}="
        )
    entries, effort = entries_for(problem.size, rules, options.batch_size, options.space), options.effort_in_full
    budget = _budget(problem, entries, options.budget)
    tuning, final = (effort.studies * seeds for seeds in (effort.tuning_seeds, effort.final_seeds))
    if tuning > REFERENCE_SEEDS:
        raise OptionError(f"tuning_seeds={tuning} in all: at most {REFERENCE_SEEDS}, so that final seeds stay fresh")
    reference = entries_for(problem.size, POOL, None) if options.target == FROM_REFERENCE else ()
    plan = Plan(
        problem=problem.name,
        metric=problem.metric_name,
        higher_is_better=problem.direction("a comparison"),
        examples=problem.size,
        entries=entries,
        reference=reference,
        target=options.target,
        learning_rates=None if options.learning_rates is None else tuple(options.learning_rates),
        trials=effort.trials,
        studies=effort.studies,
        budget=budget,
        evaluate_every=max(1, budget // EVALUATIONS, (problem.size or 0) // 2),
        tuning_seeds=tuple(range(TUNING_SEEDS, TUNING_SEEDS + tuning)),
        final_seeds=tuple(range(FINAL_SEEDS, FINAL_SEEDS + final)),
        untuned=options.untuned,
        timed=options.timed,
        fingerprint=of_problem(source, problem),
        least_batch=max(least_batch(problem, size) for one in (*entries, *reference) for size in _batch_sizes(one)),
    )
    for entry in entries:
        for study in range(plan.studies):
            for point in plan.points(entry, study):
                can_take(entry, point)
    return plan


def starting_at(plan: Plan, seed: int) -> Plan:
    """The plan with tuning seeds from `seed` on: from the first ones, the problem's functions cannot be computed."""
    seeds = tuple(range(seed, seed + len(plan.tuning_seeds)))
    return dataclasses.replace(plan, tuning_seeds=seeds) if seeds[-1] < REFERENCE_SEEDS else plan


def _budget(problem: Problem, entries: Sequence[Entry], budget: int | None) -> int:
    """The gradient evaluations of a run; raises `OptionError` where they do not pay for one step of each entry."""
    if budget is None:
        budget = STEPS if problem.size is None else EPOCHS * problem.size
    for entry in entries if problem.size is not None else ():
        assert problem.size is not None
        space = (entry.space or {}).get(BATCH)
        for size in _batch_sizes(entry):
            if size is None:
                raise OptionError(f"{entry.label}: a batch size of None in {space}; give numbers, or 'full'")
            batches = Batches(problem.size, size, 0, least_batch(problem, size))
            if batches.steps(budget) == 0:
                raise OptionError(
                    f"budget={budget} does not pay for one step of {entry.label}, which sees "
                    f"{batches.batch_size} examples; raise it"
                )
        if space is not None and not isinstance(space, Choice):
            raise OptionError(f"{entry.label}: batch sizes are a Choice, such as Choice([16, 32, 64]); not {space}")
    return budget


def _batch_sizes(entry: Entry) -> Sequence[Any]:
    """Every batch size that runs of an entry may have."""
    space = (entry.space or {}).get(BATCH)
    return space.values if isinstance(space, Choice) else [entry.batch_size]
