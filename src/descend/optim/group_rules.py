"""From the hyperparameters in a parameter group to the rule that they make, and to the scalars of each of its steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import numpy as np
import torch

from descend.engines.torch.tensors import differentiable_row
from descend.errors import RuleError
from descend.rules import Rule

__all__ = ["DECIDING", "OPTIONS", "GroupRules", "GroupScalars", "hyperparameters", "python_number"]

OPTIONS = ("foreach", "capturable", "differentiable", "fused")
"""torch's options for how a step is run, which are in no rule."""
DECIDING = ("foreach", "differentiable", "fused")
"""Those of them that decide how a tensor is stepped."""
_NUMBERS = (float, int, bool, np.float64)
_RULES_KEPT = 64
"""So many rules are kept at most: a learning rate that changes at each step makes one each time."""


def hyperparameters(rule: type[Rule]) -> tuple[str, ...]:
    """The names of a rule's hyperparameters, in the order of its fields."""
    return tuple(field.name for field in dataclasses.fields(rule))


class GroupRules:
    """Makes the rule that a group asks for: `rule`, with the hyperparameters that stand in the group."""

    def __init__(self, rule: type[Rule]) -> None:
        self.rule = rule
        self.names = hyperparameters(rule)
        self.asked = itemgetter(*self.names, *DECIDING)
        """What of a group decides how it is stepped: the hyperparameters in the order of `names`, then `DECIDING`."""
        self._made: dict[Any, Rule] = {}

    def of(self, group: Mapping[str, Any]) -> Rule:
        """The rule with the hyperparameters that the group has now; raises `RuleError`."""
        return self.with_values(python_number(self.asked(group)[: len(self.names)]))

    def with_values(self, values: tuple[Any, ...]) -> Rule:
        """The rule with these hyperparameters, in the order of `names`; raises `RuleError`."""
        try:
            found = self._made.get(values)
        except TypeError:  # a schedule that cannot be hashed
            return self.rule(**dict(zip(self.names, values, strict=True)))
        if found is None:
            if len(self._made) > _RULES_KEPT:
                self._made.clear()
            found = self._made[values] = self.rule(**dict(zip(self.names, values, strict=True)))
        return found


class GroupScalars:
    """Writes the scalars of the next step, for those tensors of one group that are at the same step.

    Parameters
    ----------
    rules
        Where the group's rule comes from.
    group
        The parameter group.
    done
        The number of steps that the tensors have made.
    carried
        The numbers that the rule carries from step to step, as they are before the next one.

    `targets` write the scalars to where machine code reads them: for each launch that steps some of the tensors, one
    `Scalars`. Tensors that are stepped by PyTorch's operations get them from `row`.
    """

    def __init__(self, rules: GroupRules, group: dict[str, Any], done: int, carried: dict[str, float]) -> None:
        self.rules, self.group, self.done, self.carried = rules, group, done, carried
        self.rule = rules.of(group)
        self.kind = _kind(self.rule)
        """What of the rule decides which kernel steps its tensors."""
        self.targets: list[Any] = []
        self._filled = -1
        """Before which step the targets were written last; -1 if they must be written anew."""
        self.after: Mapping[str, float] = carried
        """What the rule carries after the next step; known once its scalars are."""
        given = rules.asked(group)
        self._note(given, python_number(given))

    def _note(self, given: tuple[Any, ...], asked: tuple[Any, ...]) -> None:
        self.asked = asked
        self.fixed = type(self.group) is dict and all(map(_fixed, given))
        """Whether the group's hyperparameters stay the same as long as the objects in it do."""
        self.constant, self._filled = False, -1
        """Whether no step changes the scalars any more, if the group stays as it is."""

    def fill(self) -> bool:
        """Write the scalars of the next step; False if the group now asks for another kernel."""
        if not self.fixed and not self.follow():
            return False
        if self._filled == self.done:
            return True
        constant = self.fixed
        for scalars in self.targets:
            self.after = scalars.fill(self.done + 1, self.carried)
            constant = constant and scalars.constant
        self.constant, self._filled = constant, self.done
        return True

    def follow(self) -> bool:
        """Take the hyperparameters that the group has now; False if it asks for another kernel, or another way."""
        given = self.rules.asked(self.group)
        asked = python_number(given)
        if asked != self.asked:
            many = len(self.rules.names)
            if asked[many:] != self.asked[many:]:
                return False
            self.rule = self.rules.with_values(asked[:many])
            if _kind(self.rule) != self.kind:
                return False
            for scalars in self.targets:
                scalars.change(self.rule)
        self._note(given, asked)
        return True

    def row(self) -> Any:
        """The scalars of the next step as `Rule.row` has them; with autograd on, tensors of which it follows."""
        row, self.after = self.rule.advance(self.done + 1, self.carried)
        if torch.is_grad_enabled():
            values = dict(zip(self.rules.names, self.rules.asked(self.group), strict=False))
            row = differentiable_row(self.rule, row, values, self.done + 1, self.carried)
        return row

    def carry(self) -> None:
        """Take what the rule carries after the step that was made for what it carries before the next one."""
        self.carried = {name: float(np.float32(value)) for name, value in self.after.items()}


def python_number(value: Any) -> Any:
    """Hyperparameters as Python's own: tensors as numbers, lists as tuples."""
    if value is None or type(value) in _NUMBERS:
        return value
    if isinstance(value, torch.Tensor):
        if value.numel() != 1:
            raise RuleError(f"a hyperparameter is a tensor of shape {tuple(value.shape)}: one number is needed")
        return value.item()
    return tuple(map(python_number, value)) if isinstance(value, (tuple, list)) else value


def _fixed(value: Any) -> bool:
    """Whether a hyperparameter's number cannot change while it is the same object."""
    return value is None or type(value) in _NUMBERS or (type(value) is tuple and all(map(_fixed, value)))


def _kind(rule: Rule) -> tuple[Any, ...]:
    return rule.kept_state(), rule.flags
