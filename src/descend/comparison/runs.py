"""A run: one descent of a comparison, and what is kept of it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from descend.comparison.plan import Plan, Task
from descend.fitting import fit
from descend.problems import Problem
from descend.result import FitResult
from descend.stopping import Reason

__all__ = ["Run", "nothing", "run_task"]


@dataclasses.dataclass(frozen=True)
class Run:
    """The outcome of one task. `curve` has ``[examples, validation loss, validation metric]`` at each look.

    A run that failed (diverged, not finite, an error) is a miss: it has no `validation` and no `test`, whatever it
    reached before. Test data are read in runs on final seeds alone; `test` is None in tuning runs.
    """

    entry: int
    learning_rate: float
    seed: int
    phase: str
    reason: str
    message: str
    miss: bool
    examples: int
    seconds: float
    validation: float | None
    validation_loss: float | None
    test: float | None
    curve: list[list[float | None]]


def run_task(problem: Problem, plan: Plan, task: Task) -> Run:
    """Make one run. Whatever the problem's functions do, there is a record of it."""
    entry = plan.entries[task.entry]
    final = task.phase != "tuning"
    if not final:
        problem = problem.without_test()
    try:
        # A learning rate that is too large overflows; that is a miss to be counted, not a warning to be printed.
        with np.errstate(all="ignore"):
            result = fit(
                problem,
                dataclasses.replace(entry.rule, lr=task.learning_rate),
                examples=plan.budget,
                batch_size=entry.batch_size if problem.size is not None else None,
                seed=task.seed,
                evaluate_every=None if problem.size is not None else plan.evaluate_every,
                keep_best=True,
                history=False,
                progress=False,
            )
    except Exception as error:  # the problem's functions and the rule are the user's: anything may happen in them
        so_far = getattr(error, "result", None)
        if not isinstance(so_far, FitResult):
            return nothing(task, Reason.FUNCTION_RAISED, f"{type(error).__name__}: {error}")
        result = so_far
    if result.reason is Reason.INTERRUPTED:  # half a run is no run: it is the comparison that was interrupted
        raise KeyboardInterrupt
    best, history = result.best, result.history
    assert history is not None
    validation, loss = (math.nan, math.nan) if best is None else (best.validation_metric, best.validation_loss)
    # A problem without data is judged by its loss, which is what it was tuned on.
    test = result.test_metric if problem.size is not None else validation
    figures = [validation, loss, *([test] if final else [])]
    miss = result.reason.kind == "failed" or not all(map(math.isfinite, figures))
    message = result.message
    if miss and result.reason.kind != "failed":
        names = ("validation metric", "validation loss", "test metric")
        found = next(
            f"{name} is {value}" for name, value in zip(names, figures, strict=False) if not math.isfinite(value)
        )
        message = f"The {found}."
    return Run(
        **dataclasses.asdict(task),
        reason=str(result.reason),
        message=message,
        miss=miss,
        examples=result.examples,
        seconds=result.seconds,
        validation=None if miss else validation,
        validation_loss=None if miss else loss,
        test=test if final and not miss else None,
        curve=[[e.examples, _finite(e.validation_loss), _finite(e.validation_metric)] for e in history.evaluations],
    )


def nothing(task: Task, reason: Reason, message: str) -> Run:
    """The record of a run of which nothing is left to be measured."""
    return Run(
        **dataclasses.asdict(task),
        reason=str(reason),
        message=message,
        miss=True,
        examples=0,
        seconds=0.0,
        validation=None,
        validation_loss=None,
        test=None,
        curve=[],
    )


def _finite(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return float(value) if math.isfinite(value) else None
