"""Losses of residuals: half the sum of squares, and those that large residuals pull at less."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from descend.checks import one_of, real, shown
from descend.errors import ObjectiveError, OptionError
from descend.parameters.memory import Array

__all__ = ["LOSSES", "ResidualLoss"]

LEAST_CURVATURE = 1e-4
"""Least curvature of a robust loss that a model has, as a share of that of its weight: more keeps it convex."""

Parts = tuple[Array, Array, Array]
"""ρ(z) with its first and second derivative."""


def _soft_l1(z: Array) -> Parts:
    root = np.sqrt(1.0 + z)
    return np.where(np.isinf(z), z, 2.0 * z / (1.0 + root)), 1.0 / root, -0.5 / (root * (1.0 + z))


def _huber(z: Array) -> Parts:
    within = z <= 1.0
    root = np.sqrt(np.where(within, 1.0, z))
    return np.where(within, z, 2.0 * root - 1.0), 1.0 / root, np.where(within, 0.0, -0.5 / root**3)


def _cauchy(z: Array) -> Parts:
    slope = 1.0 / (1.0 + z)
    return np.log1p(z), slope, -slope * slope


def _arctan(z: Array) -> Parts:
    slope = 1.0 / (1.0 + z * z)
    return np.arctan(z), slope, -2.0 * z * slope * slope


LOSSES: dict[str, Callable[[Array], Parts] | None] = {
    "linear": None,
    "soft_l1": _soft_l1,
    "huber": _huber,
    "cauchy": _cauchy,
    "arctan": _arctan,
}
"""SciPy's names of the losses ρ(z) of a squared residual z; None for z itself."""


class ResidualLoss:
    """The loss ½ Σ C² ρ((f / C)²) of residuals f, as `scipy.optimize.least_squares` defines it.

    Parameters
    ----------
    loss
        A name of `LOSSES`, or a function of z that returns ρ(z), ρ′(z) and ρ″(z) as the rows of an array (3, m).
    scale
        C, SciPy's `f_scale`: about the size of the residuals that are no outliers. It does nothing for "linear".

    Raises `OptionError` for another loss, and for a scale that is not positive.
    """

    def __init__(self, loss: str | Callable[[Array], Any] = "linear", scale: float = 1.0) -> None:
        self.scale = real("f_scale", scale, above=0.0, remedy="try the standard deviation of good residuals")
        self._rho: Callable[[Array], Any] | None
        if callable(loss):
            self.name, self._rho = getattr(loss, "__name__", "loss"), _checked(loss)
        else:
            self.name = one_of("loss", loss, LOSSES, otherwise="a function of the squared residuals")
            self._rho = LOSSES[self.name]

    @property
    def linear(self) -> bool:
        """Whether it is half the sum of squares."""
        return self._rho is None

    def __call__(self, residuals: Array) -> float:
        """The loss of residuals; infinite where squares are too large for floats, which whoever asks judges."""
        if self._rho is None:
            return 0.5 * float(_dot(residuals, residuals))
        return 0.5 * self.scale**2 * float(np.sum(self._parts(residuals)[0]))

    def decrease(self, before: Array, after: Array) -> float:
        """By how much the loss falls from some residuals to others, without the cancellation of a difference."""
        if self._rho is None:
            return 0.5 * float(_dot(before - after, before + after))
        with np.errstate(invalid="ignore"):
            return 0.5 * self.scale**2 * float(np.sum(self._parts(before)[0] - self._parts(after)[0]))

    def model(self, residuals: Array) -> tuple[Array, Array | None]:
        """The residuals of a sum of squares that is alike near a point, and what the rows of their Jacobian are times.

        Its gradient is that of the loss and its curvature ρ′ + 2 ρ″ z of each residual (Triggs et al. 2000, section
        4.3), which is not let become negative. None stands for ones.
        """
        if self._rho is None:
            return residuals, None
        _, slope, second = self._parts(residuals)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            z = (residuals / self.scale) ** 2
            curvature = np.where(slope > 0.0, slope + 2.0 * second * z, 0.0)  # z may be infinite where the slope is 0
            rows = np.sqrt(np.maximum(curvature, LEAST_CURVATURE * slope))
            values = np.where(rows > 0.0, residuals * slope / rows, 0.0)
        return values, rows

    def weights(self, residuals: Array) -> Array:
        """ρ′: by how much less each residual counts than in a sum of squares."""
        return np.ones_like(residuals) if self._rho is None else np.asarray(self._parts(residuals)[1])

    def _parts(self, residuals: Array) -> Any:
        assert self._rho is not None
        with np.errstate(over="ignore", invalid="ignore"):
            return self._rho((residuals / self.scale) ** 2)

    def __repr__(self) -> str:
        return f"{self.name!r}" if self.linear else f"{self.name!r} (f_scale={self.scale:g})"


def _dot(a: Array, b: Array) -> Any:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.dot(a, b)


def _checked(loss: Callable[[Array], Any]) -> Callable[[Array], Array]:
    """The user's own ρ; raises `ObjectiveError` where it does not return three rows."""

    def rho(z: Array) -> Array:
        try:
            rows = np.asarray(loss(z), dtype=np.float64)
        except Exception as error:
            raise ObjectiveError(f"loss raised {type(error).__name__}: {error}") from error
        if rows.shape != (3, z.size):
            raise OptionError(
                f"loss={shown(loss)} returned shape {rows.shape} for {z.size} squared residuals: ρ, ρ′ and ρ″ are "
                f"needed, as an array of shape (3, {z.size})"
            )
        return rows

    return rho
