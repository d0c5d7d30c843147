"""Where a hyperparameter is searched for, and the points that are tried: the same number for everybody."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from descend.errors import OptionError

__all__ = ["Choice", "LogUniform", "Space", "Uniform", "parsed", "points", "tuning"]


@dataclasses.dataclass(frozen=True)
class LogUniform:
    """Every ratio alike: what learning rates and weight decays are searched in.

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
    """Every distance alike. Points are rounded to a thousandth of the range or finer.

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
    """One of some values, each as often as the others; ``Choice([0.1])`` fixes a hyperparameter.

    >>> from descend.comparison import Choice
    >>> Choice([16, 32, 64]).at(0.5)
    32
    """

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if isinstance(self.values, str) or not isinstance(self.values, Sequence) or not self.values:
            raise OptionError(f"Choice({self.values!r}): a list of values is needed, such as Choice([16, 32, 64])")
        # What was a list is a tuple from here on, so that a task can be looked up.
        object.__setattr__(self, "values", tuple(tuple(v) if isinstance(v, list) else v for v in self.values))

    def at(self, u: float) -> Any:
        """The value at a share of the way, from 0 to 1."""
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]


Space = LogUniform | Uniform | Choice


def _checked_ends(space: LogUniform | Uniform, least: float) -> None:
    """Two finite numbers in their order; raises `OptionError`."""
    kind = type(space).__name__
    for end in (space.low, space.high):
        real = isinstance(end, numbers.Real) and not isinstance(end, bool)
        if not real or not (math.isfinite(end) and end > least):
            allowed = "a number > 0" if least == 0 else "a finite number"
            raise OptionError(f"{kind}({space.low!r}, {space.high!r}): {end!r} is not {allowed}")
    if not space.low < space.high:
        raise OptionError(
            f"{kind}({space.low!r}, {space.high!r}): the lower end comes first; one value alone is Choice([value])"
        )


def parsed(text: str) -> Space:
    """A space as the command line has it: ``0.5..0.99``, ``1e-6..0.1:log``, or values, ``16,32,64``."""
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


def tuning(space: Space) -> str:
    """A space as the command line has it; what `parsed` reads."""
    if isinstance(space, Choice):
        return ",".join(map(str, space.values))
    return f"{space.low!r}..{space.high!r}{':log' * isinstance(space, LogUniform)}"


def _value(text: str) -> Any:
    """A number where it is one, True or False, or a text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"True": True, "False": False}.get(text, text)


def points(spaces: Mapping[str, Space], trials: int, study: int) -> list[dict[str, Any]]:
    """So many points that fill the spaces evenly: a scrambled Halton sequence, another one for each study.

    A longer sequence begins with the shorter one (Halton 1960; scrambled as in Owen 2017), so that more trials add to
    those that were made. Points that rounding makes equal stay as they are: nobody gets more of them.
    """
    if not spaces:
        return [{}] * trials
    return [
        {name: space.at(u) for (name, space), u in zip(spaces.items(), point, strict=True)}
        for point in _shares(len(spaces), trials, study)
    ]


@functools.cache
def _shares(dimensions: int, trials: int, study: int) -> list[list[float]]:
    """The points of the sequence, each a share of the way in every dimension; asked for again and again."""
    import numpy as np
    from scipy.stats import qmc

    sequence = qmc.Halton(dimensions, scramble=True, rng=np.random.default_rng([study, 2]))
    found: list[list[float]] = sequence.random(trials).tolist()
    return found
