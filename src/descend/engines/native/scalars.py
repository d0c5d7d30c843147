"""The row of scalars that a kernel reads, written anew for each step as far as it changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from descend.rules import Rule

__all__ = ["Scalars"]


class Scalars:
    """Writes the row of a rule, step by step, to where a kernel reads it: `target`, in the order of `numbers`.

    What stays the same from step to step is written once.
    """

    def __init__(self, rule: Rule, target: Any, numbers: Sequence[str]) -> None:
        self.target = target
        self.numbers = numbers
        self.change(rule)

    def change(self, rule: Rule) -> None:
        """Go on with other hyperparameters."""
        self.rule = rule
        self.scheduled = rule.is_scheduled
        self.constant_from = math.inf if self.scheduled else rule.constant_from()
        # Most rules carry nothing from step to step, and need not be asked for it.
        self.scalars = rule.scalars if type(rule).carry is Rule.carry else None
        self.places: list[tuple[str, int]] | None = None
        self.constant = False

    def replace(self, others: Mapping[str, float]) -> None:
        """Let some scalars of the step that was filled be others."""
        for name, value in others.items():
            self.target[self.numbers.index(name)] = value
        self.places, self.constant = None, False

    def fill(self, t: int, carried: Mapping[str, float]) -> Mapping[str, float]:
        """Write the row of step `t`, before which the rule carried these numbers; what it carries after it."""
        if self.constant and t >= self.constant_from:
            return carried
        self.constant = False  # until all is written: scalars may raise
        if self.places is None:
            values, after = self.rule.numbers(t, carried)
            for place, name in enumerate(self.numbers):
                self.target[place] = values[name]
            if not self.scheduled:
                changing = self.rule.carry(t, carried)[0]
                self.places = [(name, self.numbers.index(name)) for name in changing]
        else:
            if self.scalars is not None:
                extra, after = self.scalars(t), carried
            else:
                extra, after = self.rule.carry(t, carried)
            target = self.target
            for name, place in self.places:
                target[place] = extra[name]
        self.constant = t >= self.constant_from
        return after
