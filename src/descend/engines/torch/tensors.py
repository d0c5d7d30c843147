"""The tensor engine: the rule itself on PyTorch tensors, on any device and in any layout.

`tensor_step` runs the formula as it stands, one operation after the other. `compiled_step` gives it to `torch.compile`,
which makes one pass over memory of it; `descend.engines.torch.foreach` runs it on many tensors at once.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from descend.rules import Rule, cautious_mask, cautious_scale, step

__all__ = ["LARGE", "compiled_step", "followed", "opened", "tensor_step", "width"]

LARGE = 1 << 18
"""Numbers from which on a tensor's own call of compiled code is short beside its work."""
_WIDER = {torch.bfloat16: torch.float32, torch.float16: torch.float32, torch.complex32: torch.float32}
_WIDER |= {torch.complex64: torch.float32, torch.complex128: torch.float64}


def width(p: torch.Tensor) -> torch.dtype:
    """The dtype in which a parameter's step is computed."""
    return _WIDER.get(p.dtype, p.dtype)


def opened(p: torch.Tensor, g: torch.Tensor, state: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The parameter with its state, and the gradient, as real tensors: a complex number is a pair."""
    if not p.is_complex():
        return [p, *state], g
    return [torch.view_as_real(t) for t in (p, *state)], torch.view_as_real(g.resolve_conj())


def tensor_step(rule: Rule, row: Any, p: torch.Tensor, g: torch.Tensor, state: Mapping[str, torch.Tensor]) -> None:
    """One step of one tensor, in place: `p` and its `state`, along the gradient `g`.

    `row` has the scalars (see `Rule.advance`). Numbers of 16 bits are computed with 32 bits. Complex numbers are pairs
    of real ones. Autograd follows it if it is on.
    """
    kept = rule.kept_state()
    old, g = opened(p, g, [state[name] for name in kept])
    wide = width(p)
    # What autograd keeps for its way back must not be overwritten below.
    values = {n: t.to(wide, copy=torch.is_grad_enabled()) for n, t in zip(("", *kept), old, strict=True)}
    g = g.to(wide)
    given = tuple(values.get(name) for name in rule.state)
    if row.cautious and p.numel():
        moved = cautious_mask(type(rule), values[""], g, given, row)
        row = row._replace(cautious_scale=cautious_scale(moved.to(torch.float64).mean().item()))
    new_p, *new_state = step(type(rule), values[""], g, given, row)
    new = dict(zip(rule.state, new_state, strict=False))
    for target, value in zip(old, (new_p, *(new[name] for name in kept)), strict=True):
        target.copy_(value)


def compiled_step(rule: Rule, row: Any, p: torch.Tensor, g: torch.Tensor, state: Mapping[str, torch.Tensor]) -> None:
    """What `tensor_step` does, by code that `torch.compile` makes: once for a rule, its flags and dtypes.

    Neither another number in `row` nor another size makes it compile anew. All arrays are real and lie in memory alike,
    without gaps. The rule is not cautious. Raises whatever the compiler raises, before anything is changed.
    """
    kept = rule.kept_state()
    arrays = [t.detach().as_strided((t.numel(),), (1,)) for t in (p, g, *(state[name] for name in kept))]
    wide = width(p)
    fixed = tuple((n, v) for n, v in row._asdict().items() if isinstance(v, bool))
    key: Any = (type(rule), kept, type(row), fixed, wide, tuple(t.dtype for t in arrays), p.device.type)
    program, names = _program(*key)
    numbers = torch.tensor([getattr(row, n) for n in names], dtype=wide).to(p.device, non_blocking=True)
    with torch.no_grad():
        program(*arrays[:2], arrays[2:], numbers.unbind())


@functools.lru_cache(maxsize=256)
def _program(
    rule: Any, kept: tuple[str, ...], make: Any, fixed: tuple[tuple[str, bool], ...], wide: torch.dtype, *_others: Any
) -> tuple[Callable[..., None], list[str]]:
    """A compiled step of flat tensors, and the names of the numbers that it takes; `_others` is what else it is for."""
    flags = dict(fixed)
    names = [n for n in make._fields if n not in flags]

    def program(p: torch.Tensor, g: torch.Tensor, state: list[torch.Tensor], numbers: Sequence[torch.Tensor]) -> None:
        row = make(**flags, **dict(zip(names, numbers, strict=True)))
        values = dict(zip(kept, state, strict=True))
        given = tuple(values[name].to(wide) if name in values else None for name in rule.state)
        new_p, *new_state = step(rule, p.to(wide), g.to(wide), given, row)
        new = dict(zip(rule.state, new_state, strict=False))
        p.copy_(new_p)
        for name, target in values.items():
            target.copy_(new[name])

    # PyTorch counts what it compiles by the code it comes from, and soon refuses more; each program has its own.
    program.__code__ = program.__code__.replace(co_name=f"step_{rule.name}")
    return torch.compile(program, dynamic=True, fullgraph=True), names


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
