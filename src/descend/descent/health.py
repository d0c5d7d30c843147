"""Whether a descent is well: its numbers are finite, and its loss has not grown beyond all bounds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from descend.errors import ObjectiveError
from descend.stopping import DIVERGENCE, Reason, bound

if TYPE_CHECKING:
    from descend.methods import Method
    from descend.parameters.memory import Array, Memory
    from descend.rules import Rule

__all__ = ["HealthMonitor", "at_step", "cannot_step"]

FEW = 16
"""Numbers up to which Python's own arithmetic is faster than NumPy's."""
HUGE = 1e100
"""A fall by so many times what a loss may grow leads to no minimum."""


class HealthMonitor:
    """Tells whether one descent has failed at a point: something is not finite, or the loss has diverged.

    `norm` is that of the gradient that was last checked, `detail` says what was seen, `first` is the first loss and
    `bound` by how much it may grow, `reach` the largest parameter at first, `sign` −1 for a rule that climbs. Squares
    may overflow on the way: it is for the caller to have NumPy not warn of that.
    """

    def __init__(self, memory: Memory, rule: Rule | Method) -> None:
        self.memory = memory
        self.sign = -1.0 if rule.maximize else 1.0
        self.norm = math.nan
        self.detail = ""
        self.first = self.reach = math.nan
        self.bound = math.nan

    def finite(self, loss: float, grad: list[Array], steps: int) -> Reason | None:
        """A reason to stop if the loss, or an entry of the gradient after so many steps, is not finite."""
        if len(grad) == 1 and grad[0].size <= FEW:
            self.norm = math.hypot(*grad[0].tolist())
        else:
            self.norm = math.sqrt(sum([float(np.dot(g, g)) for g in grad]))
        if not (math.isfinite(loss) and math.isfinite(self.norm)):
            if self._not_finite(loss, grad, steps):
                return Reason.NON_FINITE
            # Every entry is finite and only their squares overflow.
            largest = max(float(np.max(np.abs(g))) for g in grad)
            self.norm = largest * math.sqrt(sum(float(np.sum((g / largest) ** 2)) for g in grad))
        return None

    def diverged(self, loss: float, steps: int) -> Reason | None:
        """A reason to stop if the loss has grown beyond all bounds since it was first asked about."""
        if math.isnan(self.first):
            self.begin(loss, _largest(self.memory))
        change = self.sign * (loss - self.first)
        if change > self.bound:
            self.detail = f"It was {self.first:.6g} at first and is {loss:.6g} at step {steps}."
            return Reason.DIVERGED
        return None

    def falls_without_end(
        self, loss: float, steps: int, *, endless: bool = False, far: float = DIVERGENCE
    ) -> Reason | None:
        """A reason to stop if the loss has no lower bound, as far as can be seen.

        The loss has gone beyond all bounds, or a search has ended nowhere (`endless`), and the parameters have grown
        `far` times; or the loss has gone where no minimum lies.
        """
        fall = self.sign * (self.first - loss)
        if not (fall > self.bound or endless):
            return None
        reach = _largest(self.memory) / max(1.0, self.reach)
        if not (reach > far or fall > HUGE * self.bound):
            return None
        self.detail = f"It was {self.first:.6g} at first and is {loss:.6g} after step {steps}."
        return Reason.UNBOUNDED

    def begin(self, loss: float, reach: float) -> None:
        """Take a loss as the first one, and the largest parameter there."""
        self.first, self.bound, self.reach = loss, bound(loss), reach

    def _not_finite(self, loss: float, grad: list[Array], steps: int) -> bool:
        """Whether the loss or an entry of the gradient is not finite; says which in `detail`."""
        if not math.isfinite(loss):
            lost = self.memory.first_non_finite(self.memory.vectors)
            if lost is not None:
                self.detail = f"{lost[0]} is {lost[1]} after step {steps}."
            else:
                self.detail = f"The loss is {loss} at step {steps}."
            return True
        worst = self.memory.first_non_finite(grad)
        if worst is not None:
            self.detail = f"The gradient's entry for {worst[0]} is {worst[1]} at step {steps}."
        return worst is not None


def _largest(memory: Memory) -> float:
    return max(float(np.max(np.abs(v), initial=0.0)) for v in memory.vectors)


def at_step(error: ObjectiveError, steps: int) -> ObjectiveError:
    """The error that a loss or a gradient raised after so many steps."""
    return ObjectiveError(f"{error} (at step {steps})", error.result)


def cannot_step(rule: Rule | Method, step: int, error: Exception) -> ObjectiveError:
    """What to raise when a rule has raised."""
    return ObjectiveError(f"{type(rule).__name__} cannot make step {step}: {type(error).__name__}: {error}")
