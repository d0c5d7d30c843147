"""What a step plan is made from: an optimizer's groups and state, and the parameters in them that can be stepped."""

from __future__ import annotations

import dataclasses
import warnings
import weakref
from collections.abc import Iterable, MutableMapping
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

from descend.errors import ParameterError
from descend.optim.group_rules import GroupRules, GroupScalars
from descend.optim.group_schedules import has_schedule
from descend.optim.names import Names
from descend.optim.rounds import Access
from descend.optim.state import Counts, complete, counts, lay_out
from descend.rules import Rule

__all__ = ["Member", "Planning"]


@dataclasses.dataclass(slots=True, eq=False)
class Member:
    """A parameter that a plan steps whenever it has a gradient."""

    param: torch.Tensor
    group: dict[str, Any]
    state: dict[str, Any]
    counts: Counts
    """What its state counted when the plan was made."""
    rule: Rule
    """The rule of its group, as it was then."""
    kept: tuple[str, ...]
    """The names of the arrays in its state."""
    scalars: GroupScalars
    """Where its scalars come from, which it shares with others that are at the same step."""

    def arrays(self) -> list[torch.Tensor]:
        """The arrays of its state."""
        return [self.state[name] for name in self.kept]

    def counters(self) -> list[torch.Tensor]:
        """The tensors that hold what its state counts."""
        return [self.state[name] for name in ("step", *self.rule.carried)]

    def access(self) -> Access:
        """The memory that its step touches."""
        return Access((self.param, *self.arrays(), *self.counters()), self.param.grad)


class Planning:
    """Answers what plans ask of an optimizer, and takes what they have to tell.

    Parameters
    ----------
    optimizer
        Any `torch.optim.Optimizer`: its groups and its state are looked up each time.
    rule
        The class of the rule that is run.
    state_dtype
        The dtype of state that is made; see `made_dtype`.
    names
        The names of the optimizer's parameters.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, rule: type[Rule], state_dtype: torch.dtype | None, names: Names
    ) -> None:
        # Weakly: an optimizer has its planning, and in a cycle its state would stay until Python's collector comes.
        self._optimizer = weakref.ref(optimizer)
        self.rule, self.state_dtype = rule, state_dtype
        this = weakref.ref(self)

        def say(what: str) -> None:  # not a method of its own: it would be a cycle, too
            planning = this()
            if planning is not None:
                planning.say_once(what)

        self.rules, self.names = GroupRules(rule, say), names
        self.failed: set[Any] = set()
        """The ways to step tensors that were tried and do not work here."""
        self._said: set[str] = set()
        self._begins: MutableMapping[torch.Tensor, tuple[str, ...]] = WeakIdKeyDictionary()

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer, which outlives its planning."""
        optimizer = self._optimizer()
        assert optimizer is not None
        return optimizer

    def say_once(self, what: str) -> None:
        """Say what a user would not expect of a step, with its reason; once."""
        if what not in self._said:
            self._said.add(what)
            warnings.warn(f"{type(self.optimizer).__name__} {what}", RuntimeWarning, stacklevel=7)

    def name_of(self, p: torch.Tensor) -> str:
        """What to call a parameter in a message."""
        return self.names.called(self.optimizer.param_groups, p)

    def state_of(self, p: torch.Tensor, group: dict[str, Any], rule: Rule | None = None) -> dict[str, Any]:
        """The parameter's state, made whole; raises `StateError` where it cannot be."""
        state: dict[str, Any] = self.optimizer.state[p]
        followed = bool(group.get("differentiable"))
        rule = rule or self.rules.of(group)
        later = lay_out(state, p, rule, self.state_dtype, lambda: self.name_of(p), followed=followed)
        if later:
            self._begins[p] = (*self.begins(p), *later)
        return state

    def begins(self, p: torch.Tensor) -> tuple[str, ...]:
        """Those arrays of a parameter's state that were made after its first step, and that no step has used yet."""
        return self._begins.get(p, ())

    def beginning(self) -> dict[torch.Tensor, tuple[str, ...]]:
        """The same of all parameters of which there are any."""
        return dict(self._begins.items())

    def stepped(self, params: Iterable[torch.Tensor]) -> None:
        """Note that a step has used whatever was made for these parameters."""
        for p in params:
            self._begins.pop(p, None)

    def members(self) -> tuple[list[Member], list[torch.Tensor]]:
        """All that a step may move, in order, and the parameters that it leaves alone.

        Those are the parameters that have a gradient, whose state is made if need be, and those that had one before, by
        their state. Raises `ParameterError` for a gradient that does not fit its parameter.
        """
        members: list[Member] = []
        idle: list[torch.Tensor] = []
        self.rules.leave(self.optimizer.param_groups)
        for group in self.optimizer.param_groups:
            self.take_schedules(group)
            rule = self.rules.of(group)
            kept = rule.kept_state()
            asked = set(rule.first_step) & set(kept)
            shared: dict[Any, GroupScalars] = {}
            for p in group["params"]:
                there = p.grad is not None
                if there:
                    self._check_gradient(p)
                    state = self.state_of(p, group, rule)
                elif complete(self.optimizer.state.get(p), p, rule):
                    state = self.optimizer.state[p]
                else:
                    idle.append(p)
                    continue
                counted = counts(state, self.rule)
                # Those without a gradient fall behind, and so have scalars of their own from the beginning.
                begins = tuple(name for name in self.begins(p) if name in asked) if asked else ()
                scalars = shared.get((there, counted, begins))
                if scalars is None:
                    carried = dict(zip(self.rule.carried, counted[1:], strict=True))
                    scalars = GroupScalars(self.rules, group, int(counted[0]), carried, begins)
                    shared[there, counted, begins] = scalars
                members.append(Member(p, group, state, counted, rule, kept, scalars))
            if rule.is_scheduled and shared:
                self.rules.show(group, rule, max(scalars.done for scalars in shared.values()), anew=True)
        return members, idle

    def take_schedules(self, group: dict[str, Any]) -> None:
        """Let a group hold the numbers of the schedules that stand in it; see `GroupRules.take_schedules`."""
        states = (self.optimizer.state.get(p, {}) for p in group["params"])
        if any(has_schedule(group.get(name)) for name in self.rules.names):
            self.rules.take_schedules(group, int(max((float(state.get("step", 0)) for state in states), default=0)))

    def _check_gradient(self, p: torch.Tensor) -> None:
        if p.grad.shape != p.shape:
            raise ParameterError(
                f"the gradient of {self.name_of(p)} has shape {tuple(p.grad.shape)}, the parameter {tuple(p.shape)}: "
                "its data were replaced after the gradient was taken"
            )
