"""Checks of arguments: each returns the value in its plain Python type, or raises an error that says what is allowed.

A check takes the argument's name and its value. Its message names both, what is allowed, and what to do::

    batch_size=0: a whole number ≥ 1 is needed, or 'full'; try 32

`of` names the call that the argument belongs to (``Armijo(window=0): …``), `error` the class of the error, `noun` what
is counted or measured, `otherwise` what may be given instead, `remedy` what to do. NumPy's scalars are numbers, too;
True and False are none, as a flag in a number's place is a mistake.

>>> count("batch_size", 0, otherwise="'full'", remedy="try 32")
Traceback (most recent call last):
    ...
descend.errors.OptionError: batch_size=0: a whole number ≥ 1 is needed, or 'full'; try 32
>>> optional(count, "max_steps", None) is None
True
"""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, cast

import numpy as np

from descend.errors import DescendError, OptionError, nearest

__all__ = [
    "count",
    "flag",
    "fraction",
    "function",
    "is_finite",
    "is_real",
    "is_whole",
    "one_of",
    "optional",
    "path",
    "real",
    "record",
    "refuse",
    "seconds",
    "seed",
    "shown",
    "tolerance",
]

P = ParamSpec("P")
T = TypeVar("T")


# ---- questions --------------------------------------------------------------------------------------------------


def is_real(value: Any) -> bool:
    """Whether `value` is a real number, which may be infinite or NaN."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    """Whether `value` is a real number that a float can hold, and is neither infinite nor NaN."""
    try:
        return is_real(value) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def is_whole(value: Any, at_least: int | None = None) -> bool:
    """Whether `value` is an integer (by its type: 3.0 is none), and not below `at_least`."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return whole and (at_least is None or bool(value >= at_least))


# ---- checks -----------------------------------------------------------------------------------------------------


def refuse(
    name: str,
    value: Any,
    needed: str,
    *,
    otherwise: str = "",
    remedy: str = "",
    of: str = "",
    error: type[DescendError] = OptionError,
) -> DescendError:
    """The error of an argument whose value is not what is `needed`, for the caller to raise."""
    argument = f"{name}={value!r}"
    subject = f"{of}({argument})" if of else argument
    return error(f"{subject}: {needed} is needed{otherwise and f', or {otherwise}'}{remedy and f'; {remedy}'}")


def shown(value: Any) -> str:
    """A value as a message shows it: an array by its shape and dtype, anything else in 60 characters at most."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(shape, tuple) and shape and dtype is not None:
        return f"an array of shape {tuple(shape)} and dtype {dtype}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def optional(
    check: Callable[Concatenate[str, Any, P], T], name: str, value: Any, *args: P.args, **options: P.kwargs
) -> T | None:
    """What `check` returns, and None for None, which stands for "not given"."""
    return None if value is None else check(name, value, *args, **options)


def real(
    name: str,
    value: Any,
    /,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    noun: str = "number",
    **words: Any,
) -> float:
    """A finite number within its limits, as a float."""
    if is_finite(value):
        low = (at_least is None or value >= at_least) and (above is None or value > above)
        if low and (at_most is None or value <= at_most) and (below is None or value < below):
            return float(value)
    raise refuse(name, value, _range(noun, at_least, above, at_most, below), **words)


def _range(noun: str, at_least: float | None, above: float | None, at_most: float | None, below: float | None) -> str:
    """The numbers that are allowed, in words."""
    if above is not None and below is not None:
        return f"a {noun} between {above:g} and {below:g}"
    if at_least is not None and at_most is not None:
        return f"a {noun} from {at_least:g} to {at_most:g}"
    limits = [(">", above), ("≥", at_least), ("<", below), ("≤", at_most)]
    given = " and ".join(f"{sign} {limit:g}" for sign, limit in limits if limit is not None)
    finite = "" if above is not None else "finite "
    return f"a {finite}{noun} {given}".rstrip()


def fraction(name: str, value: Any, /, **words: Any) -> float:
    """A share of the whole, from 0 to 1."""
    return real(name, value, at_least=0.0, at_most=1.0, **words)


def count(name: str, value: Any, /, at_least: int = 1, *, noun: str = "whole number", **words: Any) -> int:
    """A whole number of things, as an int."""
    if not is_whole(value, at_least):
        words.setdefault("remedy", f"try {max(at_least, 1000)}")
        raise refuse(name, value, f"a {noun} ≥ {at_least}", **words)
    return int(value)


def seed(name: str, value: Any, /, **words: Any) -> int:
    """A seed of random numbers, a whole number ≥ 0."""
    return count(name, value, at_least=0, **{"remedy": "", **words})


def tolerance(name: str, value: Any, /, **words: Any) -> float:
    """How exact is exact enough, a number ≥ 0."""
    words = {"otherwise": "None to switch it off", "remedy": "try 1e-6", **words}
    return real(name, value, at_least=0.0, **words)


def seconds(name: str, value: Any, /, **words: Any) -> float:
    """A duration, longer than none."""
    return real(name, value, above=0.0, noun="number of seconds", **{"otherwise": "None for no limit", **words})


def flag(name: str, value: Any, /, **words: Any) -> bool:
    """True or False, as a bool; NumPy's are taken, 0 and 1 are not."""
    if not isinstance(value, (bool, np.bool_)):
        raise refuse(name, value, "True or False", **words)
    return bool(value)


def record(name: str, value: Any, /, **words: Any) -> bool | Literal["path"]:
    """Whether to keep a history, and ``"path"`` to keep the parameters in it."""
    if isinstance(value, str) and value == "path":
        return "path"
    return flag(name, value, otherwise="'path'", **words)


def one_of(name: str, value: Any, /, allowed: Iterable[str], **words: Any) -> str:
    """One of some names."""
    names = list(allowed)
    if isinstance(value, str) and value in names:
        return value
    close = nearest(value, names) if isinstance(value, str) else None
    if close is not None:
        words.setdefault("remedy", f"did you mean {close!r}?")
    raise refuse(name, value, f"one of {', '.join(map(repr, names))}", **words)


def path(name: str, value: Any, /, *, noun: str = "file", **words: Any) -> Path:
    """The path of a file or a folder, as a `Path`; whether it exists is not asked."""
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise refuse(name, value, f"the path of a {noun}", **words)
    return Path(os.fsdecode(value))


def function(name: str, value: Any, /, **words: Any) -> Callable[..., Any]:
    """Something that can be called."""
    if not callable(value):
        raise refuse(name, value, "a function", **words)
    return cast("Callable[..., Any]", value)
