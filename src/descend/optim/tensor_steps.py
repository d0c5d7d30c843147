"""The part of a step plan that PyTorch's operations carry out: tensors that no kernel can step, on any device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from descend.engines.memory import Intervals
from descend.engines.torch.compiled import LARGE, compiled_step
from descend.engines.torch.foreach import foreach_step
from descend.engines.torch.memory import alike, dense, extent
from descend.engines.torch.sparse import sparse_step
from descend.engines.torch.tensors import tensor_step
from descend.optim.group_rules import GroupScalars
from descend.optim.planning import Member, Planning
from descend.optim.state import NARROW_STEPS, is_wide

__all__ = ["PlannedTensor", "TensorSteps", "elsewhere"]


class PlannedTensor:
    """A tensor that no kernel steps, and how it is stepped instead."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.kind: Any = None
        """What of its tensors decides how it is stepped; None until there is a gradient."""
        self.way: tuple[Any, ...] = ()
        self.memory = self._memory()
        """Where all that its step writes lies, by which it was told apart from others."""
        if member.param.grad is not None:
            self.note()

    def note(self) -> None:
        """Note how it is stepped with the gradient that it has now."""
        g = self.member.param.grad
        self.way, self.kind = _way(self.member, g), self._kind(g)

    def _kind(self, g: torch.Tensor) -> list[Any]:
        tensors = (self.member.param, g, *self.member.arrays())
        return [(type(t), t.device, t.dtype, t.layout, t.layout is torch.strided and t.stride()) for t in tensors]

    def _memory(self) -> list[int] | None:
        try:
            return [t.data_ptr() for t in self.member.access().written]
        except RuntimeError:  # PyTorch's, for tensors that stand for others, and have no memory
            return None

    def fits(self, g: torch.Tensor, written: Intervals) -> bool:
        """Whether it is still as it was planned, and this gradient is nowhere that a step writes to."""
        member, scalars = self.member, self.member.scalars
        p, state = member.param, member.state
        try:
            if g.shape != p.shape or any(a.shape != p.shape for a in member.arrays()):
                return False
            done = state["step"].item()
            counted = done == member.counts[0] and (done < NARROW_STEPS or is_wide(state["step"]))
            carries = all(state[name].item() == value for name, value in scalars.carried.items())
            if not (counted and carries and self._kind(g) == self.kind and self._memory() == self.memory):
                return False
            lies = extent(g)
        except (KeyError, AttributeError):
            return False
        return lies is None or not written.meets(*lies)


