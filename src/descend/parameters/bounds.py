"""Bounds: where parameters may lie, from any of the forms in which they are given."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from descend.checks import shown
from descend.errors import ParameterError
from descend.parameters.memory import Array, Memory
from descend.parameters.reals import as_real

__all__ = ["Bounds"]


class Bounds:
    """Where parameters may lie, as vectors that are laid out as a memory's.

    Parameters
    ----------
    memory
        Whose parameters.
    bounds
        A tuple ``(lower, upper)``, each None for no bound, a number for all parameters, or a container like that of the
        parameters, in which an infinity or None stands for no bound; a `scipy.optimize.Bounds`; or ``(low, high)``
        pairs, one for each parameter, in a list, an array of shape (n, 2) or an iterator. A tuple of two tuples is two
        pairs where there are two parameters.

    Raises `ParameterError` where they do not fit the parameters, or a lower one is above the upper one.
    """

    def __init__(self, memory: Memory, bounds: Any) -> None:
        self._set(memory, *_ends(memory.whole, bounds))

    @classmethod
    def between(cls, memory: Memory, lower: Any, upper: Any) -> Bounds:
        """Those between two ends, each as in ``(lower, upper)``, which are never read as pairs."""
        made = cls.__new__(cls)
        made._set(memory, lower, upper)
        return made

    def _set(self, memory: Memory, low: Any, high: Any) -> None:
        lowest, highest = _vectors(memory.whole, low, -np.inf, "lower"), _vectors(memory.whole, high, np.inf, "upper")
        memory.check_bounds(lowest, highest)
        exact = memory.restrict(lowest), memory.restrict(highest)
        self.lower: list[Array] = []
        self.upper: list[Array] = []
        for which, (lower, upper) in enumerate(zip(*exact, strict=True)):
            crossed = np.flatnonzero(~((lower <= upper) & (lower < np.inf) & (upper > -np.inf)))
            if crossed.size:
                at = int(crossed[0])
                hint = ", and None for no bound" if np.isnan(lower[at]) or np.isnan(upper[at]) else ""
                raise ParameterError(
                    f"bounds of {memory.locate(which, at)}: {lower[at]:g} is not at most {upper[at]:g}, or leaves "
                    f"nothing finite; give (low, high){hint}"
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

    def first_outside(self, memory: Memory) -> str:
        """The first number of a memory that lies outside by more than rounding, in words; empty if there is none."""
        for which, (vector, lower, upper) in enumerate(zip(memory.vectors, self.lower, self.upper, strict=True)):
            within = np.clip(vector, lower, upper)
            slack = 4 * np.finfo(vector.dtype).eps * np.maximum(1.0, np.abs(within))
            outside = np.flatnonzero(np.abs(vector - within) > slack)
            if outside.size:
                at = int(outside[0])
                return f"{memory.locate(which, at)}={vector[at]:g} is outside [{lower[at]:g}, {upper[at]:g}]"
        return ""

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
    if isinstance(end, str):
        raise TypeError("a number is needed, not text")
    return as_real(end) if isinstance(end, np.ndarray) else float(end)


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
    if hasattr(bounds, "to_numpy"):  # a frame, whose iterator gives its columns
        bounds = bounds.to_numpy()
    if isinstance(bounds, tuple) and len(bounds) == 2:
        if memory.size == 2 and all(isinstance(part, tuple) and len(part) == 2 for part in bounds):
            return _of_pairs(memory, bounds)
        return bounds
    if isinstance(bounds, (str, Mapping)) or not hasattr(bounds, "__iter__") or getattr(bounds, "ndim", 1) == 0:
        raise _misshapen(memory, bounds, "")
    parts = list(bounds)
    if len(parts) == 2 and not any(isinstance(part, SEQUENCES) for part in parts):
        return parts[0], parts[1]
    return _of_pairs(memory, parts)


SEQUENCES = (list, tuple, np.ndarray)


def _of_pairs(memory: Memory, pairs: Sequence[Any]) -> tuple[_Each, _Each]:
    """The ends of a (low, high) pair for each parameter; raises `ParameterError` for anything else."""
    for i, pair in enumerate(pairs):
        if not isinstance(pair, SEQUENCES) or len(pair) != 2:
            raise _misshapen(memory, pairs, f"; bounds[{i}]={shown(pair)} is no pair")
    if len(pairs) != memory.size:
        raise _misshapen(memory, pairs, f"; there are {len(pairs)} pairs")
    return _Each([low for low, _ in pairs]), _Each([high for _, high in pairs])


def _misshapen(memory: Memory, bounds: Any, what: str) -> ParameterError:
    number = "1 parameter" if memory.size == 1 else f"{memory.size} parameters"
    return ParameterError(
        f"bounds={shown(bounds)}: (lower, upper) is needed, a tuple of numbers, None or containers like x0; or a list "
        f"or array of (low, high) pairs, one for each of {number}{what}"
    )
