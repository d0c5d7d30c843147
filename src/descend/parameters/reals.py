"""Real numbers out of whatever holds them: arrays of any library and type, matrices, objects, lists."""

from __future__ import annotations

from typing import Any

import numpy as np

from descend.checks import is_real, shown

__all__ = ["as_real", "as_reals"]


def as_reals(value: Any) -> np.ndarray[Any, np.dtype[Any]]:
    """A value as an array of floating-point numbers or integers, without a copy where possible.

    Arrays and tensors of any library, matrices, sparse ones too, series, nested lists, and arrays of objects that are
    numbers (`fractions.Fraction`, `decimal.Decimal`, arrays of one) are taken; objects become float64. Raises
    `TypeError`, which says what is there instead, for whatever is complex, boolean, masked, or no number.
    """
    if hasattr(value, "detach"):  # a tensor of PyTorch's
        value = value.detach().cpu().numpy()
    elif hasattr(value, "toarray"):  # a sparse one of SciPy's
        value = value.toarray()
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise TypeError("some of it is masked")
    try:
        array = np.asarray(value)
        if array.dtype.kind == "O":
            numbers = [_itself(array[()])] if array.ndim == 0 else [as_real(entry) for entry in array.flat]
            array = np.array(numbers).reshape(array.shape)
    except (ValueError, RuntimeError):  # entries of different shapes, or tensors that are part of a graph
        if not isinstance(value, (list, tuple)):
            raise TypeError("it is no array of numbers") from None
        array = np.array([as_real(entry) for entry in value])
    if array.dtype.kind not in "fiu":
        kinds = {"c": "complex", "b": "boolean", "U": "text", "S": "text"}
        raise TypeError(f"it is {kinds.get(array.dtype.kind, f'of type {array.dtype}')}")
    return array


def _itself(value: Any) -> float:
    """What is no array of anything as a float; raises `TypeError`."""
    try:
        return as_real(value)
    except TypeError:
        raise TypeError("it is no real number") from None


def as_real(value: Any) -> float:
    """One real number as a float, infinite beyond all floats; raises `TypeError` for anything else."""
    if isinstance(value, float):
        return float(value)
    if is_real(value) or (type(value).__module__ in ("decimal", "_decimal", "_pydecimal")):
        try:
            return float(value)
        except OverflowError:  # an integer beyond all floats
            return np.inf if bool(value > 0) else -np.inf
    if isinstance(value, (complex, bool, str, bytes, np.bool_, np.complexfloating)) or value is None:
        raise TypeError(f"{shown(value)} is not a real number")
    if isinstance(value, (np.ndarray, list, tuple)) or hasattr(value, "__array__"):
        array = as_reals(value)
        if array.size == 1:
            return float(array.reshape(())[()])
        raise TypeError(f"an entry of it has {array.size} numbers")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{shown(value)} is not a real number") from None
