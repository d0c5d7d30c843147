"""Profile intervals: how far a parameter can go if all others follow it, until the objective has risen too much.

The objective at a value of the parameter is its minimum over all others. The root of its rise, in units of standard
errors, is a distance; the interval ends where the distance is the quantile. For linear models that is the interval by
standard errors; for others it need not be symmetric, and may be open (Bates and Watts 1988, section 6.1; Venzon and
Moolgavkar 1988).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from descend.errors import ObjectiveError

__all__ = ["Profile", "profile_interval"]

EXPANSIONS = 40
"""How often a search for an end goes further out at most."""
FLAT, FLAT_TIMES = 1e-3, 4
"""An end is open where the distance rises by less, of the quantile, at so many expansions one after the other."""
NEAR_ZERO = 0.01
"""How small a parameter is, relative to its estimate, if its sign may change in a step."""
LOWER = 0.01
"""How far below the minimum, as a squared distance, a point is another minimum and not rounding."""
RESOLVED = 1e-9
"""How exactly an end is found, in standard errors."""


class Profile:
    """The profile of one parameter: the distance of each value from the estimate, all other parameters following.

    Parameters
    ----------
    refit
        ``refit(value, start)``: the loss and the point where it is least with the parameter at a value, and whether
        that is known; `start` is a point near it.
    estimate, best, x
        The parameter, the loss and the point at the minimum.
    unit
        The rise of the loss at a distance of 1.

    `lower` is the lowest point that was found below the minimum, with its loss; `unsure` counts the values where a
    minimum over the others was not found.
    """

    def __init__(
        self,
        refit: Callable[[float, Any], tuple[float, Any, bool]],
        estimate: float,
        best: float,
        x: Any,
        unit: float,
    ) -> None:
        self.refit, self.estimate, self.best, self.unit = refit, estimate, best, unit
        self.known: list[tuple[float, Any]] = [(estimate, x)]
        self.lower: tuple[float, Any] | None = None
        self.unsure = 0

    def distance(self, value: float) -> float:
        """How far a value is from the estimate; infinite where the function is not defined, negative below it."""
        _, start = min(self.known, key=lambda point: abs(point[0] - value))
        try:
            loss, x, found = self.refit(value, start)
        except ObjectiveError:
            return math.inf
        if not math.isfinite(loss):
            return math.inf
        self.known.append((value, x))
        rise = (loss - self.best) / self.unit
        if rise < -LOWER and (self.lower is None or loss < self.lower[0]):
            self.lower = loss, x
        self.unsure += not found
        return math.copysign(math.sqrt(abs(rise)), rise)


def profile_interval(
    profile: Profile, error: float, quantile: float, low: float = -math.inf, high: float = math.inf
) -> tuple[float, float]:
    """Both ends of the interval where the distance is at most `quantile`; infinite where an end is open.

    `error` is the standard error, by which the search begins; `low` and `high` are bounds, where the interval ends at
    the latest.
    """
    return _end(profile, -error, quantile, low), _end(profile, error, quantile, high)


def _end(profile: Profile, error: float, quantile: float, bound: float) -> float:
    """The end on the side that `error` has the sign of."""
    from scipy.optimize import brentq

    inside, z_inside, flat = profile.estimate, 0.0, 0
    side = math.copysign(1.0, error)
    if side * (bound - inside) <= 0:
        return bound
    away = abs(error) * quantile
    highest = 10 * quantile

    seen: dict[float, float] = {inside: -quantile}

    def excess(value: float) -> float:
        if value not in seen:
            seen[value] = min(profile.distance(value), highest) - quantile
        return seen[value]

    for _ in range(EXPANSIONS):
        outside = _short_of_zero(profile.estimate, inside, profile.estimate + side * away)
        outside = bound if side * (outside - bound) > 0 else outside
        z = excess(outside) + quantile
        if z >= quantile:
            xtol = max(RESOLVED * abs(error), 4 * math.ulp(outside))
            return float(brentq(excess, inside, outside, xtol=xtol))
        if outside == bound:
            return bound
        flat = flat + 1 if z - z_inside < FLAT * quantile else 0
        if flat == FLAT_TIMES or not math.isfinite(outside):
            break
        inside, z_inside, away = outside, z, abs(outside - profile.estimate)
        away *= min(max(1.1 * quantile / z if z > 0 else 4.0, 1.5), 4.0)
    return side * math.inf


def _short_of_zero(estimate: float, inside: float, outside: float) -> float:
    """Where to look next: a step that would change a parameter's sign goes there by way of its smaller sizes.

    A model may have a pole at zero, and be as good beyond it as far out: a long step would not see what lies between.
    """
    if inside * outside < 0.0 and abs(inside) > NEAR_ZERO * abs(estimate):
        return inside / 4
    return outside
