"""Hyperparameters of a rule: how one is declared, which numbers it may take, and what is said of others."""

from __future__ import annotations

import dataclasses
import math
import numbers
from typing import Any

import numpy as np

from descend.errors import RuleError

__all__ = ["Range", "allowed_range", "checked", "hyper", "kind_of"]


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


def checked(rule: Any, field: dataclasses.Field[Any], value: Any) -> tuple[Any, bool]:
    """The value as float, bool or tuple of floats, and whether a schedule is in it; raises `RuleError`."""
    default = field.default
    if isinstance(default, bool):
        if not isinstance(value, (bool, np.bool_, numbers.Integral)) or value not in (0, 1):
            raise _complaint(rule, field.name, field.name, value, "be True or False", default)
        return bool(value), False
    allowed = allowed_range(field)
    if isinstance(default, tuple):
        if not isinstance(value, (tuple, list)) or len(value) != len(default):
            raise _complaint(rule, field.name, field.name, value, f"be {len(default)} numbers", default)
        parts = [
            _number(rule, field.name, f"{field.name}[{i}]", v, allowed, default[i], whole=value)
            for i, v in enumerate(value)
        ]
        return tuple(parts), any(callable(v) for v in parts)
    number = _number(rule, field.name, field.name, value, allowed, default, whole=value)
    return number, callable(number)


def _number(rule: Any, field: str, label: str, value: Any, allowed: Range, default: Any, whole: Any) -> Any:
    if callable(value):
        return value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise _complaint(rule, field, label, whole, "be a number or a schedule", default)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if number not in allowed:
        raise _complaint(rule, field, label, whole, _must(allowed), default)
    return number


def _must(allowed: Range) -> str:
    text = str(allowed)
    return f"lie {text}" if text.startswith("in ") else f"be {text}"


def _complaint(rule: Any, field: str, label: str, value: Any, must: str, default: Any) -> RuleError:
    return RuleError(f"{type(rule).__name__}({field}={value!r}): {label} must {must}; try {default!r}")
