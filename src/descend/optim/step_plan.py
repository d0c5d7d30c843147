"""What an optimizer's step does, worked out once, and checked each time in a few microseconds.

A step of a small network takes less time in machine code than Python needs to look at its tensors. So whatever cannot
change unseen is kept from step to step: which tensors there are, where they lie, which kernel steps them, which numbers
the kernel expects. Guards compare all that with what is there now, in bulk, before each step.

What they find decides what is done anew. A learning rate that changed is written to where the kernel reads it. Where a
gradient came or went, other tensors are chosen from those that the plan knows. Anything else, such as state that was
loaded or a parameter that moved, takes another plan.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from itertools import repeat
from operator import is_not
from typing import Any, NamedTuple

import torch

from descend.engines.memory import Intervals
from descend.engines.native.availability import switched_off
from descend.engines.torch.guards import guard_set
from descend.optim.group_rules import GroupScalars
from descend.optim.planning import Member, Planning
from descend.optim.rounds import rounds
from descend.optim.span_steps import SpanChoice, SpanSteps
from descend.optim.tensor_steps import PlannedTensor, TensorSteps

__all__ = ["StepPlan"]

LEAST_KEPT, MOST_KEPT = 4, 16_384
"""How many choices a plan keeps at least; and how many at most, divided by the number of its members."""
_GRAD = torch.Tensor.grad.__get__
_CHANGED = torch.autograd.graph.increment_version


class Choice(NamedTuple):
    """What is stepped where certain members have a gradient."""

    stepping: list[GroupScalars]
    """The scalars of what is stepped."""
    spans: SpanChoice
    expected: Any
    """What guards expect of gradients then."""


class StepPlan:
    """How to step every tensor that has a gradient; see the module.

    Parameters
    ----------
    planning
        The optimizer's.
    number
        Which round of tensors, of those that must be stepped one after the other.

    `rounds` is how many rounds there are; `lasts` whether the plan may serve for the next step, too.
    """

    def __init__(self, planning: Planning, number: int = 0) -> None:
        self.planning = planning
        members, self.idle = planning.members()
        numbers, written, entangled = rounds([member.access() for member in members])
        self.rounds = 1 + max(numbers, default=0)
        begins = [member for member in members if member.scalars.begins]  # one step of theirs is another one
        self.lasts = self.rounds == 1 and not entangled and not begins
        self.members = [member for member, its in zip(members, numbers, strict=True) if its == number]
        self.cohorts: dict[GroupScalars, list[int]] = {}
        """Which members have made the same steps ever since the plan was made, by the scalars that they share."""
        for i, member in enumerate(self.members):
            self.cohorts.setdefault(member.scalars, []).append(i)
        declined: set[Member] = set()

        def decline(member: Member, why: str, unusual: bool) -> None:
            """Step a tensor without a kernel, if that is allowed."""
            if member.group.get("fused"):
                if member.param.grad is not None:
                    raise RuntimeError(f"fused=True, but {why}; leave fused out to step it in another way")
                self.lasts = False  # planned anew, and refused, once it has a gradient
            elif unusual and not switched_off():
                planning.say_once(f"steps without machine code: {why}")
            declined.add(member)

        self.spans = SpanSteps(self.members, decline, entangled=entangled)
        self.quick = self.spans.quick
        self.tensors = TensorSteps(planning, [PlannedTensor(m) for m in self.members if m in declined])
        self.written = written if self.lasts else Intervals()
        """Where no gradient may lie; that one does is known of a plan that does not last."""
        self._guard()
        self.params = [member.param for member in self.members]
        self.choices: dict[bytes, Choice] = {}
        """What was chosen where these members had a gradient."""
        self._choose(self._gradients())

    def _guard(self) -> None:
        """Note what the next steps are compared with."""
        optimizer, spans = self.planning.optimizer, self.spans.spans
        seen = weakref.proxy(optimizer)  # it has this plan, and in a cycle its state would stay until it is collected
        # What a kernel reads and writes. The tensors are held, so that their memory cannot become another tensor's.
        tensors = {id(t) for span in spans for t in (span.member.param, *span.member.arrays(), *span.member.counters())}
        groups, states = optimizer.param_groups, [span.member.state for span in spans]
        attributes = [(seen, "param_groups"), (seen, "state"), *((p, "grad") for p in self.idle)]
        containers = [*groups, groups, *(group["params"] for group in groups), optimizer.state, *states]
        self.groups = len(groups)
        self.guards = guard_set(
            attributes, containers, tensors, self.spans.params, self.spans.targets(), self.spans.quick, self.written
        )
        check = self.guards.check
        self.check = functools.partial(_check_all, self.tensors, self.written, check) if self.tensors.tensors else check
        self.anchors = _anchors(states, tensors)

    # ---- choosing what is stepped -------------------------------------------------------------------------------

    def _choose(self, present: bytes) -> None:
        """Step from now on those members that have a gradient, as `present` says of each."""
        choice = self.choices.get(present)
        if choice is None:
            if len(self.choices) >= max(LEAST_KEPT, MOST_KEPT // (1 + len(present))):
                del self.choices[next(iter(self.choices))]
            choice = self.choices[present] = self._choice(present)
        self.present, self.stepping = present, choice.stepping
        self.changing = [scalars for scalars in choice.stepping if not scalars.constant]
        """Those among the scalars that some step still changes."""
        self.revised = bool(self.changing)
        """Whether that is to be asked anew."""
        self.spans.take(choice.spans)
        self.stepped = choice.spans.stepped
        self.tensors.select()
        self.guards.expect(choice.expected)

    def _choice(self, present: bytes) -> Choice:
        """What is stepped where those members have a gradient for which `present` is 1."""
        stepping = []
        for scalars, cohort in [*self.cohorts.items()]:
            there = [present[i] for i in cohort]
            if any(there):
                stepping.append(scalars)
                if not all(there):
                    self._split(scalars, [i for i in cohort if not present[i]])
        spans = self.spans.choice(present)
        return Choice(stepping, spans, self.guards.expectation(spans.there))

    def _split(self, scalars: GroupScalars, leaving: list[int]) -> None:
        """Give these members scalars of their own, since the others of their cohort go on without them."""
        self.choices.clear()
        others = GroupScalars(self.planning.rules, scalars.group, scalars.done, scalars.carried, scalars.begins)
        self.cohorts[scalars] = [i for i in self.cohorts[scalars] if i not in leaving]
        self.cohorts[others] = leaving
        for i in leaving:
            self.members[i].scalars = others
        self.spans.split(scalars, others)

    def _gradients(self) -> bytes:
        """Of each member 1 if it has a gradient, else 0; as bytes, which are made and looked up most quickly."""
        return bytes(map(is_not, map(_GRAD, self.params), repeat(None)))

    # ---- doing it -----------------------------------------------------------------------------------------------

    def run(self) -> bool:
        """Step everything; or nothing, if the plan no longer fits."""
        if self.changing and not self._fill():
            return False
        try:
            # The launch is made, too, if it is a quick one and all guards hold.
            if self.check() >= 0 and not self._fits_adapted():
                return False
        except (RuntimeError, SystemError):  # a tensor has no memory of the usual kind
            return False
        if self.quick is None and not self._launch():
            return False
        if self.stepped:
            _CHANGED(self.stepped)
        if self.tensors.chosen:
            self.tensors.run()
        shown = False
        for scalars in self.stepping:
            scalars.done += 1
            if scalars.carried:
                scalars.carry()
            if scalars.scheduled:
                scalars.show()
                shown = True
        if shown:
            self.guards.renew(self.groups)
        if self.revised:
            self.revised, self.changing = False, [scalars for scalars in self.stepping if not scalars.constant]
        return True

    def _fill(self) -> bool:
        """Write the scalars of the next step as far as they change; False if a group asks for another kernel."""
        for scalars in self.changing:
            if not scalars.fill():
                return False
            if scalars.constant:
                self.revised = True
        if self.spans.carried:
            self.spans.carry()
        return True

    def _launch(self) -> bool:
        """Step what kernels step; False, and nothing done, if a count of steps is not what was planned."""
        try:
            return self.spans.run(self.guards.held)
        finally:
            self.guards.release()

    def _fits_adapted(self) -> bool:
        """Whether the plan holds with the gradients that are there now, and if not, with the hyperparameters, too."""
        present = self._gradients()
        if present != self.present:
            self._choose(present)
            if self._fill() and self.check() < 0:
                return True
        for scalars in self.cohorts:
            if not scalars.follow():
                return False
        if not self.guards.renew(self.groups):
            return False
        self.changing, self.revised = self.stepping, True
        return self._fill() and self.check() < 0


def _check_all(tensors: TensorSteps, written: Intervals, check: Callable[[], int]) -> int:
    """Check the tensors that no kernel steps, and then the guards; a negative number if all is as expected, as they do.

    Not a method: a plan that refers to itself would keep its tensors until Python's collector finds it.
    """
    return check() if tensors.fit(written) else 0


def _anchors(states: list[dict[str, Any]], known: set[int]) -> list[Any]:
    """What makes it quick to look at the state, as long as it is held.

    Where nothing of PyTorch's own refers to a tensor but its Python object, each look at it from C counts references
    twice, which takes longer than the look. A capsule of DLPack does refer to it. Parameters get none: they may be in a
    cycle of references, which Python's collector cannot free where one of them is not Python's.
    """
    kept = [thing for state in states for thing in state.values() if id(thing) in known]
    return [torch.utils.dlpack.to_dlpack(tensor) for tensor in kept if not tensor.requires_grad]
