"""The vector work of L-BFGS, as a few products of matrices, whose speed is that of BLAS.

The two-loop recursion goes through the pairs one by one, and each of its products waits for the one before. Byrd,
Nocedal and Schnabel (1994) write the same direction as one product of all pairs with the gradient, arithmetic of small
matrices, and one product back. NumPy makes each of them in one call, and the pairs are read twice an iteration.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

__all__ = ["MIN_CURVATURE", "CurvaturePairs", "aligned", "curved", "dot", "free_variables", "to_bounds"]

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


def curved(sy: float, ss: float, yy: float, least: float) -> bool:
    """Whether a pair tells of curvature: sᵀy exceeds the share `least` of what it would be for parallel s and y.

    Not so where a product is NaN or overflows.
    """
    return sy > least * math.sqrt(ss) * math.sqrt(yy)


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

    def learn(self, gradient: Array) -> None:
        """Take in the pair that stands in the row `next`, if it is curved; `gradient` is that at its end."""
        row, memory, products = self.next, self.memory, self.with_change
        upper, inverse, gram = self.upper, self.inverse, self.gram
        step = self.steps[row]
        np.dot(self.rows, gradient, out=self.with_gradient)
        np.dot(self.rows, self.changes[row], out=products)
        sy, yy, ss = float(products[row]), float(products[memory + row]), dot(step, step)
        # Without its oldest pair R has lost its first row and column, and so has its inverse, as R is triangular.
        upper[row] = inverse[row] = inverse[:, row] = 0.0
        if not curved(sy, ss, yy, MIN_CURVATURE):  # the oldest pair is lost as well: rare, and no harm
            self.steps[row] = self.changes[row] = upper[:, row] = gram[row] = gram[:, row] = 0.0
            self.with_gradient[row] = self.with_gradient[memory + row] = 0.0
            self.count = min(self.count, memory - 1)
            return
        # The inverse of [[R, r], [0, ρ]] has −R⁻¹ r / ρ and 1 / ρ as its last column.
        column = np.dot(inverse, products[:memory])
        column *= -1.0 / sy
        column[row] = 1.0 / sy
        inverse[:, row] = column
        upper[:, row] = products[:memory]
        gram[row] = gram[:, row] = products[memory:]
        self.curvature[row] = sy
        self.scale = sy / yy
        self.newest, self.count = row, min(self.count + 1, memory)

    def forget(self) -> None:
        """Drop all pairs."""
        for array in (self.rows, self.upper, self.inverse, self.gram, self.with_gradient):
            array[...] = 0.0
        self.scale, self.count = 1.0, 0

    def direct(self, gradient: Array, out: Array) -> float:
        """Write −H g into `out`, g being the gradient that was last learned with; returns its product with g."""
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

    def direct_freely(self, gradient: Array, free: Array, out: Array) -> float:
        """The same where only some variables are `free`, by what the pairs say of these; `out` is zero at the others.

        Which variables are free changes from step to step, and with it every product of two pairs. So it is the
        two-loop recursion (Nocedal 1980) over the free parts of the pairs, one after the other. A pair is left out
        where its free part is not curved; if none is left, all are forgotten.
        """
        np.multiply(gradient, free, out=out)
        np.negative(out, out=out)
        pairs = self._free_parts(free) if self.count else []
        if not pairs:
            self.forget()
            return dot(out, gradient)
        room, shares = np.empty_like(out), []
        for s, y, sy, _ in reversed(pairs):
            shares.append(dot(s, out) / sy)
            out -= np.multiply(y, shares[-1], out=room)
        _, _, sy, yy = pairs[-1]
        out *= sy / yy
        for (s, y, sy, _), share in zip(pairs, reversed(shares), strict=True):
            out += np.multiply(s, share - dot(y, out) / sy, out=room)
        return dot(out, gradient)

    def _free_parts(self, free: Array) -> list[tuple[Array, Array, float, float]]:
        """The pairs whose free part is curved, from the oldest to the newest: s, y, sᵀy and yᵀy of that part."""
        by_age = [(self.newest - back) % self.memory for back in reversed(range(self.count))]
        steps, changes = self.steps * free, self.changes * free
        products = [np.einsum("ij,ij->i", a, b) for a, b in ((steps, changes), (steps, steps), (changes, changes))]
        return [
            (steps[row], changes[row], sy, yy)
            for row, sy, ss, yy in zip(by_age, *(p[by_age].tolist() for p in products), strict=True)
            if curved(sy, ss, yy, MIN_FREE_CURVATURE)
        ]


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
