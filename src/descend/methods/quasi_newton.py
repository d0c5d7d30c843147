"""Quasi-Newton methods: the curvature of the loss, learned from how the gradient has changed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from descend.methods.base import Curvature, LineObjective, Method, MethodRun, first_step_length, restore_attribute
from descend.methods.searches import Wolfe
from descend.methods.vectors import (
    MIN_CURVATURE,
    MIN_FREE_CURVATURE,
    Array,
    CurvaturePairs,
    aligned,
    curved,
    dot,
    free_variables,
    to_bounds,
)
from descend.stopping import Reason

__all__ = ["BFGS", "LBFGS"]

LIMITED_SEARCH, FULL_SEARCH = Wolfe(c2=0.7), Wolfe(c2=0.9)
NEARBY = 1e-6
"""How near a bound, at most, a variable is held that the gradient presses against it."""


class _QuasiNewton(MethodRun):
    """Directions from a model of the curvature that can be forgotten."""

    def __init__(self, objective: LineObjective, search: Wolfe) -> None:
        super().__init__(objective)
        self.search = search
        self.d = np.empty_like(self.x)
        self.decrease: Callable[[], float] | None = None
        """The first-order decrease gᵀ(x_new − x) from x to the trial point, where there are bounds."""
        self.pairs = 0
        """How many curvature pairs the model was made from."""

    workspace: ClassVar[tuple[str, ...]] = ("search", "d", "decrease")

    def advance(self) -> Reason | None:
        slope = self.set_direction()
        self.expected = -0.5 * slope if self.pairs else math.nan
        if not slope < 0.0 and self.pairs:
            slope = self._steepest()
        alpha = self._along(slope)
        if alpha is None and self.pairs:
            alpha = self._along(self._steepest())
        if alpha is None:
            return Reason.LINE_SEARCH
        self.learn()
        self.loss = self.objective.loss
        return None

    def _along(self, slope: float) -> float | None:
        norm = math.sqrt(-slope) if slope <= 0.0 else math.nan  # of the direction, where it is −g
        if slope == -math.inf and not self.pairs:  # its square overflows: a direction of length one has a finite slope
            self.d /= np.max(np.abs(self.d))
            slope, norm = dot(self.d, self.g), math.sqrt(dot(self.d, self.d))
        if not (slope < 0.0 and math.isfinite(slope)):
            return None
        # With a model of the curvature a step length of 1 is the right one near a minimum, and is tried first.
        first = 1.0 if self.pairs else first_step_length(norm)
        return self.search.along(self.objective, self.x, self.d, self.loss, slope, first, self.decrease)

    def _steepest(self) -> float:
        """Forget the model; the direction without one is the steepest."""
        self.forget()
        return self.set_direction()

    def set_direction(self) -> float:
        """Write the direction; returns its slope."""
        raise NotImplementedError

    def learn(self) -> None:
        """Accept the trial point, and learn from the step to it."""
        raise NotImplementedError

    def forget(self) -> None:
        """Begin the model anew."""
        self.pairs = 0


@dataclasses.dataclass(frozen=True)
class LBFGS(Method):
    """Limited-memory BFGS (Liu and Nocedal 1989, algorithm 2.1), by products of matrices (Byrd and others 1994).

    Parameters
    ----------
    memory
        How many curvature pairs, steps and changes of the gradient, are remembered; 30. Each takes as much memory as
        two gradients, or four with bounds; more of them save evaluations.
    search
        How far to go: ``Wolfe(c2=0.7)``, the weak conditions, first with a step length of 1.

    With bounds it is a two-metric projection (Bertsekas 1982): variables that the gradient presses against a bound
    nearby go there and stay, the curvature is that of the free variables alone, and the search follows the projected
    path.

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

    def begin(self, objective: LineObjective) -> MethodRun:
        """As in `Method`."""
        return _Limited(objective, self)

    @staticmethod
    def bytes_of_a_pair(parameters: int, *, bounded: bool) -> int:
        """The memory that one pair takes."""
        return 8 * parameters * (4 if bounded else 2)


