"""`fit`: train a problem's parameters by mini-batches, and evaluate them on validation data meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

from descend.descent.history import Evaluation, History
from descend.descent.interrupts import Interrupts, holding, interruptible
from descend.descent.loop import Descent
from descend.descent.result import FitResult
from descend.errors import ObjectiveError
from descend.parameters.memory import Array
from descend.problems.generators import STEPS, seeded
from descend.problems.problem import Problem
from descend.progress import Bar
from descend.rules import Rule, resolve
from descend.stopping import Criteria, Reason
from descend.training.batches import BatchSize, batch, batches_of
from descend.training.budget import Budget
from descend.training.options import FitOptions
from descend.training.run import Training

__all__ = ["fit"]


def fit(
    problem: Problem,
    rule: Rule | type[Rule] | str = "adam",
    *,
    epochs: float | None = None,
    steps: int | None = None,
    examples: int | None = None,
    batch_size: BatchSize | None = None,
    seed: int = FitOptions.seed,
    evaluate_every: int | None = None,
    evaluate_every_examples: int | None = None,
    patience: int | None = None,
    keep_best: bool = FitOptions.keep_best,
    max_seconds: float | None = None,
    callback: Callable[[Evaluation], Any] | None = None,
    history: bool | Literal["path"] = FitOptions.history,
    progress: bool | None = None,
) -> FitResult:
    """Train a problem's parameters by any rule: batch gradient descent, SGD or mini-batches.

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
        Decides the initial parameters, the order of the examples, and what the problem's functions draw from the global
        generators of NumPy, Python and PyTorch: the same seed gives the same bits.
    evaluate_every, evaluate_every_examples
        Steps between evaluations on the validation data; or gradient evaluations between them: then one comes after
        the first step at or beyond each multiple, so that descents with other batches are evaluated as often. Default:
        once an epoch (100 times in all without data). The start and the end are always evaluated.
    patience
        Stop early when the validation metric has not improved in this many evaluations.
    keep_best
        Return the parameters with the best validation metric instead of the last ones. Ties go to the lower
        validation loss, then to the earlier evaluation.
    max_seconds
        Stop after this many seconds.
    callback
        Called with each `Evaluation`; a true return value, or ``StopIteration``, stops the descent.
    history
        Keep loss and gradient norm of each step, thinned beyond 10,000 records; ``"path"`` keeps the parameters at each
        record besides, in ``result.history.path``. Evaluations are always kept.
    progress
        Show a progress bar on standard error, if that is a terminal. None: only when the work is long.

    Returns
    -------
    FitResult
        Parameters, metrics on validation and test data, history, and why it stopped. Ctrl-C ends the descent after
        the step at hand and returns the result so far. Pressed again while something is measured, it ends that at
        once, and what is not measured is NaN; pressed again within a step, it raises `KeyboardInterrupt`, whose
        `.result` is the result so far.

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
    options = FitOptions(
        epochs=epochs,
        steps=steps,
        examples=examples,
        batch_size=batch_size,
        seed=seed,
        evaluate_every=evaluate_every,
        evaluate_every_examples=evaluate_every_examples,
        patience=patience,
        keep_best=keep_best,
        max_seconds=max_seconds,
        callback=callback,
        history=history,
        progress=progress,
    )
    return _FitRun(problem, resolve(rule), options).run()


