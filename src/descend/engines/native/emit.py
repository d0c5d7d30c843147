"""What a rule's Python code means in a kernel: the numbers written in it, the functions it calls, memory.

Loaded when a kernel has to be made, and not to use one.
"""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import ir as numba_ir
from numba.core import types as nb
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.untyped_passes import IRProcessing
from numba.extending import intrinsic, overload

from descend.engines.native.formats import Layout
from descend.rules import maths

__all__ = ["Compiled", "memory"]


class Compiled:
    """Compiles the functions of a rule, and what they call, for one format of numbers."""

    def __init__(self, number: Any) -> None:
        self.pipeline = _pipeline(number)
        self._made: dict[Callable[..., Any], Any] = {}

    def __call__(self, function: Callable[..., Any]) -> Any:
        if function not in self._made:
            self._made[function] = None  # while it is being made: a function may call itself
            self._made[function] = njit(error_model="numpy", pipeline_class=self.pipeline)(self._with_callees(function))
        return self._made[function]

    def _with_callees(self, function: Any) -> Any:
        """The function, with the plain functions that it calls compiled in their turn."""
        scope = dict(function.__globals__)
        for name in function.__code__.co_names:
            if name in scope:
                scope[name] = self._callee(scope[name])
        cells = tuple(types.CellType(self._callee(cell.cell_contents)) for cell in function.__closure__ or ())
        return types.FunctionType(function.__code__, scope, function.__name__, function.__defaults__, cells or None)

    def _callee(self, value: Any) -> Any:
        plain = isinstance(value, types.FunctionType) and value.__module__ not in (maths.__name__, "numpy")
        return self(value) if plain else value


def _pipeline(number: Any) -> Any:
    """Numba's pipeline, in which a number that is written in the code takes the format of the arithmetic.

    Numba makes an int or float literal 64 bits wide, and whatever it meets with it. NumPy, PyTorch and JAX let it take
    the format of what it meets, and so must a kernel.
    """
    kind = np.dtype(str(number)).type

    @register_pass(mutates_CFG=False, analysis_only=False)
    class Literals(FunctionPass):
        _name = f"descend_literals_{number}"

        def __init__(self) -> None:
            FunctionPass.__init__(self)

        def run_pass(self, state: Any) -> bool:
            if state.func_ir.func_id.func_name == "kernel":
                return False
            exact = set()  # names of numbers that must stay as they are: exponents, indices
            operands = set()
            for block in state.func_ir.blocks.values():
                for assign in block.find_insts(numba_ir.Assign):
                    value = assign.value
                    if not isinstance(value, numba_ir.Expr):
                        continue
                    if value.op in ("binop", "inplace_binop"):
                        operands |= {value.lhs.name, value.rhs.name}
                        if "pow" in getattr(value.fn, "__name__", ""):
                            exact.add(value.rhs.name)
                    elif value.op == "call":
                        operands |= {v.name for v in value.list_vars()}
                    elif value.op == "unary":
                        operands.add(value.value.name)
            changed = False
            for block in state.func_ir.blocks.values():
                for assign in block.find_insts(numba_ir.Assign):
                    literal = _written(assign.value)
                    whole_exponent = assign.target.name in exact and type(literal) is int
                    if literal is not None and assign.target.name in operands and not whole_exponent:
                        assign.value = numba_ir.Const(kind(literal), assign.loc)
                        changed = True
            return changed

    class Pipeline(CompilerBase):
        def define_pipelines(self) -> list[Any]:
            builder = DefaultPassBuilder.define_nopython_pipeline(self.state)
            builder.add_pass_after(Literals, IRProcessing)
            builder.finalize()
            return [builder]

    _teach_maths()
    return Pipeline


def _written(value: Any) -> int | float | None:
    """The number that a piece of Numba's representation stands for, if it is one that is written in the code."""
    constant = isinstance(value, (numba_ir.Const, numba_ir.Global, numba_ir.FreeVar))
    return value.value if constant and type(value.value) in (int, float) else None


@functools.cache
def _teach_maths() -> None:
    """Give Numba the functions of `descend.rules.maths`, for single numbers."""

    @overload(maths.sqrt, strict=False)
    def _sqrt(x: Any) -> Any:
        return lambda x: math.sqrt(x)

    @overload(maths.absolute, strict=False)
    def _absolute(x: Any) -> Any:
        return lambda x: abs(x)

    @overload(maths.sign, strict=False)
    def _sign(x: Any) -> Any:
        def sign(x: Any) -> Any:
            zero = x - x  # of the format of x, and NaN where x is
            up = type_as(1.0, x) if x > 0 else zero
            return type_as(-1.0, x) if x < 0 else up

        type_as = _type_as()
        return sign

    @overload(maths.maximum, strict=False)
    def _maximum(x: Any, y: Any) -> Any:
        return lambda x, y: x if x > y or x != x else y

    @overload(maths.minimum, strict=False)
    def _minimum(x: Any, y: Any) -> Any:
        return lambda x, y: x if x < y or x != x else y

    @overload(maths.clip, strict=False)
    def _clip(x: Any, low: Any, high: Any) -> Any:
        def clip(x: Any, low: Any, high: Any) -> Any:
            raised = type_as(low, x) if x < low else x
            return type_as(high, x) if raised > high else raised

        type_as = _type_as()
        return clip

    @overload(maths.where, strict=False)
    def _where(condition: Any, x: Any, y: Any) -> Any:
        return lambda condition, x, y: x if condition else y


