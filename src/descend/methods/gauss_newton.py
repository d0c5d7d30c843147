"""The Gauss–Newton model of a sum of squares at one point, and where its trust region leads.

The residuals near a point are taken as r + J p. A dense J is brought to its R factor and the singular values of that,
once for a point: then a damped step is arithmetic of vectors as long as the parameters, however often the damping is
changed. Of a sparse J, or of its products alone, SciPy's `lsmr` makes the step.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, Protocol

import numpy as np

__all__ = ["DenseModel", "SparseModel", "Step", "column_norms", "model_of"]

Array = np.ndarray[Any, np.dtype[Any]]

EPS = float(np.finfo(np.float64).eps)
SLACK = 0.1
"""How far the length of a step may be from the radius, relative to it: Moré's σ."""
SECULAR = 10
"""Iterations for the damping at most, as in MINPACK's lmpar."""


@dataclasses.dataclass(frozen=True)
class Step:
    """A step within a trust region.

    `p` is the step, `predicted` by how much the model has half the sum of squares fall, `length` that of the step in
    the scaled parameters, `slope` the derivative of half the sum of squares along it.
    """

    p: Array
    predicted: float
    length: float
    slope: float


class Model(Protocol):
    """A Gauss–Newton model, whatever its Jacobian is."""

    norms: Array

    @property
    def promised(self) -> float:
        """By how much the model lets half the sum of squares fall at most, without bounds."""

    @property
    def determined(self) -> bool:
        """Whether every direction changes the residuals, beyond rounding."""

    def newton(self) -> Array:
        """The Gauss–Newton step, the shortest one where there are several."""

    def within(self, radius: float, scale: Array) -> Step:
        """The step to the least of the model with ‖scale · p‖ ≤ radius, about."""

    def within_box(self, lower: Array, upper: Array, scale: Array) -> Step:
        """The step to the least of the model with lower ≤ p ≤ upper."""

    def image(self, step: Array) -> Array:
        """What J p is, up to a rotation."""

    def rounding(self, x: Array) -> float:
        """The norm of the change of the residuals where each parameter moves by its own size: ‖ |J| |x| ‖."""


class DenseModel:
    """The model of residuals r and a dense Jacobian J.

    Parameters
    ----------
    jacobian, residuals
        Finite, of shapes (m, n) and (m,).
    error
        The error of an entry of the Jacobian, relative to the norm of its column.
    """

    def __init__(self, jacobian: Array, residuals: Array, error: float = 0.0) -> None:
        self.jacobian = jacobian
        self.norms = column_norms(jacobian)
        self.units = np.where(self.norms > 0.0, self.norms, 1.0)
        columns = jacobian / self.units
        n = self.units.size
        # The last column of the R factor of [J, r] is Qᵀr: Q itself is never formed.
        triangle: Any = np.linalg.qr(np.column_stack([columns, residuals]), mode="r")
        self.upper, self.right = triangle[:n, :n], triangle[:n, n]
        """R and Qᵀr, for columns of norm 1."""
        left, self.values, self.directions = np.linalg.svd(self.upper, full_matrices=False)
        self.shares = np.dot(self.right, left)
        """The residual's parts along the left singular vectors."""
        largest = float(self.values[0])
        least = largest * max(EPS * max(jacobian.shape), error)
        self.told = (self.values > least) & (self.values > 0.0)
        """Which singular values are more than rounding."""

    @property
    def promised(self) -> float:
        """As in `Model`."""
        shares = self.shares[self.told]
        return 0.5 * float(np.dot(shares, shares))

    @property
    def determined(self) -> bool:
        """As in `Model`."""
        return self.told.size == self.units.size and bool(self.told.all())

    def newton(self) -> Array:
        """As in `Model`."""
        kept = self.told
        step: Array = -np.dot(self.shares[kept] / self.values[kept], self.directions[kept]) / self.units
        return step

    def within(self, radius: float, scale: Array) -> Step:
        """The step of least model with ‖scale · p‖ ≤ radius (Moré 1978, section 5), but for a tenth of the radius."""
        if self.determined:
            p = self.newton()
            length = float(np.linalg.norm(scale * p))
            if length <= (1.0 + SLACK) * radius:  # near the end always: no further decomposition
                return Step(p, self.promised, length, -2.0 * self.promised)
        ratio = scale / self.units
        if np.all(ratio == ratio[0]):
            factor = float(ratio[0])
            values, directions, shares = self.values / factor, self.directions, self.shares
        else:
            left, values, directions = np.linalg.svd(self.upper / ratio, full_matrices=False)
            shares = np.dot(self.right, left)
        values = np.where(values > EPS * self.upper.shape[1] * values[0], values, 0.0)
        damping = _damping(values, shares, radius)
        squares = values * values
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = np.where(values > 0.0, squares / (squares + damping), 0.0)
            weights = np.where(values > 0.0, values * shares / (squares + damping), 0.0)
        z = -np.dot(weights, directions)
        kept = parts * shares * shares
        return Step(
            p=z / scale,
            predicted=float(np.dot(kept, 1.0 - 0.5 * parts)),
            length=math.sqrt(float(np.dot(weights, weights))),
            slope=-float(np.sum(kept)),
        )

    def within_box(self, lower: Array, upper: Array, scale: Array) -> Step:
        """As in `Model`: by bounded-variable least squares (Stark and Parker 1995), or SciPy's reflective method."""
        from scipy.optimize import lsq_linear

        free = lower < upper
        y, ends = np.zeros(free.size), (lower * self.units, upper * self.units)
        if free.any():
            given = self.upper[:, free], -self.right
            limits = ends[0][free], ends[1][free]
            found = lsq_linear(*given, bounds=limits, method="bvls", tol=EPS)
            if found.status <= 0:
                found = lsq_linear(*given, bounds=limits, method="trf", tol=EPS)
            y[free] = np.clip(found.x, *limits)
        change = np.dot(self.upper, y)
        p = np.where(y == ends[0], lower, np.where(y == ends[1], upper, y / self.units))
        return _step(p, float(np.dot(change, self.right)), float(np.dot(change, change)), _extent(p, scale))

    def image(self, step: Array) -> Array:
        """As in `Model`."""
        return np.asarray(np.dot(self.upper, step * self.units))

    def rounding(self, x: Array) -> float:
        """As in `Model`."""
        return float(np.linalg.norm(np.dot(np.abs(self.jacobian), np.abs(x))))


