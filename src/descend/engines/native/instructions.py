"""LLVM's instructions for each operation of a graph.

Numbers are computed in the format that NumPy would choose, so that each operation rounds as it does on NumPy's arrays.
Every operation is one or a few instructions without a branch, so that LLVM can do several numbers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from descend.rules.tracing import Untraceable
from descend.rules.tracing.graph import BOOL, DOUBLE, FLAG, NUMBER, WEAK, Node, promoted

__all__ = ["DOUBLE_TYPE", "FLOAT_TYPE", "HALF_TYPE", "Values", "resized"]

DOUBLE_TYPE, FLOAT_TYPE, HALF_TYPE, BOOL_TYPE = ir.DoubleType(), ir.FloatType(), ir.HalfType(), ir.IntType(1)
_BITS = {HALF_TYPE: 16, FLOAT_TYPE: 32, DOUBLE_TYPE: 64}


def resized(build: Any, value: Any, kind: Any) -> Any:
    """A number in another format, rounded to nearest if that is a smaller one."""
    if value.type == kind:
        return value
    return build.fpext(value, kind) if _BITS[value.type] < _BITS[kind] else build.fptrunc(value, kind)


class Values:
    """The values of a graph's nodes, as far as they are computed: each in the format of its own kind of number.

    `build` is where the next instructions go: before the loop for what is the same for all entries, then into it.
    """

    def __init__(self, build: Any, number: Any, module: Any) -> None:
        self.build = build
        self.module = module
        self.types = {NUMBER: number, DOUBLE: DOUBLE_TYPE, WEAK: DOUBLE_TYPE, BOOL: BOOL_TYPE, FLAG: BOOL_TYPE}
        self._values: dict[tuple[Node, str], Any] = {}

    def give(self, node: Node, value: Any) -> None:
        """Say what an input's value is."""
        self._values[node, node.kind] = value

    def compute(self, node: Node) -> None:
        """Write the instructions of one node, whose operands are computed."""
        if node.operation == "constant":
            self.give(node, self.constant(node.given, node.kind))
            return
        make = _OPERATIONS.get(node.operation)
        if make is None:
            raise Untraceable(f"calls {node.operation}, which kernels do not have")
        self.give(node, make(self, node))

    def stored(self, node: Node) -> Any:
        """A node's value as a number of floating point."""
        return self.convert(node, NUMBER if node.kind in (BOOL, FLAG) else node.kind)

    def convert(self, node: Node, kind: str) -> Any:
        """A node's value as another kind of number."""
        found = self._values.get((node, kind))
        if found is None:
            value = self._values[node, node.kind]
            if node.operation == "constant":
                found = self.constant(node.given, kind)
            elif value.type == self.types[kind]:
                found = value
            elif value.type == BOOL_TYPE:
                found = self.build.uitofp(value, self.types[kind])
            else:
                found = resized(self.build, value, self.types[kind])
            self._values[node, kind] = found
        return found

    def constant(self, value: float, kind: str) -> Any:
        """A number that is written in the formula, in the format of a kind."""
        type = self.types[kind]
        if type == BOOL_TYPE:
            return ir.Constant(type, bool(value))
        with np.errstate(over="ignore"):
            return ir.Constant(type, float(np.float32(value)) if type == FLOAT_TYPE else float(value))

    def operands(self, node: Node, kind: str) -> list[Any]:
        """The values of a node's operands, as one kind of number."""
        return [self.convert(operand, kind) for operand in node.operands]

    def call(self, name: str, kind: str, values: Sequence[Any]) -> Any:
        """A call of LLVM's function of that name for numbers of that kind."""
        return self.build.call(self.module.declare_intrinsic(f"llvm.{name}", [self.types[kind]]), values)


def _instruction(name: str) -> Callable[[Values, Node], Any]:
    return lambda values, node: getattr(values.build, name)(*values.operands(node, node.kind))


