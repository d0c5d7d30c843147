"""The objective of a least-squares method, over the memory of a descent: residuals at trials, Jacobians where asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from descend.descent.line import MemoryLineObjective

if TYPE_CHECKING:
    from collections.abc import Mapping

    from descend.descent.loop import Descent
    from descend.objectives.residuals import ResidualObjective
    from descend.parameters.memory import Array

__all__ = ["ResidualLine"]


class ResidualLine(MemoryLineObjective):
    """The `descend.methods.LineObjective` of residuals: a trial evaluates them alone.

    Its gradient is that of the point where `differentiate` was called last.
    """

    def __init__(
        self,
        descent: Descent,
        objective: ResidualObjective,
        *,
        ftol: float | None = None,
        xtol: float | None = None,
        scale: Array | None = None,
    ) -> None:
        super().__init__(descent)
        self.objective, self.ftol, self.xtol, self.scale = objective, ftol, xtol, scale

    @property
    def values(self) -> Array:
        """The weighted residuals at the point that was evaluated last."""
        return self.objective.values

    @property
    def jacobian(self) -> Any:
        """The weighted Jacobian at the point that was differentiated last."""
        return self.objective.jacobian

    @property
    def error(self) -> float:
        """The error of an entry of the Jacobian, relative to its column."""
        return self.objective.error

    def evaluate(self, base: Array, direction: Array, alpha: float) -> float:
        """As in `descend.methods.LineObjective`; the gradient stays that of an earlier point."""
        self.objective.trials = True
        try:
            return super().evaluate(base, direction, alpha)
        finally:
            self.objective.trials = self.improved = False

    def decrease(self, before: Array) -> float:
        """By how much the loss has fallen from other residuals to those evaluated last; NaN where they are not finite.

        It is summed from differences, and so is exact to fewer units than the difference of two losses.
        """
        now = self.objective.values
        return self.objective.loss.decrease(before, now) if np.all(np.isfinite(now)) else float("nan")

    def differentiate(self) -> bool:
        """Evaluate the Jacobian and the gradient where the residuals were evaluated last; whether all is finite."""
        self.objective.differentiate(self.point.grad)
        self.read_gradient()
        return bool(np.all(np.isfinite(self.g)))

    def refine(self) -> bool:
        """Have differences be more exact, the last Jacobian and those that follow; False if that can't be had."""
        if not self.objective.refine(self.point.grad):
            return False
        self.read_gradient()
        return True

    def model(self) -> tuple[Array, Any]:
        """Residuals and Jacobian of a sum of squares that is like the loss near the last point."""
        return self.objective.model()

    def hold(self, state: Mapping[str, Any]) -> None:
        """Know again what `kept` was taken of."""
        self.objective.restore(state, self.point.grad)
        self.read_gradient()

    def kept(self, values: Array, jacobian: Any) -> dict[str, Array]:
        """What is known at a point, as arrays."""
        return self.objective.state(values, jacobian)

    def go_back(self, x: Array, gradient: Array, loss: float, values: Array, jacobian: Any) -> None:
        """Stand again at a point whose residuals and Jacobian are known."""
        self.objective.values, self.objective.jacobian = values, jacobian
        self.return_to(x, gradient, loss)
