"""What every training does beside stepping: its budget, its batches, its looks at validation data, its result."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

from descend.checks import count, optional
from descend.descent.history import Evaluation, History
from descend.descent.result import FitResult
from descend.errors import ObjectiveError, OptionError, ProblemError
from descend.objectives.objective import Objective
from descend.parameters.memory import Array, Memory
from descend.problems.problem import Problem, Start
from descend.stopping import Reason
from descend.training.batches import Batches, BatchSize

__all__ = ["Training", "batch", "batches_of", "check", "looks_after", "measured", "steps_of"]

DEFAULT_EPOCHS = 20
DEFAULT_STEPS = 1_000
"""Steps for a problem without data, where there are no epochs."""
DEFAULT_BATCH_SIZE = 32


After = Callable[[int], int]


class Training:
    """One training from one seed: where it starts, what its looks have seen, the best of them, and its result.

    Parameters
    ----------
    problem, seed, keep_best
        As `descend.fit` takes them.
    batches, total, after
        The batches of the steps, how many steps there are at most, and the step of the next look after a step.
    """

    def __init__(
        self, problem: Problem, seed: int, batches: Batches | None, total: int, after: After, keep_best: bool
    ) -> None:
        self.problem = problem
        self.batches = batches
        self.total = total
        self._after, self._next = after, after(0)
        self.keep_best = keep_best
        self.start: Start = problem.begin(seed)
        self.memory = Memory(self.start.params, "params")
        self.objective = self.start.objective(self.memory)
        self.history = History()
        self.best: Evaluation | None = None
        self.looks_since_best = 0
        self.losses = 0.0
        """The sum of the batches' losses since the last look, and of how many."""
        self.losses_count = 0
        self._best_vectors: list[Array] | None = None
        self._best_extra: Any = None

    def due(self, steps: int) -> bool:
        """Whether there is a look after so many steps; asked after every step, or every few, in their order."""
        if steps < self._next:
            return steps == self.total
        self._next = self._after(steps)
        return True

    def look(self, steps: int, seconds: float) -> Evaluation:
        """Evaluate on the validation data, after so many steps and seconds, and keep the best."""
        loss, metric = self._measure(self.problem.validation if self.problem.train is not None else (), steps)
        look = Evaluation(
            step=steps,
            epoch=self._epochs(steps),
            examples=self._examples(steps),
            seconds=seconds,
            batch_loss=self.losses / self.losses_count if self.losses_count else math.nan,
            validation_loss=loss,
            validation_metric=metric,
        )
        self.losses, self.losses_count = 0.0, 0
        self.history.record_evaluation(look)
        # The metric alone says whether there is progress; of equal metrics, the lower loss is kept.
        self.looks_since_best += 1
        if self.best is None or self._rank(look)[0] < self._rank(self.best)[0]:
            self.looks_since_best = 0
        if self.best is None or self._rank(look) < self._rank(self.best):
            self.best = look
            if self.keep_best:
                self._best_vectors = self.memory.snapshot()
                self._best_extra = self.start.snapshot()
        return look

    def last_look(self, reason: Reason, detail: str, steps: int, seconds: float) -> tuple[Reason, str]:
        """Look at where it ended, if it has not been; what is not finite there is a failure, not an end."""
        if reason.kind == "failed":
            return reason, detail
        look = self.history.evaluations[-1]
        if look.step != steps:
            look = self.look(steps, seconds)
        lost = self.memory.first_non_finite(self.memory.vectors)
        measured = self.problem.train is None or self.problem.validation is not None
        if lost is not None:
            return Reason.NON_FINITE, f"{lost[0]} is {lost[1]} after step {steps}."
        if measured and not math.isfinite(look.validation_loss):
            return Reason.NON_FINITE, f"The validation loss is {look.validation_loss} after step {steps}."
        return reason, detail

    def result(self, reason: Reason, detail: str, steps: int, seconds: float) -> FitResult:
        """What is given back of a training that ended after so many steps and seconds."""
        memory, problem = self.memory, self.problem
        last = memory.result()
        if self._best_vectors is not None:
            for vector, best in zip(memory.vectors, self._best_vectors, strict=True):
                vector[...] = best
            self.start.restore(self._best_extra)
        figures = {"train": math.nan, "validation": math.nan, "test": math.nan}
        if reason is not Reason.FUNCTION_RAISED:  # what has raised once is not asked again
            whole: Any = problem.train if problem.train is not None else ()
            figures["train"] = self._measure(whole, steps)[0]
            figures["validation"] = self._measure(problem.validation, steps)[1]
            figures["test"] = self._measure(problem.test, steps)[1]
        return FitResult(
            x=memory.result(),
            fun=figures["train"],
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
            validation_metric=figures["validation"],
            test_metric=figures["test"],
            best=self.best,
            buffers=self.start.snapshot(),
        )

    def _rank(self, look: Evaluation) -> tuple[float, float]:
        """Smaller is better; what is not finite comes last."""
        metric = -look.validation_metric if self.problem.higher_is_better else look.validation_metric
        return (
            metric if math.isfinite(metric) else math.inf,
            look.validation_loss if math.isfinite(look.validation_loss) else math.inf,
        )

    def _epochs(self, steps: int) -> float:
        return steps / self.batches.per_epoch if self.batches else float(steps)

    def _examples(self, steps: int) -> int:
        return self.batches.examples(steps) if self.batches else steps

    def _measure(self, data: Any, steps: int) -> tuple[float, float]:
        """Loss and metric over some data at the memory's point; NaN where there are none."""
        if data is None:
            return math.nan, math.nan
        return measured(self.problem, self.start, self.objective, data, steps)