def _type_as() -> Any:
    """A function for kernels: the number `value` in the format of `like`."""

    @intrinsic
    def type_as(_context: Any, value: Any, like: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return context.cast(builder, args[0], signature.args[0], signature.return_type)

        return like(value, like), generate

    return type_as


# ---- memory -----------------------------------------------------------------------------------------------------


def memory(layout: Layout, number: Any, wide: bool) -> dict[str, Any]:
    """What a kernel reads and writes memory with: ``load_k``, ``store_k`` for array k of a span, words, scalars.

    With `wide` the kernel's vectors are as wide as the processor's.
    """
    word, double = ir.IntType(64), ir.DoubleType()
    given: dict[str, Any] = {}
    for k, name in enumerate(layout.arrays):
        given[f"load_{k}"] = _load(k, len(layout.arrays), name, number)
        given[f"store_{k}"] = _store(k, len(layout.arrays), name, number)

    def place(builder: Any, base: Any, index: Any, kind: Any) -> Any:
        return builder.gep(builder.inttoptr(base, kind.as_pointer()), [index])

    @intrinsic
    def load_word(_context: Any, base: Any, index: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return builder.load(place(builder, args[0], args[1], word))

        return nb.int64(nb.int64, nb.int64), generate

    @intrinsic
    def load_scalar(_context: Any, base: Any, index: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return builder.load(place(builder, args[0], args[1], double))

        return nb.float64(nb.int64, nb.int64), generate

    @intrinsic
    def as_float(_context: Any, bits: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return builder.bitcast(args[0], double)

        return nb.float64(nb.int64), generate

    @intrinsic
    def claim(_context: Any, part: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            if wide:  # LLVM's own name for it, which llvmlite does not know
                set.add(builder.function.attributes, '"prefer-vector-width"="512"')
            place = builder.inttoptr(args[0], word.as_pointer())
            return builder.atomic_rmw("add", place, ir.Constant(word, 1), "monotonic")

        return nb.int64(nb.int64), generate

    @intrinsic
    def add_word(_context: Any, base: Any, index: Any, count: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            builder.atomic_rmw("add", place(builder, args[0], args[1], word), args[2], "monotonic")
            return context.get_dummy_value()

        return nb.void(nb.int64, nb.int64, nb.int64), generate

    given.update(load_word=load_word, load_scalar=load_scalar, as_float=as_float, claim=claim, add_word=add_word)
    return given


def _apart(builder: Any, access: Any, k: int, count: int) -> Any:
    """Tell LLVM that the arrays of a span do not overlap, so that it need not test for it before each loop."""
    module = builder.module
    text = lambda value: ir.MetaDataString(module, value)  # noqa: E731
    domain = module.add_metadata([text("descend")])
    scopes = [module.add_metadata([text(f"array {i}"), domain]) for i in range(count)]
    access.set_metadata("alias.scope", module.add_metadata([scopes[k]]))
    access.set_metadata("noalias", module.add_metadata([s for i, s in enumerate(scopes) if i != k]))
    return access


def _kinds(name: str) -> tuple[Any, Any]:
    """LLVM's type of a number in memory, and Numba's type once it is loaded."""
    if name == "float64":
        return ir.DoubleType(), nb.float64
    if name == "float32":
        return ir.FloatType(), nb.float32
    return (ir.IntType(16), nb.float32) if name == "bfloat16" else (ir.HalfType(), nb.float32)


def _load(k: int, count: int, name: str, number: Any) -> Any:
    kind, loaded = _kinds(name)

    @intrinsic
    def load(_context: Any, base: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            place = builder.gep(builder.inttoptr(args[0], kind.as_pointer()), [args[1]], inbounds=True)
            value = _apart(builder, builder.load(place), k, count)
            if name == "bfloat16":
                wide = builder.shl(builder.zext(value, ir.IntType(32)), ir.Constant(ir.IntType(32), 16))
                value = builder.bitcast(wide, ir.FloatType())
            elif name == "float16":
                value = builder.fpext(value, ir.FloatType())
            return context.cast(builder, value, loaded, number)

        return number(nb.int64, nb.int64), generate

    return load


def _store(k: int, count: int, name: str, number: Any) -> Any:
    kind, loaded = _kinds(name)

    @intrinsic
    def store(_context: Any, base: Any, index: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            value = context.cast(builder, args[2], number, loaded)
            if name == "bfloat16":
                value = _rounded(builder, value)
            elif name == "float16":
                value = builder.fptrunc(value, ir.HalfType())
            place = builder.gep(builder.inttoptr(args[0], kind.as_pointer()), [args[1]], inbounds=True)
            _apart(builder, builder.store(value, place), k, count)
            return context.get_dummy_value()

        return nb.void(nb.int64, nb.int64, number), generate

    return store


def _rounded(builder: Any, value: Any) -> Any:
    """A float32 as the nearest bfloat16, ties to even; NaN stays NaN."""
    i32 = ir.IntType(32)
    whole = lambda number: ir.Constant(i32, number)  # noqa: E731
    bits = builder.bitcast(value, i32)
    odd = builder.and_(builder.lshr(bits, whole(16)), whole(1))
    nearest = builder.add(bits, builder.add(odd, whole(0x7FFF)))
    quiet = builder.or_(bits, whole(0x400000))
    kept = builder.select(builder.fcmp_unordered("uno", value, value), quiet, nearest)
    return builder.trunc(builder.lshr(kept, whole(16)), ir.IntType(16))
