"""A whole step of a rule: what every rule shares (direction, weight decay, caution) around its own formula."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.rules.maths import clip, where

if TYPE_CHECKING:
    from descend.rules.rule import Rule

__all__ = [
    "cautious_mask",
    "cautious_scale",
    "goes_downhill",
    "number_names",
    "step",
    "with_cautious_mask",
    "with_decay",
]


def number_names(row: Any, flags: Mapping[str, bool]) -> tuple[str, ...]:
    """The names of those scalars in a row that are no flags, in order: the numbers that compiled code is given."""
    return tuple(name for name in row._fields if name not in flags)


def step(rule: type[Rule], p: Any, g: Any, state: tuple[Any, ...], s: Any) -> tuple[Any, ...]:
    """One whole step: what every rule shares (direction, weight decay), then the rule's own formula.

    Returns the new ``p`` followed by the new state. Pure: what is passed in is not changed. This is what an engine
    runs, on arrays, tensors or single numbers alike. Before a cautious step an engine asks `cautious_mask` for the
    share of each array that will move, and puts `cautious_scale` of it into ``s.cautious_scale``.
    """
    p, g = with_decay(p, g, s)
    out = rule.update(p, g, *state, s)
    new = out if type(out) is tuple else (out,)
    return (with_cautious_mask(p, g, new[0], s), *new[1:]) if s.cautious else new


def cautious_mask(rule: type[Rule], p: Any, g: Any, state: tuple[Any, ...], s: Any) -> Any:
    """Where a cautious step will move: the entries whose update does not go against their gradient."""
    p, g = with_decay(p, g, s)
    out = rule.update(p, g, *state, s)
    return goes_downhill(p, g, out[0] if type(out) is tuple else out)


def cautious_scale(share: Any) -> Any:
    """What a cautious step multiplies the moves by that it keeps, from their share of all; as its authors' code.

    The share is a number, or an array of one under a compiler.
    """
    factor = 1.0 / clip(share, 1e-3, math.inf)
    return float(factor) if isinstance(factor, np.floating) else factor  # NumPy's would make all it meets float64


# The parts of a step around the formula. An engine that compiles a step calls them and the formula one by one.


def with_decay(p: Any, g: Any, s: Any) -> tuple[Any, Any]:
    """Parameter and gradient as every rule's formula takes them."""
    if s.maximize:
        g = -g
    if s.couples_decay:
        g = g + s.weight_decay * p
    if s.decouples_decay:
        p = p * s.keep
    return p, g


def goes_downhill(p: Any, g: Any, new_p: Any) -> Any:
    """Whether the way from `p` to `new_p` goes along the descent that `g` asks for."""
    # Only the sign counts. The product of two small numbers would vanish in float32.
    return 2.0**64 * (new_p - p) * g < 0


def with_cautious_mask(p: Any, g: Any, new_p: Any, s: Any) -> Any:
    """Where a cautious step leads instead of `new_p`."""
    move = new_p - p
    # None of it; but what is not a number stays what it is, which 0 · move would make of an infinite one, too.
    none = clip(move, 0.0, 0.0)
    return p + s.cautious_scale * where(goes_downhill(p, g, new_p), move, none)
