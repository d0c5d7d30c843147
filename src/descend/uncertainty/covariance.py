"""Covariances of parameters from a Jacobian or a Hessian, with a decision on what the data do not tell."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from descend.errors import OptionError, UncertaintyError, did_you_mean
from descend.parameters.memory import Array

__all__ = ["Covariance", "NamedMatrix", "from_hessian", "from_jacobian"]

UNKNOWN = 0.1
"""The error of a curvature, scaled to 1, from which on nothing is known of it."""
IN_DIRECTION = 1e-5
"""How large a parameter's share in a direction is, its length being 1, if the direction is said to move it."""


@dataclasses.dataclass(frozen=True, repr=False)
class NamedMatrix:
    """A symmetric matrix whose rows and columns are parameters: ``m["a", "b"]`` is an entry, ``m.matrix`` the array.

    >>> m = NamedMatrix(("a", "b"), np.array([[4.0, 1.0], [1.0, 9.0]]))
    >>> m["a", "b"], m["b"]
    (1.0, 9.0)
    >>> print(m)
       a  b
    a  4  1
    b  1  9
    """

    names: tuple[str, ...]
    matrix: Array

    def __getitem__(self, key: str | tuple[str, str]) -> float:
        """The entry of two parameters; of one, that on the diagonal. Raises `OptionError` for an unknown name."""
        row, column = key if isinstance(key, tuple) and len(key) == 2 else (key, key)
        return float(self.matrix[self._index(row), self._index(column)])

    def _index(self, name: Any) -> int:
        if name in self.names:
            return self.names.index(name)
        raise OptionError(f"there is no parameter {name!r}; {did_you_mean(str(name), self.names)}")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """The matrix, for NumPy."""
        return np.array(self.matrix, dtype=dtype) if copy or dtype is not None else self.matrix

    def __repr__(self) -> str:
        cells = [["", *self.names]]
        cells += [
            [name, *(f"{v:.4g}" for v in row)] for name, row in zip(self.names, self.matrix.tolist(), strict=True)
        ]
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells))]
        first = [row[0].ljust(widths[0]) for row in cells]
        rest = ["".join(f"  {cell:>{w}}" for cell, w in zip(row[1:], widths[1:], strict=True)) for row in cells]
        return "\n".join((a + b).rstrip() for a, b in zip(first, rest, strict=True))


class Covariance(NamedMatrix):
    """The covariance of parameters: infinite variances, and NaN beside them, for those that the data do not tell.

    >>> found = Covariance(("a", "b"), np.array([[4.0, 3.0], [3.0, 9.0]]))
    >>> found.standard_errors.tolist(), found.correlations["a", "b"]
    ([2.0, 3.0], 0.5)
    """

    @property
    def standard_errors(self) -> Array:
        """The standard error of each parameter, in the order of `names`."""
        found: Array = np.sqrt(np.diag(self.matrix))
        return found

    @property
    def correlations(self) -> NamedMatrix:
        """The correlation of each two parameters; NaN for one that is fixed or not told."""
        size = self.standard_errors
        with np.errstate(invalid="ignore", divide="ignore"):
            found = self.matrix / size[:, None] / size
        known = np.isfinite(size) & (size > 0)
        found[np.diag_indices_from(found)] = np.where(known, 1.0, math.nan)
        found[~known] = math.nan
        found[:, ~known] = math.nan
        return NamedMatrix(self.names, found)

    def expanded(self, slopes: Array, names: Sequence[str]) -> Covariance:
        """The covariance of functions of these parameters by the delta method: `slopes` has a row for each of them."""
        unknown = ~np.isfinite(np.diag(self.matrix))
        matrix = np.where(unknown[:, None] | unknown, 0.0, self.matrix)
        found = slopes @ matrix @ slopes.T
        moved = np.any(slopes[:, unknown] != 0.0, axis=1)
        found[moved] = found[:, moved] = math.nan
        found[moved, moved] = math.inf
        return Covariance(tuple(names), found)


def from_jacobian(
    jacobian: Any, variance: float, names: Sequence[str], *, meat: Array | None = None, rtol: float | None = None
) -> Covariance:
    """The covariance of least-squares estimates, variance · (JᵀJ)⁻¹, by the singular values of J with scaled columns.

    Parameters
    ----------
    jacobian
        Derivatives of the weighted residuals, shape (residuals, parameters), a matrix of SciPy's or an array.
    variance
        Of a residual of weight 1.
    names
        Of the parameters.
    meat
        For a robust loss, the matrix in the middle of (JᵀJ)⁻¹ M (JᵀJ)⁻¹ (Huber 1967); `variance` is not used then.
    rtol
        Which singular values count as zero, relative to the largest: the Jacobian's own relative error. By default
        that of rounding.

    A parameter that some combination of parameters moves without a change of any residual has an infinite variance,
    which a warning says by name; the others have theirs. Raises `UncertaintyError` for a Jacobian that is not finite.
    """
    dense = np.asarray(jacobian.toarray() if hasattr(jacobian, "toarray") else jacobian, dtype=float)
    if not np.all(np.isfinite(dense)):
        bad = names[int(np.flatnonzero(~np.isfinite(dense).all(axis=0))[0])]
        raise UncertaintyError(f"the Jacobian is not finite for {bad}: there is no covariance at such a point")
    size = np.linalg.norm(dense, axis=0)
    scale = np.where(size > 0, size, 1.0)
    triangle = np.linalg.qr(dense / scale, mode="r")  # the singular values of it are those of the Jacobian
    _, values, rows = np.linalg.svd(triangle)
    values = np.concatenate([values, np.zeros(len(rows) - len(values))])
    least = (max(dense.shape) * float(np.finfo(float).eps) if rtol is None else rtol) * max(values[0], 1e-300)
    told = values > least
    half = rows[told].T / values[told] / scale[:, None]
    if meat is None:
        matrix = variance * half @ half.T
    else:
        bread = half @ half.T
        matrix = bread @ meat @ bread
    return _without_untold(matrix, rows[~told] * 1.0, names, "residuals")


