"""Anderson's mixing: a step of a fixed-point iteration, mixed with the last ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from descend.methods.gauss_newton import Model
    from descend.parameters.memory import Array

__all__ = ["Mixing"]

RANK = 1e-8
"""Singular values of the changes below this share of the largest are left out."""


class Mixing:
    """The last points of an iteration x → x + p(x), and the step that they suggest.

    Parameters
    ----------
    size
        How many parameters there are.
    memory
        How many points before the one at hand are remembered; 0 for none.
    """

    def __init__(self, size: int, memory: int) -> None:
        self.memory = memory
        self.points, self.steps = np.zeros((memory + 1, size)), np.zeros((memory + 1, size))
        self.count = 0

    def forget(self) -> None:
        """Begin anew."""
        self.count = 0

    def step(self, x: Array, p: Array, model: Model) -> Array:
        """The step from x, where the iteration's own is p (Walker and Ni 2011, equation 2.1 with β = 1).

        What is left of p, once changes of the last steps are taken from it, is made least in the norm ‖J · ‖.
        """
        if not self.memory:
            return p
        if self.count > self.memory:
            self.points[:-1], self.steps[:-1] = self.points[1:].copy(), self.steps[1:].copy()
            self.count -= 1
        self.points[self.count], self.steps[self.count] = x, p
        self.count += 1
        if self.count < 2:
            return p
        moves = np.diff(self.points[: self.count], axis=0)
        changes = np.diff(self.steps[: self.count], axis=0)
        columns = np.column_stack([model.image(change) for change in changes])
        weights = np.linalg.lstsq(columns, model.image(p), rcond=RANK)[0]
        mixed: Array = p - weights @ (moves + changes)
        return mixed

    def state(self) -> dict[str, Any]:
        """What it takes to go on."""
        return {"points": self.points, "steps": self.steps, "count": self.count}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.points[...], self.steps[...] = state["points"], state["steps"]
        self.count = int(state["count"])
