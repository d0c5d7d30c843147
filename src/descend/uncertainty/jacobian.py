"""Jacobians by differences that are more exact than a descent needs: central ones, extrapolated to steps of zero."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from descend.objectives.steps import typical_sizes
from descend.parameters.memory import Array

__all__ = ["central_jacobian"]

OF_SIZE, OF_ERROR = float(np.finfo(float).eps) ** 0.2, 0.05
"""The steps, relative to a parameter's size and to its standard error; the shorter one is taken."""

FLOATS = 64
"""The least length of a step, in floats of its parameter: shorter ones are mostly rounding."""


def central_jacobian(
    function: Callable[[Array], Array], x: Array, errors: Array, lower: Array, upper: Array
) -> Array | None:
    """The Jacobian of a function, shape (values, parameters), by four evaluations for each parameter.

    Two central differences are extrapolated to steps of length zero (Richardson 1911): the error is that of the fourth
    power of the step. `errors` are standard errors, as far as they are known; within bounds too narrow for a step,
    where a standard error is as small as the rounding of its parameter, and where the function is not finite beside
    the point, there is none, and None is returned.
    """
    sizes = typical_sizes(x, (lower, upper))
    known = np.where(np.isfinite(errors) & (errors > 0), errors, math.inf)
    steps = np.minimum(OF_SIZE * sizes, OF_ERROR * known)
    room = np.minimum(upper - x, x - lower)
    if np.any(room < steps / 16) or np.any(steps < FLOATS * np.spacing(np.abs(x))):
        return None
    columns = []
    for i, step in enumerate(np.minimum(steps, room)):
        slopes = []
        for h in (step, step / 2):
            ahead, behind = x.copy(), x.copy()
            ahead[i] += h
            behind[i] -= h
            slopes.append((function(ahead) - function(behind)) / (ahead[i] - behind[i]))
        columns.append((4 * slopes[1] - slopes[0]) / 3)
    found = np.stack(columns, axis=1)
    return found if np.all(np.isfinite(found)) else None
