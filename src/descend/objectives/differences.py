"""Loss and gradient by finite differences: forward, central, complex step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from descend.objectives.calls import as_complex, as_loss, call

if TYPE_CHECKING:
    from descend.objectives.objective import Objective
    from descend.parameters.memory import Array

__all__ = ["DIFFERENCES", "by_differences"]

DIFFERENCES = {"2-point": 1, "3-point": 2, "cs": 1}
"""SciPy's names of the schemes, and how many evaluations each takes for one parameter."""


def by_differences(objective: Objective, args: tuple[Any, ...], grad: list[Array]) -> Any:
    """The loss at the memory's point; its gradient, by differences of the loss, goes into `grad`."""
    from scipy.optimize._numdiff import approx_derivative

    loss_at = _FlatLoss(objective, args)
    x = np.concatenate(objective.memory.vectors)
    loss = loss_at(x)
    objective.njev += 1
    step = None
    if objective.source != "cs":
        # The step must show in the coarsest number on the way, be it a parameter or what the function returns.
        relative = np.finfo(loss_at.coarsest).eps ** (1 / 2 if objective.source == "2-point" else 1 / 3)
        step = relative * np.maximum(1.0, np.abs(x))
    # Within bounds, what has no room keeps a slope of zero.
    lower, upper = (np.broadcast_to(end, x.shape) for end in objective.bounds or (-np.inf, np.inf))
    free, slope = lower < upper, np.zeros_like(x)

    def of_free(part: Array) -> Any:
        point = x.astype(part.dtype)
        point[free] = part
        return loss_at(point)

    if free.any():
        method: Any = objective.source
        with np.errstate(over="ignore", invalid="ignore"):  # beside a loss that is not finite; it is judged later
            slope[free] = approx_derivative(
                of_free, x[free], method=method, f0=loss, abs_step=None if step is None else step[free],
                bounds=(lower[free], upper[free]),
            )  # fmt: skip
    for vector, part in zip(grad, np.split(slope, loss_at.cuts), strict=True):
        vector[...] = part
    return loss


class _FlatLoss:
    """The user's function of one flat vector, real or complex, whose evaluations are counted.

    `coarsest` is the coarsest dtype seen so far, of the parameters and of what the function returned.
    """

    def __init__(self, objective: Objective, args: tuple[Any, ...]) -> None:
        self.objective, self.args = objective, args
        vectors = objective.memory.vectors
        self.cuts = np.cumsum([v.size for v in vectors])[:-1]
        self.coarsest = min((v.dtype for v in vectors), key=lambda dtype: dtype.itemsize)

    def __call__(self, point: Array) -> Any:
        objective, memory = self.objective, self.objective.memory
        parts = np.split(point, self.cuts)
        is_complex = np.iscomplexobj(point)
        if not is_complex:
            parts = [p.astype(v.dtype, copy=False) for p, v in zip(parts, memory.vectors, strict=True)]
        objective.nfev += 1
        out = call(objective.fun, objective.fun_name, memory.tree(parts), self.args)
        if is_complex:
            return as_complex(out, objective.fun_name)
        dtype = getattr(out, "dtype", None)
        if isinstance(dtype, np.dtype) and dtype.kind == "f" and dtype.itemsize < self.coarsest.itemsize:
            self.coarsest = dtype
        return as_loss(out, objective.fun_name)
