"""Which engine for a descent: machine code where it pays and can be had."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from descend.engines.native import Fused, Unavailable
from descend.engines.native.availability import warn_once, why_not
from descend.engines.reference import Reference
from descend.engines.stacked import FusedStack, Stack
from descend.parameters.memory import Array
from descend.rules import Rule

__all__ = ["engine", "stack"]

Made = TypeVar("Made")

STEP = 15e-6
"""Seconds that the reference engine takes for a step of next to nothing, about."""
NUMBER = 4e-9
"""Seconds that each number adds, about."""
PAYS = 0.5
"""Seconds of the reference engine's work from which machine code is worth loading and making."""
UNKNOWN = 10_000
"""Steps to reckon with where a descent has no bound on them."""
RUNS = 250
"""Runs to reckon with in a stack, however many there are."""


def engine(rule: Rule, params: Sequence[Array], steps: int | None = None) -> Reference:
    """The engine that pays for about so many steps of these parameters: `Fused`, or `Reference`.

    The choice follows from the sizes and `steps` alone, and not from what happens to be compiled already, so that the
    same descent is always made by the same engine. Where machine code cannot be had it takes `Reference`, and warns
    once for each reason.

    >>> import numpy as np, descend
    >>> type(engine(descend.Adam(), [np.zeros(2)], steps=100)).__name__
    'Reference'
    """
    pays = _pays(sum(p.size for p in params), UNKNOWN if steps is None else steps)
    return _chosen(pays, rule, lambda: Fused(rule, params), lambda: Reference(rule, params))


def stack(rules: Sequence[Rule], params: Sequence[Array], grads: Sequence[Array], steps: int) -> Stack:
    """The engine that pays for about so many steps of these runs: `FusedStack`, or `Stack`.

    The choice does not depend on how many runs there are, nor does what a run gets: it is made as for a large sweep.

    >>> import numpy as np, descend
    >>> type(stack([descend.Adam()], [np.zeros((1, 2))], [np.zeros((1, 2))], steps=10)).__name__
    'Stack'
    """
    pays = _pays(sum(p[0].size for p in params), RUNS * steps)
    return _chosen(pays, rules[0], lambda: FusedStack(rules, params, grads), lambda: Stack(rules, params, grads))


def _pays(size: int, steps: int) -> bool:
    """Whether so many steps of so many numbers take the reference engine longer than machine code is worth."""
    return steps * (STEP + size * NUMBER) >= PAYS


def _chosen(pays: bool, rule: Rule, compiled: Callable[[], Made], plain: Callable[[], Made]) -> Made:
    """An engine of machine code if that pays and can be had; else one without."""
    if not pays:
        return plain()
    reason = why_not()
    if reason is None:
        try:
            return compiled()
        except Unavailable as error:  # for this rule
            reason = str(error)
    warn_once(f"{type(rule).__name__} steps by NumPy: {reason}", stacklevel=4)
    return plain()
