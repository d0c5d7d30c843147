"""Methods whose direction is the gradient's own; they differ in the step length."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import numpy as np

from descend.methods.base import LineObjective, Method, MethodRun, first_step_length
from descend.methods.searches import MIN_SHARE, Armijo, Search, Wolfe, rounding_error
from descend.stopping import Reason

__all__ = ["AcceleratedGradient", "AdaptiveGradient", "BarzilaiBorwein", "SteepestDescent"]

SHORTEST, LONGEST = 1e-30, 1e30
"""The lengths of a Barzilai–Borwein step; outside, the curvature says nothing."""
BACKTRACKING, NON_MONOTONE = Armijo(), Armijo(window=10)


@dataclasses.dataclass(frozen=True)
class SteepestDescent(Method):
    """The gradient's direction with a line search (Cauchy 1847; Nocedal and Wright 2006, section 3.1).

    Parameters
    ----------
    search
        How far to go: ``Armijo()``, or `Wolfe`. The first trial of a step has the first-order decrease of the last one.

    >>> import descend
    >>> descend.minimize(lambda x: x**4, 2.0, method=descend.SteepestDescent(descend.Wolfe()), gtol=1e-3).success
    True
    """

    search: Search = BACKTRACKING

    def __post_init__(self) -> None:
        self._kind("search", (Armijo, Wolfe))

    def begin(self, objective: LineObjective) -> MethodRun:
        """As in `Method`."""
        return _Steepest(objective, self)


class _Steepest(MethodRun):
    """A run of steepest descent: set a direction, search along it, choose the next first trial."""

    workspace = ("search", "d", "step", "change")

    def __init__(self, objective: LineObjective, method: SteepestDescent | BarzilaiBorwein) -> None:
        super().__init__(objective)
        self.search = method.search
        self.d = np.empty_like(self.x)
        self.first = first_step_length(objective.norm)
        """The step length that is tried first."""
        self.losses: list[float] = []
        """Those of the last points, for a search that looks back."""

    def advance(self) -> Reason | None:
        slope = self.set_direction()
        alpha = None
        if slope < 0.0 and math.isfinite(slope):
            objective, search = self.objective, self.search
            if isinstance(search, Armijo):
                alpha = search.along(objective, self.x, self.d, self.loss, slope, self.first, self.losses)
                self.losses = [*self.losses[-search.window :], self.loss] if search.window > 1 else []
            else:
                alpha = search.along(objective, self.x, self.d, self.loss, slope, self.first)
        if alpha is None:
            return Reason.LINE_SEARCH
        self.finish(alpha, slope)
        return None

    def set_direction(self) -> float:
        """Write the direction; returns its slope."""
        np.negative(self.g, out=self.d)
        return -float(np.dot(self.g, self.g))

    def finish(self, alpha: float, slope: float) -> None:
        """Accept the trial point, and choose what the next step tries first."""
        self.accept()
        squared_norm = float(np.dot(self.g, self.g))
        # A first trial that was accepted at once may have been too short; else expect the last first-order decrease
        # again (Nocedal and Wright 2006, section 3.5).
        longer = 2.0 * alpha if alpha == self.first else alpha
        self.first = min(10.0 * alpha, max(longer, alpha * -slope / squared_norm)) if squared_norm > 0.0 else alpha


@dataclasses.dataclass(frozen=True)
class BarzilaiBorwein(Method):
    """The gradient's direction, as far as the last step's curvature says (Barzilai and Borwein 1988, equation 5).

    Parameters
    ----------
    search
        When to go less far: ``Armijo(window=10)``, which lets the loss rise now and then (Raydan 1997, the global
        Barzilai and Borwein algorithm).

    With bounds it is the spectral projected gradient (Birgin, Martínez and Raydan 2000, SPG2): the direction leads to
    the projection of the point to which the step would lead.

    >>> import descend
    >>> result = descend.minimize(lambda x: ((x - 3) ** 2).sum(), [0.0, 0.0], method="bb", bounds=(0.0, [1.0, None]))
    >>> result.x.round(6)
    array([1., 3.])
    """

    takes_bounds: ClassVar[bool] = True

    search: Armijo = NON_MONOTONE

    def __post_init__(self) -> None:
        self._kind("search", (Armijo,))

    def begin(self, objective: LineObjective) -> MethodRun:
        """As in `Method`."""
        return _Spectral(objective, self)


class _Spectral(_Steepest):
    """A run of Barzilai and Borwein's method; its first trial is always the spectral step, of length `spectral`."""

    patience = 100  # the loss rises now and then

    def __init__(self, objective: LineObjective, method: BarzilaiBorwein) -> None:
        super().__init__(objective, method)
        self.spectral = self.first
        self.first = 1.0
        self.step, self.change = np.empty_like(self.x), np.empty_like(self.x)

    def set_direction(self) -> float:
        np.multiply(self.g, -self.spectral, out=self.d)
        if self.objective.bounds is not None:  # to the projection of x − length · g, so that all trials are inside
            self.d += self.x
            self.objective.project(self.d)
            self.d -= self.x
        return float(np.dot(self.d, self.g))

    def finish(self, alpha: float, slope: float) -> None:
        np.subtract(self.objective.x, self.x, out=self.step)
        np.subtract(self.objective.g, self.g, out=self.change)
        self.accept()
        sy = float(np.dot(self.step, self.change))
        ss = float(np.dot(self.step, self.step))
        # Where the loss does not curve upwards, as far as ten times the last step.
        length = ss / sy if sy > 0.0 else 10.0 * self.spectral
        self.spectral = min(max(length, SHORTEST), LONGEST)
        self.first = 1.0


