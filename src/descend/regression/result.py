"""What a least-squares descent gives back, with SciPy's field names."""

from __future__ import annotations

import dataclasses
from typing import Any

from descend.descent.result import Result
from descend.parameters.memory import Array

__all__ = ["LeastSquaresResult"]


@dataclasses.dataclass(repr=False, eq=False)
class LeastSquaresResult(Result):
    """The outcome of `descend.least_squares`: a `Result` with the fields of SciPy's.

    `x` is the point with the lowest loss; it is built as `x0` was. `cost` is the loss there, ½ Σ ρ. `fun` holds the
    residuals at `x`, as the function returned them. `jac` is a Jacobian of shape (residuals, parameters) whose
    columns are in the order of the leaves of `x0`: its product with itself, JᵀJ, is the Gauss–Newton approximation of
    the Hessian of the loss, as its rows are scaled by weights and by a robust loss. It is an array, or sparse, or a
    LinearOperator, as the function's own is. `grad` is the gradient of the loss, built as `x`; `optimality` the
    largest entry that it has within the bounds; `active_mask` is, for each parameter, −1 at its lower bound, 1 at its
    upper one, and 0 elsewhere. `nfev` counts evaluations of the residuals, those of finite differences too; `njev`
    counts Jacobians.

    >>> import descend
    >>> result = descend.least_squares(lambda x: [x[0] - 2.0, x[0] - 4.0, x[1]], [0.0, 1.0])
    >>> result.x.round(6), round(result.cost, 6), result.fun.round(6)
    (array([3., 0.]), 1.0, array([ 1., -1.,  0.]))
    """

    fun: Any
    cost: float
    grad: Any
    optimality: float
    active_mask: Array

    @property
    def residuals(self) -> Any:
        """The residuals at `x`: another name for `fun`."""
        return self.fun

    def _outline(self) -> list[tuple[str, Any]]:
        lines = [("message", self.message), ("reason", self.reason), ("success", self.success)]
        names = ("cost", "x", "fun", "jac", "grad", "optimality", "active_mask", "nit", "nfev", "njev", "history")
        return lines + [(name, getattr(self, name)) for name in names]

    def __str__(self) -> str:
        return repr(self) if self._errors is None else self.summary()
