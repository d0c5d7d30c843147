"""`Regression`: one descent of `least_squares`, from what its user asks for to a result."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from descend.descent.history import History
from descend.descent.interrupts import Interrupts, holding
from descend.descent.loop import Descent
from descend.descent.point import largest_entry
from descend.descent.residual_line import ResidualLine
from descend.errors import ObjectiveError
from descend.minimization.callbacks import telling
from descend.minimization.ends import freed, reading_counts, require_enough, result_of
from descend.objectives.jacobians import columns_of, is_operator, scale_rows
from descend.objectives.objective import Jac
from descend.objectives.residuals import ResidualObjective
from descend.objectives.robust import ResidualLoss
from descend.parameters.bounds import Bounds
from descend.parameters.free import memory_of
from descend.parameters.memory import Array, Memory
from descend.parameters.starts import as_start
from descend.regression.answer import FitAnswer
from descend.regression.options import LeastSquaresOptions
from descend.regression.result import LeastSquaresResult
from descend.stopping import Reason

__all__ = ["Regression"]

KNOWN = "known."
"""How the names begin, in a state, of what is known at a start."""


class Regression:
    """Residuals, a start and options, as `descend.least_squares` takes them: checked, and ready to descend.

    `memory` is where it stands, `objective` the residuals and the counts of their evaluations, and `descent` the
    descent.
    """

    def __init__(self, fun: Callable[..., Any], x0: Any, options: LeastSquaresOptions) -> None:
        self.options, self.args = options, options.arguments
        self.memory = memory = memory_of(
            as_start(x0, "x0"), fixed=options.fixed, tied=options.tied, names=options.names
        )
        self._errors = FitAnswer(options, memory, lambda x, others: Regression(fun, x, others))
        bounds = None if options.bounds is None else _bounds(memory, options.bounds)
        self.why, criteria = options.why, options.criteria
        self.objective = objective = ResidualObjective(
            _with(fun, options.kwargs),
            _jac(options.jac, options.kwargs),
            memory,
            self.args,
            loss=ResidualLoss(options.loss, options.f_scale),
            weights=options.weights,
            relative_step=memory.of_free(options.diff_step),
            structure=options.jac_sparsity,
        )
        if bounds is not None:
            bounds.apply(memory.vectors)
            objective.bounds = bounds.ends
        if criteria.max_evals is not None:
            objective.limit = criteria.max_evals
        require_enough(criteria.max_evals, objective, "Jacobian")
        self.descent = Descent(
            memory,
            options.rule,
            objective,
            criteria,
            History(path=options.history == "path") if options.history else None,
            whole=True,
            evaluations=lambda: (objective.nfev, objective.cost),
            counts=lambda: {"nfev": objective.nfev, "njev": objective.njev},
            each=None if options.callback is None else telling(options.callback, objective),
            bounds=bounds,
            resolution=objective.resolution,
            line=self._line,
        )
        if options.state is not None:
            self._restore(options.state)

    def _line(self, descent: Descent) -> ResidualLine:
        options = self.options
        return ResidualLine(
            descent, self.objective, ftol=options.ftol, xtol=options.xtol, scale=options.scale(self.memory)
        )

    def _restore(self, state: Any) -> None:
        descent, known = self.descent, {k.removeprefix(KNOWN): v for k, v in state.items() if k.startswith(KNOWN)}
        descent.restore({name: value for name, value in state.items() if not name.startswith(KNOWN)})
        if known:
            self.objective.restore(known, descent.point.grad)
        elif descent.method_run is None:  # nothing is known of the point but where it is
            descent.point.evaluated = False
        with reading_counts():
            self.objective.nfev, self.objective.njev = int(state["nfev"]), int(state["njev"])
        descent.counted = descent.counts()

    @property
    def bytes(self) -> int:
        """The memory that the descent takes, about: residuals, and some copies of a dense Jacobian."""
        return 80 * self.memory.size + 24 * max(1, self.objective.rows) * (self.memory.size + 1)

    def run(self) -> LeastSquaresResult:
        """Descend. `ObjectiveError`, and the `KeyboardInterrupt` of a second Ctrl-C, have the result so far."""
        found: LeastSquaresResult = result_of(self.outcome)
        return found

    def outcome(self, interrupted: Interrupts) -> LeastSquaresResult | ObjectiveError | KeyboardInterrupt:
        """As that of a `Minimization`."""
        try:
            result = self.result(self.descent.run(interrupted))
        except ObjectiveError as error:
            return self.failed(error)
        except KeyboardInterrupt as error:
            return error if self.objective.jacobian is None else holding(error, self.result(Reason.INTERRUPTED))
        return holding(KeyboardInterrupt(), result) if interrupted.at_once else result

    def result(self, reason: Reason) -> LeastSquaresResult:
        """What there is to say when the descent has ended: of the point where it stands, which no trial was below."""
        descent, memory, objective = self.descent, self.memory, self.objective
        run, loss, grad = descent.method_run, descent.point.loss, descent.point.grad
        values, jacobian = objective.values, objective.jacobian
        if run is not None:
            values, jacobian = run.values, run.jacobian  # type: ignore[attr-defined]
        if jacobian is None:
            grad = [np.full_like(g, math.nan) for g in grad]
        projected = grad if descent.bounds is None else descent.bounds.projected_gradient(memory.vectors, grad, 1.0)
        result = LeastSquaresResult(
            x=memory.result(),
            fun=objective.unweighted(values),
            jac=self._jacobian(values, jacobian),
            nit=descent.steps,
            nfev=objective.nfev,
            njev=objective.njev,
            reason=reason,
            message=reason.message(descent.detail),
            history=descent.history,
            x_last=memory.result(),
            seconds=descent.seconds,
            cost=loss,
            grad=memory.gradient(grad),
            optimality=largest_entry(projected),
            active_mask=self._active(),
            method=descent.rule,
            why=self.why,
            _state=descent.state(self._known()),
            _errors=self._answer(values),
        )
        descent.release()
        return result

    def _known(self) -> dict[str, Array]:
        """What is known at the start, where no method has begun that knows it."""
        objective = self.objective
        if self.descent.method_run is not None or objective.jacobian is None:
            return {}
        return {f"{KNOWN}{k}": v for k, v in objective.state(objective.values, objective.jacobian).items()}

    def _answer(self, values: Array) -> FitAnswer:
        """The errors of the answer, with what they are computed from."""
        objective = self.objective
        modelled, _ = objective.loss.model(values)
        return self._errors.fitted(
            modelled, objective.error, linear=objective.loss.linear, counted=objective.counted, free=self.memory.size
        )

    def _jacobian(self, values: Array, jacobian: Any) -> Any:
        """The Jacobian for people: rows scaled as the loss asks, columns in the order of the leaves."""
        if jacobian is None:
            return None
        _, rows = self.objective.loss.model(values)
        scaled = scale_rows(jacobian, rows)
        order = columns_of(self.memory)
        if is_operator(scaled) or np.array_equal(order, np.arange(order.size)):
            return scaled
        return scaled[:, order]

    def _active(self) -> Array:
        """Which parameters lie at a bound, in the order of the leaves."""
        bounds = self.descent.bounds
        if bounds is None:
            return np.zeros(self.memory.size, dtype=int)
        x, (lower, upper) = np.concatenate(self.memory.vectors), bounds.ends
        found: Array = np.where(x <= lower, -1, np.where(x >= upper, 1, 0))[columns_of(self.memory)]
        return found

    def failed(self, error: ObjectiveError) -> ObjectiveError:
        """An error that has ended the descent, with the result so far; none before any residual was seen."""
        self.descent.detail = f"{error}."
        if self.objective.jacobian is not None:
            error.result = self.result(Reason.FUNCTION_RAISED)
        return freed(error)


def _with(function: Callable[..., Any], kwargs: Any) -> Callable[..., Any]:
    """A function with further arguments by name."""
    if not kwargs or not callable(function):
        return function
    return functools.wraps(function)(functools.partial(function, **kwargs))


def _jac(jac: Jac, kwargs: Any) -> Jac:
    return _with(jac, kwargs) if callable(jac) else jac


def _bounds(memory: Memory, bounds: Any) -> Bounds | None:
    """SciPy's bounds of `least_squares`: lower and upper ends, or its `Bounds`; None where there are none."""
    made = Bounds(memory, bounds)
    lower, upper = made.ends
    return None if np.all(np.isneginf(lower)) and np.all(np.isposinf(upper)) else made
