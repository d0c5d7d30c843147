"""The data of a curve fit: observations, what the model is of, and the errors that residuals are divided by."""

from __future__ import annotations

from typing import Any

import numpy as np

from descend.checks import flag, one_of, optional, shown
from descend.errors import ObjectiveError, OptionError
from descend.parameters.memory import Array, kind_of

__all__ = ["CurveData"]


class CurveData:
    """Data of `descend.curve_fit`, checked; arguments are those of it.

    `x` is handed to the model. Raises `OptionError` for data that are not finite, where that is not allowed, and for a
    sigma that does not fit the observations.
    """

    def __init__(self, xdata: Any, ydata: Any, sigma: Any, check_finite: Any, nan_policy: str | None) -> None:
        optional(flag, "check_finite", check_finite)
        if nan_policy is not None:
            one_of("nan_policy", nan_policy, ("raise", "omit"), otherwise="None")
        finite = nan_policy is None if check_finite is None else check_finite
        self.y = _numbers("ydata", ydata)
        if self.y.size == 0:
            raise OptionError("ydata is empty: give at least one observation")
        self.x = xdata
        if isinstance(xdata, (list, tuple, np.ndarray)) or np.isscalar(xdata):
            self.x = _numbers("xdata", xdata)
        if finite:
            for name, array in (("ydata", self.y), ("xdata", self.x)):
                _require(name, array, np.isfinite, "not finite", "check_finite=False, or nan_policy='omit' for NaN")
        sigma = None if sigma is None else _numbers("sigma", sigma)
        if nan_policy == "raise":
            for name, array in (("ydata", self.y), ("xdata", self.x)):
                _require(name, array, lambda a: ~np.isnan(a), "NaN", "nan_policy='omit'")
        elif nan_policy == "omit":
            sigma = self._omit(sigma)
        self._whiten(sigma)

    def _omit(self, sigma: Array | None) -> Array | None:
        """Leave out observations with NaN; returns the sigma of those that stay."""
        if not isinstance(self.x, np.ndarray):
            raise OptionError(f"nan_policy='omit' needs xdata as an array, not {shown(self.x)}")
        missing = np.isnan(self.x)
        # The last axis of xdata is that of the observations, as in SciPy.
        missing = missing.any(axis=tuple(range(missing.ndim - 1))) | np.isnan(self.y)
        self.x, self.y = self.x[..., ~missing], self.y[~missing]
        if sigma is None or sigma.size == 1:
            return sigma
        return sigma[~missing] if sigma.ndim == 1 else sigma[~missing][:, ~missing]

    def _whiten(self, sigma: Array | None) -> None:
        """Have residuals divided by their standard deviations, or by the Cholesky factor of their covariance."""
        self._weights: Array | None = None
        self._factor: Array | None = None
        if sigma is None:
            return
        count = self.y.size
        if sigma.size == 1 or sigma.shape == self.y.shape:
            if not np.all(sigma > 0.0):
                raise OptionError(f"sigma={shown(sigma)}: standard deviations must be positive")
            self._weights = np.broadcast_to(1.0 / sigma.reshape(-1) if sigma.size == 1 else 1.0 / sigma, self.y.shape)
            return
        if sigma.shape != (count, count):
            raise OptionError(
                f"sigma has shape {sigma.shape}, and there are {count} observations: a standard deviation for each is "
                f"needed, or a covariance of shape ({count}, {count})"
            )
        try:
            self._factor = np.linalg.cholesky(sigma)
        except np.linalg.LinAlgError:
            raise OptionError("sigma, a covariance, must be positive definite, and is not") from None

    def residuals(self, values: Any) -> Any:
        """Model minus data, over their errors; values may be a tensor, or an array of JAX."""
        shape = tuple(values.shape if hasattr(values, "shape") else np.shape(values))
        if shape not in (self.y.shape, ()):
            raise ObjectiveError(f"f returned shape {shape}, and ydata has shape {self.y.shape}: they must be the same")
        return self._over(values - self._like(self.y, values))

    @property
    def sigma(self) -> Array | None:
        """The standard deviation of each observation; None where none are given, or a covariance is."""
        return None if self._weights is None else 1.0 / self._weights

    def about_mean(self) -> float:
        """The sum of squares of the data about their mean, over their errors."""
        ones, y = (np.asarray(self._over(values)).reshape(-1) for values in (np.ones_like(self.y), self.y))
        rest = y - ones * (ones @ y) / (ones @ ones)
        return float(rest @ rest)

    def scaled(self, jacobian: Any, size: int) -> Array:
        """The Jacobian of the residuals, from that of the model."""
        found = np.asarray(jacobian, dtype=float)
        if found.shape != (*self.y.shape, size):
            raise ObjectiveError(
                f"jac returned shape {found.shape}: a row for each of {self.y.size} observations and a column for each "
                f"of {size} parameters is needed"
            )
        if self._factor is not None:
            return np.asarray(self._over(found))
        return found if self._weights is None else found * self._weights[..., None]

    def _over(self, residuals: Any) -> Any:
        if self._weights is not None:
            return residuals * self._like(self._weights, residuals)
        if self._factor is None:
            return residuals
        from scipy.linalg import solve_triangular

        if kind_of(residuals) == "numpy":
            return solve_triangular(self._factor, residuals, lower=True)
        inverse = solve_triangular(self._factor, np.eye(self.y.size), lower=True)
        return self._like(inverse, residuals) @ residuals

    @staticmethod
    def _like(array: Array, values: Any) -> Any:
        """An array that can be computed with beside values of any library."""
        if kind_of(values) != "torch":
            return array
        import torch

        return torch.as_tensor(np.array(array))


def _numbers(name: str, values: Any) -> Array:
    """Data as an array of float64."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise OptionError(
            f"{name} is a masked array: pass {name}[~mask] of it, or fill it with NaN and nan_policy='omit'"
        )
    try:
        array = np.asarray(values)
        if array.dtype.kind == "c":
            raise TypeError("it is complex")
        return np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{name}={shown(values)}: an array of real numbers is needed ({error})") from None


def _require(name: str, array: Any, right: Any, what: str, remedy: str) -> None:
    if not isinstance(array, np.ndarray):
        return
    bad = np.argwhere(~right(array))
    if bad.size:
        at = tuple(int(i) for i in bad[0])
        raise OptionError(
            f"{name}[{', '.join(map(str, at))}] is {array[at]}, {what}: leave that observation out, or pass {remedy}"
        )
