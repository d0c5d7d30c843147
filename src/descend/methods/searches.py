"""How far to go along a direction: line searches that end at a lower point, or say that there is none.

A search is a frozen dataclass of its constants. It looks at losses and slopes along the direction through a `Ground`,
never steps where the loss is not finite, and leaves the ground at the point that it returns.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from descend.errors import MethodError

if TYPE_CHECKING:
    from descend.methods.base import Ground
    from descend.parameters.memory import Array

__all__ = ["Armijo", "Search", "Wolfe"]

ROUNDING = 4096
"""Losses that differ by less than so many units in the last place are told apart by their slopes alone."""
FURTHER = 9.0
"""How many times as far as from the last trial to this one the next one is, at most, where the loss still falls."""
SHORTEST = 1e-12
"""A step is given up when it has been shortened to this share of what was tried first."""
NARROW = 1e-15
"""A bracket is given up when it is narrower than this, relative to its upper end."""


@dataclasses.dataclass(frozen=True)
class Search:
    """What the line searches have in common: how many trials they make at most."""

    most: int = 20

    def __post_init__(self) -> None:
        if isinstance(self.most, bool) or not isinstance(self.most, numbers.Integral) or self.most < 1:
            raise MethodError(
                f"{type(self).__name__}(most={self.most!r}): a whole number of trials ≥ 1 is needed; try 20"
            )

    def _within(self, name: str, low: float, high: float, usual: float) -> None:
        value = getattr(self, name)
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not (real and low < value < high):
            raise MethodError(
                f"{type(self).__name__}({name}={value!r}): a number between {low:g} and {high:g} is needed; "
                f"try {usual:g}"
            )

    def along(
        self, ground: Ground, base: Array, direction: Array, loss: float, slope: float, first: float
    ) -> float | None:
        """How far to go from `base`, where the loss has a value and a slope, trying `first` first; None: nowhere."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Armijo(Search):
    """Shorter and shorter steps until the loss has fallen by a share of what the slope promised (Armijo 1966).

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
        if isinstance(self.window, bool) or not isinstance(self.window, numbers.Integral) or self.window < 1:
            raise MethodError(f"Armijo(window={self.window!r}): a whole number of losses ≥ 1 is needed; try 10")

    def along(
        self,
        ground: Ground,
        base: Array,
        direction: Array,
        loss: float,
        slope: float,
        first: float,
        before: Sequence[float] = (),
    ) -> float | None:
        """As in `Search`; `before` are the losses of the points before."""
        reference = max([loss, *before[-(self.window - 1) :]]) if self.window > 1 else loss
        noise = ROUNDING * ground.eps * abs(loss)
        alpha = first
        for _ in range(self.most):
            if alpha < SHORTEST * first:
                break
            found = ground.step(base, direction, alpha)
            if not math.isfinite(found) or not math.isfinite(ground.slope(direction)):
                alpha *= 0.1
                continue
            if found <= reference + self.c1 * alpha * slope:
                return alpha
            if found <= loss + noise and -alpha * slope <= noise and abs(ground.slope(direction)) < abs(slope):
                return alpha  # flatter, and rounding hides whatever else there is to be seen
            # The minimum of the parabola through both losses and the slope, within a tenth and a half.
            parabola = -slope * alpha**2 / (2 * (found - loss - slope * alpha)) if found > loss + slope * alpha else 0.0
            alpha = min(max(parabola, 0.1 * alpha), 0.5 * alpha)
        return None


@dataclasses.dataclass(frozen=True)
class Wolfe(Search):
    """Steps that are neither too long nor too short (Wolfe 1969): the loss falls enough, and so does its slope.

    A bracket is found and narrowed by the cubic through losses and slopes at its ends. Near the end of what floats
    resolve, where losses no longer differ, slopes decide alone (the approximate conditions of Hager and Zhang 2005).

    Parameters
    ----------
    c1, c2
        The loss falls by at least `c1` of what the slope promised, and the slope rises to at least `c2` of what it was;
        1e-4 and 0.9.
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
        ground: Ground,
        base: Array,
        direction: Array,
        loss: float,
        slope: float,
        first: float,
        fall: Callable[[], float] | None = None,
    ) -> float | None:
        """As in `Search`.

        `fall` is by how much a plane would fall from `base` to where the ground stands, where bounds bend the way
        there; else that is alpha · slope.
        """
        low, f_low, s_low = 0.0, loss, slope
        high, f_high, s_high = math.inf, math.inf, math.inf
        alpha, widths = first, (math.inf, math.inf)
        promised, steep, noise = self.c1 * slope, self.c2 * slope, loss + ROUNDING * ground.eps * abs(loss)
        for _ in range(self.most):
            if alpha < SHORTEST * first:
                break
            f = ground.step(base, direction, alpha)
            s = ground.slope(direction) if math.isfinite(f) else math.nan
            if not math.isfinite(s):
                high, f_high, s_high = alpha, math.inf, math.inf
                alpha = low + 0.1 * (alpha - low)
            else:
                enough = f <= loss + (alpha * promised if fall is None else self.c1 * fall())
                level = not enough and f <= noise and s <= (2 * self.c1 - 1) * slope
                over = f > f_low + (noise - loss)  # a hump lies between, and a minimum before it
                if not (enough or level) or over or (self.strong and s > -steep):
                    high, f_high, s_high = alpha, f, s
                elif s >= steep:
                    return alpha
                else:
                    before = low, f_low, s_low
                    low, f_low, s_low = alpha, f, s
                    if high == math.inf:
                        alpha = _beyond(before, (low, f_low, s_low))
                        continue
                width = high - low
                if width <= NARROW * high:
                    break
                slow = width > 0.66 * widths[0]
                widths = widths[1], width
                if f_high == math.inf:
                    alpha = low + (0.1 if low == 0.0 else 0.5) * width
                elif slow:
                    alpha = low + 0.5 * width
                else:
                    alpha = min(
                        max(_cubic(low, f_low, s_low, high, f_high, s_high), low + 0.05 * width), high - 0.05 * width
                    )
        if f_low < loss:  # it is lower there, if not as low as was asked for
            ground.step(base, direction, low)
            return low
        return None


def _cubic(a: float, f_a: float, s_a: float, b: float, f_b: float, s_b: float) -> float:
    """Where the cubic through two losses and slopes has its minimum; the middle where it has none."""
    d1 = s_a + s_b - 3 * (f_a - f_b) / (a - b)
    square = d1 * d1 - s_a * s_b
    if not 0.0 <= square < math.inf:
        return 0.5 * (a + b)
    d2 = math.copysign(math.sqrt(square), b - a)
    below = s_b - s_a + 2 * d2
    return b - (b - a) * (s_b + d2 - d1) / below if below != 0.0 else 0.5 * (a + b)


def _beyond(before: tuple[float, float, float], now: tuple[float, float, float]) -> float:
    """Where to look next when the loss still falls: where the cubic has its minimum, but some way further on."""
    (a, f_a, s_a), (b, f_b, s_b) = before, now
    guess = _cubic(a, f_a, s_a, b, f_b, s_b)
    if not guess > b:
        guess = b + FURTHER * (b - a)
    return min(max(guess, b + 1.1 * (b - a)), b + FURTHER * (b - a))
