"""What a symbolic value can do that is elementwise: an operation of a graph for each of NumPy's functions.

An operation is a function of a `Tracer` and the operands, which may be numbers, and gives a symbolic value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from descend.rules.tracing.graph import BOOL, DOUBLE, FLAG, NUMBER, WEAK, promoted
from descend.rules.tracing.tracer import Tracer, Untraceable

__all__ = [
    "BINARY",
    "ELEMENTWISE_FUNCTIONS",
    "ELEMENTWISE_METHODS",
    "FUNCTIONS",
    "METHODS",
    "UFUNCS",
    "Operation",
    "clip",
    "copied",
    "extreme",
    "unary",
    "where",
]

Operation = Callable[..., Any]


def _arithmetic(operation: str) -> Operation:
    """An operation of arithmetic on a tracer's operands."""

    def make(tracer: Tracer, x: Any, y: Any) -> Any:
        made = tracer.make(operation, x, y)
        if made.node.kind == BOOL:
            raise tracer.fail(Untraceable(f"takes the {operation} of truth values; use &, | and ~"))
        return _not_raising(made) if operation == "divide" else made

    return make


def _not_raising(made: Any) -> Any:
    """A quotient or power; of Python's numbers alone it may raise, which machine code cannot."""
    if made.node.kind == WEAK:
        raise made.tracer.fail(
            Untraceable("divides numbers of the step, or takes powers of them: do so in scalars(self, t)")
        )
    return made


def _comparison(operation: str) -> Operation:
    def make(tracer: Tracer, x: Any, y: Any) -> Any:
        uniform = tracer.node(x).is_uniform and tracer.node(y).is_uniform
        return tracer.make(operation, x, y, kind=FLAG if uniform else BOOL)

    return make


def _truth(tracer: Tracer, value: Any) -> Any:
    """Whether a value is true: it itself, or that it is not zero."""
    node = tracer.node(value)
    return tracer.value(node) if node.kind in (BOOL, FLAG) else _comparison("not_equal")(tracer, value, 0.0)


def _logical(operation: str, *, of_truth: bool) -> Operation:
    """A logical operation; those that NumPy spells ``&``, ``|``, ``^``, ``~`` are for truth values alone."""

    def make(tracer: Tracer, *given: Any) -> Any:
        nodes = [tracer.node(value) for value in given]
        if of_truth and any(node.kind not in (BOOL, FLAG) for node in nodes):
            raise tracer.fail(Untraceable("takes &, |, ^ or ~ of numbers that are no truth values"))
        if of_truth and all(node.kind == FLAG for node in nodes):  # ~True is -2
            raise tracer.fail(Untraceable("takes &, |, ^ or ~ of numbers of the step; use and, or, not"))
        return tracer.make(operation, *(_truth(tracer, value) for value in given), kind=BOOL)

    return make


def unary(operation: str) -> Operation:
    """An operation on one number."""

    def make(tracer: Tracer, x: Any) -> Any:
        if tracer.node(x).kind == BOOL:
            raise tracer.fail(Untraceable(f"takes the {operation} of truth values"))
        return tracer.make(operation, x)

    return make


def _predicate(operation: str) -> Operation:
    return lambda tracer, x: tracer.make(operation, x, kind=BOOL)


def extreme(operation: str) -> Operation:
    """The larger or smaller of two numbers."""

    def make(tracer: Tracer, x: Any, y: Any) -> Any:
        if {tracer.node(x).kind, tracer.node(y).kind} <= {BOOL, FLAG}:
            raise tracer.fail(Untraceable(f"takes the {operation} of truth values"))
        return tracer.make(operation, x, y)

    return make


def _opaque(operation: str) -> Operation:
    """An elementwise operation that a graph has no node for."""
    return lambda tracer, *given: tracer.make(operation, *given, kind=NUMBER)


def copied(tracer: Tracer, x: Any) -> Any:
    """The same numbers in other memory, which may be changed in place."""
    node = tracer.node(x)
    return tracer.value(node) if node.is_uniform else tracer.make("copy", x)


_MULTIPLIED = 64
"""The largest exponent for which a power is made by multiplying."""


