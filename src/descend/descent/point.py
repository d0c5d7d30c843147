"""The points that a descent remembers: the one at hand, the one before, and the best."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from descend.parameters.bounds import Bounds
    from descend.parameters.memory import Array, Memory

__all__ = ["CurrentPoint", "largest_entry"]


class CurrentPoint:
    """The point where a descent stands, with loss and gradient there, and the best point it has seen.

    `memory` holds the parameters. `loss_before` is the loss of the point before, and `before` its parameters, for those
    who need them. `evaluated` and `reported` tell whether the objective knows the point at hand, and the callback.
    """

    def __init__(self, memory: Memory, bounds: Bounds | None) -> None:
        self.memory, self.bounds = memory, bounds
        self.loss = self.loss_before = math.nan
        self.grad: list[Array] = memory.like()
        self.before: list[Array] | None = None
        self.evaluated = self.reported = False
        self.best_loss = math.nan
        self.best: list[Array] | None = None
        self.best_grad: list[Array] | None = None

    def keep_as_best(self) -> None:
        """Remember the point at hand as the best."""
        self.best_loss = self.loss
        if self.best is None or self.best_grad is None:
            self.best, self.best_grad = self.memory.snapshot(), [g.copy() for g in self.grad]
            return
        for kept, now in zip((*self.best, *self.best_grad), (*self.memory.vectors, *self.grad), strict=True):
            np.copyto(kept, now)

    def projected_gradient(self, sign: float) -> list[Array]:
        """The gradient or, with bounds, the projected gradient of a descent (for sign −1, of a climb)."""
        if self.bounds is None:
            return self.grad
        return self.bounds.projected_gradient(self.memory.vectors, self.grad, sign)


def largest_entry(vectors: list[Array]) -> float:
    """The largest absolute entry."""
    return max([float(np.max(np.abs(v))) for v in vectors])
