"""Who runs a rule over memory.

An engine takes a rule and some memory, and steps it. `Reference` is the rule itself on NumPy arrays, and the oracle of
the others: `Fused`, machine code over the same arrays, and `Jax`, the rule compiled by JAX for its arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from descend.engines.native import Fused, Unavailable, threads
from descend.engines.reference import Reference, run
from descend.engines.select import engine, stack
from descend.engines.stacked import FusedStack, Stack

if TYPE_CHECKING:
    from descend.engines.jax import Jax

__all__ = ["Fused", "FusedStack", "Jax", "Reference", "Stack", "Unavailable", "engine", "run", "stack", "threads"]


def __getattr__(name: str) -> Any:
    if name != "Jax":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from descend.errors import MissingExtra

    try:
        from descend.engines.jax import Jax
    except ImportError as error:
        if error.name != "jax":
            raise
        raise MissingExtra("jax", "jax", "descend.engines.Jax") from None
    return Jax
