"""Names of single numbers in a container: what people call a parameter, from where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import optree

from descend.errors import OptionError
from descend.parameters.memory import Array, Memory

__all__ = ["container_order", "flat_places", "leaf_names", "names_of"]


def leaf_names(memory: Memory) -> list[str]:
    """The name of each leaf: keys and fields joined by dots, positions in brackets; ``x`` for the whole.

    >>> leaf_names(Memory({"peak": {"height": 1.0, "at": [2.0, 3.0]}, "slope": 0.5}))
    ['peak.at[0]', 'peak.at[1]', 'peak.height', 'slope']
    """
    names = []
    for accessor in memory.spec.accessors():
        name = ""
        for entry in accessor:
            key: Any = getattr(entry, "field", None) or entry.entry
            name += f"[{key}]" if not isinstance(key, str) else f".{key}" if name else key
        names.append(f"x{name}" if name.startswith("[") or not name else name)
    return names


def names_of(memory: Memory, names: Sequence[str] | None = None) -> list[str]:
    """The name of each number of a memory, in the order of its vectors, one after the other.

    `names` are given for the numbers in the order of the container instead. Raises `OptionError` where they are not as
    many different names as there are numbers.

    >>> names_of(Memory({"w": np.zeros(2), "b": 0.0}))
    ['b', 'w[0]', 'w[1]']
    """
    if names is not None:
        given = np.empty(memory.size, dtype=object)
        given[container_order(memory)] = _checked(names, memory.size)
        return [str(name) for name in given]
    found = _by_path(leaf_names(memory), memory)
    if len({label for labels in found for label in labels}) < memory.size:  # a key that holds dots or brackets
        found = _by_path([accessor.codify("x") for accessor in memory.spec.accessors()], memory)
    numbers = [""] * memory.size
    for place, labels in zip(flat_places(memory), found, strict=True):
        numbers[place] = labels
    return numbers


def _by_path(leaves: Sequence[str], memory: Memory) -> list[list[str]]:
    """The names of each leaf's numbers, from that of the leaf and their places in it."""
    return [
        [name + (f"[{', '.join(map(str, at))}]" if at else "") for at in np.ndindex(*shape)]
        for name, shape in zip(leaves, memory.shapes, strict=True)
    ]


def container_order(memory: Memory) -> Array:
    """Where the numbers of the container, dicts in the order of their making, stand in the vectors.

    >>> container_order(Memory({"w": np.zeros(2), "b": 0.0})).tolist()
    [1, 2, 0]
    """
    places = flat_places(memory)
    by_leaf = memory.spec.unflatten(range(len(places)))
    with optree.dict_insertion_ordered(True, namespace="descend"):
        leaves = optree.tree_leaves(by_leaf, namespace="descend")
    return np.concatenate([np.arange(places[i].start, places[i].stop) for i in leaves])


def flat_places(memory: Memory) -> list[slice]:
    """Where each leaf's numbers stand in the vectors of a memory, one after the other."""
    begins = np.cumsum([0, *(vector.size for vector in memory.vectors)]).tolist()
    return [slice(begins[which] + start, begins[which] + stop) for which, start, stop in memory.places]


def _checked(names: Any, size: int) -> list[str]:
    try:
        found = [] if isinstance(names, str) else list(names)
    except TypeError:
        found = []
    if len(found) != size or len(set(map(str, found))) != size or not all(isinstance(n, str) and n for n in found):
        raise OptionError(f"names={names!r}: a different name for each of the {size} parameters is needed, in a list")
    return found
