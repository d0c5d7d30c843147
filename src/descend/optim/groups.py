"""Parameter groups: those that most trainings want."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

__all__ = ["no_decay_groups"]


def no_decay_groups(
    model: torch.nn.Module, weight_decay: float | None = None, *, no_decay: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """A model's parameters in two named groups: those whose weights decay, and those whose do not.

    Biases, and the gains and shifts of normalisation layers, have at most one dimension; they do not decay, nor does
    whatever is named in `no_decay` (a parameter's full name, or the end of one after a dot). Parameters that need no
    gradient are left out.

    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.LayerNorm(2))
    >>> [(g["param_names"], g["weight_decay"]) for g in no_decay_groups(model, 0.01)]
    [(['0.weight'], 0.01), (['0.bias', '1.weight', '1.bias'], 0.0)]
    """
    spared = tuple(no_decay)
    groups: dict[bool, list[tuple[str, torch.nn.Parameter]]] = {True: [], False: []}
    for name, p in model.named_parameters():
        if p.requires_grad:
            named = any(name == n or name.endswith(f".{n}") for n in spared)
            groups[p.dim() > 1 and not named].append((name, p))
    made: list[dict[str, Any]] = []
    for decays, members in groups.items():
        if members:
            group: dict[str, Any] = {"params": [p for _, p in members], "param_names": [n for n, _ in members]}
            if not decays:
                group["weight_decay"] = 0.0
            elif weight_decay is not None:
                group["weight_decay"] = weight_decay
            made.append(group)
    return made