class SparseModel:
    """The model of residuals r and a sparse Jacobian, or one that offers products alone.

    The Gauss–Newton step is that of LSMR (Fong and Saunders 2011). Where the radius is shorter, the step lies in the
    plane of that step and the gradient (Byrd, Schnabel and Shultz 1988).
    """

    def __init__(self, jacobian: Any, residuals: Array, scale: Array | None = None) -> None:
        from scipy.sparse import issparse

        self.jacobian, self.residuals = jacobian, residuals
        self.sparse = issparse(jacobian)
        n = jacobian.shape[1]
        # The norms of an operator's columns would take a product each: its parameters are taken as they are.
        self.norms = np.sqrt(np.ravel((jacobian.multiply(jacobian)).sum(axis=0))) if self.sparse else np.ones(n)
        self.units = np.where(self.norms > 0.0, self.norms, 1.0) if scale is None else 1.0 / scale
        self.gradient = self._transposed(residuals)

    def _product(self, v: Array) -> Array:
        return np.ravel(self.jacobian @ v if self.sparse else self.jacobian.matvec(v))

    def _transposed(self, u: Array) -> Array:
        return np.ravel(self.jacobian.T @ u if self.sparse else self.jacobian.rmatvec(u))

    @functools.cached_property
    def _newton(self) -> Array:
        from scipy.sparse.linalg import LinearOperator, lsmr

        scaled = LinearOperator(
            self.jacobian.shape,
            matvec=lambda v: self._product(np.ravel(v) / self.units),
            rmatvec=lambda u: self._transposed(np.ravel(u)) / self.units,
            dtype=np.float64,
        )
        most = 2 * max(self.jacobian.shape)
        found: Array = lsmr(scaled, -self.residuals, atol=1e-13, btol=1e-13, conlim=1e13, maxiter=most)[0] / self.units
        return found

    @functools.cached_property
    def promised(self) -> float:
        """As in `Model`."""
        change = self._product(self._newton)
        return max(0.0, -float(np.dot(self.gradient, self._newton)) - 0.5 * float(np.dot(change, change)))

    @property
    def determined(self) -> bool:
        """As in `Model`; it is not known, and taken for granted."""
        return True

    def newton(self) -> Array:
        """As in `Model`."""
        return self._newton

    def within(self, radius: float, scale: Array) -> Step:
        """As in `Model`."""
        plane = [self._newton * scale, self.gradient / scale]
        if float(np.linalg.norm(plane[0])) <= (1.0 + SLACK) * radius:
            return self._step(self._newton, float(np.linalg.norm(plane[0])))
        basis, triangle = np.linalg.qr(np.column_stack(plane))
        basis = basis[:, np.abs(np.diag(triangle)) > EPS * abs(triangle[0, 0])]
        columns = np.column_stack([self._product(column / scale) for column in basis.T])
        found = DenseModel(columns, self.residuals).within(radius, np.ones(basis.shape[1]))
        return dataclasses.replace(found, p=np.dot(basis, found.p) / scale)

    def within_box(self, lower: Array, upper: Array, scale: Array) -> Step:
        """As in `Model`: by SciPy's reflective method with LSMR (Branch, Coleman and Li 1999)."""
        from scipy.optimize import lsq_linear

        free = np.flatnonzero(lower < upper)
        p = np.zeros(lower.size)
        if free.size:
            limits = (lower * scale)[free], (upper * scale)[free]
            found = lsq_linear(
                self._columns(free, scale), -self.residuals, bounds=limits, tol=1e-12, lsq_solver="lsmr"
            ).x
            near = 1e-8 * np.minimum(limits[1] - limits[0], 1.0 + np.abs(found))
            found = np.where(
                found - limits[0] <= near, limits[0], np.where(limits[1] - found <= near, limits[1], found)
            )
            p[free] = np.clip(found / scale[free], lower[free], upper[free])
        return self._step(p, _extent(p, scale))

    def _columns(self, free: Array, scale: Array) -> Any:
        from scipy.sparse import diags_array
        from scipy.sparse.linalg import LinearOperator

        if self.sparse:
            return (self.jacobian.tocsc()[:, free] @ diags_array(1.0 / scale[free])).tocsr()

        def product(v: Array) -> Array:
            whole = np.zeros(scale.size)
            whole[free] = np.ravel(v) / scale[free]
            return self._product(whole)

        return LinearOperator(
            (self.residuals.size, free.size),
            matvec=product,
            rmatvec=lambda u: (self._transposed(np.ravel(u)) / scale)[free],
            dtype=np.float64,
        )

    def _step(self, p: Array, length: float) -> Step:
        change = self._product(p)
        return _step(p, float(np.dot(self.gradient, p)), float(np.dot(change, change)), length)

    def image(self, step: Array) -> Array:
        """As in `Model`."""
        return self._product(step)

    def rounding(self, x: Array) -> float:
        """As in `Model`; without the absolute values where there are products alone."""
        return float(np.linalg.norm(abs(self.jacobian) @ np.abs(x) if self.sparse else self._product(x)))


