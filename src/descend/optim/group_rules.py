"""From the hyperparameters in a parameter group to the rule that they make, and to the scalars of each of its steps."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable, Collection, Iterable, Mapping
from operator import is_
from typing import Any

import numpy as np
import torch

from descend.engines.torch.tensors import differentiable_row
from descend.errors import RuleError
from descend.optim.group_schedules import GroupSchedules
from descend.rules import Rule
from descend.rules.hyperparameters import plain

__all__ = ["DECIDING", "OPTIONS", "GroupRules", "GroupScalars", "held", "hyperparameters"]

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


class _Nothing:
    """What stands in a group where a hyperparameter was taken out."""

    def __repr__(self) -> str:
        return "nothing"


_NOTHING = _Nothing()


def held(value: Any) -> Any:
    """A hyperparameter as a group holds it: tensors, lists and schedules as they are, whatever else as Python's own.

    Other libraries' numbers would be in checkpoints, where PyTorch does not load them from, and not all are printed as
    numbers are.
    """
    if type(value) in (tuple, list):
        parts = [held(part) for part in value]
        return value if all(map(is_, parts, value)) else tuple(parts)
    stays = value is None or callable(value) or isinstance(value, (torch.Tensor, str))
    return value if stays or type(value) in (float, int, bool) else plain(value)


class GroupRules:
    """Makes the rule that a group asks for: `rule`, with the hyperparameters of the group.

    Those that follow schedules stand in the group as numbers; their schedules are kept here. `say` is called with what
    a user is to be told of them.
    """

    def __init__(self, rule: type[Rule], say: Callable[[str], None]) -> None:
        self.rule, self._say = rule, say
        self.names = hyperparameters(rule)
        self._asked = (*self.names, *DECIDING)
        # Flags and Rprop's weight_decay stand in a group only where they were given. Other numbers are missed.
        optional = {f.name for f in dataclasses.fields(rule) if isinstance(f.default, bool) or f.name == "weight_decay"}
        defaults = (f.default if f.name in optional else _NOTHING for f in dataclasses.fields(rule))
        self._defaults = (*defaults, None, False, None)
        self._made: dict[Any, Rule] = {}
        self._schedules: dict[int, GroupSchedules] = {}
        """The schedules of each group that has some, by the group's identity."""
        self._told: set[str] = set()
        """Those hyperparameters of which it was said that their schedule was replaced."""

    def given(self, group: Mapping[str, Any]) -> tuple[Any, ...]:
        """What of a group decides how it is stepped: the hyperparameters in the order of `names`, then `DECIDING`."""
        return tuple(map(group.get, self._asked, self._defaults))

    def asked(self, group: Mapping[str, Any], given: tuple[Any, ...] | None = None) -> tuple[Any, ...]:
        """What the group asks for where it holds what is `given`: Python's own numbers, and the schedules."""
        given = self.given(group) if given is None else given
        its = self._schedules.get(id(group))
        if its is not None:
            self._tell(its)
            followed = its.followed()
            given = tuple([followed.get(name, value) for name, value in zip(self._asked, given, strict=True)])
        return tuple(map(plain, given))

    def of(self, group: Mapping[str, Any]) -> Rule:
        """The rule with the hyperparameters that the group has now; raises `RuleError`."""
        return self.with_values(self.asked(group)[: len(self.names)])

    def made(self, group: Mapping[str, Any]) -> Rule:
        """The same rule, made anew: in what is kept, True and 1.0 are one number, and one of them may be refused."""
        return self._with_each(self.asked(group)[: len(self.names)])

    def with_values(self, values: tuple[Any, ...]) -> Rule:
        """The rule with these hyperparameters, in the order of `names`; raises `RuleError` if one of them is wrong.

        What the rule asks of several together is left aside: PyTorch asks that of a constructor's arguments alone, and
        its schedulers pass through what it refuses.
        """
        try:
            found = self._made.get(values)
        except TypeError:  # a schedule that cannot be hashed
            return self._with_each(values)
        if found is None:
            if len(self._made) > _RULES_KEPT:
                self._made.clear()
            found = self._made[values] = self._with_each(values)
        return found

    def _with_each(self, values: tuple[Any, ...]) -> Rule:
        named = dict(zip(self.names, values, strict=True))
        try:
            return self.rule(**named)
        except RuleError:
            return self.rule.of_each(named)

    def check(self, group: dict[str, Any]) -> None:
        """Raise `RuleError` for what the rule refuses of a group that is added, be it of one number or of several."""
        self.rule(**dict(zip(self.names, self.given(group), strict=False)))

    # ---- schedules ----------------------------------------------------------------------------------------------

    def take_schedules(self, group: dict[str, Any], done: int) -> bool:
        """Keep the schedules that stand in a group, and put their numbers there; whether there are any.

        `done` is how many steps its parameters have made. Raises what a schedule raises.
        """
        its = self._schedules.get(id(group)) or GroupSchedules(group)
        if not its.take(self.names):
            return False
        self._schedules[id(group)] = its
        its.show(self.of(group), done)
        return True

    def show(self, group: dict[str, Any], rule: Rule, done: int, *, anew: bool = False) -> None:
        """Let the group hold the numbers of the step after so many, unless those of a later one are there.

        With `anew` also then: its parameters have been set back.
        """
        its = self._schedules.get(id(group))
        if its is not None and (anew or done >= its.done):
            its.show(rule, done)

    def with_schedules(self, group: dict[str, Any]) -> dict[str, Any]:
        """The group as it was given: a copy, if it follows schedules, that holds them instead of their numbers."""
        its = self._schedules.get(id(group))
        return group if its is None else {**group, **its.followed()}

    def leave(self, groups: Iterable[dict[str, Any]]) -> None:
        """Know the schedules of these groups only; others get theirs back, where another optimizer finds them."""
        stays = set(map(id, groups))
        for key in [key for key in self._schedules if key not in stays]:
            self._schedules.pop(key).put_back()

    def compare(self, group: dict[str, Any], saved: Mapping[str, Any], keep: Collection[str]) -> None:
        """Say which schedules give other numbers than those that were saved for the group; not of those in `keep`.

        Of schedules that begin anew nothing is said here.
        """
        its = self._schedules.get(id(group))
        for name, schedule in its.followed().items() if its is not None and its.done else ():
            here, there = plain(group[name]), plain(saved.get(name))
            if there is not None and name not in keep and not _close(here, there):
                self._say(
                    f"goes on with the schedule {name}={schedule!r}, which gives {here!r} for the next step; what was "
                    f"saved is {there!r}: assign that to the group to step with it"
                )

    def _tell(self, its: GroupSchedules) -> None:
        """Say once of each hyperparameter that its schedule was replaced."""
        for name, schedule in its.replaced().items():
            now = its.group[name]
            # A step at 0 says nothing yet: PyTorch's distributed checkpoints make one, and put the number back.
            if name not in self._told and (not isinstance(now, (float, int)) or now):
                self._told.add(name)
                self._say(
                    f"follows the schedule {name}={schedule!r} no more: {now!r} was assigned to a group. Give a number "
                    f"as {name} where a scheduler of PyTorch's sets it; assign the schedule again to follow it"
                )


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
    begins
        States that begin with the next step, later than the parameter's first (see `Rule.first_step`). The scalars are
        those of that one step, then.

    `targets` write the scalars to where machine code reads them: for each launch that steps some of the tensors, one
    `Scalars`. Tensors that are stepped by PyTorch's operations get them from `row`.
    """

    def __init__(
        self,
        rules: GroupRules,
        group: dict[str, Any],
        done: int,
        carried: dict[str, float],
        begins: tuple[str, ...] = (),
    ) -> None:
        self.rules, self.group, self.done, self.carried, self.begins = rules, group, done, carried, begins
        self.rule = rules.of(group)
        self.kind = _kind(self.rule)
        """What of the rule decides which kernel steps its tensors."""
        self.targets: list[Any] = []
        self._filled = -1
        """Before which step the targets were written last; -1 if they must be written anew."""
        self.after: Mapping[str, float] = carried
        """What the rule carries after the next step; known once its scalars are."""
        given = rules.given(group)
        self._note(given, rules.asked(group, given))

    def _note(self, given: tuple[Any, ...], asked: tuple[Any, ...]) -> None:
        self.asked = asked
        self.fixed = type(self.group) is dict and all(map(_fixed, given))
        """Whether the group's hyperparameters stay the same as long as the objects in it do."""
        self.scheduled = self.rule.is_scheduled
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
            if self.begins:
                scalars.replace(self.rule.beginning(self.done + 1, self.begins))
        self.constant, self._filled = constant, self.done
        return True

    def follow(self) -> bool:
        """Take the hyperparameters that the group has now; False if it asks for another kernel, or another way."""
        given = self.rules.given(self.group)
        asked = self.rules.asked(self.group, given)
        if _differ(asked, self.asked):
            many = len(self.rules.names)
            if _differ(asked[many:], self.asked[many:]):
                return False
            self.rule = self.rules.with_values(asked[:many])
            if _kind(self.rule) != self.kind:
                return False
            for scalars in self.targets:
                scalars.change(self.rule)
            if self.rule.is_scheduled and self.rules.take_schedules(self.group, self.done):
                given = self.rules.given(self.group)
        self._note(given, asked)
        return True

    def row(self) -> Any:
        """The scalars of the next step as `Rule.row` has them."""
        row, self.after = self.rule.advance(self.done + 1, self.carried)
        return row._replace(**self.rule.beginning(self.done + 1, self.begins)) if self.begins else row

    def followed_row(self, row: Any, state: Mapping[str, Any]) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """What `differentiable_row` returns for the next step of a parameter with this state, and this plain row."""
        given = dict(zip(self.rules.names, self.rules.given(self.group), strict=False))
        given |= self.rule.given_by_schedules(self.done + 1)
        carried = {name: state[name] if state[name].requires_grad else n for name, n in self.carried.items()}
        row, after, starts = differentiable_row(self.rule, given, self.done + 1, carried, row)
        return row._replace(**self.rule.beginning(self.done + 1, self.begins)), after, starts

    def carry(self) -> None:
        """Take what the rule carries after the step that was made for what it carries before the next one."""
        self.carried = {name: float(np.float32(value)) for name, value in self.after.items()}

    def show(self) -> None:
        """Let the group hold the numbers that its schedules have for the next step."""
        self.rules.show(self.group, self.rule, self.done)


def _close(one: Any, other: Any) -> bool:
    """Whether two hyperparameters, with one number or several, are the same but for rounding."""
    ones, others = (value if isinstance(value, tuple) else (value,) for value in (one, other))
    return len(ones) == len(others) and all(
        isinstance(b, numbers.Real) and math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-300)
        for a, b in zip(ones, others, strict=True)
    )


def _differ(some: tuple[Any, ...], others: tuple[Any, ...]) -> bool:
    try:
        return some != others
    except (ValueError, RuntimeError):  # an array's or a tensor's, of several numbers: the rule refuses it
        return True


def _fixed(value: Any) -> bool:
    """Whether a hyperparameter's number cannot change while it is the same object."""
    return value is None or type(value) in _NUMBERS or (type(value) is tuple and all(map(_fixed, value)))


def _kind(rule: Rule) -> tuple[Any, ...]:
    return rule.kept_state(), rule.flags
