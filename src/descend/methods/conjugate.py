"""Nonlinear conjugate gradients: each direction remembers the one before, at the price of two vectors."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np

from descend.errors import MethodError
from descend.methods.base import LineObjective, Method, MethodRun, first_step_length
from descend.methods.searches import Wolfe
from descend.stopping import Reason

__all__ = ["ConjugateGradient"]

BETAS = ("hager-zhang", "polak-ribiere")
LENGTHEN = 10.0
"""By which factor the first trial of a step is longer than the last step, at most."""


@dataclasses.dataclass(frozen=True)
class ConjugateGradient(Method):
    """Nonlinear conjugate gradients, for when even L-BFGS takes too much memory.

    Parameters
    ----------
    beta
        How much of the last direction is kept: ``"hager-zhang"`` (2005, equations 1.3 and 1.5; the default), or
        ``"polak-ribiere"``: never negative (Gilbert and Nocedal 1992), which begins anew where it would be.
    search
        How far to go. Default: for Hager and Zhang ``Wolfe(c1=0.1, c2=0.4)``, else the strong conditions
        ``Wolfe(c2=0.1, strong=True)``.

    Raises `MethodError` for another beta, or a search that is not `Wolfe`.

    >>> import descend
    >>> import scipy.optimize
    >>> rosen = {"fun": scipy.optimize.rosen, "jac": scipy.optimize.rosen_der}
    >>> descend.minimize(**rosen, x0=[-1.2, 1.0], method=descend.ConjugateGradient()).success
    True
    """

    beta: Literal["hager-zhang", "polak-ribiere"] = "hager-zhang"
    search: Wolfe | None = None

    def __post_init__(self) -> None:
        if self.beta not in BETAS:
            raise MethodError(f"ConjugateGradient(beta={self.beta!r}): one of {', '.join(map(repr, BETAS))} is needed")
        if self.search is None:
            usual = Wolfe(c1=0.1, c2=0.4) if self.beta == "hager-zhang" else Wolfe(c2=0.1, strong=True)
            object.__setattr__(self, "search", usual)
        self._kind("search", (Wolfe,))

    def begin(self, objective: LineObjective) -> MethodRun:
        """As in `Method`."""
        return _Conjugate(objective, self)


class _Conjugate(MethodRun):
    """A run of nonlinear conjugate gradients."""

    workspace = ("method", "search", "change")

    def __init__(self, objective: LineObjective, method: ConjugateGradient) -> None:
        super().__init__(objective)
        self.method = method
        assert method.search is not None
        self.search = method.search
        self.d = -self.g
        self.change = np.empty_like(self.g)
        self.slope = -float(np.dot(self.g, self.g))
        self.first = first_step_length(math.sqrt(-self.slope))
        """The step length that is tried first."""
        self.steepest = True
        """Whether the direction is the gradient's own."""

    def advance(self) -> Reason | None:
        if not self.slope < 0.0:
            self._restart()
        alpha = self._along()
        if alpha is None and not self.steepest:
            self._restart()
            alpha = self._along()
        if alpha is None:
            return Reason.LINE_SEARCH
        last_slope = self.slope
        np.subtract(self.objective.g, self.g, out=self.change)
        beta = self._beta()
        self.accept()
        self.d *= beta
        self.d -= self.g
        self.steepest = beta == 0.0
        self.slope = float(np.dot(self.d, self.g))
        # The first trial has the first-order decrease of the last step (Nocedal and Wright 2006, section 3.5).
        self.first = min(alpha * last_slope / self.slope, LENGTHEN * alpha) if self.slope < 0.0 else alpha
        return None

    def renew(self) -> None:
        super().renew()
        self._restart()

    def _along(self) -> float | None:
        if not (self.slope < 0.0 and math.isfinite(self.slope)):
            return None
        return self.search.along(self.objective, self.x, self.d, self.loss, self.slope, self.first)

    def _restart(self) -> None:
        """Forget the last direction."""
        np.negative(self.g, out=self.d)
        self.slope = -float(np.dot(self.g, self.g))
        self.steepest = True

    def _beta(self) -> float:
        """The share of the last direction that is kept, from it and the change of the gradient."""
        g, change = self.objective.g, self.change
        squared_norm = float(np.dot(self.g, self.g))
        if self.method.beta == "polak-ribiere":
            return max(0.0, float(np.dot(g, change)) / squared_norm) if squared_norm > 0.0 else 0.0
        dy = float(np.dot(self.d, change))
        if not dy > 0.0:
            return 0.0
        beta = (float(np.dot(change, g)) - 2 * float(np.dot(change, change)) * float(np.dot(self.d, g)) / dy) / dy
        # Not below η = −1 / (|d| min(0.01, |g|)), without which convergence is not proved (equation 1.5).
        lengths = math.sqrt(float(np.dot(self.d, self.d))) * min(0.01, math.sqrt(squared_norm))
        return max(beta, -1.0 / lengths) if lengths > 0.0 and math.isfinite(beta) else 0.0