def from_hessian(
    hessian: Array, names: Sequence[str], *, basis: Array | None = None, error: Array | None = None
) -> Covariance:
    """The covariance of maximum-likelihood estimates: the inverse Hessian of the negative log-likelihood.

    Parameters
    ----------
    hessian
        Shape (parameters, parameters); second derivatives along the columns of `basis`, or along the parameters.
    names
        Of the parameters.
    basis
        Directions that are scaled by the curvature, one a column: those of `descend.uncertainty.hessian`.
    error
        The absolute error of each of its diagonal entries. A direction of which nothing is known is not told.

    A parameter that some combination moves without a change of the likelihood has an infinite variance, which a
    warning says by name. Raises `UncertaintyError` where the Hessian is not finite, or where a curvature is negative:
    the point is no minimum then.
    """
    scaled = basis is not None
    basis = np.eye(len(hessian)) if basis is None else basis
    error = np.zeros(len(hessian)) if error is None else error
    known = error < UNKNOWN
    hessian = ((hessian + hessian.T) / 2)[np.ix_(known, known)]
    if not np.all(np.isfinite(hessian)):
        raise UncertaintyError("the Hessian is not finite: there is no covariance at such a point")
    size = np.ones(len(hessian)) if scaled else np.sqrt(np.abs(np.diag(hessian)))
    scale = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(hessian / scale[:, None] / scale)
    rounding = len(hessian) * float(np.finfo(float).eps) * float(np.max(np.abs(values), initial=0.0))
    least = max(rounding, float(np.max(error[known], initial=0.0)))
    moved = basis[:, known] / scale @ vectors
    share = _of_rows(moved)
    if values.size and values[0] < -least:
        raise UncertaintyError(
            f"the curvature is negative along {_largest(share[:, 0], names)}: the point is no minimum; go on "
            "descending from beside it, or fix what the data do not tell"
        )
    told = values > least
    half = moved[:, told] / np.sqrt(values[told])
    own = _of_rows(basis)
    flat = np.hstack([share[:, ~told], own[:, ~known & np.isfinite(error)]]).T
    return _without_rough(
        _without_untold(half @ half.T, flat, names, "likelihood"), own[:, ~np.isfinite(error)].T, names
    )


def _of_rows(directions: Array) -> Array:
    """Directions, one a column, with each parameter's share measured by its own scale: that of its row."""
    size = np.linalg.norm(directions, axis=1, keepdims=True)
    found: Array = directions / np.where(size > 0, size, 1.0)
    return found


def _largest(share: Array, names: Sequence[str]) -> str:
    """The names of the parameters that a direction moves most, for a message."""
    share = np.abs(share)
    return ", ".join(names[i] for i in np.argsort(-share)[:6] if share[i] > 0.3 * share.max())


def _without_untold(matrix: Array, directions: Array, names: Sequence[str], what: str) -> Covariance:
    """The covariance with infinite variances for the parameters that directions of no effect move."""
    untold = np.any(np.abs(directions) > IN_DIRECTION, axis=0)
    if untold.any():
        listed = ", ".join(name for name, one in zip(names, untold, strict=True) if one)
        many = untold.sum() > 1
        warnings.warn(
            f"the data do not tell {listed}: {'a combination of them moves' if many else 'it moves'} without a change "
            f"of the {what}, so {'their' if many else 'its'} variance is infinite; fix {'one' if many else 'it'}",
            RuntimeWarning,
            stacklevel=5,
        )
        matrix = matrix.copy()
        matrix[untold] = matrix[:, untold] = math.nan
        matrix[untold, untold] = math.inf
    return Covariance(tuple(names), matrix)


def _without_rough(found: Covariance, directions: Array, names: Sequence[str]) -> Covariance:
    """The covariance with NaN for the parameters that directions move along which there is no curvature."""
    rough = np.any(np.abs(directions) > IN_DIRECTION, axis=0)
    if not rough.any():
        return found
    listed = ", ".join(name for name, one in zip(names, rough, strict=True) if one)
    warnings.warn(
        f"the likelihood has no curvature in {listed} at the answer: it has a kink there, or is noisy, so that there "
        "is no standard error; profile_intervals() asks for none",
        RuntimeWarning,
        stacklevel=5,
    )
    matrix = found.matrix.copy()
    matrix[rough] = matrix[:, rough] = math.nan
    return Covariance(found.names, matrix)
