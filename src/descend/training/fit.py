"""`fit`: train a problem's parameters by mini-batches, looking at validation data as it goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from descend.descent.history import Evaluation
from descend.descent.loop import Descent
from descend.descent.result import FitResult
from descend.errors import ObjectiveError, OptionError
from descend.parameters.memory import Array
from descend.problems.problem import Problem
from descend.progress import Bar
from descend.rules import Rule, resolve
from descend.stopping import Criteria, Reason
from descend.training.batches import BatchSize
from descend.training.run import Training, batch, batches_of, check, looks_after, steps_of

__all__ = ["fit"]


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
    evaluate_every_examples: int | None = None,
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
    evaluate_every, evaluate_every_examples
        Steps between looks at the validation data; or gradient evaluations, which has a look after the first step at or
        beyond each multiple of them, so that descents with other batches are looked at as often. Default: once an epoch
        (100 times in all without data). The start and the end are always looked at.
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
    rule = resolve(rule)
    counts = {"evaluate_every": evaluate_every, "evaluate_every_examples": evaluate_every_examples}
    check(problem, seed, keep_best, patience=patience, **counts)
    if callback is not None and not callable(callback):
        raise OptionError(f"callback={callback!r} is not a function")
    batches = batches_of(problem, batch_size, int(seed))
    total = steps_of(batches, epochs, steps, examples)
    training = Training(problem, int(seed), batches, total, looks_after(batches, total, **counts), keep_best)
    return _Fit(training, rule, patience, max_seconds, callback, history).run(progress)


class _Fit:
    """One call of `fit`: a training and the descent that steps it."""

    def __init__(
        self,
        training: Training,
        rule: Rule,
        patience: int | None,
        max_seconds: float | None,
        callback: Callable[[Evaluation], Any] | None,
        history: bool,
    ) -> None:
        self.training = training
        self.patience = patience
        self.callback = callback
        objective = training.objective
        self.descent = Descent(
            training.memory,
            rule,
            self._evaluate,
            Criteria(max_steps=training.total, max_seconds=max_seconds),
            training.history if history else None,
            whole=False,
            evaluations=lambda: (objective.nfev, objective.cost),
            each=self._each,
        )
        self._bar: Bar | None = None

    def run(self, progress: bool | None) -> FitResult:
        with Bar(self.training.problem.name, self.training.total, progress) as self._bar:
            try:
                reason = self._look() or self._last_look(self.descent.run())
                return self._result(reason)
            except ObjectiveError as error:
                self.descent.detail = f"{error}."
                error.result = self._result(Reason.FUNCTION_RAISED)
                raise

    def _last_look(self, reason: Reason) -> Reason:
        descent = self.descent
        reason, descent.detail = self.training.last_look(reason, descent.detail, descent.steps, descent.seconds)
        return reason

    def _result(self, reason: Reason) -> FitResult:
        descent = self.descent
        return self.training.result(reason, descent.detail, descent.steps, descent.seconds)

    def _evaluate(self, grad: list[Array]) -> float:
        """Loss and gradient over the batch of the step at hand."""
        training = self.training
        loss = training.objective(grad, batch(training.problem, training.batches, self.descent.steps))
        training.losses += loss
        training.losses_count += 1
        return loss

    def _each(self, descent: Descent) -> Reason | None:
        if self._bar is not None:
            self._bar.to(descent.steps)
        return self._look() if self.training.due(descent.steps) else None

    def _look(self) -> Reason | None:
        """Take note of where the descent stands, and decide whether it goes on."""
        look = self.training.look(self.descent.steps, self.descent.seconds)
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
        if self.patience is not None and self.training.looks_since_best >= self.patience:
            return Reason.NO_PROGRESS
        return None
