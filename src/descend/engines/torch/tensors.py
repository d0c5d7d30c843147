"""The tensor engine: the rule itself on PyTorch tensors, on any device and in any layout.

`tensor_step` runs the formula as it stands on one tensor, one operation after the other. Modules beside this one do the
same faster where they can: `foreach` on many tensors at once, `compiled` in one pass over memory. All of them step in
place, by a row of scalars (see `Rule.advance`): the count of steps and the carried numbers are the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from descend.rules import Rule
from descend.rules.formula import Formula, scale_of
from descend.rules.hyperparameters import plain

__all__ = ["arithmetic", "as_real", "differentiable_row", "tensor_step"]

_WIDER = {torch.bfloat16: torch.float32, torch.float16: torch.float32, torch.complex32: torch.float32}
_WIDER |= {torch.complex64: torch.float32, torch.complex128: torch.float64}


def arithmetic(p: torch.Tensor) -> torch.dtype:
    """The dtype in which a parameter's step is computed."""
    return _WIDER.get(p.dtype, p.dtype)


def as_real(p: torch.Tensor, g: torch.Tensor, state: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The parameter with its state, and the gradient, as real tensors: a complex number is a pair."""
    if not p.is_complex():
        return [p, *state], g
    return [torch.view_as_real(t) for t in (p, *state)], torch.view_as_real(g.resolve_conj())


def tensor_step(rule: Rule, row: Any, p: torch.Tensor, g: torch.Tensor, state: Mapping[str, torch.Tensor]) -> None:
    """One step of one tensor, in place: `p` and its `state`, along the gradient `g`.

    Numbers of 16 bits are computed with 32 bits. Complex numbers are pairs of real ones. Autograd follows it if it is
    on.
    """
    formula = Formula.of(rule)
    old, g = as_real(p, g, [state[name] for name in formula.kept])
    wide = arithmetic(p)
    # What autograd keeps for its way back must not be overwritten below.
    values, *kept = (t.to(wide, copy=torch.is_grad_enabled()) for t in old)
    g = g.to(wide)

    def scale(masks: Any) -> Any:
        return scale_of(sum(mask.count_nonzero().item() for mask in masks), values.numel())

    row = formula.reduced(row, [(values, g, kept)], scale)
    for target, value in zip(old, formula.step(values, g, kept, row, copy=torch.clone), strict=True):
        target.copy_(value)


class _Tracked(torch.Tensor):  # type: ignore[misc]
    """A hyperparameter that autograd follows; it cannot become a plain number on the way."""

    def __float__(self) -> float:
        raise TypeError


def differentiable_row(
    rule: Rule, values: Mapping[str, Any], t: int, carried: Mapping[str, Any], row: Any
) -> tuple[Any, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The row of step `t` with tensors for those numbers that depend on what needs a gradient, and what comes with it.

    `values` are the hyperparameters as the user gave them, `carried` the carried numbers before the step, which may be
    tensors, `row` is the row in plain numbers. Returns also the carried numbers after the step, and the numbers that
    states start from, each as far as it needs a gradient.
    """
    wanted = {n: _tracked(v) for n, v in values.items() if _needs_grad(v)}
    before = {n: _tracked(v) for n, v in carried.items()}
    if not wanted and not any(map(_needs_grad, before.values())):
        return row, {}, {}
    tracked = rule.at(t).with_unchecked(wanted)
    if t == 1:
        before = {n: before[n] if _needs_grad(before[n]) else v for n, v in tracked.starting().items()}
    try:
        numbers, after = tracked.numbers(t, before)
        starts = {name: tracked.initial(name) for name in rule.kept_state()} if t == 1 else {}
    except TypeError:
        raise RuntimeError(
            f"differentiable=True: {type(rule).__name__} cannot be differentiated in "
            f"{', '.join(wanted) or ', '.join(before)}, which it turns into plain numbers; detach the tensor"
        ) from None
    flags = dict(rule.flags)
    followed = _followed({n: v for n, v in numbers.items() if n not in flags})
    return row._replace(**followed), _followed(after), _followed(starts)


def _followed(numbers: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Those numbers that need a gradient, as tensors without a dimension."""
    return {n: v.as_subclass(torch.Tensor).reshape(()) for n, v in numbers.items() if _needs_grad(v)}


def _needs_grad(value: Any) -> bool:
    """Whether a number, or one of several, is a tensor that needs a gradient."""
    if isinstance(value, (tuple, list)):
        return any(map(_needs_grad, value))
    return isinstance(value, torch.Tensor) and value.requires_grad


def _tracked(value: Any) -> Any:
    """The tensors that need a gradient as autograd follows them, whatever else there is as Python's numbers."""
    if isinstance(value, (tuple, list)):
        return tuple(map(_tracked, value))
    return value.reshape(()).as_subclass(_Tracked) if _needs_grad(value) else plain(value)
