"""Differences of a loss in one parameter at a time: within bounds, and from one side where the other is not finite."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from descend.objectives.flat_loss import FlatLoss
    from descend.parameters.memory import Array

__all__ = ["Stencil", "Taken", "difference"]


SHORTEST = 8.0
"""A step is at least so many units in the last place of its parameter."""


@dataclasses.dataclass
class Taken:
    """Differences that were taken, a number for each of some parameters.

    `slope` is the derivative and `curvature` the second one, NaN where one side alone was to be had. `offset` is where
    the first point lies, or the other one where that is not finite. `change` is the largest change of the loss, `bend`
    by how much it departs from a line, and `largest` the largest loss, for its rounding.
    """

    slope: Array
    curvature: Array
    offset: Array
    change: Array
    bend: Array
    largest: Array

    @property
    def step(self) -> Array:
        """How far the first point is."""
        return np.abs(self.offset)

    def of(self, where: Array) -> Taken:
        """Those of some of the parameters."""
        return Taken(**{field.name: getattr(self, field.name)[where] for field in dataclasses.fields(self)})

    def put(self, where: Array, other: Taken) -> None:
        """Take others in the place of these."""
        for field in dataclasses.fields(self):
            getattr(self, field.name)[where] = getattr(other, field.name)


class Stencil:
    """The points of differences around the point of a `FlatLoss`, which keep to the bounds."""

    def __init__(self, flat: FlatLoss, lower: Array, upper: Array) -> None:
        self.flat, self.lower, self.upper = flat, lower, upper
        self.loss: float | None = None
        """The loss at the point itself, once it is known."""

    def ahead(self, index: Array, steps: Array) -> Array:
        """Where the first points lie: a step ahead (for a negative one, back), or the other way if that has more room.

        As offsets from x, exact in the parameters' floats.
        """
        x, sign = self.flat.x[index], np.where(steps < 0.0, -1.0, 1.0)
        up, down = self.upper[index] - x, x - self.lower[index]
        front, back = np.where(sign > 0, up, down), np.where(sign > 0, down, up)
        h = np.maximum(np.abs(steps), SHORTEST * self.flat.spacing[index] * np.abs(x))
        forth = (h <= front) | (front >= back)
        return self._exact(index, sign * np.where(forth, np.minimum(h, front), -np.minimum(h, back)))

    def beyond(self, index: Array, first: Array) -> Array:
        """Where the second points lie: as far on the other side or, without room there, twice as far or half as far."""
        x = self.flat.x[index]
        up, down = self.upper[index] - x, x - self.lower[index]
        front, back, h = np.where(first > 0, up, down), np.where(first > 0, down, up), np.abs(first)
        return self._exact(index, np.sign(first) * np.where(h <= back, -h, np.where(2 * h <= front, 2 * h, 0.5 * h)))

    def _exact(self, index: Array, offsets: Array) -> Array:
        x = self.flat.x[index]
        points = self.flat.rounded(index, np.clip(x + offsets, self.lower[index], self.upper[index]))
        return np.asarray(points - x)

    def losses(self, index: Array, offsets: Array) -> Array:
        """The losses at offsets, one parameter each; the point's own before, or together with them, if not known."""
        if self.loss is None and not self.flat.at_once:
            self.loss = float(self.flat(self.flat.x))
        if self.loss is None:
            found = self.flat.moved(np.append(-1, index), np.append(0.0, self.flat.x[index] + offsets))
            self.loss = float(found[0])
            return found[1:]
        if not np.isfinite(self.loss):
            return np.full(len(index), np.nan)
        return self.flat.moved(index, self.flat.x[index] + offsets)


def difference(stencil: Stencil, index: Array, steps: Array, both: Array) -> Taken:
    """Differences in the parameters at `index`: with one point each or, where `both` is True, with two.

    Through two points and the point itself goes a parabola, whose slope and curvature these are: central differences
    where the points are as far on both sides.
    """
    a = stencil.ahead(index, steps)
    b = stencil.beyond(index, a)
    two = np.flatnonzero(both)
    found = stencil.losses(np.concatenate([index, index[two]]), np.concatenate([a, b[two]]))
    f_a, f_b = found[: len(index)], np.full(len(index), np.nan)
    f_b[two] = found[len(index) :]
    lost = np.flatnonzero(~np.isfinite(f_a) & ~both)
    left = stencil.flat.objective.evaluations_left()
    known = stencil.loss is not None and np.isfinite(stencil.loss)
    if known and lost.size and (left is None or left >= lost.size):  # one side is not finite: the other may be
        f_b[lost] = stencil.losses(index[lost], b[lost])
    loss = stencil.loss
    assert loss is not None
    rise_a, rise_b = f_a - loss, f_b - loss
    d_a, d_b = rise_a / a, rise_b / b
    curvature = 2.0 * (d_a - d_b) / (a - b)
    slope = d_a - 0.5 * a * curvature
    one_sided = np.where(np.isfinite(d_a), d_a, d_b)
    whole = np.isfinite(slope)
    bend = np.where(whole, np.abs(0.5 * curvature * a * b), 0.0)
    return Taken(
        slope=np.where(whole, slope, one_sided),
        curvature=np.where(whole, curvature, np.nan),
        offset=np.where(np.isfinite(d_a), a, b),
        change=np.fmax(np.abs(rise_a), np.abs(rise_b)),
        bend=bend,
        largest=np.fmax(np.fmax(np.abs(f_a), np.abs(f_b)), abs(loss)),
    )
