"""Who runs a rule over memory.

An engine takes a rule and some memory, and steps it; `Engine` says what all of them have, and `Capabilities` what each
can. `Reference` is the rule itself on NumPy arrays, and the oracle of the others: `Fused`, machine code over the same
arrays, `Jax`, the rule compiled by JAX for its arrays, and `Torch`, the rule on PyTorch's tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from descend.engines.native import Fused, Unavailable, threads, usable_cores
from descend.engines.protocol import Capabilities, Engine
from descend.engines.reference import Reference, run
from descend.engines.select import engine, stack
from descend.engines.stacked import FusedStack, Stack

if TYPE_CHECKING:
    from descend.engines.jax import Jax
    from descend.engines.torch.engine import Torch

__all__ = [
    "Capabilities",
    "Engine",
    "Fused",
    "FusedStack",
    "Jax",
    "Reference",
    "Stack",
    "Torch",
    "Unavailable",
    "engine",
    "run",
    "stack",
    "threads",
    "usable_cores",
]


def __getattr__(name: str) -> Any:
    from descend.errors import MissingExtra

    try:
        if name == "Jax":
            from descend.engines.jax import Jax

            return Jax
        if name == "Torch":
            from descend.engines.torch.engine import Torch

            return Torch
    except ImportError as error:
        if error.name not in ("jax", "torch"):
            raise
        raise MissingExtra(error.name, error.name, f"descend.engines.{name}") from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
