"""A function that takes many points at once, each a row of every leaf, as one of the rows of a matrix."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import optree

from descend.objectives.calls import call, losses_of

if TYPE_CHECKING:
    from descend.parameters.memory import Array, Memory

__all__ = ["Batch"]


class Batch:
    """The user's function of many points, which has a leading axis for them in each leaf, and returns a loss for each.

    Parameters
    ----------
    fun, name
        The function, and what to call it in messages.
    memory
        Whose container one point is.
    """

    def __init__(self, fun: Callable[..., Any], name: str, memory: Memory) -> None:
        self.fun, self.name, self.memory = fun, name, memory

    def __call__(self, points: Array, args: tuple[Any, ...]) -> Array:
        """The losses at points, each a row of a matrix; raises `ObjectiveError` if there is not one for each."""
        out = call(self.fun, self.name, self._stacked(points), args)
        return losses_of(out, len(points), self.name, "points")

    def _stacked(self, points: Array) -> Any:
        """The points as one container."""
        memory = self.memory
        if memory.is_one_array:
            return points.astype(memory.vectors[0].dtype).reshape(-1, *memory.shapes[0])
        cuts = np.cumsum([v.size for v in memory.vectors])[:-1]
        trees = []
        for point in points:
            parts = [p.astype(v.dtype) for p, v in zip(np.split(point, cuts), memory.vectors, strict=True)]
            trees.append(memory.tree(parts))
        return optree.tree_map(lambda *leaves: _stack(leaves), *trees, none_is_leaf=True)


def _stack(leaves: tuple[Any, ...]) -> Any:
    """Leaves on top of each other, by the library that they are of."""
    owner = type(leaves[0]).__module__.partition(".")[0]
    if owner == "torch":
        return sys.modules["torch"].stack(leaves)
    return sys.modules["jax.numpy"].stack(leaves) if owner in ("jax", "jaxlib") else np.stack(leaves)
