"""The one loop: gradient → record → stop? → update, until there is a reason to stop.

`descend.minimize` (the whole objective at each step) and `descend.fit` (mini-batches) are two doors to it.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from descend.descent.convergence import converged
from descend.descent.ending import Ending
from descend.descent.health import HealthMonitor, at_step, cannot_step
from descend.descent.history import History
from descend.descent.interrupts import Interrupts, interrupts
from descend.descent.line import BudgetSpent, MemoryLineObjective
from descend.descent.point import CurrentPoint, largest_entry
from descend.descent.resume import DescentState, restore
from descend.engines import engine
from descend.errors import ObjectiveError
from descend.methods import Method, MethodRun
from descend.objectives.resolution import LossResolution
from descend.parameters.bounds import Bounds
from descend.parameters.memory import Array, Memory
from descend.rules import Rule
from descend.rules.formula import looks_at_arrays
from descend.stopping import Criteria, Reason

__all__ = ["Descent"]


class Descent:
    """One descent: where it stands, the best point it has seen, and the loop that moves it.

    Parameters
    ----------
    memory
        The parameters; they are updated in place.
    rule
        What a step is: a rule, or a method that searches for where to go.
    evaluate
        Writes the gradient at the memory's point into the vectors it is given and returns the loss.
    evaluations
        ``(nfev so far, nfev of one more gradient)``, for the budget.
    counts
        Counts by name that belong to the point at hand, for the state.
    criteria, history
        When to stop; what to keep.
    whole
        The loss is the whole objective: the point after the last step is evaluated too, points can be compared, and
        the best is kept. Otherwise a loss belongs to a batch.
    each
        Called at each point (`whole`) or after each step (otherwise); a reason it returns ends the descent. What it
        calls of the user's, it calls by ``descent.interrupts.call``.
    bounds
        Where the parameters may lie.
    resolution
        How finely the loss tells points apart; by default as finely as the parameters' floats.
    refine
        Has gradients be more exact from then on; returns False if that can't be had.
    gradient_error
        The error of each entry of the last gradient, infinite where nothing is known of it; None for an exact one.
    line
        Makes what a method sees of the descent.
    product
        ``product(p, g, beside)`` returns the Hessian's product with p, a vector of float64, at the memory's point,
        whose gradient g is; it may ask for the gradient at a distance along p by ``beside(distance)``.
    """

    def __init__(
        self,
        memory: Memory,
        rule: Rule | Method,
        evaluate: Callable[[list[Array]], float],
        criteria: Criteria,
        history: History | None,
        *,
        whole: bool,
        evaluations: Callable[[], tuple[int, int]],
        counts: Callable[[], dict[str, int]] = dict,
        each: Callable[[Descent], Reason | None] | None = None,
        bounds: Bounds | None = None,
        resolution: LossResolution | None = None,
        refine: Callable[[], bool] = lambda: False,
        product: Callable[[Array, Array, Callable[[float], Array]], Array] | None = None,
        gradient_error: Callable[[], Array | None] = lambda: None,
        line: Callable[[Descent], MemoryLineObjective] = MemoryLineObjective,
    ) -> None:
        self.memory, self.bounds, self.rule, self.each, self.whole = memory, bounds, rule, each, whole
        self.evaluate, self.evaluations, self.criteria, self.history = evaluate, evaluations, criteria, history
        self.resolution = resolution or LossResolution(max(float(np.finfo(v.dtype).eps) for v in memory.vectors))
        self.refine, self.gradient_error, self._make_line, self.product = refine, gradient_error, line, product
        self.counts, self.counted = counts, counts()  # now; when the point at hand had just been evaluated
        self.steps = 0
        self.point, self.health = CurrentPoint(memory, bounds), HealthMonitor(memory, rule)
        self.engine: Any = None
        """What steps by a rule."""
        self.method_run: MethodRun | None = None
        """What steps by a method, once it has begun."""
        self._line: MemoryLineObjective | None = None
        if isinstance(rule, Rule):
            self._take_engine(rule)
        if criteria.xtol is not None:
            self.point.before = memory.snapshot()
        self.began = math.nan
        """When its clock was started; by `run`, if not before."""
        self._users_errstate = np.geterr()
        """Of which floating-point errors NumPy warns in the user's code."""
        self.interrupts = Interrupts()  # what Ctrl-C has asked for

    def _take_engine(self, rule: Rule) -> None:
        # A cautious step counts over each of the user's arrays; a usual one sees one long vector of them all.
        memory, cautious = self.memory, looks_at_arrays(rule)
        self._grads = memory.views(self.point.grad) if cautious else self.point.grad
        self.engine = engine(rule, memory.leaves if cautious else memory.vectors, self.criteria.max_steps)

    @property
    def seconds(self) -> float:
        """Seconds since its clock was started."""
        return time.perf_counter() - self.began

    @property
    def norm(self) -> float:
        """Euclidean norm of the gradient at the point that was last evaluated."""
        return self.health.norm

    @property
    def detail(self) -> str:
        """What was seen of the reason to stop, for its message."""
        return self.health.detail

    @detail.setter
    def detail(self, text: str) -> None:
        self.health.detail = text

    # ---- the loop -----------------------------------------------------------------------------------------------

    def run(self, interrupted: Interrupts | None = None) -> Reason:
        """Descend until there is a reason to stop. Lets `ObjectiveError` through; all that was seen is kept.

        `interrupted` is asked after each step whether to stop; by default that is what Ctrl-C does. Pressed again, it
        ends the step at hand, and `KeyboardInterrupt` is let through.
        """
        if math.isnan(self.began):
            self.began = time.perf_counter()
        self._users_errstate = np.geterr()
        try:
            # A step or a trial that overflows is judged at the point it leads to; NumPy need not warn of it as well.
            with (
                interrupts() if interrupted is None else contextlib.nullcontext(interrupted) as self.interrupts,
                np.errstate(over="ignore", invalid="ignore", divide="ignore"),
            ):
                while True:
                    reason = self._step()
                    # A step that has led to a point which is evaluated already has still to be looked at.
                    if reason is None and not self.point.evaluated:
                        reason = self._interrupted()
                    if reason is not None:
                        return reason
        except KeyboardInterrupt as error:
            if not self.interrupts.is_first(error):
                raise
            return Reason.INTERRUPTED
        except ObjectiveError as error:
            if self.interrupts.at_once:  # some libraries pass on an interrupt as an error of theirs
                raise KeyboardInterrupt from error
            raise

    def _step(self) -> Reason | None:
        reason = self._evaluate() or self._check()
        if reason is None and self.point.evaluated:
            reason = self._interrupted()
        if reason is not None:
            return reason
        self._record()
        return self._step_by_method() if self.engine is None else self._step_by_rule()

    def _interrupted(self) -> Reason | None:
        """A reason to stop, if Ctrl-C was pressed; raises `KeyboardInterrupt` if it was pressed again."""
        if not self.interrupts():
            return None
        if self.interrupts.at_once:
            raise KeyboardInterrupt
        return Reason.INTERRUPTED

    def _evaluate(self) -> Reason | None:
        """Evaluate the point at hand, if that is not done and there is a budget for it."""
        point = self.point
        if point.evaluated:
            return None
        spent = self.spent()
        if spent is not None:
            return spent
        loss_before = point.loss
        try:
            point.loss = self.evaluate_point()
        except ObjectiveError as error:
            raise at_step(error, self.steps) from error.__cause__
        point.loss_before = loss_before
        point.evaluated, point.reported = self.whole, False
        self.counted = self.counts()
        return None

    def _check(self) -> Reason | None:
        """Whether to stop at the point that was just evaluated: by a failure, by convergence, by the callback."""
        point, health = self.point, self.health
        reason = health.finite(point.loss, point.grad, self.steps)
        if reason is None:
            if self.whole and not health.sign * point.loss > health.sign * point.best_loss:
                point.keep_as_best()
                if self._line is not None:
                    self._line.improved = False
            reason = health.diverged(point.loss, self.steps)
            if reason is None and self.whole:
                endless = self._line is not None and self._line.endless
                reason = health.falls_without_end(point.loss, self.steps, endless=endless)
        if reason is not None or not self.whole:
            return reason
        if self.criteria.has_tolerance:
            reason = converged(self)
        if self.each is not None and not point.reported:
            point.reported = True
            with np.errstate(**self._users_errstate):
                asked = self.each(self)
            reason = asked if reason is None else reason
        limit = self.criteria.max_steps
        if reason is None and limit is not None and self.steps >= limit:  # a state may be beyond it
            return Reason.MAX_STEPS
        return reason

    def _record(self) -> None:
        """Take note of the point in the history, before the step from it is made."""
        history = self.history
        if history is not None and history.record(self.steps, self.point.loss, self.norm) and history.path is not None:
            history.path.append(self.memory.result())

    def evaluate_point(self) -> float:
        """The loss at the memory's point; its gradient is that of the point at hand then."""
        with np.errstate(**self._users_errstate):
            return self.interrupts.call(self.evaluate, self.point.grad)

    def spent(self) -> Reason | None:
        """A reason not to evaluate another point: the budget."""
        limits = self.criteria
        if not self.whole and limits.max_steps is not None and self.steps >= limits.max_steps:
            return Reason.MAX_STEPS
        if limits.max_evals is not None and sum(self.evaluations()) > limits.max_evals:
            return Reason.MAX_EVALS
        if limits.max_seconds is not None and self.seconds >= limits.max_seconds:
            return Reason.MAX_SECONDS
        return None

    # ---- a step -------------------------------------------------------------------------------------------------

    def _step_by_rule(self) -> Reason | None:
        point = self.point
        if self.criteria.xtol is not None:
            point.before = self.memory.snapshot()
        try:
            self.engine.step(self._grads)
        except Exception as error:  # a schedule, or the user's own rule
            raise cannot_step(self.rule, self.steps + 1, error) from error
        self.steps += 1
        point.evaluated = False
        if self.bounds is not None:
            self.bounds.apply(self.memory.vectors)
        if self.whole or self.each is None:
            return None
        with np.errstate(**self._users_errstate):
            return self.each(self)

    def begin_method(self) -> MethodRun:
        """Begin the method at the point at hand."""
        assert isinstance(self.rule, Method)
        self._line = self._make_line(self)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            self.method_run = self.rule.begin(self._line)
            self.ending = Ending(self, self._line, self.method_run)
        return self.method_run

    def _step_by_method(self) -> Reason | None:
        """Let the method make a step; where it makes none, the descent stands where it stood."""
        run = self.begin_method() if self.method_run is None else self.method_run
        line, point = self._line, self.point
        assert line is not None
        line.begin_step()
        loss, before = point.loss, self.memory.snapshot() if self.criteria.xtol is not None else None
        try:
            reason = self._stationary() if self._is_stationary() else self.ending.advance()
        except BudgetSpent as spent:
            reason = spent.reason
            self.ending.undo()
        except BaseException as error:
            line.return_to(run.x, run.g, run.loss)
            self.ending.undo()
            if isinstance(error, ObjectiveError):
                raise at_step(error, self.steps + 1) from error.__cause__
            raise
        if reason is None:
            self.steps += 1
            self.counted = self.counts()
            point.reported, point.loss_before, point.before = False, loss, before
            return None
        line.return_to(run.x, run.g, run.loss)
        if self.history is not None:
            self.history.drop(self.steps)
        return self._no_step(reason, line)

    def _is_stationary(self) -> bool:
        """Whether the gradient is zero, but for entries that a bound takes care of."""
        assert self.method_run is not None
        if self.method_run.judges_end or not (self.norm == 0.0 or self.bounds is not None):
            return False
        return not any(np.any(g) for g in self.point.projected_gradient(self.health.sign))

    def _stationary(self) -> Reason | None:
        """Why a method ends where the gradient is zero: a step of length zero satisfies any tolerance on steps."""
        reason: Reason | None = Reason.LINE_SEARCH
        if self.criteria.ftol is not None or self.criteria.xtol is not None:
            reason = Reason.STEP if self.criteria.ftol is None else Reason.VALUE
        elif self.ending.by_itself:
            reason = self.ending.stationary()
        if reason is not None and reason is not Reason.RESOLUTION:
            within = "" if self.bounds is None else " within the bounds"
            self.detail = f"The gradient after step {self.steps} is zero{within}: nothing says where to go."
        return reason

    def _no_step(self, reason: Reason, line: MemoryLineObjective) -> Reason:
        """Why a method has made no step, and what was seen of it."""
        if reason.kind == "spent":
            return reason
        if self.method_run is not None and self.method_run.judges_end:
            self.detail = self.method_run.detail
            return reason
        if line.bottomless and not reason.success:
            self.detail = f"Ahead of step {self.steps + 1} it is minus infinity at a point tried."
            return Reason.UNBOUNDED
        if line.trials and not line.finite_trials:
            self.detail = f"Ahead of step {self.steps + 1} the loss is not finite at any point tried."
            return Reason.NON_FINITE
        if not self.detail:
            largest = largest_entry(self.point.grad)
            self.detail = f"The gradient's largest entry is {largest:.3g} after step {self.steps}."
        return reason

    # ---- going on -----------------------------------------------------------------------------------------------

    def state(self, more: Mapping[str, Any] | None = None) -> DescentState:
        """What it takes to go on exactly here, and what else is to be kept; taken when the descent has ended."""
        return DescentState(self, more or {})

    def release(self) -> None:
        """Let go of what only a descent that goes on needs; what was taken as its result and state is not touched.

        A method's run, its view of the objective and the descent know each other, and an error keeps whatever it went
        through: memory would stay taken until Python looks for circles, or for as long as the error is kept.
        """
        if self.method_run is not None:
            for owner in (self.method_run, self._line, self.ending):
                vars(owner).clear()
            del self.ending
        # What counts may belong to whoever holds the descent.
        self.counts, self.evaluations = dict, lambda: (0, 0)
        self.method_run = self._line = self.engine = self.each = None
        point = self.point
        point.grad, point.best, point.best_grad, point.before, self._grads = [], None, None, None, []

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; raises `StateError` where it was taken of something else."""
        restore(self, state)
