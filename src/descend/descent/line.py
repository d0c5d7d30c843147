"""The objective along a line, as a method sees it, over the memory of a descent."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from descend.methods.searches import rounding_error

if TYPE_CHECKING:
    from descend.descent.loop import Descent
    from descend.methods import MethodRun
    from descend.parameters.memory import Array
    from descend.stopping import Reason

__all__ = ["BudgetSpent", "MemoryLineObjective"]


class BudgetSpent(Exception):
    """No evaluation is left within a step."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


class MemoryLineObjective:
    """The `descend.methods.LineObjective` of a descent: one long vector of float64 over its memory.

    Each evaluation leaves its point, loss and gradient in the descent's `CurrentPoint`. `trials` counts those of the
    step at hand, `finite_trials` those of them whose loss was finite, `bottomless`
    is whether one was −∞, and `endless` whether the loss fell at each of a search.
    """

    def __init__(self, descent: Descent) -> None:
        self.descent, self.point, self.memory = descent, descent.point, descent.memory
        vectors, grads = self.memory.vectors, self.point.grad
        # Parameters in one vector of float64 need not be copied: the method's vectors are the memory's own.
        self._shared = len(vectors) == 1 and vectors[0].dtype == np.float64
        self.x: Array = vectors[0] if self._shared else np.concatenate(vectors).astype(np.float64)
        self.g: Array = grads[0] if self._shared else np.concatenate(grads).astype(np.float64)
        self.loss, self.norm = self.point.loss, descent.norm
        self.resolution = descent.resolution
        self.begin_step()
        self.bounds = None if descent.bounds is None else descent.bounds.ends
        self.on_projected_path = False
        self.since, self.mark = 0, math.nan
        """How many trials there were since the loss last fell beyond rounding, and the loss below which it has."""
        self.improved = False
        """Whether the last trial has a better loss than the best point; its gradient is not looked at yet."""

    def evaluate(self, base: Array, direction: Array, alpha: float) -> float:
        """Evaluate base + alpha · direction; returns the loss. Raises `BudgetSpent` where no evaluation is left."""
        descent, point, x = self.descent, self.point, self.x
        self._keep_improved()
        if descent.criteria.limits_evaluations:
            spent = descent.spent()
            if spent is not None:
                raise BudgetSpent(spent)
        np.multiply(direction, alpha, out=x)
        np.add(x, base, out=x)
        if not self._shared:
            _write(x, self.memory.vectors)
        if descent.bounds is not None:  # by rounding, or where the direction leads beyond them
            descent.bounds.apply(self.memory.vectors)
        if not self._shared:
            _read(self.memory.vectors, x)  # rounded to what the parameters can hold
        self.trials += 1
        self.loss = point.loss = loss = descent.evaluate_point()
        self.read_gradient()
        if math.isfinite(loss):
            self.finite_trials += 1
            self.improved = loss < point.best_loss
        elif loss == -math.inf:
            self.bottomless = True
        self.since += 1
        if loss < self.mark:
            self.begin_mark(loss)
        return loss

    def read_gradient(self) -> None:
        """Take the gradient that was written into the point at hand."""
        if not self._shared:
            _read(self.point.grad, self.g)

    def begin_step(self) -> None:
        """Count the trials of a step."""
        self.trials = self.finite_trials = 0
        self.bottomless = self.endless = False

    def begin_mark(self, loss: float) -> None:
        """Count trials anew, from this loss on."""
        self.since, self.mark = 0, loss - rounding_error(self, loss)

    def _keep_improved(self) -> None:
        """Remember the last trial, if it is better than the best point; a search may reject it for its slope."""
        if self.improved:
            self.improved = False
            if np.all(np.isfinite(self.g)):
                self.point.keep_as_best()

    def slope(self, direction: Array) -> float:
        """As in `descend.methods.LineObjective`."""
        if self.on_projected_path and self.bounds is not None:
            lower, upper = self.bounds
            direction = np.where(np.where(direction < 0.0, self.x > lower, self.x < upper), direction, 0.0)
        return float(np.dot(self.g, direction))

    def return_to(self, base: Array, gradient: Array, loss: float) -> None:
        """Stand again at a point that was evaluated before."""
        self._keep_improved()
        np.copyto(self.x, base)
        np.copyto(self.g, gradient)
        if not self._shared:
            _write(base, self.memory.vectors)
            _write(gradient, self.point.grad)
        self.loss = self.point.loss = loss

    def product(self, run: MethodRun, direction: Array) -> Array:
        """As in `descend.methods.LineObjective`; raises `BudgetSpent` where the budget has no room for a product."""
        descent, counts = self.descent, (self.since, self.mark, self.trials, self.finite_trials)
        assert descent.product is not None
        spent = descent.spent() if descent.criteria.limits_evaluations else None
        if spent is not None:
            raise BudgetSpent(spent)
        if not np.array_equal(self.x, run.x):
            self.return_to(run.x, run.g, run.loss)

        def beside(distance: float) -> Array:
            self.evaluate(run.x, direction, distance)
            return self.g

        try:
            return descent.product(direction, run.g, beside)
        finally:  # a point beside is no trial of a step
            self.since, self.mark, self.trials, self.finite_trials = counts

    def project(self, point: Array) -> None:
        """Move a point into the bounds."""
        assert self.bounds is not None
        np.clip(point, *self.bounds, out=point)


def _write(flat: Array, vectors: list[Array]) -> None:
    start = 0
    for vector in vectors:
        vector[...] = flat[start : start + vector.size]
        start += vector.size


def _read(vectors: list[Array], flat: Array) -> None:
    np.concatenate(vectors, out=flat, casting="same_kind")
