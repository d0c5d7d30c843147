"""Search spaces: where a hyperparameter is searched for, and which points of it are tried.

Every entry of a comparison gets the same number of points. The learning rates that are tried by default are
`LEARNING_RATES`, filled evenly by `points`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from descend.checks import is_finite
from descend.errors import OptionError

__all__ = [
    "LEARNING_RATES",
    "Choice",
    "LogUniform",
    "Space",
    "Uniform",
    "check_rates",
    "checked_space",
    "describe_space",
    "parse_space",
    "points",
    "space_option",
]


@dataclasses.dataclass(frozen=True)
class LogUniform:
    """An interval in which every ratio is equally likely, for learning rates and weight decays.

    Points are rounded to two significant digits.

    >>> from descend.comparison import LogUniform
    >>> LogUniform(1e-4, 1.0).at(0.5)
    0.01
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _checked_ends(self, least=0.0)

    def at(self, u: float) -> float:
        """The point at a share of the way, from 0 to 1."""
        value = math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))
        return min(max(float(f"{value:.2g}"), self.low), self.high)


@dataclasses.dataclass(frozen=True)
class Uniform:
    """An interval in which every distance is equally likely.

    Points are rounded to a thousandth of the range or finer.

    >>> from descend.comparison import Uniform
    >>> Uniform(0.8, 1.0).at(0.5)
    0.9
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _checked_ends(self, least=-math.inf)

    def at(self, u: float) -> float:
        """The point at a share of the way, from 0 to 1."""
        digits = 3 - math.floor(math.log10(self.high - self.low))
        return min(max(round(self.low + u * (self.high - self.low), digits), self.low), self.high)


@dataclasses.dataclass(frozen=True)
class Choice:
    """A list of values, each equally likely; ``Choice([0.1])`` fixes a hyperparameter.

    >>> from descend.comparison import Choice
    >>> Choice([16, 32, 64]).at(0.5)
    32
    """

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if isinstance(self.values, str) or not isinstance(self.values, Sequence) or not self.values:
            raise OptionError(f"Choice({self.values!r}): a list of values is needed, such as Choice([16, 32, 64])")
        values = tuple(_python_value(v) for v in self.values)
        for value in values:
            try:
                hash(value)
            except TypeError:
                raise OptionError(
                    f"Choice({list(self.values)!r}): {value!r} cannot be told from other values by its hash; give "
                    "numbers, flags, texts, schedules, or tuples of them"
                ) from None
        object.__setattr__(self, "values", values)

    def at(self, u: float) -> Any:
        """The value at a share of the way, from 0 to 1."""
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]


Space = LogUniform | Uniform | Choice


def _python_value(value: Any) -> Any:
    """A value as Python has it: a number for an array or tensor of one, a tuple for a list, so that it can be a key."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_python_value, value))
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def check_rates(label: str, space: Space) -> None:
    """Refuse, by `OptionError`, a space of learning rates that has anything but numbers > 0."""
    for rate in space.values if isinstance(space, Choice) else (space.low,):
        has = f"{label}: space={{'lr': …}} has {rate!r}"
        if callable(rate):
            raise OptionError(f"{has}, which is a schedule, but lr is what is tuned; give numbers")
        if not is_finite(rate) or rate < 0 or (rate == 0 and isinstance(space, Choice)):
            raise OptionError(f"{has}, which is not a number > 0; try 0.001, 0.01, 0.1")


def _checked_ends(space: LogUniform | Uniform, least: float) -> None:
    """Two finite numbers in their order; raises `OptionError`."""
    kind = type(space).__name__
    for end in (space.low, space.high):
        if not (is_finite(end) and end > least):
            allowed = "a number > 0" if least == 0 else "a finite number"
            raise OptionError(f"{kind}({space.low!r}, {space.high!r}): {end!r} is not {allowed}")
    if not space.low < space.high:
        raise OptionError(
            f"{kind}({space.low!r}, {space.high!r}): the lower end comes first; one value alone is Choice([value])"
        )


LEARNING_RATES = LogUniform(1e-4, 10.0)
"""Where learning rates are searched unless a comparison is told otherwise: wide enough for every rule."""


def checked_space(spaces: Any) -> dict[str, Space]:
    """Search spaces by the names of hyperparameters, as a dict; raises `OptionError`."""
    if not isinstance(spaces, Mapping):
        raise OptionError(f"space={spaces!r}: a dict is needed, such as {{'momentum': Uniform(0.5, 0.99)}}")
    for name, space in spaces.items():
        if not isinstance(space, (LogUniform, Uniform, Choice)):
            raise OptionError(f"space: {name!r} has {space!r}; LogUniform, Uniform or Choice is needed")
    return dict(spaces)


def parse_space(text: str) -> Space:
    """Read a space from the command line: ``0.5..0.99``, ``1e-6..0.1:log``, or values, ``16,32,64``."""
    low, between, rest = text.partition("..")
    high, _, scale = rest.partition(":")
    if not between:
        values = [_value(part.strip()) for part in text.split(",") if part.strip()]
        return Choice(tuple(values))
    try:
        ends = float(low), float(high)
    except ValueError:
        raise OptionError(f"--tune {text}: the ends of a range are numbers, such as 0.5..0.99") from None
    if scale not in ("", "log"):
        raise OptionError(f"--tune {text}: a range may end in :log, not in :{scale}")
    return LogUniform(*ends) if scale else Uniform(*ends)


def space_option(space: Space) -> str:
    """Write a space as the command line has it, for `parse_space` to read."""
    if isinstance(space, Choice):
        return ",".join(map(str, space.values))
    return f"{space.low!r}..{space.high!r}{':log' * isinstance(space, LogUniform)}"


def describe_space(space: Space) -> str:
    """Write a space for people."""
    if isinstance(space, Choice):
        return f"one of {', '.join(map(str, space.values))}"
    return f"{space.low:g} … {space.high:g}{', log scale' * isinstance(space, LogUniform)}"


def _value(text: str) -> Any:
    """A number if the text is one, else True or False, else the text itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"True": True, "False": False}.get(text, text)


def points(spaces: Mapping[str, Space], trials: int, study: int) -> list[dict[str, Any]]:
    """The `trials` points that are tried in a study: a scrambled Halton sequence, which fills the spaces evenly.

    Each study has another sequence. A longer sequence begins with the shorter one (Halton 1960; scrambled as in Owen
    2017), so that more trials add to those that were made. Points that rounding makes equal are not replaced: no entry
    gets more points than another one.
    """
    if not spaces:
        return [{}] * trials
    return [
        {name: space.at(u) for (name, space), u in zip(spaces.items(), point, strict=True)}
        for point in _shares(len(spaces), trials, study)
    ]


@functools.cache
def _shares(dimensions: int, trials: int, study: int) -> list[list[float]]:
    """The points of the sequence, each a share of the way in every dimension; cached, as each entry asks for them."""
    import numpy as np
    from scipy.stats import qmc

    sequence = qmc.Halton(dimensions, scramble=True, rng=np.random.default_rng([study, 2]))
    found: list[list[float]] = sequence.random(trials).tolist()
    return found