class _Limited(_QuasiNewton):
    """A run of L-BFGS."""

    workspace = (*_QuasiNewton.workspace, "models", "free_g")

    def __init__(self, objective: LineObjective, method: LBFGS) -> None:
        super().__init__(objective, method.search)
        self.models = {"all": CurvaturePairs(method.memory, self.x.size)}
        """The pairs and, with bounds, their free parts."""
        (self.d,) = aligned(self.x.shape)
        self.free, self.restricted = np.ones(self.x.shape, bool), False
        """Which variables the free parts are of, and whether they are of the pairs as they are."""
        if objective.bounds is not None:
            self.models["free"] = CurvaturePairs(method.memory, self.x.size)
            self.free_g = np.empty_like(self.x)
            objective.on_projected_path = True
            self.decrease = lambda: min(0.0, dot(self.g, objective.x - self.x))

    def set_direction(self) -> float:
        bounds, pairs = self.objective.bounds, self.models["all"]
        free = None if bounds is None else free_variables(self.x, self.g, *bounds, NEARBY)
        if bounds is None or free is None:
            self.restricted = False
            return pairs.direct(self.g, self.d)
        of_free = self.models["free"]
        # The free variables are mostly those of the step before; then the model has learned from that step already.
        if not (self.restricted and np.array_equal(free, self.free)):
            of_free.restrict(pairs, free, self.g)
            self.free, self.restricted = free, True
        if not of_free.count:
            self.forget()
        np.multiply(self.g, free, out=self.free_g)
        return of_free.direct(self.free_g, self.d) + to_bounds(self.x, self.g, *bounds, free, self.d)

    def learn(self) -> None:
        objective, pairs = self.objective, self.models["all"]
        row = pairs.next
        np.subtract(objective.x, self.x, out=pairs.steps[row])
        np.subtract(objective.g, self.g, out=pairs.changes[row])
        self.accept()
        if pairs.learn(row, self.g) and self.restricted:
            of_free = self.models["free"]
            np.multiply(pairs.steps[row], self.free, out=of_free.steps[row])
            np.multiply(pairs.changes[row], self.free, out=of_free.changes[row])
            of_free.learn(row, self.g, MIN_FREE_CURVATURE)
        else:
            self.restricted = False
        self.pairs = pairs.count

    def forget(self) -> None:
        super().forget()
        for model in self.models.values():
            model.forget()

    def renew(self) -> None:
        super().renew()
        for model in self.models.values():
            np.dot(model.rows, self.g, out=model.with_gradient)

    def learn_curvature(self, curvature: Curvature) -> bool:
        pairs = self.models["all"]
        self.forget()
        size = np.abs(curvature.values)
        least = 1e-9 * np.max(size, initial=0.0)
        rank = np.argsort(curvature.decreases)[::-1][: pairs.memory]
        scale = [size[i] / max(dot(curvature.changes[i], curvature.changes[i]), 1e-300) for i in rank]
        for i in rank[np.argsort(scale)[::-1]]:
            row = pairs.next
            pairs.steps[row] = curvature.steps[i]
            pairs.changes[row] = curvature.changes[i] * (max(size[i], least) / curvature.values[i])
            pairs.learn(row, self.g)
        self.restricted = False
        self.pairs = pairs.count
        return self.pairs > 0

    def state(self) -> dict[str, Any]:
        models = {
            f"{which}.{name}": getattr(model, name) for which, model in self.models.items() for name in model.saved
        }
        return super().state() | models

    def restore(self, state: dict[str, Any]) -> None:
        super().restore({name: value for name, value in state.items() if "." not in name})
        for which, model in self.models.items():
            for name in model.saved:
                restore_attribute(model, name, state[f"{which}.{name}"])


