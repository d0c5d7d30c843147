"""The vector work of L-BFGS, as a few products of matrices, whose speed is that of BLAS.

The two-loop recursion goes through the pairs one by one, and each of its products waits for the one before. Byrd,
Nocedal and Schnabel (1994) write the same direction as one product of all pairs with the gradient, arithmetic of small
matrices, and one product back. NumPy makes each of them in one call, and the pairs are read twice an iteration.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

__all__ = [
    "MIN_CURVATURE",
    "MIN_FREE_CURVATURE",
    "Array",
    "CurvaturePairs",
    "aligned",
    "curved",
    "dot",
    "free_variables",
    "to_bounds",
]

Array = np.ndarray[Any, np.dtype[Any]]

LINE = 8
"""Numbers in a line of the cache, which has 64 bytes."""

BLOCK = 8192
"""Numbers that `dot` multiplies at once: OpenBLAS gives products of more than 10,000 to several threads."""

MIN_CURVATURE = 1e-14
"""Least share of curvature of a pair that is learned from."""

MIN_FREE_CURVATURE = 1e-8
"""The same of the free part of a pair, whose curvature no line search has made sure of."""


def dot(a: Array, b: Array) -> float:
    """The product of two vectors, summed in an order that does not depend on the number of BLAS's threads."""
    if a.size <= BLOCK:
        return float(np.dot(a, b))
    return sum(float(np.dot(a[i : i + BLOCK], b[i : i + BLOCK])) for i in range(0, a.size, BLOCK))


def curved(sy: Any, ss: Any, yy: Any, least: float) -> Any:
    """Whether a pair tells of curvature: sᵀy exceeds the share `least` of what it would be for parallel s and y.

    For numbers, or arrays with one of each pair. Not so where a product is NaN, or over- or underflows.
    """
    return (sy > least * ss**0.5 * yy**0.5) & (yy > 0.0)


