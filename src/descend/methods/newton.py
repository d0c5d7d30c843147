"""Newton's method with products of the Hessian and a direction: no matrix is made, and no system solved exactly."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import numpy as np

from descend.methods.base import LineObjective, Method, MethodRun, first_step_length
from descend.methods.searches import Wolfe, rounding_error
from descend.methods.vectors import Array, dot
from descend.stopping import Reason

__all__ = ["TruncatedNewton"]

SEARCH = Wolfe(c2=0.9)
POOR, GOOD = 0.25, 0.75
"""Shares of the decrease that the model promised: below the one the region shrinks, above the other it may grow."""


@dataclasses.dataclass(frozen=True)
class TruncatedNewton(Method):
    """Newton's method by conjugate gradients in a trust region (Steihaug 1983; Nocedal and Wright 2006, algorithm 7.2).

    Each step goes towards the minimum of the quadratic model within a region in which the model is trusted. Conjugate
    gradients look for it, by one product of the Hessian with a direction at a time, and end early: where the residual
    is small, at the region's border, or where the loss curves downwards, which they follow to the border. A search
    along the step then sees that the loss falls, and the region follows what it found (Nocedal and Yuan 1998).

    Products are those of ``minimize(hessp=…)`` or ``hess=…``; else PyTorch's or JAX's, if the gradient is; else
    differences of gradients, for each of which a gradient is evaluated.

    Parameters
    ----------
    forcing
        The residual's share of the gradient at which conjugate gradients end, at most; 0.5. It falls with the root of
        the gradient's norm, relative to the first one's: convergence is then faster than linear (Dembo, Eisenstat and
        Steihaug 1982).
    products
        How many products a step takes at most. Default None: 20, or twice the number of parameters if that is more.
    search
        How far to go: ``Wolfe(c2=0.9)``, the weak conditions, first with a step length of 1.

    It keeps to no bounds, and needs a gradient that is not made of differences, or products that are given. Raises
    `MethodError` for a forcing outside (0, 1), fewer products than one, or a search that is not `Wolfe`.

    >>> import descend
    >>> import scipy.optimize
    >>> rosen = {"fun": scipy.optimize.rosen, "jac": scipy.optimize.rosen_der, "hessp": scipy.optimize.rosen_hess_prod}
    >>> descend.minimize(**rosen, x0=[-1.2, 1.0], method=descend.TruncatedNewton()).x.round(6)
    array([1., 1.])
    """

    takes_products: ClassVar[bool] = True

    forcing: float = 0.5
    products: int | None = None
    search: Wolfe = SEARCH

    def __post_init__(self) -> None:
        self._within("forcing", 0.0, 1.0, 0.5)
        if self.products is not None:
            self._whole("products", 1, 100)
        self._kind("search", (Wolfe,))

    def begin(self, objective: LineObjective) -> MethodRun:
        """As in `Method`."""
        return _Truncated(objective, self)


class _Truncated(MethodRun):
    """A run of the truncated Newton method."""

    workspace = ("method", "most", "d")

    def __init__(self, objective: LineObjective, method: TruncatedNewton) -> None:
        super().__init__(objective)
        self.method = method
        self.most = method.products or max(20, 2 * self.x.size)
        self.d = np.empty_like(self.x)
        """The step that is tried."""
        self.first_norm = math.sqrt(dot(self.g, self.g))
        self.radius = math.sqrt(dot(self.x, self.x)) or 1.0
        """How far the model is trusted; at first, as far as the start is from zero."""
        self.expected = math.nan

    def advance(self) -> Reason | None:
        promised = self.expected = self._set_step()
        slope = dot(self.g, self.d)
        alpha = self._along(slope, 1.0) if slope < 0.0 and math.isfinite(slope) else None
        if alpha is None:
            np.negative(self.g, out=self.d)
            slope, promised = -dot(self.g, self.g), math.nan
            alpha = self._along(slope, first_step_length(math.sqrt(-slope))) if math.isfinite(slope) else None
        if alpha is None:
            return Reason.LINE_SEARCH
        self._resize(alpha, promised)
        self.accept()
        return None

    def _along(self, slope: float, first: float) -> float | None:
        return self.method.search.along(self.objective, self.x, self.d, self.loss, slope, first)

    def _set_step(self) -> float:
        """Write the step that the model proposes; returns by how much the model falls."""
        p, g, radius = self.d, self.g, self.radius
        p[...] = 0.0
        residual, direction = g.copy(), -g
        square = dot(g, g)
        norm = math.sqrt(square)
        goal = norm * min(self.method.forcing, math.sqrt(norm / self.first_norm))
        promised = 0.0
        for _ in range(self.most):
            changed = self.objective.product(self, direction)
            bend = dot(direction, changed)
            length = square / bend if bend > 0.0 else math.inf
            within = to_border(p, direction, radius)
            if not length < within:  # NaN, too
                p += within * direction
                return promised + within * square - (0.5 * within * within * bend if math.isfinite(bend) else 0.0)
            p += length * direction
            promised += 0.5 * length * square
            residual += length * changed
            before, square = square, dot(residual, residual)
            if math.sqrt(square) <= goal:
                break
            direction *= square / before
            direction -= residual
        return promised

    def _resize(self, alpha: float, promised: float) -> None:
        """Trust the model as far as the search that ended at `alpha` has shown it to be right."""
        moved = alpha * math.sqrt(dot(self.d, self.d))
        if alpha != 1.0 or math.isnan(promised):
            self.radius = moved
        elif promised > rounding_error(self.objective, self.loss):
            share = (self.loss - self.objective.loss) / promised
            if share < POOR:
                self.radius = POOR * moved
            elif share > GOOD:
                self.radius = max(self.radius, 2.0 * moved)


def to_border(point: Array, direction: Array, radius: float) -> float:
    """How far along a direction the border of the region lies, from a point within it."""
    square, along = dot(direction, direction), dot(point, direction)
    inside = max(0.0, radius * radius - dot(point, point))
    root = math.sqrt(along * along + square * inside)
    # Of the two forms of the positive root, the one that does not cancel.
    return inside / (along + root) if along > 0.0 else (root - along) / square