def model_of(jacobian: Any, residuals: Array, error: float, scale: Array | None) -> Model:
    """The model for a Jacobian of any kind; `scale` is the size of each parameter, where it is given."""
    if isinstance(jacobian, np.ndarray):
        return DenseModel(jacobian, residuals, error)
    return SparseModel(jacobian, residuals, scale)


def _step(p: Array, slope: float, square: float, length: float) -> Step:
    """A step, of the slope along it and ‖J p‖²."""
    return Step(p, -slope - 0.5 * square, length, slope)


def _extent(p: Array, scale: Array) -> float:
    """The largest scaled entry of a step: its length in a box."""
    return float(np.max(np.abs(p * scale), initial=0.0))


def _damping(values: Array, shares: Array, radius: float) -> float:
    """The λ for which a damped step has the length of the radius; 0 where the undamped one is not longer.

    Newton's iteration for φ(λ) = ‖z(λ)‖ − radius, kept between bounds (Moré 1978, algorithm 5.5).
    """
    kept = values > 0.0
    s, c = values[kept], values[kept] * shares[kept]
    if not s.size:
        return 0.0
    squares = s * s

    def phi(damping: float) -> tuple[float, float]:
        z = c / (squares + damping)
        length = math.sqrt(float(np.dot(z, z)))
        return length - radius, -float(np.dot(z * z, 1.0 / (squares + damping))) / length if length > 0.0 else 0.0

    excess, slope = phi(0.0)
    if excess <= SLACK * radius:
        return 0.0
    low = -excess / slope if s.size == values.size and slope < 0.0 and math.isfinite(slope) else 0.0
    high = math.sqrt(float(np.dot(c, c))) / radius
    damping = max(low, min(1e-3 * high, high)) if low == 0.0 else low
    for _ in range(SECULAR):
        excess, slope = phi(damping)
        if abs(excess) <= SLACK * radius:
            break
        if excess > 0.0:
            low = max(low, damping)
        else:
            high = min(high, damping)
        damping -= (excess + radius) / radius * excess / slope
        if not low <= damping <= high:
            damping = max(1e-3 * high, math.sqrt(low * high))
    return damping


def column_norms(matrix: Array) -> Array:
    """The Euclidean norm of each column, without overflow."""
    largest = np.max(np.abs(matrix), axis=0, initial=0.0)
    units = np.where(largest > 0.0, largest, 1.0)
    norms: Array = units * np.sqrt(np.sum((matrix / units) ** 2, axis=0)) * (largest > 0.0)
    return norms
