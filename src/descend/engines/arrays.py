"""NumPy's arrays as engines take them: parameters that can be stepped where they are, and gradients that fit them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import is_
from typing import Any

import numpy as np

from descend.engines.memory import Intervals
from descend.errors import ParameterError
from descend.parameters.memory import Array

__all__ = ["Gradients", "as_parameters"]


def as_parameters(params: Sequence[Any]) -> list[Array]:
    """Plain arrays over the memory of the parameters; raises `ParameterError` for what cannot be stepped in place."""
    found = []
    for i, p in enumerate(params):
        if not isinstance(p, np.ndarray) or p.dtype not in (np.float32, np.float64) or not p.flags.writeable:
            raise ParameterError(f"params[{i}] is {p!r}: a writeable NumPy array of float32 or float64 is needed")
        if isinstance(p, np.ma.MaskedArray):
            raise ParameterError(f"params[{i}] is a masked array, whose mask a step would ignore: pass its .data")
        if _overlaps_itself(p):
            raise ParameterError(
                f"params[{i}] has strides {p.strides} for shape {p.shape}, so that some of its numbers share memory: "
                "pass a copy"
            )
        found.append(p.view(np.ndarray))
    _check_apart(found)
    return found


def _overlaps_itself(p: Array) -> bool:
    """Whether two entries of an array may be one number in memory."""
    reach = p.itemsize
    for stride, size in sorted((abs(s), n) for s, n in zip(p.strides, p.shape, strict=True) if n > 1):
        if stride < reach:
            return p.size > 0
        reach += stride * (size - 1)
    return False


def _check_apart(params: Sequence[Array]) -> None:
    """Raise `ParameterError` if two parameters share memory: the order of their steps would decide what comes out."""
    spans = sorted((*_bounds(p), i) for i, p in enumerate(params) if p.size)
    for k, (_, end, i) in enumerate(spans):
        for start, _, j in spans[k + 1 :]:
            if start >= end:
                break
            if np.shares_memory(params[i], params[j]):
                first, second = sorted((i, j))
                raise ParameterError(
                    f"params[{first}] and params[{second}] share memory: each number belongs to one parameter; "
                    "leave one of them out, or pass a copy"
                )


def _bounds(array: Array) -> tuple[int, int]:
    """Where an array's memory begins and ends."""
    return np.lib.array_utils.byte_bounds(array)


_NONE: list[Any] = [object()]
"""No gradients that anybody could give."""


class Gradients:
    """Reads the gradients of each step: plain arrays of the parameters' types, none of which a step would overwrite.

    Parameters
    ----------
    params
        The parameters, as `as_parameters` has them.
    written
        All arrays that a step writes, the parameters among them.
    packed
        Whether the gradients must be contiguous and aligned, as machine code reads them.

    A call returns the same list as before as long as it is given the same arrays and none has to be copied.
    """

    def __init__(self, params: Sequence[Array], written: Iterable[Array], *, packed: bool = False) -> None:
        self._params = list(params)
        self._packed = packed
        self._given = _NONE
        self._found: list[Array] = []
        self._copied: list[int] = []
        self._written = Intervals(_bounds(array) for array in written if array.size)

    def __call__(self, grads: Sequence[Any]) -> list[Array]:
        """The gradients of a step; raises `ParameterError` if they do not fit."""
        if len(grads) != len(self._given) or not all(map(is_, grads, self._given)):
            self._note(grads)
        if not self._copied:
            return self._found
        found = self._found.copy()
        for i in self._copied:
            found[i] = np.array(found[i], self._params[i].dtype, order="C")
        return found

    def _note(self, grads: Sequence[Any]) -> None:
        """Take note of the arrays that this step, and maybe the next ones, will read."""
        self._given = _NONE
        if len(grads) != len(self._params):
            raise ParameterError(f"{len(grads)} gradients for {len(self._params)} parameters: give one for each")
        found = [_plain(g, p, i) for i, (g, p) in enumerate(zip(grads, self._params, strict=True))]
        self._copied = [i for i, (g, p) in enumerate(zip(found, self._params, strict=True)) if self._is_copied(g, p)]
        self._found = found
        self._given = [*grads]

    def _is_copied(self, g: Array, p: Array) -> bool:
        """Whether a step must read a copy of a gradient."""
        if g.dtype != p.dtype or (self._packed and not (g.flags.c_contiguous and g.flags.aligned)):
            return True
        if not g.size or (g.ctypes.data == p.ctypes.data and g.strides == p.strides):
            return False  # its own parameter's memory: an entry is read before it is written
        return self._written.meets(*_bounds(g))


def _plain(g: Any, p: Array, i: int) -> Array:
    """A gradient as a plain array."""
    if not isinstance(g, np.ndarray) or isinstance(g, np.ma.MaskedArray) or g.dtype.kind not in "fiu":
        raise ParameterError(f"gradient {i} is {g!r}: a NumPy array of real numbers is needed")
    if g.shape != p.shape:
        raise ParameterError(f"a gradient of shape {g.shape} for a parameter of shape {p.shape}")
    return g.view(np.ndarray)