@dataclasses.dataclass(frozen=True)
class AcceleratedGradient(Method):
    """Nesterov's accelerated gradient (1983) with backtracking (Beck and Teboulle 2009) and adaptive restart.

    The momentum is dropped where it points uphill (O'Donoghue and Candès 2015, the gradient scheme). A step takes two
    evaluations or more: one at the extrapolated point, to which the momentum leads, and one where the gradient leads
    from there. With bounds both points are projected, and backtracking is that of the proximal gradient (Beck and
    Teboulle 2009). As no evaluation is outside the bounds, the extrapolated point is projected too, for which their
    rate is not proved.

    >>> import descend
    >>> descend.minimize(lambda x: 50 * x[0] ** 2 + x[1] ** 2, [1.0, 1.0], method="acceleratedgradient").success
    True
    """

    takes_bounds: ClassVar[bool] = True

    def begin(self, objective: LineObjective) -> MethodRun:
        """As in `Method`."""
        return _Accelerated(objective)


class _Accelerated(MethodRun):
    """A run of the accelerated gradient: extrapolate by the momentum, then step along the gradient from there."""

    workspace = ("d", "move", "change")
    patience = 200  # with momentum it comes and goes in waves

    def __init__(self, objective: LineObjective) -> None:
        super().__init__(objective)
        self.length, self.t, self.momentum = first_step_length(objective.norm), 1.0, 0.0
        self.last_move = np.zeros_like(self.x)
        self.d, self.move, self.change = (np.empty_like(self.x) for _ in range(3))
        self.y, self.y_g, self.y_loss = self.x.copy(), self.g.copy(), self.loss
        """The extrapolated point of the papers, from which the next step is made."""

    def advance(self) -> Reason | None:
        self._extrapolate()
        for _ in range(2):
            length = self._backtrack()
            if length is not None:
                self.length = length
                self._finish()
                return None
            self._restart()  # not down from where the momentum led: once more, from the point itself
        return Reason.LINE_SEARCH

    def renew(self) -> None:
        super().renew()
        self._restart()

    def _extrapolate(self) -> None:
        """Evaluate the point to which the momentum leads."""
        if not self.momentum > 0.0:
            return
        objective = self.objective
        found = objective.evaluate(self.x, self.last_move, self.momentum)
        if not math.isfinite(found):
            self._restart()
            return
        np.copyto(self.y, objective.x)
        np.copyto(self.y_g, objective.g)
        # The momentum stays until the step is made: a step that is interrupted is made again from the beginning.
        self.y_loss = found

    def _restart(self) -> None:
        """Drop the momentum."""
        np.copyto(self.y, self.x)
        np.copyto(self.y_g, self.g)
        self.y_loss, self.t, self.momentum = self.loss, 1.0, 0.0

    def _backtrack(self) -> float | None:
        """The step length whose quadratic model bounds the loss (Beck and Teboulle 2009); None if there is none."""
        objective, g, move = self.objective, self.y_g, self.move
        np.negative(g, out=self.d)
        noise = rounding_error(objective, self.y_loss)
        length = 1.2 * self.length
        shortest = MIN_SHARE * length
        while 0.0 < shortest <= length:
            found = objective.evaluate(self.y, self.d, length)
            np.subtract(objective.x, self.y, out=move)
            squared = float(np.dot(move, move))
            excess = found - (self.y_loss + float(np.dot(g, move)) + 0.5 * squared / length)
            if excess < -noise and math.isfinite(found):
                return length
            if excess <= noise:
                # Rounding hides the losses' difference. The model is also a bound where the curvature along the move,
                # which is seen from the gradients, is at most 1 / length.
                np.subtract(objective.g, g, out=self.change)
                if float(np.dot(self.change, move)) <= squared / length:
                    return length
            length *= 0.5 if math.isfinite(found) else 0.1
        return None

    def _finish(self) -> None:
        """Accept the trial point, and set the momentum of the next step."""
        np.subtract(self.objective.x, self.x, out=self.last_move)
        uphill = float(np.dot(self.move, self.last_move)) < 0.0  # the gradient scheme of O'Donoghue and Candès
        self.accept()
        before = 1.0 if uphill else self.t
        after = 0.5 * (1 + math.sqrt(1 + 4 * before * before))
        self._restart()
        self.t, self.momentum = after, (before - 1) / after


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

    def begin(self, objective: LineObjective) -> MethodRun:
        """As in `Method`."""
        return _Adaptive(objective)


