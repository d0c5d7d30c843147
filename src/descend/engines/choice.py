"""Which engine for a descent: machine code where it pays."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from descend.containers import Array
from descend.engines.fused import Fused, Unavailable
from descend.engines.reference import Reference
from descend.rules import Rule

__all__ = ["engine"]

STEP = 15e-6
"""Seconds that the reference engine takes for a step of next to nothing, about."""
NUMBER = 4e-9
"""Seconds that each number adds, about."""
PAYS = 0.5
"""Seconds of the reference engine's work from which machine code is worth loading and, once on a machine, making."""
UNKNOWN = 10_000
"""Steps to reckon with where a descent has no bound on them."""


def engine(rule: Rule, params: Sequence[Array], steps: int | None = None) -> Reference:
    """The engine that pays for about so many steps of these parameters: `Fused`, or `Reference`.

    The choice follows from the sizes and `steps` alone, and not from what happens to be compiled already, so that the
    same descent is always made by the same engine. Where machine code cannot be had it warns and takes `Reference`.

    >>> import numpy as np, descend
    >>> type(engine(descend.Adam(), [np.zeros(2)], steps=100)).__name__
    'Reference'
    """
    size = sum(p.size for p in params)
    if (UNKNOWN if steps is None else steps) * (STEP + size * NUMBER) < PAYS:
        return Reference(rule, params)
    try:
        return Fused(rule, params)
    except Unavailable as error:
        warnings.warn(f"{type(rule).__name__} steps by NumPy: {error}", RuntimeWarning, stacklevel=2)
        return Reference(rule, params)