def check(problem: Problem, seed: Any, keep_best: bool, **counts: Any) -> None:
    """Refuse what no training can be made of; `counts` are whole numbers or None."""
    if not isinstance(problem, Problem):
        raise ProblemError(f"{problem!r} is not a Problem: pass descend.Problem(…) or descend.problems.load('digits')")
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or seed < 0:
        raise OptionError(f"seed={seed!r}: a whole number ≥ 0 is needed")
    for name, value in counts.items():
        optional(count, name, value)
    patient = counts.get("patience") is not None
    if problem.validation is None and (patient or (keep_best and problem.train is not None)):
        raise ProblemError(f"{problem.name} has no validation data, which patience and keep_best need")


def batch(problem: Problem, batches: Batches | None, step: int) -> tuple[Any, ...]:
    """The examples of a step; none for a problem without data."""
    if batches is None or problem.train is None:
        return ()
    rows = batches.rows(step)
    return tuple([part[rows] for part in problem.train])


def measured(problem: Problem, start: Start, objective: Objective, data: Any, step: int) -> tuple[float, float]:
    """Loss and metric over some data at the objective's point; raises `ObjectiveError`, whatever they raise."""
    try:
        found: tuple[float, float] = objective.apply(start.measure, *data)
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


def batches_of(problem: Problem, batch_size: BatchSize | None, seed: int) -> Batches | None:
    """The batches of a problem's training data, by default of 32 examples; None for a problem without data."""
    if problem.size is None:
        if batch_size not in (None, "full"):
            raise OptionError(f"batch_size={batch_size!r}: {problem.name} has no data to take batches of; leave it out")
        return None
    if batch_size is None:
        batch_size = min(DEFAULT_BATCH_SIZE, problem.size)
    return Batches(problem.size, batch_size, seed)


def steps_of(batches: Batches | None, epochs: float | None, steps: int | None, examples: int | None) -> int:
    """The number of steps that the budget allows."""
    given = {k: v for k, v in (("epochs", epochs), ("steps", steps), ("examples", examples)) if v is not None}
    if len(given) > 1:
        raise OptionError(f"{' and '.join(f'{k}={v!r}' for k, v in given.items())}: give one of them as the budget")
    optional(count, "steps", steps, at_least=0)
    optional(count, "examples", examples)
    if steps is not None:
        return int(steps)
    if batches is None:
        if epochs is not None:
            raise OptionError(f"epochs={epochs!r}: a problem without data has no epochs; give steps")
        return DEFAULT_STEPS if examples is None else int(examples)
    if examples is not None:
        total = batches.steps(int(examples))
        if total == 0:
            raise OptionError(
                f"examples={examples} does not pay for one batch of {batches.batch_size}; "
                f"give at least {batches.batch_size}, or a smaller batch_size"
            )
        return total
    if epochs is None:
        epochs = DEFAULT_EPOCHS
    if isinstance(epochs, bool) or not isinstance(epochs, numbers.Real) or not (math.isfinite(epochs) and epochs > 0):
        raise OptionError(f"epochs={epochs!r}: a number > 0 is needed; try {DEFAULT_EPOCHS}")
    return max(1, round(float(epochs) * batches.per_epoch))


def looks_after(
    batches: Batches | None, total: int, evaluate_every: int | None, evaluate_every_examples: int | None
) -> After:
    """The step of the next look after a step; by default an epoch later or, without data, a hundredth of all."""
    if evaluate_every is not None and evaluate_every_examples is not None:
        raise OptionError(
            f"evaluate_every={evaluate_every} and evaluate_every_examples={evaluate_every_examples} both say when to "
            "look; leave one of them out"
        )
    if evaluate_every_examples is None or batches is None:
        every = evaluate_every_examples or evaluate_every or (batches.per_epoch if batches else max(1, total // 100))
        return lambda steps: (steps // every + 1) * every

    def after(steps: int) -> int:
        enough = (batches.examples(steps) // evaluate_every_examples + 1) * evaluate_every_examples
        found = batches.steps(enough)
        return found if batches.examples(found) == enough else found + 1

    return after
