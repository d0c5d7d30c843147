"""Bounds: where parameters may lie, from any of the forms in which they are given."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from descend.errors import ParameterError
from descend.parameters.memory import Array, Memory

__all__ = ["Bounds"]


class Bounds:
    """Where parameters may lie, as vectors that are laid out as a memory's.

    Parameters
    ----------
    memory
        Whose parameters.
    bounds
        ``(lower, upper)``, each None for no bound, a number for all parameters, or a container like that of the
        parameters, in which an infinity or None stands for no bound; a `scipy.optimize.Bounds`; or SciPy's list of a
        ``(low, high)`` pair for each parameter.

    Raises `ParameterError` where they do not fit the parameters, or a lower one is above the upper one.
    """

    def __init__(self, memory: Memory, bounds: Any) -> None:
        low, high = _ends(memory.whole, bounds)
        lowest, highest = _vectors(memory.whole, low, -np.inf, "lower"), _vectors(memory.whole, high, np.inf, "upper")
        memory.check_bounds(lowest, highest)
        exact = memory.restrict(lowest), memory.restrict(highest)
        self.lower: list[Array] = []
        self.upper: list[Array] = []
        for which, (lower, upper) in enumerate(zip(*exact, strict=True)):
            crossed = np.flatnonzero(~((lower <= upper) & (lower < np.inf) & (upper > -np.inf)))
            if crossed.size:
                at = int(crossed[0])
                raise ParameterError(
                    f"bounds of {memory.locate(which, at)}: {lower[at]:g} is not at most {upper[at]:g}, or leaves "
                    "nothing finite; give (low, high)"
                )
            dtype = memory.vectors[which].dtype
            ends = _inward(lower, dtype, np.inf), _inward(upper, dtype, -np.inf)
            narrow = ends[0] > ends[1]  # no float lies between: the nearest one
            self.lower.append(np.where(narrow, lower.astype(dtype), ends[0]))
            self.upper.append(np.where(narrow, lower.astype(dtype), ends[1]))

    @functools.cached_property
    def ends(self) -> tuple[Array, Array]:
        """Lower and upper bounds as one vector each."""
        return np.concatenate(self.lower), np.concatenate(self.upper)

    def apply(self, vectors: Sequence[Array]) -> None:
        """Move a point into the bounds."""
        for vector, lower, upper in zip(vectors, self.lower, self.upper, strict=True):
            np.clip(vector, lower, upper, out=vector)

    def projected_gradient(self, vectors: Sequence[Array], grads: Sequence[Array], sign: float) -> list[Array]:
        """The projected gradient P(x − sign · g) − x: where a step down (for sign −1, up) the gradient would lead."""
        return [
            np.clip(-sign * g, lower - x, upper - x)
            for x, g, lower, upper in zip(vectors, grads, self.lower, self.upper, strict=True)
        ]


def _vectors(memory: Memory, ends: Any, missing: float, which: str) -> list[Array]:
    """Lower or upper bounds as vectors of float64; `missing` stands for no bound."""
    vectors = [np.full(v.shape, missing) for v in memory.vectors]
    if ends is None:
        return vectors
    views = memory.views(vectors)
    found = _of_leaves(memory, ends, [view.shape for view in views], which)
    for view, end, name in zip(views, found, memory.names, strict=True):
        try:
            array = np.asarray(end, dtype=object)
            numbers = [missing if e is None else _real(e) for e in array.flat]
            view[...] = np.array(numbers).reshape(array.shape)
        except (TypeError, ValueError) as error:
            raise ParameterError(f"the {which} bound of {name} is {end!r}, for shape {view.shape}: {error}") from None
    return vectors


def _of_leaves(memory: Memory, ends: Any, shapes: Sequence[tuple[int, ...]], which: str) -> list[Any]:
    """What is given as lower or upper bound for each leaf of the parameters."""
    if isinstance(ends, _Each):
        if len(ends.numbers) != memory.size:
            raise ParameterError(
                f"there are {len(ends.numbers)} {which} bounds for {memory.size} parameters: give one for each"
            )
        return ends.split(shapes)
    if np.ndim(ends) == 0 and not isinstance(ends, dict):
        return [ends] * len(shapes)
    if memory.spec.num_leaves == 1 and memory.spec.type is None:
        return [ends]
    try:
        found: list[Any] = memory.spec.flatten_up_to(ends)
    except (ValueError, TypeError) as error:
        raise ParameterError(f"the {which} bounds are not built like x0: {error}") from None
    return found


def _real(end: Any) -> float:
    """One bound as a number; raises `TypeError` or `ValueError`."""
    if isinstance(end, complex):
        raise TypeError("a real number is needed")
    return float(end)


def _inward(ends: Array, dtype: np.dtype[Any], inside: float) -> Array:
    """Bounds as floats of a dtype, each the nearest that lies within."""
    with np.errstate(over="ignore", under="ignore"):
        found = ends.astype(dtype)
    outside = found < ends if inside > 0 else found > ends
    return np.where(outside, np.nextafter(found, dtype.type(inside)), found)


class _Each:
    """A number for each parameter, in the order of a memory's leaves; None for no bound."""

    def __init__(self, numbers: Any) -> None:
        self.numbers = list(numbers)

    def split(self, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
        """The numbers as an array of objects for each of the shapes."""
        arrays, start = [], 0
        for shape in shapes:
            array = np.empty(math.prod(shape), dtype=object)
            for i, number in enumerate(self.numbers[start : start + array.size]):  # each may be an array of its own
                array[i] = number
            arrays.append(array.reshape(shape))
            start += array.size
        return arrays


def _ends(memory: Memory, bounds: Any) -> tuple[Any, Any]:
    """Lower and upper bounds, from any of the forms they come in."""
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        low, high = np.ravel(bounds.lb), np.ravel(bounds.ub)
        return (low[0] if low.size == 1 else _Each(low), high[0] if high.size == 1 else _Each(high))
    parts = list(bounds) if isinstance(bounds, (list, tuple, np.ndarray)) else []
    pairs = len(parts) == memory.size and all(isinstance(p, (list, tuple, np.ndarray)) and len(p) == 2 for p in parts)
    # Two pairs for two parameters may be two ends as well: SciPy's form is a list, or has tuples.
    if pairs and (len(parts) != 2 or isinstance(bounds, list) or all(isinstance(p, tuple) for p in parts)):
        return _Each([low for low, _ in parts]), _Each([high for _, high in parts])
    if len(parts) == 2:
        return parts[0], parts[1]
    raise ParameterError(
        f"bounds={bounds!r}: (lower, upper) is needed, each a number, None or a container like x0; or a (low, high) "
        f"pair for each of the {memory.size} parameters"
    )
