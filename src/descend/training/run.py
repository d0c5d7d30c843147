"""`Training`: one run from one seed, and what it does beside stepping: evaluations, the best of them, its result."""

from __future__ import annotations

import math
from typing import Any

from descend.descent.history import Evaluation, History
from descend.descent.interrupts import Interrupts
from descend.descent.result import FitResult
from descend.errors import ObjectiveError
from descend.objectives.objective import Objective
from descend.parameters.memory import Array, Memory
from descend.problems.problem import Problem, ProblemInstance
from descend.stopping import Reason
from descend.training.batches import Batches
from descend.training.budget import Budget

__all__ = ["Training", "measured"]


class Training:
    """One training from one seed: its parameters and objective, its evaluations on validation data, and its result.

    Whoever makes the steps, `fit` alone or `fit_many` for many trainings at once, tells it the losses of the batches,
    asks after each step whether an evaluation is due, and asks for the result in the end.

    Parameters
    ----------
    problem, seed, keep_best
        As `descend.fit` takes them.
    batches, budget
        The batches of the steps (None without data), how many steps there are, and when to evaluate.
    maximize
        The rule climbs: a higher loss is better.
    """

    def __init__(
        self,
        problem: Problem,
        seed: int,
        batches: Batches | None,
        budget: Budget,
        keep_best: bool,
        *,
        maximize: bool = False,
    ) -> None:
        self.problem, self.seed = problem, seed
        self.batches = batches
        self.budget = budget
        self._next_evaluation = budget.next_evaluation(0)
        self.keep_best, self.maximize = keep_best, maximize
        self.instance = problem.instance(seed)
        self.memory = Memory(self.instance.params, "params")
        self.objective = self.instance.objective(self.memory)
        self.history = History()
        self.best: Evaluation | None = None
        self.evaluations_since_best = 0
        self._batch_losses, self._batches_seen = 0.0, 0
        self._best_vectors: list[Array] | None = None
        self._best_extra: Any = None
        self.interrupts = Interrupts()
        """What Ctrl-C has asked for."""
        self.left_by: KeyboardInterrupt | None = None
        """What interrupted the training and is to be passed on, with its result."""

    def add_losses(self, total: float, batches: int = 1) -> None:
        """Count in the sum of the losses of some batches since the last evaluation."""
        self._batch_losses += total
        self._batches_seen += batches

    def evaluation_due(self, steps: int) -> bool:
        """Whether an evaluation is due after so many steps; asked after every step, in their order."""
        if steps < self._next_evaluation:
            return steps == self.budget.steps
        self._next_evaluation = self.budget.next_evaluation(steps)
        return True

    def evaluate(self, steps: int, seconds: float) -> Evaluation:
        """Evaluate on the validation data, after so many steps and seconds, and keep the best parameters."""
        loss, metric = self._measure(self.problem.validation if self.problem.train is not None else (), steps)
        evaluation = Evaluation(
            step=steps,
            epoch=self._epochs(steps),
            examples=self._examples(steps),
            seconds=seconds,
            batch_loss=self._batch_losses / self._batches_seen if self._batches_seen else math.nan,
            validation_loss=loss,
            validation_metric=metric,
        )
        self._batch_losses, self._batches_seen = 0.0, 0
        self.history.record_evaluation(evaluation)
        if self.problem.higher_is_better is None:  # nobody asked for the best, and nothing tells which one it is
            return evaluation
        # The metric alone says whether there is progress; of equal metrics, the lower loss is kept.
        self.evaluations_since_best += 1
        if self.best is None or self._rank(evaluation)[0] < self._rank(self.best)[0]:
            self.evaluations_since_best = 0
        if self.best is None or self._rank(evaluation) < self._rank(self.best):
            self.best = evaluation
            if self.keep_best:
                self._best_vectors = self.memory.snapshot()
                self._best_extra = self.instance.snapshot()
        return evaluation

    def evaluate_end(self, reason: Reason, detail: str, steps: int, seconds: float) -> tuple[Reason, str]:
        """Evaluate where the training ended, if that is not done; what is not finite there is a failure, not an end.

        Returns the reason to stop and its detail: those given, or the failure.
        """
        if reason.kind == "failed":
            return reason, detail
        evaluation = self.history.evaluations[-1]
        if evaluation.step != steps:
            evaluation = self.evaluate(steps, seconds)
        lost = self.memory.first_non_finite(self.memory.vectors)
        measured = self.problem.train is None or self.problem.validation is not None
        if lost is not None:
            return Reason.NON_FINITE, f"{lost[0]} is {lost[1]} after step {steps}."
        if measured and not math.isfinite(evaluation.validation_loss):
            return Reason.NON_FINITE, f"The validation loss is {evaluation.validation_loss} after step {steps}."
        return reason, detail

    def result(self, reason: Reason, detail: str, steps: int, seconds: float, *, measured: bool = True) -> FitResult:
        """The result of a training that ended after so many steps and seconds; NaN where it is not to be measured."""
        memory, problem = self.memory, self.problem
        last = memory.result()
        if self._best_vectors is not None:
            for vector, best in zip(memory.vectors, self._best_vectors, strict=True):
                vector[...] = best
            self.instance.restore(self._best_extra)
        x, figures, interrupted = memory.result(), [math.nan] * 3, False
        try:
            for i, (data, which) in enumerate(self._to_measure() if measured else ()):
                figures[i] = self._measure(data, steps)[which]
        except KeyboardInterrupt as error:  # the training is done: nothing of it must be lost for a figure
            interrupted = True
            if not self.interrupts.answers(error):
                self.left_by = error
        train, validation, test = figures
        return FitResult(
            x=x,
            fun=train,
            jac=None,
            nit=steps,
            nfev=self.objective.nfev,
            njev=self.objective.njev,
            reason=reason,
            message=_message(reason, detail, steps),
            history=self.history,
            x_last=last,
            seconds=seconds,
            examples=self._examples(steps),
            epochs=self._epochs(steps),
            metric_name=problem.metric_name,
            validation_metric=validation,
            test_metric=test,
            best=self.best,
            buffers=self.instance.snapshot(),
            seed=self.seed,
            interrupted=interrupted or reason is Reason.INTERRUPTED,
        )

    def _to_measure(self) -> list[tuple[Any, int]]:
        """The data of training loss, validation metric and test metric, and which figure of each: loss or metric."""
        problem = self.problem
        return [(problem.train if problem.train is not None else (), 0), (problem.validation, 1), (problem.test, 1)]

    def _rank(self, evaluation: Evaluation) -> tuple[float, float]:
        """A key by which evaluations are sorted from best to worst; what is not finite comes last."""
        metric, loss = evaluation.validation_metric, evaluation.validation_loss
        if self.maximize if self.problem.metric is None else self.problem.higher_is_better:
            metric = -metric
        if self.maximize:
            loss = -loss
        return metric if math.isfinite(metric) else math.inf, loss if math.isfinite(loss) else math.inf

    def _epochs(self, steps: int) -> float:
        return steps / self.batches.per_epoch if self.batches else float(steps)

    def _examples(self, steps: int) -> int:
        return self.batches.examples(steps) if self.batches else steps

    def _measure(self, data: Any, steps: int) -> tuple[float, float]:
        """Loss and metric over some data at the memory's point; NaN where there are none."""
        if data is None:
            return math.nan, math.nan
        return self.interrupts.call(measured, self.problem, self.instance, self.objective, data, steps)


def measured(
    problem: Problem, instance: ProblemInstance, objective: Objective, data: Any, step: int
) -> tuple[float, float]:
    """Loss and metric over some data at the objective's point; raises `ObjectiveError`, whatever they raise."""
    try:
        found: tuple[float, float] = objective.apply(instance.measure, *data)
        return found
    except ObjectiveError:
        raise
    except Exception as error:
        raise ObjectiveError(
            f"{problem.name}: its loss or metric raised {type(error).__name__}: {error} (at step {step})"
        ) from error


def _message(reason: Reason, detail: str, steps: int) -> str:
    if reason is Reason.MAX_STEPS:
        return f"Done: all {steps} steps are spent."
    return reason.message(detail)
