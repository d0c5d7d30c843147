"""The noise of a function: how much its values jitter between points that are next to each other."""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from descend.parameters.memory import Array

__all__ = ["NOISE_POINTS", "Spacing", "noise_of"]

NOISE_POINTS = 7
"""Equally spaced points, of which one is there already: 6 more suffice for a deterministic function (Moré and Wild
2011, section 5)."""

STEADY = 4.0
"""Estimates from three orders of differences in turn agree if they are within this factor."""
FLAT_SHARE = 0.5
"""Where so many neighbouring values are equal, values go by jumps."""
VARIATION = 0.1
"""Where the values differ by more than this, relative to the largest, the points are too far apart."""


class Spacing(enum.Enum):
    """What is to be done about the spacing of points whose values do not tell the noise."""

    FINER = "finer"
    COARSER = "coarser"


def noise_of(values: Array, *, jumps: bool = False) -> float | Spacing:
    """The standard deviation of the noise in values at equally spaced points of a line, or another spacing to try.

    ECnoise (Moré and Wild 2011, "Estimating computational noise", algorithm in section 4): differences of order k of a
    smooth function vanish with the spacing, and those of its noise grow by a known factor. The first three orders in
    turn that agree, and whose differences change their sign, tell the noise. Values that go by `jumps`, as is known
    from points that are closer and all had the same, have the noise of rounding: their smallest jump / √12.

    >>> import numpy as np
    >>> t = 1e-6 * np.arange(7.0)
    >>> print(f"{noise_of(np.round(np.exp(0.7 * t), 6)):.0e}")
    3e-07
    >>> noise_of(np.round(np.exp(0.01 * t), 6))
    <Spacing.COARSER: 'coarser'>
    """
    spread = float(np.max(values)) - float(np.min(values))
    if jumps and 0.0 < spread < np.inf:
        return _of_jumps(values)
    if not spread <= VARIATION * float(np.max(np.abs(values))) < np.inf:
        return Spacing.FINER
    if spread == 0.0:
        return Spacing.COARSER
    table, gamma, levels, signs = (values - values[0]) / spread, 1.0, [], []
    for order in range(1, len(values)):
        table = np.diff(table)
        if order == 1 and np.count_nonzero(table == 0.0) >= FLAT_SHARE * len(table):
            return _of_jumps(values)
        gamma *= 0.5 * order / (2 * order - 1)
        levels.append(float(np.sqrt(gamma * np.mean(table**2))))
        signs.append(bool(np.min(table) < 0.0 < np.max(table)))
    for k in range(len(levels) - 2):
        three = levels[k : k + 3]
        if max(three) <= STEADY * min(three) and signs[k]:
            return spread * levels[k]
    return Spacing.FINER


def _of_jumps(values: Array) -> float:
    jumps = np.abs(np.diff(values))
    return float(np.min(jumps[jumps > 0.0])) / math.sqrt(12.0)
