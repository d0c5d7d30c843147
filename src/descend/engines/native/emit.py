"""LLVM IR of a kernel: a loop over the chunks of spans, around the graph of a formula.

A kernel is a function of three addresses: the spans, the rows of scalars, and a part (see `layout`). It claims the
part's chunks one by one, finds the span of each, and steps the span's numbers that lie in it. In the loop stand the
graph's operations (see `instructions`), which LLVM makes vectors of.

Whoever calls a kernel has told the processor to flush subnormal numbers to zero. A kernel that must not (see
`subnormal`) tells it otherwise until it is done. One that must not for some rows of scalars has a loop for them, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from llvmlite import ir

from descend.engines.native.formats import Layout, arithmetic
from descend.engines.native.instructions import DOUBLE_TYPE, FLOAT_TYPE, HALF_TYPE, Values, resized
from descend.engines.native.layout import PART, SPAN
from descend.engines.native.subnormal import ADDED, Bound, averages, may_flush, zero_if_lost
from descend.rules.tracing import TracedFormula
from descend.rules.tracing.graph import BOOL, NUMBER, Node, ordered

__all__ = ["Work", "counts", "emit", "steps"]

_I64, _I32, _I16 = (ir.IntType(bits) for bits in (64, 32, 16))
_PTR = ir.PointerType()
_FIELDS = {"i64": _I64, "i32": _I32, "ptr": _PTR, "double": DOUBLE_TYPE, "float": FLOAT_TYPE}
_MEMORY = {"float64": DOUBLE_TYPE, "float32": FLOAT_TYPE, "float16": HALF_TYPE, "bfloat16": _I16}


@dataclasses.dataclass(frozen=True)
class Work:
    """What a kernel does with a span: which arrays it writes, and which fields of the span it adds to.

    Parameters
    ----------
    scalars
        The names of the numbers of a row, in order.
    arrays
        The names of a span's arrays, in order.
    stores
        The arrays that are written, and what to.
    reductions
        The fields that the whole of a span is reduced to before it is stepped, and of what: bools are counted.
    flushes
        When subnormal numbers may be flushed; see `may_flush`.
    averages
        Which state goes into the step; see `averages`.
    """

    scalars: tuple[str, ...]
    arrays: tuple[str, ...]
    flushes: list[list[Bound]] | None
    averages: Mapping[str, bool]
    stores: tuple[tuple[str, Node], ...] = ()
    reductions: tuple[tuple[str, Node], ...] = ()


def steps(formula: TracedFormula) -> Work:
    """The work of a step: every output goes where its input was."""
    return _work(formula, stores=formula.outputs)


def counts(formula: TracedFormula) -> Work:
    """The work before a cautious step: count what it will move."""
    assert formula.mask is not None
    return _work(formula, reductions=(("count", formula.mask),))


def _work(formula: TracedFormula, **does: tuple[tuple[str, Node], ...]) -> Work:
    arrays = ("p", "g", *formula.kept)  # in the order of `layout.PARAM`, `GRAD` and `STATE`
    flushes = may_flush(formula.outputs, formula.mask)
    return Work(formula.scalars, arrays, flushes, averages(formula.outputs), **does)


def emit(work: Work, layout: Layout, *, wide: bool = False) -> str:
    """A module with the one function ``kernel``; raises `Untraceable` if the graph has what a kernel cannot compute.

    With `wide` its vectors are as wide as the processor's.
    """
    module = ir.Module("descend")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_PTR] * 3), "kernel")
    if wide:  # LLVM's own name for it, which llvmlite does not know
        set.add(function.attributes, '"prefer-vector-width"="512"')
    _Kernel(work, layout, function).write()
    return str(module)


class _Kernel:
    """One kernel while it is written."""

    def __init__(self, work: Work, layout: Layout, function: Any) -> None:
        self.work = work
        self.layout = layout
        self.function = function
        self.module = function.module
        self.number = DOUBLE_TYPE if arithmetic(layout) == "float64" else FLOAT_TYPE
        fields = [_FIELDS[kind] for kind in SPAN.fields.values()]
        self.span_type = ir.LiteralStructType([*fields, ir.ArrayType(_PTR, len(work.arrays))])
        self.entry, self.claim, self.find, self.later, self.begin, self.done = (
            function.append_basic_block(name) for name in ("entry", "claim", "find", "later", "begin", "done")
        )
        self.ways_on: list[Any] = []
        """The blocks after which the next chunk is claimed."""
        self.nodes = ordered(node for _, node in (*work.stores, *work.reductions))

    def write(self) -> None:
        """Write all of it."""
        spans, rows, part = self.function.args
        build, never = ir.IRBuilder(self.entry), self.work.flushes is None
        if never:
            self._mode(build, "keep_subnormal")
        build.branch(self.claim)
        chunk, span, first = self._next_chunk(spans, part)
        build = ir.IRBuilder(self.begin)
        start, stop = self._bounds(build, chunk, span)
        scalars = self._scalars(build, span, rows)
        addresses = [build.load(self._array(build, span, k), typ=_PTR) for k in range(len(self.work.arrays))]
        flushes = self.work.flushes
        each = (True,) if flushes is None else (False, True) if flushes else (False,)
        loops = {exact: self._loop(scalars, start, stop, addresses, span, exact=exact) for exact in each}
        self._choose(build, scalars, loops)
        for block in self.ways_on:
            first.add_incoming(span, block)
        build = ir.IRBuilder(self.done)
        if never:
            self._mode(build, "flush_subnormal")
        build.ret_void()

    # ---- subnormal numbers ------------------------------------------------------------------------------------------

    def _choose(self, build: Any, scalars: Mapping[Node, Any], loops: Mapping[bool, Any]) -> None:
        """Enter the loop that is right for the numbers of the row."""
        if len(loops) == 1:
            build.branch(*loops.values())
            return
        added = ADDED[arithmetic(self.layout)]
        safe = ir.IntType(1)(1)
        for bounds in self.work.flushes or ():
            some = ir.IntType(1)(0)
            for node, rooted in bounds:
                # By their bits, which are in the order of the numbers: nothing may be flushed before it is known.
                least = ir.Constant(DOUBLE_TYPE, added**2 if rooted else added).bitcast(_I64)
                some = build.or_(some, build.icmp_signed(">=", build.bitcast(scalars[node], _I64), least))
            safe = build.and_(safe, some)
        other = self.function.append_basic_block("exactly")
        build.cbranch(safe, loops[False], other)
        build = ir.IRBuilder(other)
        self._mode(build, "keep_subnormal")
        build.branch(loops[True])

    def _mode(self, build: Any, name: str) -> None:
        """Tell the processor what to do with subnormal numbers; see `runtime.modes`."""
        if name not in self.module.globals:
            ir.Function(self.module, ir.FunctionType(ir.VoidType(), []), name)
        build.call(self.module.globals[name], [])

    # ---- chunks -----------------------------------------------------------------------------------------------------

    def _next_chunk(self, spans: Any, part: Any) -> tuple[Any, Any, Any]:
        """Claim the part's next chunk, and find its span, from that of the last one on, which is the third."""
        build = ir.IRBuilder(self.claim)
        first = build.phi(_PTR)
        first.add_incoming(spans, self.entry)
        types = ir.LiteralStructType([_FIELDS[kind] for kind in PART.fields.values()])
        at = {name: build.gep(part, [_I32(0), _I32(PART.index(name))], source_etype=types) for name in PART.fields}
        chunk = build.atomic_rmw("add", at["next_chunk"], _I64(1), "monotonic")
        stop = build.load(at["stop_chunk"], typ=_I64)
        build.cbranch(build.icmp_signed("<", chunk, stop), self.find, self.done)

        build = ir.IRBuilder(self.find)
        span = build.phi(_PTR)
        span.add_incoming(first, self.claim)
        build.cbranch(build.icmp_signed("<", chunk, self._field(build, span, "chunks_end")), self.begin, self.later)
        build = ir.IRBuilder(self.later)
        span.add_incoming(build.gep(span, [_I64(1)], source_etype=self.span_type), self.later)
        build.branch(self.find)
        return chunk, span, first

    def _place(self, build: Any, span: Any, name: str) -> Any:
        return build.gep(span, [_I32(0), _I32(SPAN.index(name))], source_etype=self.span_type)

    def _field(self, build: Any, span: Any, name: str) -> Any:
        return build.load(self._place(build, span, name), typ=_FIELDS[SPAN.fields[name]])

    def _array(self, build: Any, span: Any, k: int) -> Any:
        arrays = len(SPAN.fields)
        return build.gep(span, [_I32(0), _I32(arrays), _I32(k)], source_etype=self.span_type)

    def _bounds(self, build: Any, chunk: Any, span: Any) -> tuple[Any, Any]:
        """The first number of a chunk in its span, and the one after its last."""
        length, before = self._field(build, span, "chunk_length"), self._field(build, span, "chunks_before")
        start = build.mul(build.sub(chunk, before), length)
        stop, end = build.add(start, length), self._field(build, span, "length")
        return start, build.select(build.icmp_signed("<", stop, end), stop, end)

    def _scalars(self, build: Any, span: Any, rows: Any) -> dict[Node, Any]:
        """The numbers of the span's row that are asked for, and how far it stretches a cautious step."""
        row = build.gep(rows, [self._field(build, span, "row_start")], source_etype=DOUBLE_TYPE)
        found = {}
        asked = [bound for bounds in self.work.flushes or () for bound, _ in bounds]
        for node in dict.fromkeys([*self.nodes, *asked]):
            if node.operation == "scalar" and node.given == "cautious_scale":
                found[node] = self._field(build, span, "cautious_scale")
            elif node.operation == "scalar":
                place = _I64(self.work.scalars.index(node.given))
                found[node] = build.load(build.gep(row, [place], source_etype=DOUBLE_TYPE), typ=DOUBLE_TYPE)
        return found

    def _uniform(self, build: Any, scalars: Mapping[Node, Any], *, exact: bool) -> Values:
        """The values that are the same for all entries."""
        values = Values(build, self.number, self.module)
        for node, given in scalars.items():
            # LLVM does not know that the mode matters: it must not see that this is the number that was loaded before.
            hidden = ir.FunctionType(_I64, [_I64])
            values.give(
                node,
                build.bitcast(build.asm(hidden, "", "=r,0", [build.bitcast(given, _I64)], True), DOUBLE_TYPE)
                if exact
                else given,
            )
        for node in self.nodes:
            if node.is_uniform and node.operation != "scalar":
                values.compute(node)
        for node in self.nodes:
            if node.is_uniform:
                values.convert(node, NUMBER)
        return values

    # ---- the loop ---------------------------------------------------------------------------------------------------

    def _loop(
        self, scalars: Mapping[Node, Any], start: Any, stop: Any, addresses: Sequence[Any], span: Any, *, exact: bool
    ) -> Any:
        """The loop over a chunk's numbers: load, compute, store or add up; returns the block to enter it by."""
        enter, test, body, finish = (
            self.function.append_basic_block(name) for name in ("enter", "test", "body", "finish")
        )
        build = ir.IRBuilder(enter)
        values = self._uniform(build, scalars, exact=exact)
        build.branch(test)
        build = ir.IRBuilder(test)
        i = build.phi(_I64)
        i.add_incoming(start, enter)
        sums = [build.phi(_I64) for _ in self.work.reductions]
        for total in sums:
            total.add_incoming(_I64(0), enter)
        build.cbranch(build.icmp_signed("<", i, stop), body, finish)

        build = values.build = ir.IRBuilder(body)
        self._step(values, _Memory(build, self.layout.arrays, addresses, i), exact=exact)
        for total, (_, node) in zip(sums, self.work.reductions, strict=True):
            total.add_incoming(build.add(total, build.zext(values.convert(node, BOOL), _I64)), body)
        i.add_incoming(build.add(i, _I64(1), flags=["nsw"]), body)
        build.branch(test)

        build = ir.IRBuilder(finish)
        for total, (name, _) in zip(sums, self.work.reductions, strict=True):
            build.atomic_rmw("add", self._place(build, span, name), total, "monotonic")
        if exact and self.work.flushes is not None:
            self._mode(build, "flush_subnormal")
        build.branch(self.claim)
        self.ways_on.append(finish)
        return enter

    def _step(self, values: Values, memory: _Memory, *, exact: bool) -> None:
        """Load an entry's numbers, compute, and store."""
        work = self.work
        ends = exact and work.flushes is not None
        used = work.arrays if ends else [node.given for node in self.nodes if node.operation == "array"]
        loaded = {name: memory.load(work.arrays.index(name), self.number) for name in used}
        if ends:
            loaded = zero_if_lost(values.build, work.averages, loaded)
        for node in self.nodes:
            if node.operation == "array":
                values.give(node, loaded[node.given])
            elif not node.is_uniform:
                values.compute(node)
        for name, node in work.stores:
            memory.store(work.arrays.index(name), values.stored(node))


