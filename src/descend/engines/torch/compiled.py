"""The tensor engine, compiled: `torch.compile` makes one pass over memory of a rule's formula."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from descend.engines.torch.tensors import arithmetic
from descend.rules import Rule
from descend.rules.formula import Form

__all__ = ["LARGE", "compiled_step"]

LARGE = 1 << 18
"""Numbers from which on a tensor's own call of compiled code is short beside its work."""


def compiled_step(rule: Rule, row: Any, p: torch.Tensor, g: torch.Tensor, state: Mapping[str, torch.Tensor]) -> None:
    """What `tensor_step` does, by code that `torch.compile` makes: once for a rule, its flags and dtypes.

    Neither another number in `row` nor another size makes it compile anew. All arrays are real and lie in memory alike,
    without gaps. The rule is not cautious. Raises whatever the compiler raises, before anything is changed.
    """
    form = Form.of(rule, row)
    arrays = [t.detach().as_strided((t.numel(),), (1,)) for t in (p, g, *(state[name] for name in form.formula.kept))]
    wide = arithmetic(p)
    program = _program(form, wide, tuple(t.dtype for t in arrays), p.device.type)
    numbers = torch.tensor(form.numbers(row), dtype=wide, device="cpu").to(p.device, non_blocking=True)
    with torch.no_grad():
        program(*arrays[:2], arrays[2:], numbers.unbind())


@functools.lru_cache(maxsize=256)
def _program(form: Form, wide: torch.dtype, *_others: Any) -> Callable[..., None]:
    """A compiled step of flat tensors; `_others` is what else it is for."""
    formula, make, flags, names = form.formula, form.row_type, dict(form.flags), form.names

    def program(p: torch.Tensor, g: torch.Tensor, kept: list[torch.Tensor], numbers: Sequence[torch.Tensor]) -> None:
        row = make(**flags, **dict(zip(names, numbers, strict=True)))
        values = [t.to(wide) for t in kept]
        new = formula.step(p.to(wide), g.to(wide), values, row)
        # All is copied before anything is written: what a formula returns may be what it was given.
        for target, value in zip((p, *kept), [t.clone() for t in new], strict=True):
            target.copy_(value)

    # PyTorch counts what it compiles by the code it comes from, and soon refuses more; each program has its own.
    program.__code__ = program.__code__.replace(co_name=f"step_{formula.rule.name}")
    found: Callable[..., None] = torch.compile(program, dynamic=True, fullgraph=True)
    return found
