"""Methods that go where the gradient points, and differ in how far."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import numpy as np

from descend.methods.base import Ground, Method, Walk, cautious
from descend.methods.searches import ROUNDING, SHORTEST, Armijo, Search, Wolfe
from descend.stopping import Reason

__all__ = ["AcceleratedGradient", "AdaptiveGradient", "BarzilaiBorwein", "SteepestDescent"]

LEAST, MOST = 1e-30, 1e30
"""The lengths of a Barzilai–Borwein step; outside, the curvature says nothing."""
BACKTRACKING, NON_MONOTONE = Armijo(), Armijo(window=10)


@dataclasses.dataclass(frozen=True)
class SteepestDescent(Method):
    """The gradient's direction with a line search (Cauchy 1847; Nocedal and Wright 2006, section 3.1).

    Parameters
    ----------
    search
        How far to go: ``Armijo()``, or `Wolfe`. The first trial of a step promises what the last step brought.

    >>> import descend
    >>> descend.minimize(lambda x: x**4, 2.0, method=descend.SteepestDescent(descend.Wolfe()), gtol=1e-3).success
    True
    """

    search: Search = BACKTRACKING

    def __post_init__(self) -> None:
        self._kind("search", (Armijo, Wolfe))

    def walk(self, ground: Ground) -> Walk:
        """As in `Method`."""
        return _Steepest(ground, self)


class _Steepest(Walk):
    scratch = ("search", "d", "step", "change")

    def __init__(self, ground: Ground, method: SteepestDescent | BarzilaiBorwein) -> None:
        super().__init__(ground)
        self.search = method.search
        self.d = np.empty_like(self.x)
        self.first = cautious(ground.norm)
        self.losses: list[float] = []
        """Those of the last points, for a search that looks back."""

    def advance(self) -> Reason | None:
        slope = self.direct()
        alpha = None
        if slope < 0.0 and math.isfinite(slope):
            ground, search = self.ground, self.search
            if isinstance(search, Armijo):
                alpha = search.along(ground, self.x, self.d, self.loss, slope, self.first, self.losses)
                self.losses = [*self.losses[-search.window :], self.loss] if search.window > 1 else []
            else:
                alpha = search.along(ground, self.x, self.d, self.loss, slope, self.first)
        if alpha is None:
            return Reason.LINE_SEARCH
        self.went(alpha, slope)
        return None

    def direct(self) -> float:
        """Write the direction; returns its slope."""
        np.negative(self.g, out=self.d)
        return -float(np.dot(self.g, self.g))

    def went(self, alpha: float, slope: float) -> None:
        """Stand at the new point, and say how far the next step is tried first."""
        self.arrive()
        flat = float(np.dot(self.g, self.g))
        longer = 2.0 * alpha if alpha == self.first else alpha  # what was tried first may not have been the most
        self.first = min(10.0 * alpha, max(longer, alpha * -slope / flat)) if flat > 0.0 else alpha


@dataclasses.dataclass(frozen=True)
class BarzilaiBorwein(Method):
    """The gradient's direction, as far as the last step's curvature says (Barzilai and Borwein 1988, equation 5).

    Parameters
    ----------
    search
        When to go less far: ``Armijo(window=10)``, which lets the loss rise now and then (Raydan 1997, the global
        Barzilai and Borwein algorithm).

    With bounds it is the spectral projected gradient (Birgin, Martínez and Raydan 2000, SPG2): the direction leads to
    the projection of where the step would lead.

    >>> import descend
    >>> result = descend.minimize(lambda x: ((x - 3) ** 2).sum(), [0.0, 0.0], method="bb", bounds=(0.0, [1.0, None]))
    >>> result.x.round(6)
    array([1., 3.])
    """

    takes_bounds: ClassVar[bool] = True

    search: Armijo = NON_MONOTONE

    def __post_init__(self) -> None:
        self._kind("search", (Armijo,))

    def walk(self, ground: Ground) -> Walk:
        """As in `Method`."""
        return _Spectral(ground, self)


class _Spectral(_Steepest):
    def __init__(self, ground: Ground, method: BarzilaiBorwein) -> None:
        super().__init__(ground, method)
        self.length = self.first
        self.first = 1.0
        self.step, self.change = np.empty_like(self.x), np.empty_like(self.x)

    def direct(self) -> float:
        np.multiply(self.g, -self.length, out=self.d)
        if self.ground.ends is not None:
            self.d += self.x
            self.ground.project(self.d)
            self.d -= self.x
        return float(np.dot(self.d, self.g))

    def went(self, alpha: float, slope: float) -> None:
        np.subtract(self.ground.x, self.x, out=self.step)
        np.subtract(self.ground.g, self.g, out=self.change)
        self.arrive()
        curved = float(np.dot(self.step, self.change))
        moved = float(np.dot(self.step, self.step))
        # Where the loss does not curve upwards, as far as ten times the last step.
        length = moved / curved if curved > 0.0 else 10.0 * self.length
        self.length = min(max(length, LEAST), MOST)
        self.first = 1.0


@dataclasses.dataclass(frozen=True)
class AcceleratedGradient(Method):
    """Nesterov's accelerated gradient (1983) with backtracking (Beck and Teboulle 2009) and adaptive restart.

    The momentum is dropped where it points uphill (O'Donoghue and Candès 2015, the gradient scheme). A step takes two
    evaluations or more: one where the momentum leads, and one where the gradient leads from there. With bounds, both
    are projected to them, and backtracking is that of the proximal gradient (Beck and Teboulle 2009); as no look is
    outside, where the momentum leads is projected too, for which their rate is not proved.

    >>> import descend
    >>> descend.minimize(lambda x: 50 * x[0] ** 2 + x[1] ** 2, [1.0, 1.0], method="acceleratedgradient").success
    True
    """

    takes_bounds: ClassVar[bool] = True

    def walk(self, ground: Ground) -> Walk:
        """As in `Method`."""
        return _Accelerated(ground)


class _Accelerated(Walk):
    scratch = ("d", "went", "change")

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self.length, self.t, self.share = cautious(ground.norm), 1.0, 0.0
        self.moved = np.zeros_like(self.x)
        self.d, self.went, self.change = (np.empty_like(self.x) for _ in range(3))
        self.ahead, self.ahead_g, self.ahead_loss = self.x.copy(), self.g.copy(), self.loss
        """Where the momentum leads, from which the next step is made; not looked at while there is a share to go."""

    def advance(self) -> Reason | None:
        ground = self.ground
        if self.share > 0.0:
            found = ground.step(self.x, self.moved, self.share)
            if math.isfinite(found):
                np.copyto(self.ahead, ground.x)
                np.copyto(self.ahead_g, ground.g)
                self.ahead_loss, self.share = found, 0.0
            else:
                self._stand()
        for _ in range(2):
            if self._descended():
                return None
            self._stand()  # not down from where the momentum led: once more, from the point itself
        return Reason.LINE_SEARCH

    def _stand(self) -> None:
        """Drop the momentum."""
        np.copyto(self.ahead, self.x)
        np.copyto(self.ahead_g, self.g)
        self.ahead_loss, self.t, self.share = self.loss, 1.0, 0.0

    def _descended(self) -> bool:
        ground, g, went = self.ground, self.ahead_g, self.went
        np.negative(g, out=self.d)
        noise = ROUNDING * ground.eps * abs(self.ahead_loss)
        length = 1.2 * self.length
        shortest = SHORTEST * length
        while 0.0 < shortest <= length:
            found = ground.step(self.ahead, self.d, length)
            np.subtract(ground.x, self.ahead, out=went)
            promised = float(np.dot(g, went)) + 0.5 * float(np.dot(went, went)) / length
            over = found - (self.ahead_loss + promised)
            if over < -noise and math.isfinite(found):
                break
            if over <= noise:  # which hides the losses' difference: as the gradients have it, by the curvature met
                np.subtract(ground.g, g, out=self.change)
                if float(np.dot(self.change, went)) <= float(np.dot(went, went)) / length:
                    break
            length *= 0.5 if math.isfinite(found) else 0.1
        else:
            return False
        self.length = length
        np.subtract(ground.x, self.x, out=self.moved)
        uphill = float(np.dot(went, self.moved)) < 0.0
        self.arrive()
        before = 1.0 if uphill else self.t
        after = 0.5 * (1 + math.sqrt(1 + 4 * before * before))
        share = (before - 1) / after
        self._stand()
        self.t, self.share = after, share
        return True


@dataclasses.dataclass(frozen=True)
class AdaptiveGradient(Method):
    """The gradient's direction without any search: the step follows the curvature met (Malitsky and Mishchenko 2020).

    Algorithm 1: no more than half of the inverse of the last curvature, and growing only so fast. One evaluation a
    step; for convex functions it converges, and the loss may rise on the way. With bounds it is the projected one of
    Malitsky and Mishchenko 2024, algorithm 3.

    >>> import descend
    >>> descend.minimize(lambda x: x[0] ** 2 + 20 * x[1] ** 2, [1.0, 1.0], method="adaptivegradient").success
    True
    """

    takes_bounds: ClassVar[bool] = True

    def walk(self, ground: Ground) -> Walk:
        """As in `Method`."""
        return _Adaptive(ground)


class _Adaptive(Walk):
    scratch = ("d",)

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self.d = np.empty_like(self.x)
        self.length = 1e-6 * max(1.0, math.sqrt(float(np.dot(self.x, self.x)))) / max(ground.norm, 1e-300)
        self.grown = math.inf

    def advance(self) -> Reason | None:
        ground = self.ground
        np.negative(self.g, out=self.d)
        shortest = 1e-8 * self.length  # the first one is short already
        while 0.0 < shortest <= self.length:
            found = ground.step(self.x, self.d, self.length)
            if math.isfinite(found) and math.isfinite(float(np.dot(ground.g, ground.g))):
                break
            self.length *= 0.1
        else:
            return Reason.NON_FINITE
        np.subtract(ground.x, self.x, out=self.d)
        moved = math.sqrt(float(np.dot(self.d, self.d)))
        np.subtract(ground.g, self.g, out=self.d)
        changed = math.sqrt(float(np.dot(self.d, self.d)))
        self.arrive()
        curvature = changed / moved if moved > 0.0 else 0.0
        length = self._free(curvature) if ground.ends is None else self._projected(curvature)
        if not math.isfinite(length):  # the gradient has not changed: a plane
            length = 10.0 * self.length
        if length > 0.0:
            self.grown, self.length = length / self.length, length
        return None

    def _free(self, curvature: float) -> float:
        """How far to go next, by algorithm 1."""
        longest = math.sqrt(1 + self.grown) * self.length
        return min(longest, 0.5 / curvature if curvature > 0.0 else math.inf)

    def _projected(self, curvature: float) -> float:
        """The same for a projected step, by algorithm 3, begun anew once the first curvature is known."""
        if math.isinf(self.grown):
            self.grown = 1 / 3
            self.length = math.sqrt(0.5) / curvature if curvature > 0.0 else 10.0 * self.length
        longest = math.sqrt(2 / 3 + self.grown) * self.length
        over = 2.0 * (self.length * curvature) ** 2 - 1.0
        return min(longest, self.length / math.sqrt(over) if over > 0.0 else math.inf)
