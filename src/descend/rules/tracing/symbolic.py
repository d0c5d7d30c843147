"""Symbolic values: what a formula is run on to see what it computes, in place of arrays and numbers.

A `Symbolic` stands for any array of any length, or for a number of Python's. It has an array's operators, and NumPy's
functions and those of `descend.rules.maths` take it; each gives another symbolic value and a node of the graph. What is
elementwise and has no node of its own becomes an opaque one. What is not elementwise, or asks an array a question, is a
`Refused`; what cannot be known without the numbers is `Untraceable`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from descend.rules.tracing import operations
from descend.rules.tracing.graph import BOOL, DOUBLE, NUMBER, WEAK, Node
from descend.rules.tracing.tracer import Fork, Refused, Tracer, Untraceable

__all__ = ["Symbolic"]


class Symbolic:
    """A value of a formula that is being traced."""

    __slots__ = ("node", "tracer")
    __hash__ = None  # type: ignore[assignment]  # as arrays have none

    def __init__(self, tracer: Tracer, node: Node) -> None:
        self.tracer = tracer
        self.node = node

    @property
    def maths(self) -> type[_Maths]:
        """The functions of `descend.rules.maths` for symbolic values."""
        return _Maths

    # ---- questions --------------------------------------------------------------------------------------------------

    def __bool__(self) -> bool:
        if not self.node.is_uniform:
            raise self.tracer.fail(
                Refused(
                    "branches on an array (with if, and, or, not, max, min): a formula is elementwise; use "
                    "descend.rules.maths.where, maximum or minimum"
                )
            )
        if self.node not in self.tracer.answers:
            raise self.tracer.fail(Fork(self.node))
        return self.tracer.answers[self.node]

    def _as_number(self, *_: Any) -> Any:
        if self.node.is_uniform:
            raise self.tracer.fail(
                Untraceable(
                    "asks for a number of the step itself (float, int, round, math.sqrt …): compute what follows from "
                    "it in scalars(self, t), or with descend.rules.maths"
                )
            )
        raise self.tracer.fail(
            Refused(
                "takes an array for a number (float, int, round, math.sqrt …): a formula is elementwise; use "
                "descend.rules.maths, such as maths.sqrt"
            )
        )

    __float__ = __int__ = __index__ = __complex__ = __round__ = __trunc__ = __floor__ = __ceil__ = _as_number

    def __array__(self, *_: Any, **__: Any) -> Any:
        if self.node.is_uniform:
            return self._as_number()
        raise self.tracer.fail(
            Refused(
                "turns its argument into an array of NumPy's (np.asarray, np.array …): a formula runs on what it is "
                "given, NumPy's arrays, PyTorch's tensors and JAX's arrays alike; use the operators, and "
                "descend.rules.maths"
            )
        )

    def _whole(self, *_: Any, **__: Any) -> Any:
        raise self.tracer.refuse("takes an array apart (indices, slices, len, iteration, sum, min, max, @)")

    __len__ = __iter__ = __getitem__ = __reversed__ = __matmul__ = __rmatmul__ = _whole
    __contains__ = __setitem__ = __delitem__ = _whole

    def __getattr__(self, name: str) -> Any:
        if name in _WHOLE_ATTRIBUTES:
            raise self.tracer.refuse(f"takes .{name} of an array")
        if name in operations.METHODS:
            return functools.partial(operations.METHODS[name], self)
        if name in operations.ELEMENTWISE_METHODS:
            return lambda *_, **__: self.tracer.make(name, self, kind=NUMBER)
        if name == "real":
            return self
        if name in ("dtype", "device", "imag"):
            raise self.tracer.fail(Untraceable(f"asks for the {name} of an array"))
        raise AttributeError(f"asks an array for {name!r}")

    # ---- NumPy's and PyTorch's protocols ----------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        tracer = self.tracer
        if method != "__call__" or ufunc.signature is not None:
            called = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
            raise tracer.refuse(f"takes numpy.{called} of an array")
        if options:
            raise tracer.fail(Untraceable(f"calls numpy.{ufunc.__name__} with {', '.join(options)}"))
        known = operations.UFUNCS.get(ufunc)
        if known is not None:
            made = known(tracer, *inputs)
            # NumPy's functions make numbers of NumPy's, in float64, of Python's.
            return tracer.make("widen", made, kind=DOUBLE) if made.node.kind == WEAK else made
        kind = BOOL if any(signature.endswith("?") for signature in ufunc.types) else NUMBER
        results = [tracer.make(f"numpy.{ufunc.__name__}", *inputs, kind=kind) for _ in range(ufunc.nout)]
        return results[0] if len(results) == 1 else tuple(results)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        tracer = self.tracer
        known = operations.FUNCTIONS.get(function)
        if known is not None and not options:
            return known(tracer, *args)
        if function not in operations.FUNCTIONS and function not in operations.ELEMENTWISE_FUNCTIONS:
            raise tracer.refuse(f"takes {function.__module__}.{function.__name__} of an array")
        operands = [value for value in (*args, *options.values()) if isinstance(value, Symbolic)]
        return tracer.make(f"numpy.{function.__name__}", *operands, kind=NUMBER)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), options: Any = None) -> Any:
        given = (*args, *(options or {}).values())
        tracer = next(value for value in given if isinstance(value, Symbolic)).tracer
        name = getattr(function, "__name__", str(function))
        if _WHOLE_ATTRIBUTES.intersection((name, *name.split("_"))):
            raise tracer.refuse(f"takes torch's {name} of an array")
        raise tracer.fail(Untraceable(f"calls torch's {name}, which runs on PyTorch's tensors alone"))

    def __copy__(self) -> Any:
        return operations.copied(self.tracer, self)

    def __deepcopy__(self, _: Any) -> Any:
        return operations.copied(self.tracer, self)


_WHOLE_ATTRIBUTES = {
    name
    for name in (*dir(np.ndarray), "norm", "numel", "dim", "view_as")
    if not name.startswith("_")
    and name not in (*operations.METHODS, *operations.ELEMENTWISE_METHODS, "dtype", "device", "real", "imag")
}
"""What an array knows as a whole, and what takes it apart; PyTorch's names among them."""