def aligned(*shapes: tuple[int, ...]) -> list[Array]:
    """Arrays of zeros that each begin where a line of the cache does, so that loops load fewer lines twice."""
    sizes = [math.prod(shape) for shape in shapes]
    room = np.zeros(sum(sizes) + (len(sizes) + 1) * LINE)
    start = -room.__array_interface__["data"][0] % (8 * LINE) // 8
    made = []
    for shape, size in zip(shapes, sizes, strict=True):
        made.append(room[start : start + size].reshape(shape))
        start += -(-size // LINE) * LINE
    return made


class CurvaturePairs:
    """The last pairs of a step s and the change y of the gradient, and the products with the inverse Hessian they give.

    `steps` and `changes` have a row for each pair. They are a ring: a new pair takes the row of the oldest one. A row
    without a pair is zero, so that no product has to know how many pairs there are.

    H is that of Byrd, Nocedal and Schnabel (1994), theorem 2.2, in their letters: R is the part of S Yᵀ in which no
    step is later than the change, D its diagonal, γ the scale sᵀy / yᵀy of the newest pair. Their order is that of age.
    Here rows and columns of R and R⁻¹ have the order of the ring: they are the same matrices, permuted alike.
    """

    saved: ClassVar[tuple[str, ...]] = (
        *("rows", "upper", "inverse", "gram", "curvature", "with_gradient"),
        *("scale", "newest", "count"),
    )
    """What it takes to go on later."""

    def __init__(self, memory: int, size: int) -> None:
        self.memory = memory
        (self.rows,) = aligned((2 * memory, size))
        self.steps, self.changes = self.rows[:memory], self.rows[memory:]
        self.upper, self.inverse = np.zeros((memory, memory)), np.zeros((memory, memory))
        """R and R⁻¹."""
        self.gram = np.zeros((memory, memory))
        """Y Yᵀ."""
        self.curvature = np.zeros(memory)
        """The diagonal of D."""
        self.with_gradient, self.with_change = np.zeros(2 * memory), np.zeros(2 * memory)
        """The products of the rows with the gradient at the end of the newest pair, and with its change."""
        self.weights, self.inner = np.zeros(2 * memory), np.zeros(memory)
        self.scale = 1.0
        self.newest, self.count = 0, 0

    @property
    def next(self) -> int:
        """The row of the ring that the next pair is written to, which is the oldest one's when the ring is full."""
        return (self.newest + 1) % self.memory

    def learn(self, row: int, gradient: Array, least: float = MIN_CURVATURE) -> bool:
        """Take in the pair that was written to a row, `gradient` being that at its end; whether it is curved enough."""
        memory, products, upper, inverse = self.memory, self.with_change, self.upper, self.inverse
        step = self.steps[row]
        np.dot(self.rows, gradient, out=self.with_gradient)
        np.dot(self.rows, self.changes[row], out=products)
        sy, yy, ss = float(products[row]), float(products[memory + row]), dot(step, step)
        self._drop(row)
        if not curved(sy, ss, yy, least):  # the pair that had the row before is lost as well: rare, and no harm
            self.steps[row] = self.changes[row] = 0.0
            self.with_gradient[row] = self.with_gradient[memory + row] = 0.0
            return False
        # The inverse of [[R, r], [0, ρ]] has −R⁻¹ r / ρ and 1 / ρ as its last column.
        column = np.dot(inverse, products[:memory])
        column *= -1.0 / sy
        column[row] = 1.0 / sy
        inverse[:, row] = column
        upper[:, row] = products[:memory]
        self.gram[row] = self.gram[:, row] = products[memory:]
        self.curvature[row] = sy
        self.scale = sy / yy
        self.newest, self.count = row, self.count + 1
        return True

    def _drop(self, row: int) -> None:
        """Forget the oldest pair, if the row has one; what stands in the row itself stays.

        Without it R has lost its first row and column, and so has its inverse, as R is triangular.
        """
        if self.upper[row, row] == 0.0:
            return
        self.count -= 1
        upper, inverse, gram = self.upper, self.inverse, self.gram
        upper[row] = upper[:, row] = inverse[row] = inverse[:, row] = gram[row] = gram[:, row] = 0.0

    def restrict(self, pairs: CurvaturePairs, free: Array, gradient: Array) -> None:
        """Take over the free parts of other pairs, in the same rows; those that are not curved enough are left out."""
        memory, chosen = self.memory, np.flatnonzero(free)
        # The products need the free entries alone, which have room where the rows go afterwards.
        parts = self.rows.reshape(-1)[: 2 * memory * chosen.size].reshape(2 * memory, chosen.size)
        np.take(pairs.rows, chosen, axis=1, out=parts, mode="clip")
        products = np.matmul(parts, parts[memory:].T)
        with_steps, with_changes = products[:memory], products[memory:]  # S Yᵀ and Y Yᵀ
        sy, yy = np.diagonal(with_steps), np.diagonal(with_changes)
        enough = curved(sy, np.vecdot(parts[:memory], parts[:memory]), yy, MIN_FREE_CURVATURE)
        np.multiply(pairs.rows, free, out=self.rows)
        self.steps[~enough] = self.changes[~enough] = 0.0
        np.dot(self.rows, gradient, out=self.with_gradient)
        for array in (self.upper, self.inverse, self.gram):
            array[...] = 0.0
        by_age = (pairs.newest + 1 + np.arange(memory)) % memory
        kept = by_age[enough[by_age]]
        self.count = len(kept)
        if self.count:
            block = kept[:, None], kept
            upper = np.triu(with_steps[block])
            self.upper[block], self.inverse[block] = upper, np.linalg.inv(upper)
            self.gram[block] = with_changes[block]
            self.curvature[kept] = sy[kept]
            self.newest = int(kept[-1])
            self.scale = float(sy[self.newest] / yy[self.newest])

    def forget(self) -> None:
        """Drop all pairs."""
        for array in (self.rows, self.upper, self.inverse, self.gram, self.with_gradient):
            array[...] = 0.0
        self.scale, self.count = 1.0, 0

    def direct(self, gradient: Array, out: Array) -> float:
        """Write −H g into `out`, g being the gradient that was last learned with; returns its product with g.

        Of pairs that are restricted, it is for the free part of that gradient.
        """
        if not self.count:
            np.negative(gradient, out=out)
            return dot(out, gradient)
        # −H g = γ (Sᵀ b + Yᵀ a − g) with the weights a = R⁻¹ S g and b = R⁻ᵀ (Y g − Y Yᵀ a − D a / γ).
        weights, inner, memory = self.weights, self.inner, self.memory
        a = weights[memory:]
        _solve(self.upper, self.inverse, self.with_gradient[:memory], a)
        np.dot(self.gram, a, out=inner)
        np.subtract(self.with_gradient[memory:], inner, out=inner)
        inner -= self.curvature * a / self.scale
        _solve(self.upper.T, self.inverse.T, inner, weights[:memory])
        np.dot(weights, self.rows, out=out)
        out -= gradient
        out *= self.scale
        return dot(out, gradient)


def _solve(matrix: Array, inverse: Array, right: Array, out: Array) -> None:
    """Solve a system whose inverse is known, with one step of iterative refinement.

    A product with an inverse is less exact than substitution, which NumPy does not have, where a matrix is
    ill-conditioned; so is R in few dimensions, whose many pairs are nearly dependent. One step of refinement makes up
    for that, at the price of two small products.
    """
    np.dot(inverse, right, out=out)
    residual = np.dot(matrix, out)
    np.subtract(right, residual, out=residual)
    out += np.dot(inverse, residual)


def free_variables(x: Array, gradient: Array, lower: Array, upper: Array, most: float) -> Array | None:
    """Which variables are free, or None if all are: the others are those the gradient presses against a bound nearby.

    Nearby is within `most`, or the largest move of a step along the gradient that ends at the bounds, if that is less:
    the set of Bertsekas 1982.
    """
    below, above = lower - x, upper - x
    near = min(most, float(np.max(np.abs(np.clip(-gradient, below, above)))))
    held = ((gradient > 0.0) & (below >= -near)) | ((gradient < 0.0) & (above <= near))
    return ~held if held.any() else None


def to_bounds(x: Array, gradient: Array, lower: Array, upper: Array, free: Array, out: Array) -> float:
    """Point what is not free to the bound that it is pressed against; returns the slope of that part of `out`."""
    held = ~free
    g = gradient[held]
    out[held] = moves = np.where(g > 0.0, lower[held], upper[held]) - x[held]
    return dot(moves, g)
