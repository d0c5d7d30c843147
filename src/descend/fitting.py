"""`fit`: train a problem's parameters by mini-batches, looking at validation data as it goes."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

from descend.batches import Batches, BatchSize
from descend.containers import Array, Memory
from descend.descent import Descent
from descend.errors import ObjectiveError, OptionError, ProblemError
from descend.gradients import Objective
from descend.history import Evaluation, History
from descend.problems.problem import Problem, Start
from descend.progress import Bar
from descend.result import FitResult
from descend.rules import Rule, resolve
from descend.stopping import Criteria, Reason, count

__all__ = ["batch", "batches_of", "fit", "measured"]

DEFAULT_EPOCHS = 20
DEFAULT_STEPS = 1_000
"""Steps for a problem without data, where there are no epochs."""
DEFAULT_BATCH_SIZE = 32


def fit(
    problem: Problem,
    rule: Rule | type[Rule] | str = "adam",
    *,
    epochs: float | None = None,
    steps: int | None = None,
    examples: int | None = None,
    batch_size: BatchSize | None = None,
    seed: int = 0,
    evaluate_every: int | None = None,
    patience: int | None = None,
    keep_best: bool = False,
    max_seconds: float | None = None,
    callback: Callable[[Evaluation], Any] | None = None,
    history: bool = True,
    progress: bool | None = None,
) -> FitResult:
    """Train a problem's parameters: batch gradient descent, SGD or mini-batches, by any rule.

    Parameters
    ----------
    problem
        What to minimise; see `Problem` and `descend.problems.load`.
    rule
        A rule, its class, or its name. Any of its numbers may be a schedule of the step (`descend.schedules`).
    epochs, steps, examples
        The budget, one of them: passes over the training data (a fraction is allowed), steps, or gradient
        evaluations (examples seen; never exceeded). Default: 20 epochs; 1,000 steps for a problem without data.
    batch_size
        ``"full"`` for batch gradient descent, 1 for SGD on one example, n for mini-batches. Default 32, or all
        examples where there are fewer.
    seed
        Decides the start and the order of the examples: the same seed gives the same bits.
    evaluate_every
        Steps between looks at the validation data. Default: once an epoch (100 times in all without data). The
        start and the end are always looked at.
    patience
        Stop early when the validation metric has not improved in this many looks.
    keep_best
        Return the parameters with the best validation metric instead of the last ones. Ties go to the lower
        validation loss, then to the earlier look.
    max_seconds
        Stop after this many seconds.
    callback
        Called with each `Evaluation`; a true return value, or ``StopIteration``, stops the descent.
    history
        Keep loss and gradient norm of each step, thinned beyond 10,000 records. Evaluations are always kept.
    progress
        Show a progress bar on standard error, if that is a terminal. None: only when the work is long.

    Returns
    -------
    FitResult
        Parameters, metrics on validation and test data, history, and why it stopped. Ctrl-C ends the descent after
        the step at hand and returns the result so far.

    Raises
    ------
    OptionError, ProblemError, ParameterError, RuleError
        Something is wrong with what was given, before anything is run.
    ObjectiveError
        The loss raised, or returned something that is not a number; `.result` holds the descent so far.

    Examples
    --------
    >>> import descend
    >>> problem = descend.problems.load("diabetes")
    >>> result = descend.fit(problem, descend.GD(lr=0.2), epochs=50, batch_size="full")
    >>> result.nit, result.examples, str(result.reason)
    (50, 13250, 'max_steps')
    """
    if not isinstance(problem, Problem):
        raise ProblemError(f"{problem!r} is not a Problem: pass descend.Problem(…) or descend.problems.load('digits')")
    rule = resolve(rule)
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or seed < 0:
        raise OptionError(f"seed={seed!r}: a whole number ≥ 0 is needed")
    for name, value in (("evaluate_every", evaluate_every), ("patience", patience)):
        count(name, value)
    if callback is not None and not callable(callback):
        raise OptionError(f"callback={callback!r} is not a function")
    if problem.validation is None and (patience is not None or (keep_best and problem.train is not None)):
        raise ProblemError(f"{problem.name} has no validation data, which patience and keep_best need")
    batches = batches_of(problem, batch_size, int(seed))
    total = _total(batches, epochs, steps, examples)
    run = _Fit(
        problem,
        rule,
        batches,
        total,
        seed=int(seed),
        every=evaluate_every or (batches.per_epoch if batches else max(1, total // 100)),
        patience=patience,
        keep_best=keep_best,
        max_seconds=max_seconds,
        callback=callback,
        history=history,
    )
    return run.run(progress)


class _Fit:
    """One call of `fit`: a descent, its batches, and its looks at validation data."""

    def __init__(
        self,
        problem: Problem,
        rule: Rule,
        batches: Batches | None,
        total: int,
        *,
        seed: int,
        every: int,
        patience: int | None,
        keep_best: bool,
        max_seconds: float | None,
        callback: Callable[[Evaluation], Any] | None,
        history: bool,
    ) -> None:
        self.problem = problem
        self.batches = batches
        self.total = total
        self.every = every
        self.patience = patience
        self.keep_best = keep_best
        self.callback = callback
        self.start: Start = problem.begin(seed)
        self.memory = Memory(self.start.params, "params")
        self.objective = self.start.objective(self.memory)
        self.history = History()
        self.descent = Descent(
            self.memory,
            rule,
            self._evaluate,
            Criteria(max_steps=total, max_seconds=max_seconds),
            self.history if history else None,
            whole=False,
            evaluations=lambda: (self.objective.nfev, self.objective.cost),
            each=self._each,
        )
        self.best: Evaluation | None = None
        self._best_vectors: list[Array] | None = None
        self._best_extra: Any = None
        self._looks_since_best = 0
        self._losses = 0.0
        self._losses_count = 0
        self._bar: Bar | None = None

    def run(self, progress: bool | None) -> FitResult:
        with Bar(self.problem.name, self.total, progress) as self._bar:
            try:
                reason = self._look() or self._last_look(self.descent.run())
                return self._result(reason)
            except ObjectiveError as error:
                self.descent.detail = f"{error}."
                error.result = self._result(Reason.FUNCTION_RAISED)
                raise

    def _last_look(self, reason: Reason) -> Reason:
        """Look at where the descent ended, if it has not been; what is not finite there is a failure, not an end."""
        if reason.kind == "failed":
            return reason
        look = self.history.evaluations[-1]
        if look.step != self.descent.steps:
            look = self._take_note()
        lost = self.memory.first_non_finite(self.memory.vectors)
        measured = self.problem.train is None or self.problem.validation is not None
        if lost is not None:
            self.descent.detail = f"{lost[0]} is {lost[1]} after step {self.descent.steps}."
            return Reason.NON_FINITE
        if measured and not math.isfinite(look.validation_loss):
            self.descent.detail = f"The validation loss is {look.validation_loss} after step {self.descent.steps}."
            return Reason.NON_FINITE
        return reason

    def _evaluate(self, grad: list[Array]) -> float:
        """Loss and gradient over the batch of the step at hand."""
        loss = self.objective(grad, batch(self.problem, self.batches, self.descent.steps))
        self._losses += loss
        self._losses_count += 1
        return loss

    def _each(self, descent: Descent) -> Reason | None:
        if self._bar is not None:
            self._bar.to(descent.steps)
        if descent.steps % self.every == 0 or descent.steps == self.total:
            return self._look()
        return None

    def _look(self) -> Reason | None:
        """Take note of where the descent stands, and decide whether it goes on."""
        look = self._take_note()
        if self.callback is not None:
            try:
                if self.callback(look):
                    return Reason.CALLBACK
            except StopIteration:
                return Reason.CALLBACK
            except Exception as error:
                raise ObjectiveError(
                    f"callback raised {type(error).__name__}: {error} (at step {look.step})"
                ) from error
        if self.patience is not None and self._looks_since_best >= self.patience:
            return Reason.NO_PROGRESS
        return None

    def _take_note(self) -> Evaluation:
        """Evaluate on the validation data, and keep the best."""
        steps = self.descent.steps
        loss, metric = self._measure(self.problem.validation if self.problem.train is not None else ())
        look = Evaluation(
            step=steps,
            epoch=steps / self.batches.per_epoch if self.batches else float(steps),
            examples=self._examples(),
            seconds=self.descent.seconds,
            batch_loss=self._losses / self._losses_count if self._losses_count else math.nan,
            validation_loss=loss,
            validation_metric=metric,
        )
        self._losses, self._losses_count = 0.0, 0
        self.history.look(look)
        # The metric alone says whether there is progress; of equal metrics, the lower loss is kept.
        self._looks_since_best += 1
        if self.best is None or self._rank(look)[0] < self._rank(self.best)[0]:
            self._looks_since_best = 0
        if self.best is None or self._rank(look) < self._rank(self.best):
            self.best = look
            if self.keep_best:
                self._best_vectors = self.memory.snapshot()
                self._best_extra = self.start.snapshot()
        return look

    def _rank(self, look: Evaluation) -> tuple[float, float]:
        """Smaller is better; what is not finite comes last."""
        metric = -look.validation_metric if self.problem.higher_is_better else look.validation_metric
        return (
            metric if math.isfinite(metric) else math.inf,
            look.validation_loss if math.isfinite(look.validation_loss) else math.inf,
        )

    def _examples(self) -> int:
        steps = self.descent.steps
        return self.batches.examples(steps) if self.batches else steps

    def _measure(self, data: Any) -> tuple[float, float]:
        """Loss and metric over some data at the memory's point; NaN where there are none."""
        if data is None:
            return math.nan, math.nan
        return measured(self.problem, self.start, self.objective, data, self.descent.steps)

    def _result(self, reason: Reason) -> FitResult:
        descent, memory, problem = self.descent, self.memory, self.problem
        last = memory.result()
        if self._best_vectors is not None:
            for vector, best in zip(memory.vectors, self._best_vectors, strict=True):
                vector[...] = best
            self.start.restore(self._best_extra)
        figures = {"train": math.nan, "validation": math.nan, "test": math.nan}
        if reason is not Reason.FUNCTION_RAISED:  # what has raised once is not asked again
            whole: Any = problem.train if problem.train is not None else ()
            figures["train"] = self._measure(whole)[0]
            figures["validation"] = self._measure(problem.validation)[1]
            figures["test"] = self._measure(problem.test)[1]
        return FitResult(
            x=memory.result(),
            fun=figures["train"],
            jac=None,
            nit=descent.steps,
            nfev=self.objective.nfev,
            njev=self.objective.njev,
            reason=reason,
            message=_message(reason, descent.detail, descent.steps),
            history=self.history,
            x_last=last,
            seconds=descent.seconds,
            examples=self._examples(),
            epochs=descent.steps / self.batches.per_epoch if self.batches else float(descent.steps),
            metric_name=problem.metric_name,
            validation_metric=figures["validation"],
            test_metric=figures["test"],
            best=self.best,
            buffers=self.start.snapshot(),
        )


def batch(problem: Problem, batches: Batches | None, step: int) -> tuple[Any, ...]:
    """The examples of a step; none for a problem without data."""
    if batches is None or problem.train is None:
        return ()
    rows = batches.rows(step)
    return tuple([part[rows] for part in problem.train])


def measured(problem: Problem, start: Start, objective: Objective, data: Any, step: int) -> tuple[float, float]:
    """Loss and metric over some data at the objective's point; raises `ObjectiveError`, whatever they raise."""
    try:
        found: tuple[float, float] = objective.look(start.measure, *data)
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


def _total(batches: Batches | None, epochs: float | None, steps: int | None, examples: int | None) -> int:
    """The number of steps that the budget allows."""
    given = {k: v for k, v in (("epochs", epochs), ("steps", steps), ("examples", examples)) if v is not None}
    if len(given) > 1:
        raise OptionError(f"{' and '.join(f'{k}={v!r}' for k, v in given.items())}: give one of them as the budget")
    count("steps", steps, at_least=0)
    count("examples", examples)
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