@dataclasses.dataclass(frozen=True)
class BFGS(Method):
    """BFGS with the inverse as a matrix (Nocedal and Wright 2006, algorithm 6.1), updated in O(n²).

    Parameters
    ----------
    search
        How far to go: ``Wolfe(c2=0.9)``, the weak conditions, first with a step length of 1.

    The first matrix is γI. Its scale γ is chosen anew at each step, as in `LBFGS`: no later pair is bound to what the
    first one happened to see. It is sᵀy / yᵀPy, at most sᵀs / sᵀy, where P is what the updates have left of the
    identity: Oren and Luenberger's scale (1974), of the part of the curvature that no pair has told of yet.

    Its two matrices take 2n² numbers: 16 MB for 1,000 parameters. Raises `MethodError` for a search that is not
    `Wolfe`.

    >>> import descend
    >>> descend.minimize(lambda x: (x[0] - 1) ** 4 + x[1] ** 2, [3.0, 2.0], method="bfgs").success
    True
    """

    search: Wolfe = FULL_SEARCH

    def __post_init__(self) -> None:
        self._kind("search", (Wolfe,))

    def begin(self, objective: LineObjective) -> MethodRun:
        """As in `Method`."""
        return _Full(objective, self)

    @staticmethod
    def bytes_of_matrices(parameters: int) -> int:
        """The memory that the matrices take."""
        return 8 * parameters * parameters * 2


class _Full(_QuasiNewton):
    """A run of BFGS: the inverse Hessian is M + γP, of which the lower triangles are kept.

    An update H ← Vᵀ H V + s sᵀ / ρ with V = I − y sᵀ / ρ and ρ = sᵀy is linear in H but for its last term. P is the
    identity under the products alone, and M, which begins at zero, has the terms: whatever γ is by now, M + γP is what
    all updates make of γI.
    """

    def __init__(self, objective: LineObjective, method: BFGS) -> None:
        super().__init__(objective, method.search)
        n = self.x.size
        self.learned, self.unlearned = np.zeros((n, n), order="F"), np.zeros((n, n), order="F")
        """M and P."""
        self.scale = 1.0
        """γ."""
        self.step, self.change = np.empty(n), np.empty(n)

    workspace = (*_QuasiNewton.workspace, "step", "change")

    def set_direction(self) -> float:
        from scipy.linalg.blas import dsymv

        if not self.pairs:
            np.negative(self.g, out=self.d)
        else:
            self.d = dsymv(-self.scale, self.unlearned, self.g, lower=1, y=self.d, overwrite_y=1)
            self.d = dsymv(-1.0, self.learned, self.g, 1.0, self.d, lower=1, overwrite_y=1)
        return float(np.dot(self.d, self.g))

    def learn(self) -> None:
        objective, step, change = self.objective, self.step, self.change
        np.subtract(objective.x, self.x, out=step)
        np.subtract(objective.g, self.g, out=change)
        self.accept()
        sy, ss, yy = (float(np.dot(a, b)) for a, b in ((step, change), (step, step), (change, change)))
        if not curved(sy, ss, yy, MIN_CURVATURE):
            return
        if not self.pairs:
            self.learned[...] = self.unlearned[...] = 0.0
            np.fill_diagonal(self.unlearned, 1.0)
        self.unlearned, left = _updated(self.unlearned, step, change, sy, 0.0)
        self.learned, _ = _updated(self.learned, step, change, sy, 1.0)
        self.scale = min(sy / left if left > 0.0 else math.inf, ss / sy)
        self.pairs += 1

    def learn_curvature(self, curvature: Curvature) -> bool:
        size = np.abs(curvature.values)
        size = np.maximum(size, 1e-9 * np.max(size))
        if not (size.size and np.all(size > 0.0)):
            return False
        self.learned[...] = (curvature.steps.T / size) @ curvature.steps
        self.unlearned[...] = 0.0
        self.pairs = len(size)
        return True


def _updated(matrix: Array, step: Array, change: Array, sy: float, term: float) -> tuple[Array, float]:
    """Vᵀ A V + term · s sᵀ / ρ of a symmetric matrix A, whose lower triangle is overwritten; and yᵀA y.

    Multiplied out it is A + u sᵀ + s uᵀ with u = −A y / ρ + (term + yᵀA y / ρ) s / 2ρ: one product with the matrix and
    one update in place.
    """
    from scipy.linalg.blas import dsymv, dsyr2

    u = dsymv(1.0, matrix, change, lower=1)
    within = float(np.dot(u, change))
    u *= -1.0 / sy
    u += (0.5 / sy) * (term + within / sy) * step
    return dsyr2(1.0, step, u, lower=1, a=matrix, overwrite_a=1), within
