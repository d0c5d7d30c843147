"""Starts as users give them, made ready for a `Memory`: integers, objects and other types become floats."""

from __future__ import annotations

import numbers
import warnings
from typing import Any

import numpy as np
import optree

from descend.checks import shown
from descend.errors import ParameterError
from descend.parameters.memory import kind_of
from descend.parameters.reals import as_reals

__all__ = ["as_start"]

KEPT = (np.dtype(np.float32), np.dtype(np.float64))


def as_start(x0: Any, name: str = "x0") -> Any:
    """A start whose numbers are of a type that can be descended in, where it is clear which they mean.

    A plain list or tuple of numbers becomes an array, as in SciPy. Integers, float16, long doubles, and objects that
    are real numbers become float64; bytes are brought into order; a masked array of which nothing is masked, a matrix
    and a series become arrays. What is left as it is, such as a tensor of integers, `Memory` may refuse. Warns where
    float64 does not hold all digits. Raises `ParameterError` where an entry is no real number.
    """
    if type(x0) is float or (type(x0) is np.ndarray and x0.dtype in KEPT and x0.dtype.isnative):
        return x0
    plain = isinstance(x0, (list, tuple)) and not hasattr(x0, "_fields") and len(x0) > 0
    if plain and all(isinstance(v, numbers.Number) for v in x0):
        return _as_floats(_listed(x0), name)
    leaves, spec = optree.tree_flatten(x0, none_is_leaf=True)
    names = [accessor.codify(name) for accessor in spec.accessors()]
    return spec.unflatten([_as_floats(leaf, at) for leaf, at in zip(leaves, names, strict=True)])


def _listed(values: Any) -> Any:
    """A list of numbers as an array; as objects where their common type would round them."""
    array = np.asarray(values)
    return array if array.dtype.kind in "fiubc" else np.array(values, dtype=object)


def _as_floats(leaf: Any, name: str) -> Any:
    """A leaf as a float, or an array of float32 or float64; as it is where that is not clear."""
    if isinstance(leaf, (bool, float, str, bytes)) or leaf is None or kind_of(leaf) != "numpy":
        return leaf
    try:
        array = np.asarray(leaf)
    except (TypeError, ValueError):
        return leaf
    if array.dtype.kind not in "fiuO" or (isinstance(leaf, np.ma.MaskedArray) and np.ma.is_masked(leaf)):
        return leaf
    try:
        exact = as_reals(array)
    except TypeError as error:
        raise ParameterError(f"{name}={shown(leaf)}: {error}; pass floats, or arrays of them") from None
    if exact.dtype in KEPT:
        found = exact.astype(exact.dtype.newbyteorder("="), copy=False)
    else:
        with np.errstate(over="ignore"):
            found = exact.astype(np.float64)
        if np.any((found.astype(exact.dtype) != exact) & np.isfinite(found)):
            warnings.warn(f"{name}: float64 does not hold all digits of {exact.dtype}", RuntimeWarning, stacklevel=2)
    if isinstance(leaf, np.generic):
        return found[()]
    return float(found) if isinstance(leaf, numbers.Number) else found
