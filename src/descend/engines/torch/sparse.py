"""The tensor engine on sparse gradients: only the rows that the gradient names are stepped, if all else stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from descend.engines.torch.tensors import tensor_step
from descend.rules import Rule

__all__ = ["sparse_step"]


def sparse_step(
    rule: Rule, row: Any, p: torch.Tensor, g: torch.Tensor, state: dict[str, Any], called: Callable[[], str]
) -> None:
    """What `tensor_step` does along a gradient that is not sparse; only the entries that `g` has are read and written.

    Needs a rule that leaves an entry as it is where the gradient is zero (`Rule.sparse_safe`). Raises RuntimeError, and
    changes nothing, where a whole step would move other entries. `called` names the parameter in the message.
    """
    _check(rule, row, p, g, called)
    # Momentum decays where the gradient is zero, and a cautious step looks at all entries.
    if rule.kept_state() == ("momentum_buffer",) or row.cautious:
        tensor_step(rule, row, p, g.to_dense(), state)
        return
    g = g.coalesce()
    where = tuple(g.indices())
    part = {name: state[name][where] for name in rule.kept_state()}
    values = p[where]
    tensor_step(rule, row, values, g.values(), part)
    p[where] = values
    for name, value in part.items():
        state[name][where] = value


def _check(rule: Rule, row: Any, p: torch.Tensor, g: torch.Tensor, called: Callable[[], str]) -> None:
    kind = type(rule).__name__
    if not rule.sparse_safe or g.layout is not torch.sparse_coo or g.dense_dim() + g.sparse_dim() != p.dim():
        raise RuntimeError(
            f"{kind} does not support the sparse gradient of {called()}: a step moves entries whose gradient is zero, "
            "too; use SGD, Adagrad or torch.optim.SparseAdam, or dense gradients (sparse=False)"
        )
    if row.couples_decay or row.decouples_decay:
        raise RuntimeError(
            f"{kind}: weight_decay cannot be used with the sparse gradient of {called()}, whose missing entries would "
            "decay as well"
        )
