"""The few functions beyond ``+ - * /`` that a rule may call, on whatever its operands are.

A rule's `update` runs on NumPy arrays, PyTorch tensors, JAX arrays (under ``jit`` too) and plain numbers. These
functions look at the operand's type and call the library it comes from; the library is loaded already, since
the operand exists, so nothing is imported here but NumPy.
"""

from __future__ import annotations

import math
import sys
import types
from typing import Any

import numpy as np

__all__ = ["absolute", "clip", "maximum", "minimum", "power", "root", "share", "sign", "sqrt", "where"]


def _of_numbers(function: Any) -> Any:
    """A function of NumPy's that makes a number of Python's of such numbers.

    NumPy's own would be a float64, which makes float64 of every array it meets.
    """

    def call(*args: Any) -> Any:
        made = function(*args)
        return made.item() if isinstance(made, np.generic) or (type(made) is np.ndarray and not made.ndim) else made

    return call


_NUMBERS = types.SimpleNamespace(
    **{name: _of_numbers(getattr(np, name)) for name in ("abs", "clip", "maximum", "minimum", "sign", "sqrt", "where")}
)
"""The functions for numbers of Python's."""


def _library(x: Any) -> Any:
    """What has the functions that work on `x`: numpy, torch, jax.numpy, or what `x` says of itself."""
    kind = type(x)
    if kind is np.ndarray:
        return np
    if kind in (float, int, bool):
        return _NUMBERS
    owner = kind.__module__.partition(".")[0]
    if owner == "torch":
        return sys.modules["torch"]
    if owner in ("jax", "jaxlib"):
        return sys.modules["jax.numpy"]
    return getattr(x, "maths", np)


def sqrt(x: Any) -> Any:
    """√x, elementwise."""
    return _library(x).sqrt(x)


def root(x: Any) -> Any:
    """√x of a scalar that `Rule.scalars` computes: a number, or a tensor where autograd follows a hyperparameter."""
    return x.sqrt() if hasattr(x, "sqrt") else math.sqrt(x)


def power(x: Any, y: Any) -> Any:
    """x^y of scalars that `Rule.scalars` computes; ∞ where that is too large for a number of Python's."""
    try:
        return x**y
    except OverflowError:
        return math.inf


def absolute(x: Any) -> Any:
    """The absolute value of x, elementwise."""
    return _library(x).abs(x)


def sign(x: Any) -> Any:
    """−1, 0 or 1 by the sign of x, elementwise; NaN where x is NaN."""
    library = _library(x)
    if getattr(library, "__name__", "") == "torch":  # whose own sign of NaN is 0: a NaN gradient must not pass for none
        return library.where(library.isnan(x), x, library.sign(x))
    return library.sign(x)


def maximum(x: Any, y: Any) -> Any:
    """The larger of x and y, elementwise; NaN where either is NaN. Both are operands of the same kind."""
    return _library(x).maximum(x, y)


def minimum(x: Any, y: Any) -> Any:
    """The smaller of x and y, elementwise; NaN where either is NaN. Both are operands of the same kind."""
    return _library(x).minimum(x, y)


def clip(x: Any, low: float, high: float) -> Any:
    """X, but `low` where it is less and `high` where it is more; both are numbers. NaN where x is NaN."""
    library = _library(x)
    if getattr(library, "__name__", "") == "torch" and type(low) is not type(high):
        # One of them is a hyperparameter that autograd follows: PyTorch wants both as tensors then, or neither.
        low, high = (library.as_tensor(bound, dtype=x.dtype, device=x.device) for bound in (low, high))
    return library.clip(x, low, high)


def where(condition: Any, x: Any, y: Any) -> Any:
    """X where `condition` holds, else y, elementwise; or all of one of them by a bool of Python's."""
    if type(condition) is bool:
        return x if condition else y
    return _library(condition).where(condition, x, y)


def share(weight: Any, x: Any) -> Any:
    """``weight · x``, for a number `weight` ≥ 0; and zero for a weight of zero, whatever x is.

    A square that overflowed is infinite, and a product of that with zero would be NaN.
    """
    return where(weight > 0, weight * x, 0.0)
