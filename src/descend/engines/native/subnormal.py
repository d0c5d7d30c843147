"""Numbers below the normal range: when a kernel may flush them to zero, and what it does with those that decay if not.

Arithmetic on subnormal numbers takes up to a hundred times as long as on others, and an average that decays, as of a
gradient that stays zero, remains among them for ever. So a processor is told to flush them where nothing of it is
seen: where numbers are added up and multiplied, and what is divided by has a number added to it that is far larger
than what is lost. Without such a number a flushed second moment would leave a first moment that nothing divides; and
where the sign of a number is the step, it would be none. There, numbers are computed as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from llvmlite import ir

from descend.rules.tracing.graph import Node, ordered

__all__ = ["ADDED", "Bound", "averages", "may_flush", "zero_if_lost"]

ADDED = {"float32": 1e-10, "float64": 1e-130}
"""By arithmetic, from which number on one that is added to what is divided by hides what flushing loses; of one that is
added under a root, the square.

The root of the largest number that is flushed is 1e-19, in float64 1e-154, and a correction may divide it by 0.01.
"""
_PLAIN = {"array", "scalar", "constant", "add", "subtract", "multiply", "negative", "absolute", "sqrt", "maximum"}
_PLAIN |= {"minimum", "copy", "narrow", "widen"}
"""Operations of which what they make of a flushed number is as near to what they make of the number itself."""

Bound = tuple[Node, bool]
"""A number of the step that something else is never less than, or its root, which the second says."""


def may_flush(outputs: Iterable[tuple[str, Node]], mask: Node | None) -> list[list[Bound]] | None:
    """When flushing is safe: if of each of these lists one number is as large as `ADDED` asks for; None: never.

    A step that asks for signs, or compares numbers, forbids it, but for the mask of a cautious step: what is flushed
    moves nothing. So do such questions not where all that they decide is what divides: that is bounded.
    """
    outputs = [*outputs]
    stepping = _going_into_steps(outputs)
    found: list[list[Bound]] = []
    for node in ordered(node for _, node in outputs):
        if node.is_uniform or node.operation in _PLAIN or node is mask:
            continue
        first, *rest = node.operands
        if node.operation == "divide":
            if not rest[0].is_uniform:
                found.append(_bounds(rest[0]))
        elif node in stepping:
            asked = {"clip": rest, "select": [first]}.get(node.operation, [node])
            if not all(one.is_uniform or one is mask for one in asked):
                return None
    return None if [] in found else [bounds for i, bounds in enumerate(found) if bounds not in found[:i]]


def averages(outputs: Iterable[tuple[str, Node]]) -> dict[str, bool]:
    """For each state, by name, whether it goes into the step, as an average of gradients does.

    Others, such as averages of squares, only divide something, or stand under a root.
    """
    outputs = [*outputs]
    names = {node.given for node in _going_into_steps(outputs) if node.operation == "array"}
    return {name: name in names for name, _ in outputs if name != "p"}


def _bounds(node: Node) -> list[Bound]:
    """The numbers of a step that are added to a node or bound it from below."""
    if node.operation in ("add", "maximum", "clip"):
        sides = node.operands[:2]
        found = [(side, False) for side in sides if side.operation == "scalar"]
        return found + [bound for side in sides for bound in _bounds(side)]
    if node.operation == "divide" and node.operands[1].is_uniform:
        return _bounds(node.operands[0])
    return [(bound, True) for bound, _ in _bounds(node.operands[0])] if node.operation == "sqrt" else []


def _going_into_steps(outputs: Iterable[tuple[str, Node]]) -> set[Node]:
    """The nodes of which the new parameter is made, at this step or a later one, but for what divides and for roots."""
    made = dict(outputs)
    found: set[Node] = set()
    waiting = [made["p"]]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += {"divide": node.operands[:1], "sqrt": (), "power": ()}.get(node.operation, node.operands)
            if node.operation == "array" and node.given in made:
                waiting.append(made[node.given])
    return found


def zero_if_lost(build: Any, kinds: Mapping[str, bool], loaded: dict[str, Any]) -> dict[str, Any]:
    """The numbers of an entry, by array, with zero for subnormal averages of gradients that move nothing any more.

    So it is where the gradient is zero and all that divides is far from subnormal. Where that is small as well, as
    after gradients of 1e-18, the average matters however small it is. `kinds` is what `averages` says.
    """
    if all(kinds.values()):
        return loaded
    number = loaded["g"].type
    double = number == ir.DoubleType()
    zero, least_normal = ir.Constant(number, 0.0), ir.Constant(number, 2.0**-1022 if double else 2.0**-126)
    enough = ir.Constant(number, 2.0**-900 if double else 2.0**-100)
    lost = build.fcmp_ordered("==", loaded["g"], zero)
    for name, is_average in kinds.items():
        if not is_average:
            lost = build.and_(lost, build.fcmp_ordered(">=", loaded[name], enough))
    size = build.module.declare_intrinsic("llvm.fabs", [number])
    for name, is_average in kinds.items():
        if is_average:
            small = build.fcmp_ordered("<", build.call(size, [loaded[name]]), least_normal)
            loaded[name] = build.select(build.and_(lost, small), zero, loaded[name])
    return loaded
