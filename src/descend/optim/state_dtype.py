"""The dtype of a parameter's state: the one that the optimizer was asked for, or one of 32 bits or more.

An average that is kept in 16 bits goes wrong. In float16 the square of a gradient of 1e-3 vanishes, so that nothing but
`eps` is left to divide by. In either format what a step adds to an average of squares, a thousandth of it, is less than
half the distance to the next number, so that the average stays where it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, MutableMapping
from typing import Any

import torch

from descend.errors import OptionError

__all__ = ["check_dtype", "made_dtype", "widen"]

_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_SHORT = {torch.float16: torch.float32, torch.bfloat16: torch.float32, torch.complex32: torch.complex64}
"""The dtypes of 16 bits a number, and those of 32."""


def check_dtype(dtype: torch.dtype | None) -> None:
    """Raise `OptionError` for a dtype that state cannot have, and warn of one of 16 bits; None stands for the usual."""
    if dtype is not None and dtype not in _DTYPES:
        known = ", ".join(str(d) for d in _DTYPES)
        raise OptionError(f"state_dtype={dtype!r}: one of {known}, or None, is needed")
    if dtype in _SHORT:
        warnings.warn(
            f"state_dtype={dtype}: averages of squares are rounded to 16 bits at every step, where they vanish "
            "(float16, gradients below 0.005) or stand still, so that steps get up to 9 times too long, or 5 times too "
            "short; leave state_dtype out for state of float32",
            RuntimeWarning,
            stacklevel=3,
        )


def made_dtype(p: torch.Tensor, asked: torch.dtype | None) -> torch.dtype:
    """The dtype of state that is made for a parameter: the one that was asked for, or its own, but not one of 16 bits.

    Complex parameters have complex state, whatever was asked for.
    """
    return _SHORT.get(p.dtype, p.dtype) if asked is None or p.is_complex() else asked


def widen(state: Mapping[torch.Tensor, MutableMapping[str, Any]], names: tuple[str, ...], asked: Any) -> None:
    """Make arrays of 16 bits, of these names, what would be made for their parameter, unless 16 were asked for."""
    if asked in _SHORT:
        return
    for p, its in state.items():
        for name in names if isinstance(p, torch.Tensor) else ():
            array = its.get(name)
            if isinstance(array, torch.Tensor) and array.dtype in _SHORT:
                its[name] = array.to(made_dtype(p, asked))
