"""An optimizer's steps, one after the other: the plan of one serves for the next, or another is made."""

from __future__ import annotations

from collections.abc import Callable
from itertools import compress
from typing import Any

import torch

from descend.optim.planning import Planning
from descend.optim.step_plan import StepPlan

__all__ = ["Stepper"]

_RETRIES = 1000
"""How often a step is planned anew before it gives up: other processes may step the same memory meanwhile."""


class Stepper:
    """Steps all parameters of an optimizer that have a gradient.

    `plan` is that of the last step, if it may serve for the next. It can be thrown away at any time.
    """

    def __init__(self, planning: Planning) -> None:
        self.planning = planning
        self.plan: StepPlan | None = None

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns what `closure` returns, which is called first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        plan, self.plan = self.plan, None  # an error on the way must not leave half a plan
        if plan is None or not plan.run():
            plan = self._run_anew()
        self.plan = plan
        return loss

    def _run_anew(self) -> StepPlan | None:
        """Plan a step, and make it; returns the plan if it may serve again."""
        plan = self._run_round(0)
        for number in range(1, plan.rounds):
            self._run_round(number)
        return plan if plan.lasts else None

    def _run_round(self, number: int) -> StepPlan:
        for _ in range(_RETRIES):
            plan = StepPlan(self.planning, number)
            if plan.run():
                self.planning.stepped(compress(plan.params, plan.present))
                return plan
        kind = type(self.planning.optimizer).__name__
        raise RuntimeError(f"{kind}: parameters, gradients or state change while they are stepped")