class _Maths:
    """`descend.rules.maths` for symbolic values: a number of Python's stays one."""

    @staticmethod
    def sqrt(x: Symbolic) -> Any:
        return operations.unary("sqrt")(x.tracer, x)

    @staticmethod
    def abs(x: Symbolic) -> Any:
        return operations.unary("absolute")(x.tracer, x)

    @staticmethod
    def sign(x: Symbolic) -> Any:
        return operations.unary("sign")(x.tracer, x)

    @staticmethod
    def maximum(x: Symbolic, y: Any) -> Any:
        return operations.extreme("maximum")(x.tracer, x, y)

    @staticmethod
    def minimum(x: Symbolic, y: Any) -> Any:
        return operations.extreme("minimum")(x.tracer, x, y)

    @staticmethod
    def clip(x: Symbolic, low: Any, high: Any) -> Any:
        return operations.clip(x.tracer, x, low, high)

    @staticmethod
    def where(condition: Symbolic, x: Any, y: Any) -> Any:
        made = operations.where(condition.tracer, condition, x, y)
        uniform = all(operand.is_uniform for operand in made.node.operands)
        return made.tracer.make("select", condition, x, y, kind=WEAK) if uniform else made


def _known(value: Any) -> bool:
    """Whether an operand is one that a graph can have; Python asks the other's own operator if not."""
    return isinstance(value, (Symbolic, bool, int, float, np.generic, np.ndarray))


def _forward(make: operations.Operation) -> Callable[..., Any]:
    return lambda x, y: make(x.tracer, x, y) if _known(y) else NotImplemented


def _reflected(make: operations.Operation) -> Callable[..., Any]:
    return lambda x, y: make(x.tracer, y, x) if _known(y) else NotImplemented


def _in_place(make: operations.Operation) -> Callable[..., Any]:
    """An operator such as ``+=``: it changes an array for everyone who has it, and gives another number of Python's."""

    def change(x: Symbolic, y: Any) -> Any:
        if not _known(y):
            return NotImplemented
        if x.node.operation == "array":
            raise x.tracer.fail(
                Refused(
                    f"changes {x.node.given} in place: what a formula is given is not its own; write "
                    f"{x.node.given} = {x.node.given} + … instead of +="
                )
            )
        made = make(x.tracer, x, y)
        if x.node.is_uniform:
            return made
        if made.node.kind != x.node.kind:  # an array keeps its format
            made = x.tracer.make("narrow", made, kind=x.node.kind)
        x.node = made.node
        return x

    return change


def _give_operators() -> None:
    """Let `Symbolic` have an array's operators, from both sides, and those that change a value in place."""
    arithmetic = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "power"}
    arithmetic |= {"floordiv": "floor_divide", "mod": "remainder"}
    bits = {name: f"bitwise_{name}" for name in ("and", "or", "xor")}
    for spelled, name in {**arithmetic, **bits}.items():
        make = operations.BINARY[name]
        setattr(Symbolic, f"__{spelled}__", _forward(make))
        setattr(Symbolic, f"__r{spelled}__", _reflected(make))
        setattr(Symbolic, f"__i{spelled}__", _in_place(make))
    for spelled, name in {
        "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal"
    }.items():  # fmt: skip
        setattr(Symbolic, f"__{spelled}__", _forward(operations.BINARY[name]))
    for spelled, ufunc in {"neg": np.negative, "abs": np.absolute, "pos": np.positive, "invert": np.invert}.items():
        setattr(Symbolic, f"__{spelled}__", lambda x, make=operations.UFUNCS[ufunc]: make(x.tracer, x))


_give_operators()
