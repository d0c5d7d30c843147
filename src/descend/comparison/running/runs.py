"""A run: one descent of a comparison, and what is kept of it."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from descend.checks import is_finite, is_whole
from descend.comparison.planning.plan import Plan
from descend.comparison.planning.task import Task
from descend.descent.result import FitResult
from descend.problems import Problem
from descend.stopping import Reason
from descend.training.fit import fit
from descend.training.fit_many import fit_many

__all__ = ["Run", "failed_run", "failure", "is_outcome", "run_task", "run_tasks"]

LONGEST = 2000
"""Characters of a message that are kept."""


@dataclasses.dataclass(frozen=True, repr=False)
class Run:
    """The outcome of one task. `curve` has ``[examples, validation loss, validation metric]`` for each evaluation.

    `hyperparameters` are those that the task set; the rest is the entry's. A run that failed (diverged, not finite, an
    error) is a miss: it has no `validation` and no `test`, whatever it reached before. Test data are read in runs on
    final seeds alone; `test` is None in reference and tuning runs.
    """

    entry: int
    hyperparameters: dict[str, Any]
    seed: int
    phase: str
    study: int
    reason: str
    message: str
    miss: bool
    examples: int
    seconds: float
    validation: float | None
    validation_loss: float | None
    test: float | None
    curve: list[list[float | None]]

    def __repr__(self) -> str:
        point = ", ".join(f"{name}={value!r}" for name, value in self.hyperparameters.items())
        found = "missed" if self.validation is None else f"validation {self.validation:g}"
        return f"<Run of entry {self.entry} at {point}, seed {self.seed}, {self.phase}: {self.reason}, {found}>"

    @property
    def learning_rate(self) -> float:
        """The learning rate among the hyperparameters."""
        return float(self.hyperparameters["lr"])

    def outcome(self) -> dict[str, Any]:
        """The run without the task that it belongs to: the same for any plan that has such a run."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in _TASK}

    @classmethod
    def of(cls, task: Task, outcome: Mapping[str, Any]) -> Run:
        """The run of a task with an outcome."""
        return cls(**(_task(task) | dict(outcome)))

    def reached(self, target: float, higher_is_better: bool) -> tuple[float | None, float]:
        """The gradient evaluations of the last evaluation without the target, and of the first one with it.

        The first number is None if the start has reached the target, the second ∞ if the run never has.
        """
        before = None
        for examples, _, metric in self.curve:
            if metric is not None and (metric >= target if higher_is_better else metric <= target):
                return before, float(examples or 0)
            before = examples
        return before, math.inf


_TASK = ("entry", "hyperparameters", "seed", "phase", "study")


def is_outcome(value: Any) -> bool:
    """Whether this is what `Run.outcome` returns: the fields and types, and figures unless it is a miss."""
    names = {f.name for f in dataclasses.fields(Run)} - set(_TASK)
    if not isinstance(value, dict) or value.keys() != names:
        return False
    miss, curve = value["miss"], value["curve"]
    return (
        all(isinstance(value[name], str) for name in ("reason", "message"))
        and isinstance(miss, bool)
        and is_whole(value["examples"], 0)
        and is_finite(value["seconds"])
        and all(is_finite(value[name]) or (value[name] is None and miss) for name in ("validation", "validation_loss"))
        and (value["test"] is None or is_finite(value["test"]))
        and isinstance(curve, list)
        and all(map(_is_look, curve))
    )


def _is_look(value: Any) -> bool:
    """Whether this is one evaluation of a curve."""
    return isinstance(value, list) and len(value) == 3 and all(v is None or is_finite(v) for v in value)


def _task(task: Task) -> dict[str, Any]:
    return {name: getattr(task, name) for name in _TASK} | {"hyperparameters": dict(task.hyperparameters)}


def run_tasks(problem: Problem, plan: Plan, tasks: Sequence[Task]) -> list[Run]:
    """Make stacked runs as one program, or one at a time if anything in it raises."""
    first = tasks[0]
    try:
        with np.errstate(all="ignore"):
            results = fit_many(
                _problem_for(problem, first),
                [plan.entry(task).rule for task in tasks],
                [task.seed for task in tasks],
                examples=plan.budget_of(first),
                **plan.fitting(plan.entry(first)),
            )
    except (Exception, SystemExit):  # which run it was is found by making each of them alone
        return [run_task(problem, plan, task) for task in tasks]
    return [_run_of(problem, task, result) for task, result in zip(tasks, results, strict=True)]


def run_task(problem: Problem, plan: Plan, task: Task) -> Run:
    """Make one run, and return a record of it whatever the problem's functions do."""
    entry = plan.entry(task)
    try:
        # A learning rate that is too large overflows; that is a miss to be counted, not a warning to be printed.
        with np.errstate(all="ignore"):
            result = fit(
                _problem_for(problem, task),
                entry.rule,
                examples=plan.budget_of(task),
                seed=task.seed,
                history=False,
                progress=False,
                **plan.fitting(entry),
            )
    except (Exception, SystemExit) as error:  # problem and rule are the user's: anything may happen in them
        if any(isinstance(e, MemoryError) for e in (error, error.__cause__)):
            return failed_run(task, Reason.KILLED, f"{type(error).__name__}: {error}")
        so_far = getattr(error, "result", None)
        if not isinstance(so_far, FitResult):
            return failed_run(task, Reason.FUNCTION_RAISED, f"{type(error).__name__}: {error}")
        result = so_far
    return _run_of(problem, task, result)


def _problem_for(problem: Problem, task: Task) -> Problem:
    """The problem without its test data, unless the run may read them."""
    return problem if task.reads_test else problem.without_test()


def _run_of(problem: Problem, task: Task, result: FitResult) -> Run:
    """The run that a descent makes."""
    if result.interrupted:  # half a run is no run: it is the comparison that was interrupted
        raise KeyboardInterrupt
    final = task.reads_test
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
        **_task(task),
        reason=str(result.reason),
        message=_clipped(message),
        miss=miss,
        examples=result.examples,
        seconds=result.seconds,
        validation=None if miss else validation,
        validation_loss=None if miss else loss,
        test=test if final and not miss else None,
        curve=[[e.examples, _finite(e.validation_loss), _finite(e.validation_metric)] for e in history.evaluations],
    )


def failed_run(task: Task, reason: Reason, message: str) -> Run:
    """The record of a run that left no figures."""
    return Run(
        **_task(task),
        reason=str(reason),
        message=_clipped(message),
        miss=True,
        examples=0,
        seconds=0.0,
        validation=None,
        validation_loss=None,
        test=None,
        curve=[],
    )


def failure(run: Run) -> str:
    """Why a run failed, in a clause: without what it was like at which step, and without advice."""
    reason = next((r for r in Reason if str(r) == run.reason), None)
    if reason is None or reason.kind != "failed":
        return run.message.rstrip(".")
    detail = run.message.removeprefix(reason.sentence).removesuffix(reason.advice).strip()
    if reason is Reason.FUNCTION_RAISED and detail:
        return re.sub(r" \(at step \d+\)", "", detail).rstrip(".")
    return reason.sentence.partition(": ")[2].rstrip(".")


def _clipped(message: str) -> str:
    """A message that a row has room for: an error may quote all data."""
    return message if len(message) <= LONGEST else f"{message[:LONGEST]} …"


def _finite(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return float(value) if math.isfinite(value) else None
