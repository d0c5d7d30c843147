"""Optimizers for PyTorch, one for each rule, in place of those of `torch.optim`.

>>> import torch, descend
>>> model = torch.nn.Linear(3, 1)
>>> optimizer = descend.optim.Adam(model.parameters(), lr=0.01)
>>> model(torch.ones(1, 3)).sum().backward()
>>> optimizer.step()

A class has the constructor, the state and the checkpoints of its namesake in `torch.optim`, and steps in machine code
that is made from the rule.
"""

from __future__ import annotations

from typing import Any

from descend.errors import MissingExtra

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise MissingExtra("PyTorch", "torch", "descend.optim") from error

from descend.optim.from_rule import from_rule
from descend.optim.groups import no_decay_groups
from descend.optim.optimizer import Optimizer
from descend.rules.registry import shipped_rules

_NAMES = {rule.__name__: rule for _, rule in sorted(shipped_rules().items())}

__all__ = ["Optimizer", "from_rule", "no_decay_groups", *_NAMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        made = globals()[name] = from_rule(_NAMES[name])
        return made
    raise AttributeError(f"module 'descend.optim' has no attribute {name!r}; it has {', '.join(sorted(_NAMES))}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