class _Adaptive(MethodRun):
    """A run of the adaptive gradient; `growth` is by how much the last step length exceeds the one before."""

    workspace = ("d",)
    patience = 200  # without a search the loss may rise for long

    def __init__(self, objective: LineObjective) -> None:
        super().__init__(objective)
        self.d = np.empty_like(self.x)
        self.length = 1e-6 * max(1.0, math.sqrt(float(np.dot(self.x, self.x)))) / max(objective.norm, 1e-300)
        self.growth = math.inf

    def advance(self) -> Reason | None:
        objective = self.objective
        np.negative(self.g, out=self.d)
        shortest = 1e-8 * self.length  # less far below than a search goes: the first one is short already
        while 0.0 < shortest <= self.length:
            found = objective.evaluate(self.x, self.d, self.length)
            if math.isfinite(found) and math.isfinite(float(np.dot(objective.g, objective.g))):
                break
            self.length *= 0.1
        else:
            return Reason.NON_FINITE
        np.subtract(objective.x, self.x, out=self.d)
        moved = math.sqrt(float(np.dot(self.d, self.d)))
        np.subtract(objective.g, self.g, out=self.d)
        changed = math.sqrt(float(np.dot(self.d, self.d)))
        self.accept()
        curvature = changed / moved if moved > 0.0 else 0.0
        length = self._unbounded(curvature) if objective.bounds is None else self._projected(curvature)
        if not math.isfinite(length):  # the gradient has not changed: the loss is linear here
            length = 10.0 * self.length
        if length > 0.0:
            self.growth, self.length = length / self.length, length
        return None

    def _unbounded(self, curvature: float) -> float:
        """The next step length, by algorithm 1."""
        longest = math.sqrt(1 + self.growth) * self.length
        return min(longest, 0.5 / curvature if curvature > 0.0 else math.inf)

    def _projected(self, curvature: float) -> float:
        """The same for a projected step, by algorithm 3, which begins anew once the first curvature is known."""
        if math.isinf(self.growth):
            self.growth = 1 / 3
            self.length = math.sqrt(0.5) / curvature if curvature > 0.0 else 10.0 * self.length
        longest = math.sqrt(2 / 3 + self.growth) * self.length
        over = 2.0 * (self.length * curvature) ** 2 - 1.0
        return min(longest, self.length / math.sqrt(over) if over > 0.0 else math.inf)
