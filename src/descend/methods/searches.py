"""Line searches: how far to go along a direction. They end at a lower point, or say that there is none.

A search is a frozen dataclass of its constants. It evaluates losses and slopes along the direction through a
`LineObjective`, never steps where the loss is not finite, and leaves the objective at the point that it returns.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from descend.checks import count, real
from descend.errors import MethodError

if TYPE_CHECKING:
    from descend.methods.base import LineObjective
    from descend.parameters.memory import Array

__all__ = ["MIN_SHARE", "Armijo", "Search", "Wolfe", "rounding_error"]

ROUNDING = 4096
"""Losses that differ by less than so many units in the last place are told apart by their slopes alone."""
EXPANSION = 9.0
"""How many times as far as from the last trial to this one the next one is, at most, where the loss still falls."""
MIN_SHARE = 1e-12
"""A step is given up when it has been shortened to this share of what was tried first."""
MIN_BRACKET = 1e-15
"""A bracket is given up when it is narrower than this, relative to its upper end."""


def rounding_error(objective: LineObjective, loss: float) -> float:
    """By how much losses near this one may differ by rounding and noise alone."""
    return max(ROUNDING * objective.resolution.eps * abs(loss), objective.resolution.noise)


@dataclasses.dataclass(frozen=True)
class Search:
    """What the line searches have in common: how many trials they make at most."""

    most: int = 20

    def __post_init__(self) -> None:
        self._whole("most", "number of trials", 20)

    def _whole(self, name: str, counted: str, usual: int) -> None:
        count(
            name, getattr(self, name), noun=f"whole {counted}", of=type(self).__name__, error=MethodError,
            remedy=f"try {usual}",
        )  # fmt: skip

    def _within(self, name: str, low: float, high: float, usual: float) -> None:
        real(
            name, getattr(self, name), above=low, below=high, of=type(self).__name__, error=MethodError,
            remedy=f"try {usual:g}",
        )  # fmt: skip

    def along(
        self, objective: LineObjective, base: Array, direction: Array, loss: float, slope: float, first: float
    ) -> float | None:
        """The step length from `base`, which has that loss and slope, trying `first` first; None if there is none."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Armijo(Search):
    """Backtracking until the Armijo condition holds: the loss falls by a share of the first-order decrease (1966).

    Parameters
    ----------
    c1
        That share; 1e-4.
    window
        The loss need only lie as far below the highest of the last so many: non-monotone for more than 1 (Grippo,
        Lampariello and Lucidi 1986). Default 1.
    most
        Trials at most; 20.
    """

    c1: float = 1e-4
    window: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._within("c1", 0.0, 0.5, 1e-4)
        self._whole("window", "number of losses", 10)

    def along(
        self,
        objective: LineObjective,
        base: Array,
        direction: Array,
        loss: float,
        slope: float,
        first: float,
        before: Sequence[float] = (),
    ) -> float | None:
        """As in `Search`; `before` are the losses of the points before."""
        reference = max([loss, *before[-(self.window - 1) :]]) if self.window > 1 else loss
        noise, least = rounding_error(objective, loss), objective.resolution.noise
        alpha = first
        for _ in range(self.most):
            if alpha < MIN_SHARE * first or (alpha < first and -alpha * slope < least):
                break
            found = objective.evaluate(base, direction, alpha)
            if not math.isfinite(found) or not math.isfinite(objective.slope(direction)):
                alpha *= 0.1
                continue
            if found <= reference + self.c1 * alpha * slope:
                return alpha
            # Where rounding hides both the change of the loss and the decrease asked for, a flatter slope is progress.
            if found <= loss + noise and -alpha * slope <= noise and abs(objective.slope(direction)) < abs(slope):
                return alpha
            # The minimum of the parabola through both losses and the slope, within a tenth and a half.
            parabola = -slope * alpha**2 / (2 * (found - loss - slope * alpha)) if found > loss + slope * alpha else 0.0
            alpha = min(max(parabola, 0.1 * alpha), 0.5 * alpha)
        return None


