"""Every error that descend raises on purpose.

::

    DescendError
    ├── RuleError          a rule, its hyperparameters, or its name
    ├── ScheduleError      a schedule's numbers
    ├── MethodError        a method of minimize, its constants, or its name
    ├── ParameterError     x0, or a container of parameters
    ├── OptionError        an option of minimize, fit, compare or the command line
    ├── ProblemError       a problem, its data, or the file that defines it
    ├── ObjectiveError     what the user's function did; `.result` holds the descent so far
    ├── FitError           a curve fit that found no parameters; `.result` says where it stood
    ├── StateError         saved state that does not fit an optimizer
    ├── GradientError      a gradient that disagrees with finite differences
    ├── UncertaintyError   errors of an answer that cannot be had where it stands
    ├── ComparisonError    a comparison that cannot go on; finished runs are kept
    └── MissingExtra       an optional package that is not installed

All but `MissingExtra`, `ObjectiveError`, `FitError` and `ComparisonError` are `ValueError` too, so code that already
catches ``ValueError`` needs no change. A message says what was wrong, its value, what is allowed, and what to do.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from descend.descent.result import Result

__all__ = [
    "ComparisonError",
    "DescendError",
    "FitError",
    "GradientError",
    "MethodError",
    "MissingExtra",
    "ObjectiveError",
    "OptionError",
    "ParameterError",
    "ProblemError",
    "RuleError",
    "ScheduleError",
    "StateError",
    "UncertaintyError",
]


class DescendError(Exception):
    """The base of every error below."""


class RuleError(DescendError, ValueError):
    """A rule is unknown, badly declared, or has a hyperparameter out of range."""


class ScheduleError(DescendError, ValueError):
    """A schedule has a number out of range."""


class MethodError(DescendError, ValueError):
    """A method is unknown, has a constant out of range, or cannot do what is asked of it."""


class ParameterError(DescendError, ValueError):
    """Parameters are empty, not finite, or not of a floating-point type."""


class OptionError(DescendError, ValueError):
    """An option of a descent or a comparison is out of range, or two options contradict."""


class ProblemError(DescendError, ValueError):
    """A problem is unknown, its file cannot be used, or its data do not fit together."""


class StateError(DescendError, ValueError):
    """Saved state belongs to another optimizer, rule or model."""


class GradientError(DescendError, ValueError):
    """A gradient disagrees with finite differences."""


class UncertaintyError(DescendError, ValueError):
    """The errors of an answer cannot be had: it is no minimum, or what they are computed from is not there."""


class ObjectiveError(DescendError):
    """The user's function raised, or returned something that is not a number.

    `result` holds the descent so far (best point, history); it is None where there was none yet.
    """

    def __init__(self, message: str, result: Result | None = None) -> None:
        super().__init__(message)
        self.result = result


class FitError(DescendError, RuntimeError):
    """`curve_fit` has found no parameters. `result` says where the descent stood; None if it has none."""

    def __init__(self, message: str, result: Result | None = None) -> None:
        super().__init__(message)
        self.result = result


class ComparisonError(DescendError):
    """A comparison cannot go on: every run failed, no worker process can work, or its files cannot be written."""


class MissingExtra(DescendError, ImportError):
    """An optional package is needed and is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed: pip install 'descend[{extra}]'")


CLOSE = 0.5
"""How alike two names are, from 0 to 1, if one may have been meant for the other."""
LONGEST = 60
"""Letters of a wrong name that are looked at: no name is as long."""


def described(error: BaseException) -> str:
    """An error of the user's function, on one line."""
    try:
        words = " ".join(str(error).split())
    except Exception:  # an error of the user's may fail to say what it is
        words = ""
    return f"{type(error).__name__}: {words}".removesuffix(": ")


def nearest(wrong: str, known: Iterable[str]) -> str | None:
    """The known name that is spelled most like a wrong one; None if none is close."""
    likeness = {name: _likeness(wrong[:LONGEST].lower(), name.lower()) for name in sorted(known)}
    best = max(likeness, key=lambda name: sum(likeness[name]), default=None)
    return best if best is not None and max(likeness[best][:2]) >= CLOSE else None


def _likeness(one: str, other: str) -> tuple[float, float, float]:
    """How alike two names are, from 0 to 1 each: in what they share in order, in keystrokes, and in letters."""
    longest = max(len(one), len(other), 1)
    letters = (Counter(one) & Counter(other)).total()
    ratio = difflib.SequenceMatcher(None, one, other).ratio()
    return ratio, 1 - _slips(one, other) / longest, letters / longest


def _slips(one: str, other: str) -> int:
    """How many letters were left out, put in, mistaken, or swapped with the next one (Damerau 1964)."""
    last: list[int] = []
    before: list[int] = []
    row: list[int] = [*range(len(other) + 1)]
    for i, a in enumerate(one, 1):
        last, before, row = before, row, [i]
        for j, b in enumerate(other, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b)))
            if i > 1 and j > 1 and a == other[j - 2] and b == one[i - 2]:
                row[j] = min(row[j], last[j - 2] + 1)
    return row[-1]


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest known name, and all of them."""
    names = sorted(known)
    close = nearest(wrong, names)
    return f"{'' if close is None else f'did you mean {close!r}? '}Known: {', '.join(names)}"
