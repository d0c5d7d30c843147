"""The errors of a least-squares answer: from its Jacobian and residuals, and profiles by further fits."""

from __future__ import annotations

import copy
import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.errors import ObjectiveError, UncertaintyError
from descend.objectives.jacobians import columns_of, is_operator
from descend.parameters.memory import Array, Memory
from descend.regression.options import LeastSquaresOptions
from descend.stopping import Reason
from descend.uncertainty.answer import Answer
from descend.uncertainty.covariance import Covariance, from_jacobian
from descend.uncertainty.jacobian import central_jacobian

if TYPE_CHECKING:
    from descend.regression.run import Regression

__all__ = ["FitAnswer"]


EXACT, MANY = 1e-11, 500
"""The relative error that differences made for the errors have, and for how many parameters they are made."""


class FitAnswer(Answer):
    """The errors of a least-squares answer: s² (JᵀJ)⁻¹, and (JᵀJ)⁻¹ where the weights are 1 / σ² of known σ.

    Of a robust loss it is Huber's (1967): the curvature of the loss on both sides of the squares of its slopes.
    `values` are the residuals of a sum of squares that is like the loss near the answer, `accuracy` is the relative
    error of the Jacobian, and `again` makes a regression of the same residuals from another start.
    """

    def __init__(
        self, options: LeastSquaresOptions, memory: Memory, again: Callable[[Any, LeastSquaresOptions], Regression]
    ) -> None:
        super().__init__(memory, options.bounds, options.names)
        self.again: Callable[[Any, LeastSquaresOptions], Regression] | None = again
        self.options = dataclasses.replace(
            options, starts=None, state=None, callback=None, history=False, fixed=None, tied=self.tied
        )
        self.absolute = options.absolute_sigma
        self.values: Array = np.empty(0)
        self.accuracy = 0.0
        self.linear = True
        self.counted = self.free = 0

    def fitted(self, values: Array, accuracy: float, *, linear: bool, counted: int, free: int) -> FitAnswer:
        """The same of an answer: its residuals, how exact its Jacobian is, how many residuals and parameters count."""
        found = copy.copy(self)
        found.values, found.accuracy, found.linear = values, accuracy, linear
        found.counted, found.free = counted, free
        found.freedom = math.inf if self.absolute else counted - free
        return found

    def portable(self, result: Any) -> Answer:
        """The same without functions of the user's; what is tied has its errors computed before."""
        found = copy.copy(self)
        if self.tied is not None:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found.covariance(result)
            except UncertaintyError:
                pass
        found.again, found.tied, found.options = None, None, LeastSquaresOptions()
        return found

    # ---- the covariance ---------------------------------------------------------------------------------------------

    @property
    def variance(self) -> float:
        """That of a residual of weight 1; raises `UncertaintyError` where there are too few residuals to tell."""
        if self.absolute:
            return 1.0
        if self.freedom < 1:
            raise UncertaintyError(self._too_few())
        return float(self.values @ self.values) / self.freedom

    def _too_few(self) -> str:
        return (
            f"{self.counted} residuals do not tell their own variance beside {self.free} parameters: give more "
            "data, fix a parameter, or give weights of known standard deviations with absolute_sigma=True"
        )

    def of_free(self, result: Any, memory: Memory, *, quick: bool) -> Covariance:
        """The covariance of the free numbers; those at a bound are taken as fixed there."""
        if result.jac is None:
            raise UncertaintyError("there is no Jacobian at the answer, and so no errors of it")
        order = columns_of(memory)
        labels = self.free_names(memory)
        names = [labels[i] for i in order]
        jacobian = result.jac
        if is_operator(jacobian):
            jacobian = jacobian.matmat(np.eye(memory.size))
        at_bound = self.at_bound(memory)[order]
        self.tell_bounds(names, at_bound)
        found = np.full((memory.size, memory.size), math.nan)
        inside = np.flatnonzero(~at_bound)
        if inside.size and self.freedom < 1:
            listed = ", ".join(names[i] for i in inside)
            warnings.warn(f"no standard error of {listed}: {self._too_few()}", RuntimeWarning, stacklevel=5)
            found[order[inside], order[inside]] = math.inf
        elif inside.size:
            part = jacobian[:, inside]
            covariance = self._of(part, [names[i] for i in inside], self.accuracy)
            exact = None if quick else self._exact(result, order[inside], covariance)
            if exact is not None:
                part, covariance = exact, self._of(exact, [names[i] for i in inside], EXACT)
            if result.reason is not Reason.RESOLUTION:  # which has looked at more than the gradient
                self.require_minimum(part.T @ self.values, covariance, self.variance)
            places = order[inside]
            found[np.ix_(places, places)] = covariance.matrix
        return Covariance(tuple(labels), found)

    def _exact(self, result: Any, columns: Array, rough: Covariance) -> Array | None:
        """These columns of the Jacobian by better differences, if it is one of differences; None where that can't be.

        It takes four evaluations of the residuals for each parameter.
        """
        if self.accuracy <= EXACT or self.again is None or self.options.jac_sparsity is not None or len(columns) > MANY:
            return None
        run = self.again(result.x, dataclasses.replace(self.options, fixed=self.fixed, max_evals=None, max_nfev=None))
        objective, x = run.objective, np.concatenate(run.memory.vectors).astype(float)
        if any(vector.dtype != np.float64 for vector in run.memory.vectors):
            return None
        lower, upper = objective.bounds or (np.full(x.size, -math.inf), np.full(x.size, math.inf))

        def residuals(part: Array) -> Array:
            point = x.copy()
            point[columns] = part
            try:
                with np.errstate(all="ignore"):
                    return objective.at(point)
            except ObjectiveError:
                return np.full(self.values.size, math.nan)

        objective.evaluate()
        _, rows = objective.loss.model(objective.values)
        found = central_jacobian(residuals, x[columns], rough.standard_errors, lower[columns], upper[columns])
        return found if found is None or rows is None else found * rows[:, None]

    def _of(self, jacobian: Any, names: list[str], accuracy: float) -> Covariance:
        variance = self.variance
        rtol = None if accuracy == 0.0 else accuracy
        if self.linear:
            return from_jacobian(jacobian, variance, names, rtol=rtol)
        slopes = np.asarray(jacobian.toarray() if hasattr(jacobian, "toarray") else jacobian) * self.values[:, None]
        spare = 1.0 if self.absolute else self.counted / self.freedom
        return from_jacobian(jacobian, variance, names, meat=spare * slopes.T @ slopes, rtol=rtol)

    # ---- profiles and the table -------------------------------------------------------------------------------------

    def loss(self, result: Any) -> float:
        """The loss at the answer, half a sum of squares."""
        return float(result.cost)

    def unit(self, result: Any) -> float:
        """Half the variance of a residual: by so much the loss rises at one standard error."""
        if not self.linear:
            raise UncertaintyError(
                f"profile intervals are for a sum of squares, and the loss is {self.options.loss!r}: take intervals()"
            )
        if not self.variance > 0.0:
            raise UncertaintyError("all residuals are zero, and no profile is wider than the answer: take intervals()")
        return self.variance / 2

    def refit(self, result: Any, fixed: Mapping[str, float], x: Any) -> tuple[float, Any, bool]:
        """The least loss with those fixed; where nothing is left free, the loss there."""
        if self.again is None:
            raise UncertaintyError(
                "profiles need the residuals' function, which a result loses when it is pickled or copied"
            )
        if self.memory(x).size == 1:
            run = self.again(x, dataclasses.replace(self.options, fixed=self.fixed))
            (name,) = fixed.keys() - (self.fixed or {}).keys()
            run.memory.vectors[0][...] = fixed[name]
            return run.objective.evaluate(), run.memory.result(), True
        found = self.again(x, dataclasses.replace(self.options, fixed=dict(fixed))).run()
        if found.reason is Reason.INTERRUPTED:
            raise KeyboardInterrupt
        return found.cost, found.x, found.reason.kind == "converged"

    def statistics(self, result: Any) -> list[tuple[str, Any]]:
        """What stands above the table: as lmfit has it, by the same formulas."""
        n, p, chi_square = self.counted, self.free, 2 * self.loss(result)
        lines = [("data points", n), ("free parameters", p), ("function evaluations", result.nfev)]
        name = "chi-square" if self.linear else "2 × robust loss"
        lines.append((name, chi_square))
        if n > p:
            lines.append((f"reduced {name}", chi_square / (n - p)))
        if chi_square > 0 and self.linear:
            about = n * math.log(chi_square / n)
            lines += [("Akaike's criterion (AIC)", about + 2 * p), ("Bayes' criterion (BIC)", about + p * math.log(n))]
        return lines