class _Memory:
    """The arrays of a span, at one place in the loop."""

    def __init__(self, build: Any, formats: Sequence[str], addresses: Sequence[Any], index: Any) -> None:
        self.build = build
        self.formats = formats
        self.places = [
            build.gep(address, [index], inbounds=True, source_etype=_MEMORY[name])
            for address, name in zip(addresses, formats, strict=True)
        ]
        module = build.module
        domain = module.add_metadata([ir.MetaDataString(module, "descend")])
        self.scopes = [
            module.add_metadata([ir.MetaDataString(module, f"array {k}"), domain]) for k in range(len(formats))
        ]

    def load(self, k: int, number: Any) -> Any:
        """The number in array k, in the format of the arithmetic."""
        build, name = self.build, self.formats[k]
        value = self._apart(build.load(self.places[k], typ=_MEMORY[name]), k)
        if name == "bfloat16":
            value = build.bitcast(build.shl(build.zext(value, _I32), _I32(16)), FLOAT_TYPE)
        return resized(build, value, number)

    def store(self, k: int, value: Any) -> None:
        """Write a number to array k."""
        build, name = self.build, self.formats[k]
        if name == "bfloat16":
            value = _bfloat16(build, resized(build, value, FLOAT_TYPE))
        elif name == "float16":
            value = resized(build, resized(build, value, FLOAT_TYPE), HALF_TYPE)
        else:
            value = resized(build, value, _MEMORY[name])
        self._apart(build.store(value, self.places[k]), k)

    def _apart(self, access: Any, k: int) -> Any:
        """Tell LLVM that the arrays of a span do not overlap, so that it need not test for it before each loop."""
        module = self.build.module
        access.set_metadata("alias.scope", module.add_metadata([self.scopes[k]]))
        others = [scope for i, scope in enumerate(self.scopes) if i != k]
        access.set_metadata("noalias", module.add_metadata(others))
        return access


def _bfloat16(build: Any, value: Any) -> Any:
    """A float32 as the nearest bfloat16, ties to even; NaN stays NaN."""
    bits = build.bitcast(value, _I32)
    odd = build.and_(build.lshr(bits, _I32(16)), _I32(1))
    nearest = build.add(bits, build.add(odd, _I32(0x7FFF)))
    quiet = build.or_(bits, _I32(0x400000))
    kept = build.select(build.fcmp_unordered("uno", value, value), quiet, nearest)
    return build.trunc(build.lshr(kept, _I32(16)), _I16)