def _intrinsic(name: str) -> Callable[[Values, Node], Any]:
    return lambda values, node: values.call(name, node.kind, values.operands(node, node.kind))


def _common(node: Node) -> str:
    """The kind of number in which operands are compared."""
    kind = promoted(operand.kind for operand in node.operands)
    return NUMBER if kind == BOOL else kind


def _compare(operator: str) -> Callable[[Values, Node], Any]:
    def make(values: Values, node: Node) -> Any:
        compare = values.build.fcmp_unordered if operator == "!=" else values.build.fcmp_ordered
        return compare(operator, *values.operands(node, _common(node)))

    return make


def _logic(name: str) -> Callable[[Values, Node], Any]:
    return lambda values, node: getattr(values.build, name)(*values.operands(node, BOOL))


def _extreme(operator: str) -> Callable[[Values, Node], Any]:
    """The larger or smaller of two numbers; NaN where either is NaN."""

    def make(values: Values, node: Node) -> Any:
        build = values.build
        x, y = values.operands(node, node.kind)
        first = build.or_(build.fcmp_ordered(operator, x, y), build.fcmp_unordered("uno", x, x))
        return build.select(first, x, y)

    return make


def _sign(values: Values, node: Node) -> Any:
    build = values.build
    (x,) = values.operands(node, node.kind)
    one, minus_one, zero = (values.constant(number, node.kind) for number in (1.0, -1.0, 0.0))
    neither = build.fsub(x, x)  # zero, and NaN where x is
    not_less = build.select(build.fcmp_ordered(">", x, zero), one, neither)
    return build.select(build.fcmp_ordered("<", x, zero), minus_one, not_less)


def _clip(values: Values, node: Node) -> Any:
    build = values.build
    x, low, high = values.operands(node, node.kind)
    raised = build.select(build.fcmp_ordered("<", x, low), low, x)
    return build.select(build.fcmp_ordered(">", raised, high), high, raised)


def _select(values: Values, node: Node) -> Any:
    condition, *choices = node.operands
    return values.build.select(
        values.convert(condition, condition.kind), *(values.convert(choice, node.kind) for choice in choices)
    )


def _finiteness(operator: str) -> Callable[[Values, Node], Any]:
    """How the size of a number compares with infinity."""

    def make(values: Values, node: Node) -> Any:
        kind = _common(node)
        size = values.call("fabs", kind, values.operands(node, kind))
        return values.build.fcmp_ordered(operator, size, values.constant(float("inf"), kind))

    return make


def _isnan(values: Values, node: Node) -> Any:
    (x,) = values.operands(node, _common(node))
    return values.build.fcmp_unordered("uno", x, x)


_OPERATIONS: dict[str, Callable[[Values, Node], Any]] = {
    "add": _instruction("fadd"),
    "subtract": _instruction("fsub"),
    "multiply": _instruction("fmul"),
    "divide": _instruction("fdiv"),
    "negative": _instruction("fneg"),
    **{name: _intrinsic(name) for name in ("sqrt", "floor", "ceil", "trunc", "rint")},
    "absolute": _intrinsic("fabs"),
    "power": _intrinsic("pow"),
    "less": _compare("<"),
    "less_equal": _compare("<="),
    "greater": _compare(">"),
    "greater_equal": _compare(">="),
    "equal": _compare("=="),
    "not_equal": _compare("!="),
    "and": _logic("and_"),
    "or": _logic("or_"),
    "xor": _logic("xor"),
    "not": _logic("not_"),
    "maximum": _extreme(">"),
    "minimum": _extreme("<"),
    "sign": _sign,
    "clip": _clip,
    "select": _select,
    "isnan": _isnan,
    "isinf": _finiteness("=="),
    "isfinite": _finiteness("<"),
    **{name: lambda values, node: values.convert(node.operands[0], node.kind) for name in ("copy", "narrow", "widen")},
}  # fmt: skip
"""How each operation of a graph is computed."""
