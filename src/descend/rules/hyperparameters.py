"""Hyperparameters of a rule: how one is declared, which numbers it may take, and what is said of others."""

from __future__ import annotations

import dataclasses
import decimal
import fractions
import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from descend.errors import RuleError

__all__ = ["Range", "allowed_range", "checked", "hyper", "kind_of", "plain"]

_PLAIN = (float, int, bool)
_MOST = 16
"""So many numbers in an array may be meant for one hyperparameter; more are a mistake."""
_LONGEST = 200
"""So many characters of a wrong value are printed: it may be a whole tensor."""


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that a hyperparameter may take; open or closed at each end."""

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return math.isfinite(value) and above and below

    def __str__(self) -> str:
        if self.high == math.inf:
            if self.low == -math.inf:
                return "a finite number"
            return f"a finite number {'>' if self.low_open else '≥'} {self.low:g}"
        left = "(" if self.low_open else "["
        right = ")" if self.high_open else "]"
        return f"in {left}{self.low:g}, {self.high:g}{right}"


def hyper(
    *,
    default: Any,
    doc: str,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    kw_only: bool = False,
) -> Any:
    """Declare a hyperparameter: its default, one line on what it is, and the range it must lie in.

    A ``bool`` default declares a flag, constant for the life of a rule; a ``tuple`` default declares several
    numbers, each of which must lie in the range.
    """
    low, high = (at_least if above is None else above), (at_most if below is None else below)
    allowed = Range(
        -math.inf if low is None else low,
        math.inf if high is None else high,
        low_open=above is not None,
        high_open=below is not None,
    )
    return dataclasses.field(default=default, kw_only=kw_only, metadata={"doc": doc, "range": allowed})


def allowed_range(field: dataclasses.Field[Any]) -> Range:
    """The range of a number that is declared with `hyper`, or plainly as ``lr: float = 0.1``."""
    found: Range = field.metadata.get("range", Range(low=0.0) if field.name == "lr" else Range())
    return found


def kind_of(field: dataclasses.Field[Any]) -> type:
    """Of which type a hyperparameter is: bool, tuple or float."""
    return next((kind for kind in (bool, tuple) if isinstance(field.default, kind)), float)


def plain(value: Any) -> Any:
    """A hyperparameter in Python's own types: an array of one number as that number, several in a row as a tuple.

    Arrays are those of any library, PyTorch's and JAX's too. What is none of all that stays as it is, for `checked` to
    refuse.
    """
    if value is None or type(value) in _PLAIN or isinstance(value, (str, bytes)) or callable(value):
        return value
    if isinstance(value, Sequence):
        return tuple(map(plain, value))
    shape = getattr(value, "shape", None)
    if not isinstance(shape, tuple):
        return float(value) if isinstance(value, (decimal.Decimal, fractions.Fraction)) else value
    if math.prod(shape) == 1:
        try:
            return value.item()
        except Exception:  # the library's own, for an array that stands for numbers which come later
            return value
    return tuple(map(plain, value)) if len(shape) == 1 and shape[0] <= _MOST else value


def checked(rule: Any, field: dataclasses.Field[Any], value: Any, done: int | None = None) -> tuple[Any, bool]:
    """The value as float, bool or tuple of floats, and whether a schedule is in it; raises `RuleError`.

    `done` tells after how many steps a schedule gave this value, which must be a number then.
    """
    default, numbered = field.default, plain(value)
    check = _Check(rule, field, value, done)
    if isinstance(default, bool):
        if numbered is None:  # as `torch.optim` takes it
            return False, False
        if not isinstance(numbered, (bool, np.bool_, numbers.Integral)) or numbered not in (0, 1):
            raise check.complaint(field.name, "be True or False", default)
        return bool(numbered), False
    if isinstance(default, tuple):
        if not isinstance(numbered, tuple) or len(numbered) != len(default):
            raise check.complaint(field.name, f"be {len(default)} numbers", default)
        parts = [check.number(f"{field.name}[{i}]", v, default[i]) for i, v in enumerate(numbered)]
        return tuple(parts), any(callable(v) for v in parts)
    number = check.number(field.name, numbered, default)
    return number, callable(number)


@dataclasses.dataclass(frozen=True)
class _Check:
    """The check of one hyperparameter's numbers; the names are those of `checked`."""

    rule: Any
    field: dataclasses.Field[Any]
    value: Any
    done: int | None

    def number(self, label: str, value: Any, default: Any) -> Any:
        """A number as a float, or a schedule; `label` says which number of the hyperparameter it is."""
        if callable(value) and not isinstance(value, type) and self.done is None:
            return value
        wanted = "be a number or a schedule" if self.done is None else "be a number"
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise self.complaint(label, f"{wanted}{_instead(value)}", _meant(value, default))
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        allowed = allowed_range(self.field)
        if number not in allowed:
            raise self.complaint(label, _must(allowed), default)
        return number

    def complaint(self, label: str, must: str, default: Any) -> RuleError:
        """The error of a value that is not what it must be."""
        came = "" if self.done is None else f"; a schedule gave it when asked with {self.done}, the steps done before"
        shown = repr(self.value)
        shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]} …"
        subject = f"{type(self.rule).__name__}({self.field.name}={shown})"
        return RuleError(f"{subject}: {label} must {must}; try {default!r}{came}")


def _instead(value: Any) -> str:
    """What there is where a number should be, if its print does not tell."""
    if isinstance(value, str):
        return ", not a string"
    if isinstance(value, type):
        return f", not the class {value.__name__}"
    if callable(value):
        return ", not a function"
    if isinstance(value, (tuple, list)):
        return ", not a sequence"
    if isinstance(shape := getattr(value, "shape", None), tuple):
        if math.prod(shape) == 1 and not isinstance(value, (np.generic, np.ndarray)):
            traced = " (descend.to_optax takes numbers that JAX traces)" if "jax" in type(value).__module__ else ""
            return f", and one that is known now{traced}"
        return f", not an array of shape {tuple(shape)}"
    return ""


def _meant(value: Any, default: Any) -> Any:
    """The number that a string spells, as those of YAML files may; else the default."""
    try:
        return float(value) if isinstance(value, str) else default
    except ValueError:
        return default


def _must(allowed: Range) -> str:
    text = str(allowed)
    return f"lie {text}" if text.startswith("in ") else f"be {text}"