@dataclasses.dataclass(frozen=True)
class Wolfe(Search):
    """A step length by Wolfe's conditions (1969): the loss falls enough (Armijo), the slope rises enough (curvature).

    A bracket is found and narrowed by the cubic through losses and slopes at its ends. Near the end of what floats
    resolve, where losses no longer differ, slopes decide alone (the approximate conditions of Hager and Zhang 2005).

    Parameters
    ----------
    c1, c2
        The loss falls by at least the share `c1` of the first-order decrease, and the slope rises to at least `c2` of
        what it was; 1e-4 and 0.9.
    strong
        The slope may not be steep upwards either: the strong conditions. Default False, the weak ones.
    most
        Trials at most; 20.
    """

    c1: float = 1e-4
    c2: float = 0.9
    strong: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._within("c1", 0.0, 0.5, 1e-4)
        self._within("c2", 0.0, 1.0, 0.9)
        if self.c2 <= self.c1:
            raise MethodError(f"Wolfe(c1={self.c1!r}, c2={self.c2!r}): c2 must be larger than c1")

    def along(
        self,
        objective: LineObjective,
        base: Array,
        direction: Array,
        loss: float,
        slope: float,
        first: float,
        decrease: Callable[[], float] | None = None,
    ) -> float | None:
        """As in `Search`; `decrease` gives the first-order decrease gᵀ(x_new − x), with bounds. Else: alpha · slope."""
        noise, least = rounding_error(objective, loss), objective.resolution.noise
        low, high = (0.0, loss, slope), _NONE
        alpha, widths = first, (math.inf, math.inf)
        for _ in range(self.most):
            if alpha < MIN_SHARE * first or (high is not _NONE and -alpha * slope < least):
                break
            f, s = _trial(objective, base, direction, alpha, low[1] + noise)
            if not (math.isfinite(s) or low[1] + noise < f < math.inf):
                high, alpha = (alpha, math.inf, math.inf), low[0] + 0.1 * (alpha - low[0])
                continue
            first_order = alpha * slope if decrease is None else decrease()
            falls = f <= loss + self.c1 * first_order or (f <= loss + noise and self._flattens(s, slope))
            # Where the loss is above that of the lower end, there is a hump between them, and a minimum before it.
            if not falls or f > low[1] + noise or (self.strong and s > -self.c2 * slope):
                high = alpha, f, s
            elif s >= self.c2 * slope:  # the curvature condition
                return alpha
            else:
                before, low = low, (alpha, f, s)
                if high is _NONE:
                    alpha = _beyond(before, low)
                    continue
            width = high[0] - low[0]
            if width <= MIN_BRACKET * high[0]:
                break
            alpha, widths = _between(low, high, halve=width > 0.66 * widths[0]), (widths[1], width)
        if low[1] < loss:  # lower than the start, if not by as much as the conditions ask
            objective.evaluate(base, direction, low[0])
            objective.endless = high is _NONE
        return low[0] if low[1] < loss else None

    def _flattens(self, s: float, slope: float) -> bool:
        """The approximate Armijo condition (Hager and Zhang 2005), for losses that rounding levels.

        For a parabola it is the Armijo condition in terms of slopes, which have digits left where losses have none.
        """
        return s <= (2 * self.c1 - 1) * slope


def _trial(
    objective: LineObjective, base: Array, direction: Array, alpha: float, ceiling: float
) -> tuple[float, float]:
    """Loss and slope of a trial; the slope is NaN where it cannot be had, or is not, as the loss is above a ceiling."""
    objective.resolution.ceiling = ceiling
    try:
        loss = objective.evaluate(base, direction, alpha)
    finally:
        objective.resolution.ceiling = math.inf
    return loss, objective.slope(direction) if math.isfinite(loss) else math.nan


_Trial = tuple[float, float, float]
"""A trial: its step length, loss and slope."""
_NONE: _Trial = (math.inf, math.inf, math.inf)
"""The upper end of a bracket that has none yet."""


def _between(low: _Trial, high: _Trial, *, halve: bool) -> float:
    """The next trial within a bracket: by the cubic, some way from both ends; the middle to `halve` the bracket."""
    start, end = low[0], high[0]
    width = end - start
    if high[1] == math.inf:  # nothing is known of the upper end but that it is not finite
        return start + (0.1 if start == 0.0 else 0.5) * width
    if halve:
        return start + 0.5 * width
    return min(max(_cubic(low, high), start + 0.05 * width), end - 0.05 * width)


def _cubic(first: _Trial, second: _Trial) -> float:
    """Where the cubic through two losses and slopes has its minimum; the middle where it has none.

    Nocedal and Wright 2006, equation 3.59.
    """
    (a, f_a, s_a), (b, f_b, s_b) = first, second
    if math.isnan(s_b):  # the parabola through both losses and the first slope
        bend = 2 * (f_b - f_a - s_a * (b - a))
        return a - s_a * (b - a) ** 2 / bend if bend > 0.0 else 0.5 * (a + b)
    d1 = s_a + s_b - 3 * (f_a - f_b) / (a - b)
    square = d1 * d1 - s_a * s_b
    if not 0.0 <= square < math.inf:
        return 0.5 * (a + b)
    d2 = math.copysign(math.sqrt(square), b - a)
    below = s_b - s_a + 2 * d2
    return b - (b - a) * (s_b + d2 - d1) / below if below != 0.0 else 0.5 * (a + b)


def _beyond(before: _Trial, now: _Trial) -> float:
    """The next trial where the loss still falls: where the cubic has its minimum, but some way further on."""
    a, b = before[0], now[0]
    guess = _cubic(before, now)
    if not guess > b:
        guess = b + EXPANSION * (b - a)
    return min(max(guess, b + 1.1 * (b - a)), b + EXPANSION * (b - a))