class TensorSteps:
    """Steps tensors by the rule on tensors: many at once where that is faster, else one after the other.

    Parameters
    ----------
    planning
        The optimizer's, which is told of ways that do not work.
    tensors
        All of them.
    """

    def __init__(self, planning: Planning, tensors: list[PlannedTensor]) -> None:
        self.planning, self.tensors = planning, tensors
        self.chosen: list[PlannedTensor] = []
        self.batches: dict[Any, list[PlannedTensor]] = {}
        self.grads: dict[PlannedTensor, torch.Tensor] = {}
        self.select()

    def select(self) -> None:
        """Step from now on those that have a gradient."""
        if not self.tensors:
            return
        self.chosen = [t for t in self.tensors if t.member.param.grad is not None]
        self.batches = {}
        for tensor in self.chosen:
            if tensor.kind is None:
                tensor.note()
            self.batches.setdefault((tensor.member.scalars, *tensor.way), []).append(tensor)

    def fit(self, written: Intervals) -> bool:
        """Whether all that are stepped are as they were planned, and the others have no gradient.

        Their gradients are held until the step is made: another thread may let them go meanwhile.
        """
        grads = [t.member.param.grad for t in self.tensors]
        self.grads = {t: g for t, g in zip(self.tensors, grads, strict=True) if g is not None}
        return [*self.grads] == self.chosen and all(t.fits(g, written) for t, g in self.grads.items())

    def run(self) -> None:
        """Step them along the gradients that were found to fit."""
        grads, self.grads = self.grads, {}
        for (scalars, way, *_), batch in self.batches.items():
            self._run_batch(scalars, way, batch, [grads[tensor] for tensor in batch])

    def _run_batch(
        self, scalars: GroupScalars, way: Any, batch: list[PlannedTensor], grads: list[torch.Tensor]
    ) -> None:
        members = [tensor.member for tensor in batch]
        row = scalars.row()
        if scalars.group.get("differentiable"):
            for member, g in zip(members, grads, strict=True):
                self._run_followed(scalars, row, member, g)
            return
        with torch.no_grad():
            if way is tensor_step or not self._run_together(scalars, row, way, members, grads):
                for member, g in zip(members, grads, strict=True):
                    self._run_alone(scalars, row, member, g)
            for member in members:
                _count(member, scalars.after)

    def _run_followed(self, scalars: GroupScalars, row: Any, member: Member, g: torch.Tensor) -> None:
        """Step a tensor so that autograd follows, in its hyperparameters and its carried numbers, too."""
        state = member.state
        with torch.enable_grad():
            row, carried, starts = scalars.followed_row(row, state)
            for name, start in starts.items():
                state[name] = start.to(state[name]).expand_as(state[name]).clone()
            self._run_alone(scalars, row, member, g)
        with torch.no_grad():
            # What autograd may need for its way back is not written to: the next number is another tensor.
            state.update({name: state[name].detach().clone() for name in member.rule.carried})
            _count(member, scalars.after)
        state.update({name: number.to(state[name]) for name, number in carried.items()})

    def _run_alone(self, scalars: GroupScalars, row: Any, member: Member, g: torch.Tensor) -> None:
        p = member.param
        if g.layout is not torch.strided:
            sparse_step(scalars.rule, row, p, g, member.state, lambda: self.planning.name_of(p))
        else:
            tensor_step(scalars.rule, row, p, g, member.state)

    def _run_together(
        self, scalars: GroupScalars, row: Any, way: Any, members: list[Member], grads: list[torch.Tensor]
    ) -> bool:
        """Step tensors in one of the faster ways; False, and nothing done, if it does not work here."""
        if way in self.planning.failed:
            return False
        params, states = [member.param for member in members], [member.state for member in members]
        try:
            if way is foreach_step:
                foreach_step(scalars.rule, row, params, grads, states)
            else:
                for p, g, state in zip(params, grads, states, strict=True):
                    way(scalars.rule, row, p, g, state)
        except Exception as error:  # no compiler, not enough memory, a formula that asks for one tensor
            self.planning.failed.add(way)
            first = next(iter(str(error).strip().splitlines()), "")
            self.planning.say_once(f"steps one tensor after the other: {type(error).__name__}: {first}")
            return False
        return True


def _count(member: Member, carried: Mapping[str, float]) -> None:
    """Let a tensor's state count one more step."""
    step = member.state["step"]
    step += 1
    member.counts = (member.counts[0] + 1, *member.counts[1:])
    for name in member.rule.carried:
        member.state[name].fill_(carried[name])


def elsewhere(p: torch.Tensor) -> bool:
    """Whether a tensor is on a device of its own, where a call takes longer than a small tensor's arithmetic."""
    return bool(p.device.type != "cpu")


def _way(member: Member, g: torch.Tensor) -> tuple[Any, ...]:
    """How a tensor is stepped: those with the same answer, and the same scalars, may be stepped together.

    A function, `tensor_step` for one tensor, `foreach_step` for many or `compiled_step`; and what they have in common.
    """
    p, group = member.param, member.group
    usual = type(p) in (torch.Tensor, torch.nn.Parameter) and type(g) is torch.Tensor
    away = elsewhere(p)
    together = group.get("foreach") or (group.get("foreach") is None and away)
    if not together or not usual or g.layout is not torch.strided or group.get("differentiable"):
        return tensor_step, id(p)
    if away and p.numel() >= LARGE and p.device.type != "meta" and not (p.is_complex() or member.rule.cautious):
        plain = not (p.is_neg() or g.is_neg() or g._is_zerotensor())
        if dense(p) and plain and all(alike(t, p) for t in (g, *member.arrays())):
            return compiled_step, id(p)
    return foreach_step, p.device, p.dtype, g.dtype
