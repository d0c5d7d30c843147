"""Rows: many parameter containers of one layout, as the rows of one matrix for each dtype."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from descend.errors import ParameterError
from descend.parameters.memory import Array, Memory

__all__ = ["Rows"]


class Rows(Memory):
    """Many memories of one layout as the rows of one matrix per dtype; their own vectors become its rows.

    Its container has the leaves of theirs with a leading axis of as many. Raises `ParameterError` if their layouts
    differ.
    """

    def __init__(self, memories: Sequence[Memory]) -> None:
        first = memories[0]
        for memory in memories[1:]:
            if (memory.spec, memory.shapes, memory.places) != (first.spec, first.shapes, first.places):
                raise ParameterError(
                    f"the starts differ: {_layout(first)} and {_layout(memory)}; runs that are stacked must begin with "
                    "the same container of the same shapes and types"
                )
        self.memories = list(memories)
        self.spec, self.names, self.kind = first.spec, first.names, first.kind
        self.is_one_array = False
        self.shapes, self.places, self.kinds, self.types = first.shapes, first.places, first.kinds, first.types
        self.keep(range(len(memories)))

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone; the others' memories are on their own again."""
        for memory in self.memories:
            memory.move(memory.snapshot())
        self.memories = [self.memories[row] for row in rows]
        self.move([np.stack(vectors) for vectors in zip(*(m.vectors for m in self.memories), strict=True)])
        for memory, *vectors in zip(self.memories, *self.vectors, strict=True):
            memory.move(vectors)

    def views(self, vectors: Sequence[Array]) -> list[Array]:
        """The leaves, in order, as views into `vectors`, which are laid out as this memory's own."""
        return [
            vectors[which][:, start:stop].reshape(-1, *shape)
            for (which, start, stop), shape in zip(self.places, self.shapes, strict=True)
        ]


def _layout(memory: Memory) -> str:
    return ", ".join(f"{leaf} at {name}" for leaf, name in zip(memory.layout, memory.names, strict=True))
