"""The curvature of the loss around a point, by differences of its gradient: what a descent's end is judged by."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from descend.descent.line import MemoryLineObjective
    from descend.methods import MethodRun
    from descend.parameters.memory import Array

__all__ = ["Curvature", "along_gradient", "of_all"]

EXPONENT = 0.4
"""A difference is as long as the floats' spacing to this power, in units of the parameter's size: between the best of
forward and of central differences, 1/2 and 1/3."""
LONG, FAINT = 0.3, 1e-8
"""The same for gradients that are differences themselves, and what their eigenvalues leave in doubt."""
CLEAR, FLAT = 1e-4, 1e-9
"""Eigenvalues above this share of the largest one are sure by forward differences; below that, not by central ones."""
SEEN, LENGTHEN, TIMES = 100.0, 1e3, 8
"""By how many of its errors a slope changes where its change is known; by what a difference that is too short for that
becomes longer, and how often at most."""
PRODUCTS, FEW = 8, 1
"""Products with the Hessian that `along_gradient` makes at most; of gradients that are differences."""


@dataclasses.dataclass(frozen=True)
class Curvature:
    """The curvature around a point along conjugate directions, each of which bends the loss for itself.

    `steps` has a row s for each direction, `changes` the gradient's change y along it, and `values` the curvature sᵀy.
    `decreases` is by how much the loss falls along each, (gᵀs)² / 2|sᵀy|. `noise` is the error of the loss, as far as
    losses beside the point lie off the parabolas that gradients give; 0 where that was not measured. What is below the
    share `flat` of the largest value is in doubt. `diagonal` is that of the Hessian, of free parameters, if known.
    """

    steps: Array
    changes: Array
    values: Array
    decreases: Array
    noise: float = 0.0
    flat: float = FLAT
    diagonal: Array | None = None

    @property
    def positive(self) -> bool:
        """Whether the loss curves upwards along each direction, as far as the differences can tell."""
        return bool(np.all(self.values >= -self.flat * np.max(np.abs(self.values), initial=0.0)))

    @property
    def clear(self) -> bool:
        """Whether forward differences leave no doubt of the curvature."""
        return bool(np.all(self.values > CLEAR * np.max(np.abs(self.values), initial=0.0)))

    def step(self, gradient: Array) -> Array:
        """Newton's step from where the gradient is that, in all directions that bend."""
        bend = np.maximum(np.abs(self.values), self.flat * np.max(np.abs(self.values), initial=0.0))
        weights = np.divide(self.steps @ gradient, bend, out=np.zeros_like(bend), where=bend > 0.0)
        step: Array = -weights @ self.steps
        return step

    @property
    def decrease(self) -> float:
        """How far below the point the minimum of the quadratic model lies, where the loss curves upwards."""
        return float(np.sum(self.decreases))


def of_all(
    line: MemoryLineObjective, run: MethodRun, free: Array, sizes: Array, errors: Array, *, exact: bool = True
) -> Curvature | None:
    """The curvature of the free parameters where a run stands; None where the loss is not finite around.

    `sizes` are the parameters' typical sizes, `errors` those of the gradient's entries. Takes an evaluation for each
    free parameter or, where these leave doubt, two; more where a gradient has not changed by more than its error.
    """
    chosen = np.flatnonzero(free)
    lengths = line.resolution.eps ** (EXPONENT if exact else LONG) * sizes
    flat = FLAT if exact else FAINT
    ahead = [_seen(line, run, int(i), lengths[i], errors[i]) for i in chosen]
    sides = [side for side in ahead if side is not None]
    if len(sides) < len(chosen):
        return None
    if not sides:
        nothing = np.zeros((0, run.x.size))
        return Curvature(nothing, nothing, nothing[:, 0], nothing[:, 0])
    found = _conjugate(np.array([(g - run.g) / moved for moved, g, _ in sides]), chosen, run.g, flat)
    if found.clear:
        return found
    differences, off = [], []
    for i, (moved, g, loss) in zip(chosen, sides, strict=True):
        other = _beside(line, run, int(i), -moved)
        if other is None:
            return found
        span = moved - other[0]
        differences.append((g - other[1]) / span)
        off.append(abs(loss + other[2] - 2 * run.loss - 0.25 * span * span * differences[-1][i]))
    found = _conjugate(np.array(differences), chosen, run.g, flat)
    return dataclasses.replace(found, noise=float(np.median(off)))


