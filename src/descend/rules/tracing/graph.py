"""A formula as a graph: what is computed from which inputs, in order, without loops or branches.

The graph is what a formula means, apart from what ran it: kernels are emitted from it, and its text is all that a
kernel depends on. Each node has a kind of number, which NumPy's rules of promotion give it, so that whoever computes
the graph gets NumPy's bits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

__all__ = ["BOOL", "DOUBLE", "FLAG", "NUMBER", "WEAK", "Graph", "Node", "ordered", "promoted", "text"]

FLAG, WEAK, BOOL, NUMBER, DOUBLE = "flag", "weak", "bool", "number", "double"
"""The kinds of numbers. FLAG and WEAK are a bool and a number of Python's: the same for all entries, they take the
format of what they meet. BOOL is an array of bools; NUMBER an array in the format of the arithmetic, which follows from
the parameter's; and DOUBLE an array, or a number of NumPy's, in float64, which makes float64 of what it meets."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One value of a graph: an input, a constant, or what an operation makes of other nodes.

    `operation` is ``array``, ``scalar`` or ``constant``, whose `given` is the name of an input or a number; or the name
    of an operation on `operands`.
    """

    operation: str
    kind: str
    operands: tuple[Node, ...] = ()
    given: Any = None

    @property
    def is_uniform(self) -> bool:
        """Whether the value is one of Python's, the same for all entries."""
        return self.kind in (FLAG, WEAK)


def promoted(kinds: Iterable[str]) -> str:
    """The kind of number that arithmetic on such operands gives, by NumPy's rules."""
    found = set(kinds)
    if found <= {FLAG, WEAK}:
        return WEAK
    if DOUBLE in found or (NUMBER not in found and WEAK in found):  # bools of an array and a float make float64
        return DOUBLE
    return NUMBER if NUMBER in found else BOOL


class Graph:
    """The nodes of one formula, each of which is there once."""

    def __init__(self) -> None:
        self._known: dict[Any, Node] = {}

    def node(self, operation: str, kind: str, operands: tuple[Node, ...] = (), given: Any = None) -> Node:
        """The node that is this; a new one if there is none yet."""
        key = (operation, kind, tuple(map(id, operands)), type(given), repr(given))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = Node(operation, kind, operands, given)
        return found


def ordered(outputs: Iterable[Node]) -> list[Node]:
    """All nodes that these are made from, and they themselves, each after its operands."""
    found: dict[int, Node] = {}
    waiting = list(reversed([*outputs]))
    while waiting:
        node = waiting[-1]
        missing = [operand for operand in node.operands if id(operand) not in found]
        if missing:
            waiting.extend(reversed(missing))
        else:
            found.setdefault(id(node), node)
            waiting.pop()
    return [*found.values()]


def text(outputs: Iterable[tuple[str, Node]]) -> str:
    """The graph of named outputs, spelled out: two formulas with the same text compute the same."""
    outputs = [*outputs]
    nodes = ordered(node for _, node in outputs)
    places = {id(node): place for place, node in enumerate(nodes)}
    lines = []
    for node in nodes:
        parts = [f"%{places[id(operand)]}" for operand in node.operands]
        if node.given is not None:
            parts.append(repr(node.given))
        lines.append(f"%{places[id(node)]} = {node.kind} {node.operation}({', '.join(parts)})")
    return "\n".join([*lines, *(f"{name} <- %{places[id(node)]}" for name, node in outputs)])
