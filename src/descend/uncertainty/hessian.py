"""Hessians by differences: of a gradient, or of the function itself, along directions scaled by its own curvature.

The steps follow from the curvature, not from the parameters' size: a step of length t along a direction whose
curvature is c changes the function by t² c / 2. A first Hessian along the axes gives directions along which the
curvature is about 1 and nothing is correlated; the second one, along these, is exact to the same relative error in each
of them, however badly the parameters are scaled or correlated. Differences are central and extrapolated to steps of
length zero (Richardson 1911).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from descend.errors import UncertaintyError
from descend.parameters.memory import Array

__all__ = ["Hessian", "of_function", "of_gradient", "scaled"]

FIRST_STEP = 1e-4
"""The first step along an axis, relative to the parameter."""
TRIES = 24
"""How often a first step is changed at most."""
SHORTER, UNSURE = 8, 0.1
"""How many lengths of steps are tried along a direction; by how much two estimates of its curvature may differ."""
ROUGH = 0.01
"""The error of a curvature from which on it is asked whether there is a kink."""
LOST = 1e-6
"""The curvature along a direction, scaled to 1 by a first Hessian, below which that first one was rounding alone."""
FLOOR = 1e-14
"""The least curvature of a scaled Hessian, relative to the largest, that directions are scaled by."""


@dataclasses.dataclass(frozen=True)
class Hessian:
    """Second derivatives `matrix` along the columns of `basis`, with the absolute `error` of each diagonal entry.

    In the basis the matrix is close to the identity, up to signs. Where the error is not far below 1, the function is
    no parabola as far as its curvature could be seen: it is flat along that direction or, where the error is infinite,
    it has a kink or is too noisy.
    """

    matrix: Array
    basis: Array
    error: Array


def of_gradient(gradient: Callable[[Array], Array], x: Array, *, length: float, lower: Array, upper: Array) -> Hessian:
    """The Hessian by differences of a gradient.

    Parameters
    ----------
    gradient
        ``gradient(x)``, a vector; NaN where there is none.
    x
        The point, away from the bounds.
    length
        The steps, in standard deviations: 0.01 for exact gradients of float64, longer for noisy ones.
    lower, upper
        Bounds that no step crosses.

    Raises `UncertaintyError` where no step gives a finite gradient.
    """
    room = np.minimum(x - lower, upper - x)

    def slope(direction: Array, t: float) -> Array:
        ahead, behind = x + t * direction, x - t * direction
        return (gradient(ahead) - gradient(behind)) / (2 * t)

    def curvature(i: int, step: float) -> float:
        return float(slope(_axis(x, i), step)[i])

    steps = np.array([_step(curvature, i, x[i], length, room[i]) for i in range(x.size)])
    matrix = np.stack([slope(_axis(x, i), step) for i, step in enumerate(steps)], axis=1)
    basis = _scaled_basis(matrix)
    wide, narrow = (np.empty_like(matrix) for _ in range(2))
    for k, direction in enumerate(basis.T):
        t = _within(length, direction, room)
        for _ in range(SHORTER):
            wide[:, k], narrow[:, k] = (basis.T @ slope(direction, t) for t in (t, t / 2))
            if abs(wide[k, k] - narrow[k, k]) <= UNSURE:
                break
            t /= 10
    return _extrapolated(wide, narrow, basis, 0.0)


def of_function(function: Callable[[Array], float], x: Array, *, noise: float, lower: Array, upper: Array) -> Hessian:
    """The Hessian by second differences of a function whose values have errors of the size of `noise`.

    Arguments and errors are those of `of_gradient`. The steps balance the noise against the curvature's change. It
    takes about 6 n² evaluations.
    """
    room = np.minimum(x - lower, upper - x)
    middle = function(x)
    length = float(np.clip(2 * noise ** (1 / 6), 0.02, 0.5))

    def second(direction: Array, t: float) -> float:
        return (function(x + t * direction) - 2 * middle + function(x - t * direction)) / t**2

    def curvature(i: int, step: float) -> float:
        found = second(_axis(x, i), step)
        return found if abs(found) * step**2 > 32 * noise else 0.0

    def hessian(directions: Array, lengths: Array) -> Array:
        found = np.diag([second(d, t) for d, t in zip(directions.T, lengths, strict=True)])
        for i in range(len(lengths)):
            for j in range(i):
                one, other = lengths[i] * directions[:, i], lengths[j] * directions[:, j]
                both = function(x + one + other) - 2 * middle + function(x - one - other)
                alone = found[i, i] * lengths[i] ** 2 + found[j, j] * lengths[j] ** 2
                found[i, j] = found[j, i] = (both - alone) / (2 * lengths[i] * lengths[j])
        return found

    steps = np.array([_step(curvature, i, x[i], length, room[i]) for i in range(x.size)])
    basis = _scaled_basis(hessian(np.eye(x.size), steps))
    lengths = np.array([_within(length, direction, room) / 2 for direction in basis.T])
    wide, narrow = hessian(basis, lengths), hessian(basis, lengths / 2)
    return _extrapolated(wide, narrow, basis, 32 * noise / lengths**2)


def scaled(matrix: Array, eps: float) -> Hessian:
    """A Hessian that was computed in floats of this spacing, along axes that its diagonal scales."""
    size = np.sqrt(np.abs(np.diag(matrix)))
    scale = 1.0 / np.where(size > 0, size, 1.0)
    return Hessian(matrix * scale[:, None] * scale, np.diag(scale), np.full(len(matrix), len(matrix) * eps))


def _extrapolated(wide: Array, narrow: Array, basis: Array, noise: Any) -> Hessian:
    """The Hessian for steps of length zero, from that of steps and that of steps of half the length."""
    with np.errstate(invalid="ignore"):
        found = (4 * narrow - wide) / 3
        error = np.maximum(np.abs(np.diag(wide - narrow)) / 15 + noise, LOST)
        # At a kink, or in noise, the curvature grows as steps become shorter; where a function is flat, it vanishes.
        one, other = np.abs(np.diag(wide)), np.abs(np.diag(narrow))
        rough = ~np.isfinite(error) | ((error > ROUGH) & (other > one))
    return Hessian((found + found.T) / 2, basis, np.where(rough, math.inf, error))


def _axis(x: Array, i: int) -> Array:
    found = np.zeros_like(x)
    found[i] = 1.0
    return found


def _within(length: float, direction: Array, room: Array) -> float:
    """The length of a step that stays within the bounds, both ways."""
    moved = np.abs(direction)
    return float(min(length, np.min(room[moved > 0] / moved[moved > 0], initial=math.inf) / 2))


def _step(curvature: Callable[[int, float], float], i: int, x: float, length: float, room: float) -> float:
    """A step along an axis that is `length` standard deviations of the parameter, or what the bounds leave.

    Raises `UncertaintyError` where the function is not finite however short the step.
    """
    step = min(FIRST_STEP * (abs(x) or 1.0), room)
    best = 0.0
    for _ in range(TRIES):
        found = curvature(i, step)
        if not math.isfinite(found):
            step /= 10
            if best:
                return best
            continue
        best = step
        wanted = min(step * 100 if found == 0.0 else length / math.sqrt(abs(found)), room)
        if 0.5 * step <= wanted <= 2 * step or (found == 0.0 and wanted > 1e6 * (abs(x) or 1.0)):
            return wanted if found else step
        step = min(max(wanted, step / 1e4), step * 1e4)
    if not best:
        raise UncertaintyError(
            f"the function or its gradient is not finite beside parameter number {i}: there is no curvature there"
        )
    return best


def _scaled_basis(hessian: Array) -> Array:
    """Directions along which the curvature of a Hessian is 1 or -1: columns that are conjugate."""
    hessian = np.where(np.isfinite(hessian), (hessian + hessian.T) / 2, 0.0)
    size = np.sqrt(np.abs(np.diag(hessian)))
    scale = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(hessian / scale[:, None] / scale)
    least = max(FLOOR * float(np.max(np.abs(values))), 1e-300)
    found: Array = vectors / np.sqrt(np.maximum(np.abs(values), least)) / scale[:, None]
    return found
