"""Quasi-Newton methods: the curvature of the loss, learned from how the gradient has changed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from descend.methods.base import Ground, Method, Walk, cautious
from descend.methods.searches import Wolfe
from descend.stopping import Reason

if TYPE_CHECKING:
    from descend.parameters.memory import Array

__all__ = ["BFGS", "LBFGS"]

LIMITED_SEARCH, FULL_SEARCH = Wolfe(c2=0.7), Wolfe(c2=0.9)
CURVED = 1e-14
"""A pair is learned from if step · change exceeds this share of what it would be for vectors that are parallel."""
CURVED_WITHIN = 1e-8
"""The same of the part of a pair that bounds leave free, whose curvature no search has made sure of."""
NEARBY = 1e-6
"""How near a bound, at most, what the gradient presses against it is held."""


class _QuasiNewton(Walk):
    """Directions from a model of the curvature that can be forgotten."""

    def __init__(self, ground: Ground, search: Wolfe) -> None:
        super().__init__(ground)
        self.search = search
        self.d = np.empty_like(self.x)
        self.fall: Callable[[], float] | None = None
        """By how much a plane would fall to where the ground stands, where there are bounds."""
        self.pairs = 0
        """How many pairs the model was made from."""

    scratch: ClassVar[tuple[str, ...]] = ("search", "d", "fall")

    def advance(self) -> Reason | None:
        slope = self.direct()
        if not slope < 0.0 and self.pairs:
            slope = self._steepest()
        alpha = self._along(slope)
        if alpha is None and self.pairs:
            alpha = self._along(self._steepest())
        if alpha is None:
            return Reason.LINE_SEARCH
        self.learn()
        self.loss = self.ground.loss
        return None

    def _along(self, slope: float) -> float | None:
        length = math.sqrt(-slope) if slope <= 0.0 else math.nan  # of a direction that is the gradient's
        if slope == -math.inf and not self.pairs:  # its square overflows
            self.d /= np.max(np.abs(self.d))
            slope, length = float(np.dot(self.d, self.g)), math.sqrt(float(np.dot(self.d, self.d)))
        if not (slope < 0.0 and math.isfinite(slope)):
            return None
        first = 1.0 if self.pairs else cautious(length)
        return self.search.along(self.ground, self.x, self.d, self.loss, slope, first, self.fall)

    def _steepest(self) -> float:
        """Forget the model, and point straight down."""
        self.forget()
        np.negative(self.g, out=self.d)
        return -float(np.dot(self.g, self.g))

    def direct(self) -> float:
        """Write the direction; returns its slope."""
        raise NotImplementedError

    def learn(self) -> None:
        """Learn from the step that the ground has made, and stand there."""
        raise NotImplementedError

    def forget(self) -> None:
        """Begin the model anew."""
        self.pairs = 0


@dataclasses.dataclass(frozen=True)
class LBFGS(Method):
    """Limited-memory BFGS (Liu and Nocedal 1989, algorithm 2.1), two loops over the last few pairs (Nocedal 1980).

    Parameters
    ----------
    memory
        How many pairs of steps and changes of the gradient are remembered; 30. Each takes as much memory as two
        gradients, or four with bounds; more of them save evaluations.
    search
        How far to go: ``Wolfe(c2=0.7)``, the weak conditions, first with a step of 1.

    With bounds it is a two-metric projection (Bertsekas 1982): parameters that the gradient presses against a bound
    nearby go there and stay, the two loops see the others alone, and the search follows the path that the bounds bend.

    Raises `MethodError` for a memory below 1, or a search that is not `Wolfe`: without its conditions a pair may say
    nothing of the curvature.

    >>> import descend
    >>> import scipy.optimize
    >>> rosen = {"fun": scipy.optimize.rosen, "jac": scipy.optimize.rosen_der}
    >>> descend.minimize(**rosen, x0=[-1.2, 1.0], method=descend.LBFGS(memory=10)).x.round(6)
    array([1., 1.])
    """

    takes_bounds: ClassVar[bool] = True

    memory: int = 30
    search: Wolfe = LIMITED_SEARCH

    def __post_init__(self) -> None:
        self._whole("memory", 1, 30)
        self._kind("search", (Wolfe,))

    def walk(self, ground: Ground) -> Walk:
        """As in `Method`."""
        return _Limited(ground, self)

    @staticmethod
    def bytes_of_a_pair(parameters: int, *, bounded: bool) -> int:
        """The memory that one pair takes."""
        return 8 * parameters * (4 if bounded else 2)


class _Limited(_QuasiNewton):
    """L-BFGS on its way: a ring of pairs."""

    loud = False
    scratch = (
        *(*_QuasiNewton.scratch, "kernels", "two_loops", "measure", "shares"),
        *("free", "free_g", "free_steps", "free_changes", "free_curvatures"),
    )

    def __init__(self, ground: Ground, method: LBFGS) -> None:
        super().__init__(ground, method.search)
        from descend.methods import vectors as kernels

        self.kernels, self.two_loops, self.measure = kernels, kernels.two_loops, kernels.learn
        ground.compiled(kernels.move, kernels.dot)
        pairs = method.memory, self.x.size
        self.steps_made, self.changes, self.d = kernels.aligned(pairs, pairs, self.x.shape)
        self.curvatures, self.shares = np.ones(method.memory), np.empty(method.memory)
        self.newest = 0
        if ground.ends is not None:
            ground.bends = True
            self.fall = lambda: min(0.0, float(np.dot(self.g, ground.x - self.x)))
            self.free = np.ones(self.x.shape, bool)
            self.free_g, self.free_steps, self.free_changes = kernels.aligned(self.x.shape, pairs, pairs)
            self.free_curvatures = np.empty(method.memory)

    def direct(self) -> float:
        if self.ground.ends is not None:
            return self._direct_within(*self.ground.ends)
        return self._direct()

    def _direct(self) -> float:
        slope: float = self.two_loops(
            self.g, self.steps_made, self.changes, self.curvatures, self.newest, self.pairs, self.shares, self.d
        )
        return slope

    def _direct_within(self, lower: Array, upper: Array) -> float:
        """The same of the parameters that no bound holds, from what the pairs say of them; the others go to theirs."""
        kernels, free = self.kernels, self.free
        if not kernels.hold(self.x, lower, upper, self.g, NEARBY, free):
            return self._direct()
        g, steps, changes, curvatures = self.free_g, self.free_steps, self.free_changes, self.free_curvatures
        kept = kernels.within(
            self.g, self.steps_made, self.changes, self.newest, self.pairs, CURVED_WITHIN, free, g, steps, changes,
            curvatures,
        )  # fmt: skip
        if kept == 0:
            self.forget()
        slope: float = self.two_loops(g, steps, changes, curvatures, kept - 1, kept, self.shares, self.d)
        return slope + float(kernels.to_bounds(self.x, lower, upper, self.g, free, self.d))

    def _steepest(self) -> float:
        if self.ground.ends is None:
            return super()._steepest()
        self.forget()
        return self.direct()

    def learn(self) -> None:
        rows = len(self.curvatures)
        row = (self.newest + 1) % rows
        # The row that is written to is the oldest, which is lost if the pair says nothing: rare, and no harm.
        ground = self.ground
        sy, ss, yy = self.measure(ground.x, ground.g, self.x, self.g, self.steps_made[row], self.changes[row])
        if sy > CURVED * math.sqrt(ss) * math.sqrt(yy):
            self.curvatures[row] = sy
            self.newest, self.pairs = row, min(self.pairs + 1, rows)
        else:
            self.pairs = min(self.pairs, rows - 1)


@dataclasses.dataclass(frozen=True)
class BFGS(Method):
    """BFGS with the inverse as a matrix (Nocedal and Wright 2006, algorithm 6.1), updated in O(n²).

    Parameters
    ----------
    search
        How far to go: ``Wolfe(c2=0.9)``, the weak conditions, first with a step of 1.

    The matrix takes n² numbers: 8 MB for 1,000 parameters. Raises `MethodError` for a search that is not `Wolfe`.

    >>> import descend
    >>> descend.minimize(lambda x: (x[0] - 1) ** 4 + x[1] ** 2, [3.0, 2.0], method="bfgs").success
    True
    """

    search: Wolfe = FULL_SEARCH

    def __post_init__(self) -> None:
        self._kind("search", (Wolfe,))

    def walk(self, ground: Ground) -> Walk:
        """As in `Method`."""
        return _Full(ground, self)


class _Full(_QuasiNewton):
    """BFGS on its way: the lower triangle of the inverse."""

    def __init__(self, ground: Ground, method: BFGS) -> None:
        super().__init__(ground, method.search)
        n = self.x.size
        self.inverse = np.zeros((n, n), order="F")
        self.step, self.change = np.empty(n), np.empty(n)

    scratch = (*_QuasiNewton.scratch, "step", "change")

    def direct(self) -> float:
        from scipy.linalg.blas import dsymv

        if not self.pairs:
            np.negative(self.g, out=self.d)
        else:
            self.d = dsymv(-1.0, self.inverse, self.g, lower=1, y=self.d, overwrite_y=1)
        return float(np.dot(self.d, self.g))

    def learn(self) -> None:
        from scipy.linalg.blas import dsymv, dsyr2

        ground, step, change = self.ground, self.step, self.change
        np.subtract(ground.x, self.x, out=step)
        np.subtract(ground.g, self.g, out=change)
        np.copyto(self.x, ground.x)
        np.copyto(self.g, ground.g)
        sy, ss, yy = (float(np.dot(a, b)) for a, b in ((step, change), (step, step), (change, change)))
        if not sy > CURVED * math.sqrt(ss) * math.sqrt(yy):
            return
        if not self.pairs:
            self.inverse[...] = 0.0
            np.fill_diagonal(self.inverse, sy / yy)
        turned = dsymv(1.0, self.inverse, change, lower=1)
        # H + u sᵀ + s uᵀ, which is the product form with two matrix products less.
        turned *= -1.0 / sy
        turned += (0.5 / sy) * (1.0 - float(np.dot(turned, change))) * step
        self.inverse = dsyr2(1.0, step, turned, lower=1, a=self.inverse, overwrite_a=1)
        self.pairs += 1

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.inverse = np.asfortranarray(self.inverse)
