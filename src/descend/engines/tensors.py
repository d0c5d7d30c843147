"""The tensor engine: the rule itself on PyTorch tensors, on any device and in any layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from descend.rules import Rule, heeded, step, stretched

__all__ = ["tensor_step"]

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
    values = dict(zip(("", *kept), (t.to(wide) for t in old), strict=True))
    g = g.to(wide)
    given = tuple(values.get(name) for name in rule.state)
    if row.cautious and p.numel():
        moved = heeded(type(rule), values[""], g, given, row)
        row = row._replace(stretch=stretched(moved.to(torch.float64).mean().item()))
    new_p, *new_state = step(type(rule), values[""], g, given, row)
    new = dict(zip(rule.state, new_state, strict=False))
    for target, value in zip(old, (new_p, *(new[name] for name in kept)), strict=True):
        target.copy_(value)
