"""The tensor engine: the rule itself on PyTorch tensors, on any device and in any layout."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from descend.rules import Rule, heeded, step, stretched

__all__ = ["followed", "tensor_step"]

_WIDER = {torch.bfloat16: torch.float32, torch.float16: torch.float32}


def tensor_step(rule: Rule, row: Any, p: torch.Tensor, g: torch.Tensor, state: Mapping[str, torch.Tensor]) -> None:
    """One step of one tensor, in place: `p` and its `state`, along the gradient `g`.

    `row` has the scalars (see `Rule.advance`). Numbers of 16 bits are computed with 32 bits. Complex numbers are pairs
    of real ones. Autograd follows it if it is on.
    """
    kept = rule.kept_state()
    old = [p, *(state[name] for name in kept)]
    if p.is_complex():
        old = [torch.view_as_real(t) for t in old]
        g = torch.view_as_real(g.resolve_conj())
    wide = _WIDER.get(p.dtype, old[0].dtype)
    # What autograd keeps for its way back must not be overwritten below.
    values = {n: t.to(wide, copy=torch.is_grad_enabled()) for n, t in zip(("", *kept), old, strict=True)}
    g = g.to(wide)
    given = tuple(values.get(name) for name in rule.state)
    if row.cautious and p.numel():
        moved = heeded(type(rule), values[""], g, given, row)
        row = row._replace(stretch=stretched(moved.to(torch.float64).mean().item()))
    new_p, *new_state = step(type(rule), values[""], g, given, row)
    new = dict(zip(rule.state, new_state, strict=False))
    for target, value in zip(old, (new_p, *(new[name] for name in kept)), strict=True):
        target.copy_(value)


class _Followed(torch.Tensor):  # type: ignore[misc]
    """A hyperparameter that autograd follows; it cannot become a plain number on the way."""

    def __float__(self) -> float:
        raise TypeError


def followed(rule: Rule, row: Any, values: Mapping[str, Any], t: int, carried: Mapping[str, float]) -> Any:
    """The row of step `t` with tensors for those numbers that depend on hyperparameters that need a gradient.

    `values` are the hyperparameters as the user gave them, `carried` the carried numbers before the step.
    """
    wanted = [n for n, v in values.items() if any(_needs_grad(part) for part in (v if isinstance(v, tuple) else (v,)))]
    if not wanted:
        return row
    rule = rule.at(t)
    tracked = object.__new__(type(rule))
    for field in dataclasses.fields(rule):
        value = getattr(rule, field.name)
        if field.name in wanted:
            given = values[field.name]
            value = tuple(map(_tracked, given)) if isinstance(given, tuple) else _tracked(given)
        object.__setattr__(tracked, field.name, value)
    object.__setattr__(tracked, "_scheduled", ())
    try:
        extra, after = tracked.carry(t, carried)
        if any(isinstance(value, torch.Tensor) for value in after.values()):
            raise TypeError
    except TypeError:
        raise RuntimeError(
            f"differentiable=True: {type(rule).__name__} cannot be differentiated in {', '.join(wanted)}, which it "
            "turns into plain numbers; detach the tensor"
        ) from None
    numbers = {n: v for n, v in {**tracked._constants, **extra}.items() if isinstance(v, torch.Tensor)}
    return row._replace(**{n: v.as_subclass(torch.Tensor).reshape(()) for n, v in numbers.items()})


def _needs_grad(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.requires_grad


def _tracked(value: Any) -> Any:
    return value.as_subclass(_Followed) if _needs_grad(value) else value
