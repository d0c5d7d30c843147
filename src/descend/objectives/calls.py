"""Calls of the user's function: what it raises and what it returns, in terms of its name."""

from __future__ import annotations

from typing import Any

import numpy as np

from descend.checks import shown
from descend.errors import ObjectiveError, described
from descend.parameters.reals import as_reals

__all__ = ["advice_of", "as_complex", "as_loss", "call", "losses_of", "name_of"]


def name_of(function: Any, role: str) -> str:
    """What to call the user's function in messages."""
    name = getattr(function, "__name__", role)
    return role if name in ("<lambda>", role) else f"{role} {name!r}"


def call(function: Any, name: str, point: Any, args: tuple[Any, ...]) -> Any:
    """What the user's function returns; raises `ObjectiveError` where it raises."""
    try:
        return function(point, *args)
    except ObjectiveError:
        raise
    except (Exception, SystemExit) as error:
        one = isinstance(error, IndexError) and isinstance(point, np.floating)
        hint = "; x0 is one number, and so is x: pass x0 as [x0] for an array of one" if one else ""
        raise ObjectiveError(f"{name} raised {described(error)}{hint}") from error


def as_complex(value: Any, name: str) -> Any:
    """What a function returned at a complex point; raises `ObjectiveError` if it is not one complex number."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind != "c":
        raise ObjectiveError(
            f"{name} returned {value!r} for a complex x: with jac='cs' it must compute with complex numbers; "
            "use jac='3-point'"
        )
    return array.reshape(())


def advice_of(value: Any) -> str:
    """What is said of a function that returns two things in place of a number."""
    pair = isinstance(value, (tuple, list)) and len(value) == 2
    return "; if it returns value and gradient, pass jac=True" if pair else ""


def as_loss(value: Any, name: str) -> float:
    """What a loss function returned, as a float; NaN and infinities pass. Raises `ObjectiveError` for anything else."""
    if isinstance(value, float):  # NumPy's float64 is one, too
        return float(value)
    if value is None:
        raise ObjectiveError(f"{name} returned None: it must return a number; does it end without 'return'?")
    advice = advice_of(value)
    try:
        array = as_reals(value)
    except TypeError as error:
        raise ObjectiveError(
            f"{name} returned {shown(value)}: it must return one real number ({error}){advice}"
        ) from None
    if array.size != 1:
        raise ObjectiveError(
            f"{name} returned an array of shape {array.shape}: it must return one number; take its sum or mean{advice}"
        )
    with np.errstate(over="ignore"):
        return float(array.reshape(()))


def losses_of(value: Any, many: int, name: str, points: str) -> np.ndarray[Any, np.dtype[Any]]:
    """What a function of many points returned, as floats; raises `ObjectiveError` if it is not one for each."""
    try:
        losses = np.asarray(value.detach() if hasattr(value, "detach") else value)
    except (TypeError, ValueError):
        losses = np.asarray(None)
    if losses.dtype.kind not in "fiu" or losses.shape != (many,):
        raise ObjectiveError(
            f"{name} returned an array of type {losses.dtype} and shape {losses.shape} for {many} {points}: one real "
            "number for each is needed"
        )
    return losses.astype(float)
