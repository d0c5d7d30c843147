"""`Minimization`: one descent of `minimize`, from what its user asks for to a result."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from descend.descent.history import History
from descend.descent.interrupts import Interrupts, holding
from descend.descent.loop import Descent
from descend.descent.result import Result
from descend.descent.resume import DescentState
from descend.errors import ObjectiveError
from descend.methods import BFGS, LBFGS, Method
from descend.minimization.advice import advice_for
from descend.minimization.callbacks import telling
from descend.minimization.choice import chosen, unused
from descend.minimization.ends import freed, reading_counts, require_enough, result_of
from descend.minimization.likelihood import LikelihoodAnswer
from descend.minimization.options import MinimizeOptions
from descend.objectives.gradient_check import check_at, require_agreement
from descend.objectives.objective import Objective
from descend.objectives.products import HessianProducts
from descend.parameters.bounds import Bounds
from descend.parameters.free import memory_of
from descend.parameters.starts import as_start
from descend.rules import Rule
from descend.stopping import Reason

__all__ = ["Minimization", "Outcome"]

STATE_BYTES = 2**23
"""What a state may take that is kept, unasked, where a budget was spent."""

Outcome = Result | ObjectiveError | KeyboardInterrupt
"""What a descent has come to: a result, or what has ended it, with the result so far."""


class Minimization:
    """A function, a start and options, as `descend.minimize` takes them: checked, and ready to descend.

    `memory` is where it stands, `objective` the function and the counts of its evaluations, `args` the further
    arguments of it, and `descent` the descent, which may be given another `evaluate` before it is run.
    """

    def __init__(self, fun: Callable[..., Any], x0: Any, options: MinimizeOptions) -> None:
        self.memory = memory = memory_of(as_start(x0), fixed=options.fixed, tied=options.tied, names=options.names)
        bounds = None if options.bounds is None else Bounds(memory, options.bounds)
        rule, self.why = chosen(options.method, memory, bounds, hessian=options.has_hessian)
        criteria = options.criteria((v.dtype for v in memory.vectors), searches=isinstance(rule, Method))
        self.args = args = options.arguments
        self.objective = objective = Objective(fun, options.jac, memory, steps=options.steps(memory))
        objective.max_evals = criteria.max_evals
        self.products = self._products(rule, options)
        self._moved = "" if bounds is None or options.state is not None else bounds.first_outside(memory)
        if bounds is not None:
            bounds.apply(memory.vectors)
            objective.bounds = bounds.ends
        require_enough(criteria.max_evals, objective, "gradient")
        self._unchecked, self._keep_state = options.check_gradient, options.keep_state
        self.descent = Descent(
            memory,
            rule,
            lambda grad: objective(grad, args),
            criteria,
            History(path=options.history == "path") if options.history else None,
            whole=True,
            evaluations=self._evaluations,
            counts=self._counts,
            each=None if options.callback is None else telling(options.callback, objective),
            bounds=bounds,
            resolution=objective.resolution,
            refine=objective.refine,
            product=self.products,
            gradient_error=lambda: objective.gradient_error,
        )
        self._errors = LikelihoodAnswer(fun, options, memory, self.descent.health.sign, Minimization)
        if options.state is not None:
            self._restore(options.state)

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; raises `StateError` where it is that of something else."""
        self.descent.restore(state)
        with reading_counts():
            self.objective.nfev, self.objective.njev = int(state["nfev"]), int(state["njev"])
            self.objective.restore(state)
            if self.products is not None:
                self.products.nhev = int(state["nhev"])
        self.descent.counted = self.descent.counts()

    def _products(self, rule: Rule | Method, options: MinimizeOptions) -> HessianProducts | None:
        """The products with the Hessian, for a method that asks for them; a warning where they are given to another."""
        if isinstance(rule, Method) and rule.takes_products:
            return HessianProducts(self.objective, self.args, options.hess, options.hessp)
        if options.has_hessian or options.hess is not None:
            unused(rule, "hessp" if options.hess is None else "hess")
        return None

    def _evaluations(self) -> tuple[int, int]:
        """How many evaluations there were, as a budget counts them, and how many one more gradient takes."""
        charged = 0 if self.products is None else self.products.charged
        return self.objective.nfev + charged, self.objective.cost

    def _counts(self) -> dict[str, int]:
        nhev = 0 if self.products is None else self.products.nhev
        return {"nfev": self.objective.nfev, "njev": self.objective.njev, "nhev": nhev}

    @property
    def bytes(self) -> int:
        """The memory that the descent takes, about: some ten vectors, and pairs or matrices."""
        rule, size = self.descent.rule, self.memory.size
        bounded = self.descent.bounds is not None
        pairs = rule.memory * LBFGS.bytes_of_a_pair(size, bounded=bounded) if isinstance(rule, LBFGS) else 0
        matrices = BFGS.bytes_of_matrices(size) if isinstance(rule, BFGS) else 0
        return 80 * size + pairs + matrices

    def check(self) -> None:
        """Compare the gradient with finite differences, if that was asked for and not done; raises `GradientError`."""
        if self._unchecked:
            self._unchecked = False
            objective = self.objective
            fun, counts = objective.fun, (objective.nfev, objective.njev)
            value = (lambda x, *a: fun(x, *a)[0]) if objective.source == "together" else fun
            try:
                require_agreement(check_at(self.memory, objective, value, self.args))
            finally:
                objective.nfev, objective.njev = counts

    def run(self) -> Result:
        """Descend. `ObjectiveError`, and the `KeyboardInterrupt` of a second Ctrl-C, have the result so far."""
        found: Result = result_of(self.outcome)
        return found

    def outcome(self, interrupted: Interrupts) -> Outcome:
        """Descend; a result, or the error or interrupt that has ended the descent, with the result so far."""
        try:
            interrupted.call(self.check)
            result = self.result(self.descent.run(interrupted))
        except ObjectiveError as error:
            return self.failed(error)
        except KeyboardInterrupt as error:
            return holding(error, self.result(Reason.INTERRUPTED))
        return holding(KeyboardInterrupt(), result) if interrupted.at_once else result

    def result(self, reason: Reason) -> Result:
        """What there is to say when the descent has ended."""
        descent, objective, memory, point = self.descent, self.objective, self.memory, self.descent.point
        vectors, grad, loss = point.best, point.best_grad, point.best_loss
        detail = descent.detail
        if reason.success:
            # What a criterion was found to hold for is the point at hand; it is not swapped for another.
            if abs(point.loss - loss) > descent.resolution.error(loss):
                detail += f" A better loss, {loss:.6g}, was seen on the way."
            vectors, grad, loss = memory.vectors, point.grad, point.loss
        elif vectors is None or grad is None:
            nothing_known = [np.full_like(g, math.nan) for g in point.grad]
            vectors, grad, loss = memory.vectors, nothing_known, point.loss
        counts, kept = self._counts(), descent.state(objective.state())
        x = memory.result(vectors)
        if not self._keeps(reason, kept):
            kept = kept.of_point(x, vectors)
        result = Result(
            x=x,
            fun=loss,
            jac=memory.gradient(grad),
            nit=descent.steps,
            nfev=objective.nfev,
            njev=objective.njev,
            nhev=counts["nhev"],
            reason=reason,
            message=self._message(reason, detail),
            history=descent.history,
            x_last=memory.result(),
            seconds=descent.seconds,
            method=descent.rule,
            why="; ".join(part for part in (self.why, objective.description) if part),
            _state=kept,
            _errors=self._errors,
        )
        descent.release()
        return result

    def _keeps(self, reason: Reason, state: DescentState) -> bool:
        """Whether the result keeps all that it takes to go on exactly: curvature pairs may take 60 times its own."""
        if self._keep_state is not None:
            return self._keep_state
        if isinstance(self.descent.rule, Rule):
            return True
        if reason.kind == "spent":
            return state.nbytes <= STATE_BYTES
        return reason.kind == "asked" or reason is Reason.FUNCTION_RAISED

    def _message(self, reason: Reason, detail: str) -> str:
        """The reason for people; a budget of steps that alone was asked for is not to be raised."""
        moved = f" The start was moved into the bounds, as {self._moved}." if self._moved else ""
        descent = self.descent
        if reason is Reason.MAX_STEPS and not descent.criteria.has_tolerance and not isinstance(descent.rule, Method):
            done = f"{reason.sentence} {descent.steps} were asked for, and no tolerance"
            return f"{done}; pass gtol to stop when converged.{moved}"
        advice = advice_for(reason, descent.rule, self.objective.source)
        return f"{reason.message(detail, advice)}{moved}"

    def failed(self, error: ObjectiveError) -> ObjectiveError:
        """An error that has ended the descent, with the result so far."""
        self.descent.detail = f"{error}."
        error.result = self.result(Reason.FUNCTION_RAISED)
        return freed(error)