class _FitRun:
    """One call of `fit`: a training, and the descent that makes its steps."""

    def __init__(self, problem: Problem, rule: Rule, options: FitOptions) -> None:
        options.check_problem(problem)
        self.options = options
        batches = batches_of(problem, options.batch_size, options.seed)
        budget = Budget.of(options, batches)
        self.training = Training(problem, options.seed, batches, budget, options.keep_best, maximize=rule.maximize)
        self.training.history = History(path=options.history == "path")
        objective = self.training.objective
        self.training.instance.may_skip = not rule.kept_state()
        self.descent = Descent(
            self.training.memory,
            rule,
            self._loss_and_gradient,
            Criteria(max_steps=self.training.budget.steps, max_seconds=options.max_seconds),
            self.training.history if options.history else None,
            whole=False,
            evaluations=lambda: (objective.nfev, objective.cost),
            each=self._after_step,
        )
        self._bar: Bar | None = None

    def run(self) -> FitResult:
        """Train to the end; the result so far is on the error where the problem's functions raise."""
        result = interruptible(self._run)
        result.interrupted = self.descent.interrupts() or result.interrupted
        left_by = self.training.left_by
        if left_by is None and self.descent.interrupts.leaves_loop:
            left_by = KeyboardInterrupt()
        if left_by is not None:
            raise holding(left_by, result)
        return result

    def _run(self, interrupted: Interrupts) -> FitResult:
        self.descent.began = time.perf_counter()  # the first evaluation, before the first step, takes time as well
        training = self.training
        training.interrupts = self.descent.interrupts = interrupted
        with (
            seeded(self.options.seed, STEPS),
            Bar(training.problem.name, training.budget.steps, self.options.progress) as self._bar,
        ):
            try:
                return self._result(self._train(interrupted), measured=not interrupted.at_once)
            except ObjectiveError as error:
                self.descent.detail = f"{error}."
                error.result = self._result(Reason.FUNCTION_RAISED, measured=False)
                raise
            except KeyboardInterrupt as error:  # within a step
                training.left_by = error
                return self._result(Reason.INTERRUPTED, measured=False)

    def _train(self, interrupted: Interrupts) -> Reason:
        """Evaluate, train, and evaluate the end, until there is a reason to stop."""
        reason = self._evaluate() or self.descent.run(interrupted)
        if interrupted.at_once:
            return reason
        try:
            return self._evaluate_end(reason)
        except KeyboardInterrupt as error:
            return self._not_evaluated(error)

    def _not_evaluated(self, error: KeyboardInterrupt) -> Reason:
        """What an interrupt of an evaluation ends the training with: nothing of it is lost by that."""
        if not self.descent.interrupts.answers(error):
            raise error
        return Reason.INTERRUPTED

    def _loss_and_gradient(self, grad: list[Array]) -> float:
        """Loss and gradient over the batch of the next step."""
        training = self.training
        loss = training.objective(grad, batch(training.problem, training.batches, self.descent.steps))
        training.add_losses(loss)
        return loss

    def _after_step(self, descent: Descent) -> Reason | None:
        self.training.instance.after_step(descent.memory)
        if self._bar is not None:
            self._bar.to(descent.steps)
        return self._evaluate() if self.training.evaluation_due(descent.steps) else None

    def _evaluate(self) -> Reason | None:
        """Evaluate on the validation data; a reason to stop, if callback or patience has one."""
        try:
            evaluation = self.training.evaluate(self.descent.steps, self.descent.seconds)
            if self._stopped_by_callback(evaluation):
                return Reason.CALLBACK
        except KeyboardInterrupt as error:
            return self._not_evaluated(error)
        patience = self.options.patience
        if patience is not None and self.training.evaluations_since_best >= patience:
            return Reason.NO_PROGRESS
        return None

    def _stopped_by_callback(self, evaluation: Evaluation) -> bool:
        if self.options.callback is None:
            return False
        try:
            return bool(self.descent.interrupts.call(self.options.callback, evaluation))
        except StopIteration:
            return True
        except Exception as error:
            raise ObjectiveError(
                f"callback raised {type(error).__name__}: {error} (at step {evaluation.step})"
            ) from error

    def _evaluate_end(self, reason: Reason) -> Reason:
        descent = self.descent
        reason, descent.detail = self.training.evaluate_end(reason, descent.detail, descent.steps, descent.seconds)
        return reason

    def _result(self, reason: Reason, *, measured: bool) -> FitResult:
        descent = self.descent
        return self.training.result(reason, descent.detail, descent.steps, descent.seconds, measured=measured)
