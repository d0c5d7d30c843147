"""The options of `fit`, `fit_many` and `find_lr`: the name, the default and the check of each stand here, once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

from descend.checks import count, flag, function, optional, real, record, seconds, seed
from descend.descent.history import Evaluation
from descend.engines import usable_cores
from descend.errors import OptionError, ProblemError
from descend.problems.problem import Problem
from descend.training.batches import BatchSize

__all__ = ["DEFAULT_EPOCHS", "FitManyOptions", "FitOptions", "RangeTestOptions", "TrainingOptions"]

DEFAULT_EPOCHS = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Options that `fit` and `fit_many` share; see `descend.fit` for what each means."""

    epochs: float | None = None
    steps: int | None = None
    examples: int | None = None
    batch_size: BatchSize | None = None
    evaluate_every: int | None = None
    evaluate_every_examples: int | None = None
    keep_best: bool = False

    def __post_init__(self) -> None:
        budgets = {name: getattr(self, name) for name in ("epochs", "steps", "examples")}
        given = [f"{name}={value!r}" for name, value in budgets.items() if value is not None]
        if len(given) > 1:
            raise OptionError(f"{' and '.join(given)}: give one of them as the budget")
        if self.evaluate_every is not None and self.evaluate_every_examples is not None:
            raise OptionError(
                f"evaluate_every={self.evaluate_every!r} and evaluate_every_examples={self.evaluate_every_examples!r} "
                "both say when to evaluate; leave one of them out"
            )
        _keep(
            self,
            epochs=optional(real, "epochs", self.epochs, above=0, remedy=f"try {DEFAULT_EPOCHS}"),
            steps=optional(count, "steps", self.steps, at_least=0),
            examples=optional(count, "examples", self.examples),
            evaluate_every=optional(count, "evaluate_every", self.evaluate_every),
            evaluate_every_examples=optional(count, "evaluate_every_examples", self.evaluate_every_examples),
            keep_best=flag("keep_best", self.keep_best),
        )

    def check_problem(self, problem: Any) -> None:
        """Refuse what is no problem, and a problem that lacks the data that the options need."""
        if not isinstance(problem, Problem):
            raise ProblemError(
                f"{problem!r} is not a Problem: pass descend.Problem(…) or descend.problems.load('digits')"
            )
        if self._needs_validation(problem) and problem.validation is None:
            raise ProblemError(f"{problem.name} has no validation data, which patience and keep_best need")
        if self._needs_best():
            problem.direction("keep_best" if self.keep_best else "patience")

    def _needs_best(self) -> bool:
        return self.keep_best

    def _needs_validation(self, problem: Problem) -> bool:
        # Without data every evaluation is of the function itself, by which the best point can be kept.
        return self._needs_best() and problem.train is not None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitOptions(TrainingOptions):
    """Options of `descend.fit`."""

    seed: int = 0
    patience: int | None = None
    max_seconds: float | None = None
    callback: Callable[[Evaluation], Any] | None = None
    history: bool | Literal["path"] = True
    progress: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _keep(
            self,
            seed=seed("seed", self.seed),
            patience=optional(count, "patience", self.patience),
            max_seconds=optional(seconds, "max_seconds", self.max_seconds),
            callback=optional(function, "callback", self.callback),
            history=record("history", self.history),
            progress=optional(flag, "progress", self.progress),
        )

    def _needs_best(self) -> bool:
        return self.patience is not None or self.keep_best

    def _needs_validation(self, problem: Problem) -> bool:
        return self.patience is not None or super()._needs_validation(problem)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitManyOptions(TrainingOptions):
    """Options of `descend.fit_many`, which keeps the best parameters by default."""

    keep_best: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class RangeTestOptions:
    """Options of `descend.find_lr`; see there for what each means."""

    batch_size: BatchSize | None = None
    low: float = 1e-6
    high: float = 100.0
    steps: int = 160  # twenty for each decade of learning rates
    trial_steps: int = 50
    seeds: int = 7
    budget: int | None = None
    jobs: int | None = None
    announce: Callable[[str], Any] | None = None
    progress: bool | None = None

    def __post_init__(self) -> None:
        default = RangeTestOptions
        _keep(
            self,
            steps=count("steps", self.steps, at_least=20),
            trial_steps=count("trial_steps", self.trial_steps),
            seeds=count("seeds", self.seeds),
            budget=optional(count, "budget", self.budget, otherwise="None for what the work takes"),
            jobs=optional(count, "jobs", self.jobs, remedy=f"leave it out to use all {usable_cores()} cores"),
            announce=optional(function, "announce", self.announce),
            low=real("low", self.low, above=0, noun="learning rate", remedy=f"try {default.low:g}"),
            high=real("high", self.high, above=0, noun="learning rate", remedy=f"try {default.high:g}"),
            progress=optional(flag, "progress", self.progress),
        )
        if not self.low * 10 <= self.high:
            raise OptionError(
                f"low={self.low!r}, high={self.high!r}: high must be ten times low at least; "
                f"try low={self.high / 1e4:g}"
            )


def _keep(options: Any, **checked: Any) -> None:
    """Keep what the checks returned: Python's own numbers in place of NumPy's."""
    for name, value in checked.items():
        object.__setattr__(options, name, value)