def _seen(
    line: MemoryLineObjective, run: MethodRun, i: int, length: float, error: float
) -> tuple[float, Array, float] | None:
    """A point beside the run's along one axis, as far away as it takes to see the slope change; as `_beside`.

    A size that is far too small, as of a parameter that began at zero, would give the rounding of the gradient for its
    curvature.
    """
    found = _beside(line, run, i, length) or _beside(line, run, i, -length)
    slope = abs(float(run.g[i]))
    # A slope within its error asks for no more: the loss falls by nothing along it, whatever its curvature is. Nor does
    # a difference within which the loss would change by as much as it is.
    for _ in range(TIMES if slope > error else 0):
        if found is None or abs(found[1][i] - run.g[i]) > SEEN * error or slope * abs(found[0]) > abs(run.loss):
            break
        further = _beside(line, run, i, LENGTHEN * found[0])
        if further is None:
            break
        found = further
    return found


def _beside(line: MemoryLineObjective, run: MethodRun, i: int, length: float) -> tuple[float, Array, float] | None:
    """How far a point beside the run's lies along one axis, its gradient and loss; None where there is none."""
    axis = np.zeros_like(run.x)
    axis[i] = 1.0
    loss = line.evaluate(run.x, axis, length)
    moved = float(line.x[i] - run.x[i])
    if moved == 0.0 or not math.isfinite(loss) or not np.all(np.isfinite(line.g)):
        return None
    return moved, line.g.copy(), loss


def _conjugate(hessian: Array, chosen: Array, gradient: Array, flat: float) -> Curvature:
    """The eigenvectors of the Hessian, in units of each parameter in which its own curvature is 1."""
    square = hessian[:, chosen]
    own = np.abs(np.diagonal(square))
    unit = 1.0 / np.sqrt(np.where(own > 0.0, own, np.max(own, initial=0.0) or 1.0))
    values, vectors = np.linalg.eigh(0.5 * (square + square.T) * np.outer(unit, unit))
    along = (vectors * unit[:, None]).T
    steps = np.zeros((len(chosen), gradient.size))
    steps[:, chosen] = along
    least = flat * np.max(np.abs(values), initial=0.0)
    squares = 0.5 * (steps @ gradient) ** 2
    bend = np.maximum(np.abs(values), least)
    # Where nothing bends, a slope leads down for ever.
    decreases = np.divide(squares, bend, out=np.where(squares > 0.0, math.inf, 0.0), where=bend > 0.0)
    return Curvature(steps, along @ hessian, values, decreases, flat=flat, diagonal=np.diagonal(square))


def along_gradient(
    line: MemoryLineObjective, run: MethodRun, free: Array, sizes: Array, *, exact: bool = True
) -> Curvature | None:
    """The curvature along the first directions of conjugate gradients from where a run stands, by forward differences.

    Each parameter is in units of its typical size. The decrease is a lower bound of that of the whole quadratic model
    (Nocedal and Wright 2006, algorithm 5.3).
    """
    residual, metric = np.where(free, run.g, 0.0), sizes * sizes
    square = first = float(np.dot(residual, metric * residual))
    direction = -metric * residual
    steps, changes, values, decreases = [], [], [], []
    length = line.resolution.eps ** (EXPONENT if exact else LONG)
    for _ in range(PRODUCTS if exact else FEW):
        reach = float(np.max(np.abs(direction) / sizes))
        if not (reach > 0.0 and math.isfinite(reach)):
            break
        if not math.isfinite(line.evaluate(run.x, direction, length / reach)):
            return None
        change = np.where(free, line.g - run.g, 0.0) * (reach / length)
        value = float(np.dot(direction, change))
        steps.append(direction)
        changes.append(change)
        values.append(value)
        decreases.append(0.5 * square * square / abs(value) if value != 0.0 else math.inf)
        if not value > 0.0 or decreases[-1] < 0.1 * sum(decreases):
            break
        residual = residual + square / value * change
        before, square = square, float(np.dot(residual, metric * residual))
        if not square < first:
            break
        direction = square / before * direction - metric * residual
    empty = np.zeros((0, run.x.size))
    return Curvature(np.array(steps or empty), np.array(changes or empty), np.array(values), np.array(decreases))