def _power(tracer: Tracer, x: Any, n: Any) -> Any:
    """A power: by NumPy's own shortcuts where it has one, by multiplying for a whole exponent, or by C's ``pow``."""
    base, exponent = tracer.node(x), tracer.node(n)
    value = exponent.given if exponent.operation == "constant" and exponent.kind in (WEAK, FLAG) else None
    if BOOL in (base.kind, exponent.kind):
        raise tracer.fail(Untraceable("takes powers of truth values"))
    if base.is_uniform and exponent.is_uniform:
        return _not_raising(tracer.make("power", x, n))
    if value == 0.5:
        return tracer.make("sqrt", x)
    if value is None or value != math.floor(value) or abs(value) > _MULTIPLIED or base.is_uniform:
        return tracer.make("power", x, n)
    whole = abs(int(value))
    made = tracer.constant(1.0, base.kind) if whole == 0 else None
    square = tracer.value(base)
    while whole:
        if whole & 1:
            made = square if made is None else tracer.make("multiply", made, square)
        whole >>= 1
        square = tracer.make("multiply", square, square) if whole else square
    assert made is not None
    return tracer.make("divide", 1.0, made) if value < 0 else made


def clip(tracer: Tracer, x: Any, low: Any = None, high: Any = None) -> Any:
    """A number between bounds, one of which may be None."""
    if low is None or high is None:
        for operation, limit in (("maximum", low), ("minimum", high)):
            x = x if limit is None else tracer.make(operation, x, limit)
        return copied(tracer, x)
    return tracer.make("clip", x, low, high)


def where(tracer: Tracer, condition: Any, *choices: Any) -> Any:
    """One of two numbers, entry by entry."""
    if len(choices) != 2:
        raise tracer.refuse("takes numpy.where of a condition alone")
    kinds = {tracer.node(choice).kind for choice in choices}
    kind = BOOL if kinds <= {BOOL, FLAG} else DOUBLE if kinds <= {WEAK, FLAG} else promoted(kinds)
    return tracer.make("select", _truth(tracer, condition), *choices, kind=kind)


def _like(value: float) -> Operation:
    return lambda tracer, x: tracer.constant(value, NUMBER if tracer.node(x).is_uniform else tracer.node(x).kind)


BINARY: dict[str, Operation] = {
    **{name: _arithmetic(name) for name in ("add", "subtract", "multiply", "divide")},
    **{n: _comparison(n) for n in ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")},
    **{f"bitwise_{name}": _logical(name, of_truth=True) for name in ("and", "or", "xor")},
    **{f"logical_{name}": _logical(name, of_truth=False) for name in ("and", "or", "xor")},
    **{name: extreme(name) for name in ("maximum", "minimum")},
    **{name: _opaque(f"numpy.{name}") for name in ("floor_divide", "remainder")},
    "power": _power,
}
_ROUNDINGS = ("floor", "ceil", "trunc", "rint")
UFUNCS: dict[Any, Operation] = {
    **{getattr(np, name): make for name, make in BINARY.items()},
    **{getattr(np, name): unary(name) for name in ("negative", "absolute", "sqrt", "sign", *_ROUNDINGS)},
    **{getattr(np, name): _predicate(name) for name in ("isnan", "isinf", "isfinite")},
    np.fabs: unary("absolute"),
    np.positive: copied,
    np.square: lambda tracer, x: _power(tracer, x, 2.0),
    np.reciprocal: lambda tracer, x: _power(tracer, x, -1.0),
    np.invert: _logical("not", of_truth=True),
    np.logical_not: _logical("not", of_truth=False),
}
FUNCTIONS: dict[Any, Operation] = {
    np.where: where,
    np.clip: clip,
    np.zeros_like: _like(0.0),
    np.ones_like: _like(1.0),
    np.copy: copied,
}
ELEMENTWISE_FUNCTIONS = {
    getattr(np, name)
    for name in ("nan_to_num", "round", "around", "fix", "sinc", "real", "imag", "i0", "full_like", "isclose", "select")
}
METHODS: dict[str, Operation] = {
    "clip": lambda x, low=None, high=None: clip(x.tracer, x, low, high),
    "copy": lambda x: copied(x.tracer, x),
    "conj": lambda x: copied(x.tracer, x),
    "conjugate": lambda x: copied(x.tracer, x),
}
ELEMENTWISE_METHODS = {"astype", "round"}
