"""Kernels by rule, flags and formats: made once, kept on disk, loaded in a millisecond.

A kernel depends on the rule's code and whatever it calls, this package's code around it, the flags, the formats, the
processor, and the versions of Python, Numba and LLVM: a hash of all that is its file's name.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import sys
import threading
from pathlib import Path
from typing import Any

from descend.engines.native import keeping
from descend.engines.native import runtime as native
from descend.engines.native import trace as compiling
from descend.engines.native.availability import Unavailable, why_not
from descend.engines.native.formats import Layout
from descend.errors import RuleError
from descend.rules import Rule, maths

__all__ = ["Kernel", "Unavailable", "kernel"]


class Kernel:
    """Machine code that steps spans by one rule, with one setting of its flags, in one layout.

    `address` is its entry, `numbers` the names of the scalars in the order in which it finds them in a row, `kept` the
    names of the state in the order in which it finds their addresses in a span.
    """

    def __init__(self, address: int, numbers: tuple[str, ...], kept: tuple[str, ...], layout: Layout) -> None:
        self.address = address
        self.numbers = numbers
        self.kept = kept
        self.layout = layout
        self.width = compiling.HEADER + 2 + len(kept)


_KNOWN: dict[Any, Kernel] = {}
_LOCK = threading.RLock()


def kernel(rule: Rule, layout: Layout, *, counting: bool = False, wide: bool = False) -> Kernel:
    """The kernel for `rule`, of which only the class and the flags matter; raises `Unavailable`.

    A `wide` one is for steps that memory holds up; it makes no difference where a processor has one width of vectors.
    """
    kept = rule.kept_state()
    wide = wide and native.has_wide_vectors()
    key = (type(rule), rule.flags, kept, layout, counting, wide)
    found = _KNOWN.get(key)
    if found is None:
        with _LOCK:
            found = _KNOWN.get(key)
            if found is None:
                row = rule.row(1)
                address = _address(rule, row, kept, layout, counting, wide)
                found = _KNOWN[key] = Kernel(address, compiling.numbers(rule, row), kept, layout)
    return found


def _address(rule: Rule, row: Any, kept: tuple[str, ...], layout: Layout, counting: bool, wide: bool) -> int:
    """The entry of a kernel, from the cache or made now."""
    reason = why_not(layout)
    if reason is not None:
        raise Unavailable(reason)
    source = compiling.source_of(type(rule))
    kind = (type(rule).__name__, row._fields, rule.flags, kept, layout.arrays, counting, wide)
    code = keeping.kept(
        [*kind, source, *_surroundings()] if source else None, lambda: _made(rule, row, kept, layout, counting, wide)
    )
    symbol, _, code = code.partition(b"\n")
    (address,) = native.load(code, symbol.decode())
    return address


def _made(rule: Rule, row: Any, kept: tuple[str, ...], layout: Layout, counting: bool, wide: bool) -> bytes:
    """The name of a new kernel's function, a line's end, and its machine code."""
    kind = type(rule)
    _check_branches(rule, row, kept)
    print(
        f"descend: compiling {kind.__name__} for {layout.param}; it takes a second or two, and is kept for later",
        file=sys.stderr,
    )
    try:
        from numba.core.errors import NumbaError
    except ImportError as error:
        raise Unavailable(f"Numba cannot be loaded ({error})") from error
    try:
        code, symbol = compiling.translate(rule, row, kept, layout, counting=counting, wide=wide)
    except NumbaError as error:
        why = next((line for line in str(error).splitlines() if line.strip() and "pipeline" not in line), "")
        raise Unavailable(f"Numba cannot compile {kind.__name__}.update: {why.strip()}") from error
    code += f"""
define void @kernel(ptr %spans, ptr %rows, ptr %part) {{
  %result = alloca ptr
  %error = alloca ptr
  %spans.i = ptrtoint ptr %spans to i64
  %rows.i = ptrtoint ptr %rows to i64
  %part.i = ptrtoint ptr %part to i64
  call i32 @{symbol}(ptr %result, ptr %error, i64 %spans.i, i64 %rows.i, i64 %part.i)
  ret void
}}
"""
    return b"kernel\n" + native.emit(code, only="kernel")


def _check_branches(rule: Rule, row: Any, kept: tuple[str, ...]) -> None:
    """Refuse a formula that asks an array a question: for single numbers it would compile, and mean something else."""
    import numpy as np

    two = np.ones(2)
    state = tuple(two if name in kept else None for name in rule.state)
    try:
        with np.errstate(all="ignore"):
            rule.update(two, two, *state, row)
    except ValueError as error:
        if "ambiguous" not in str(error):
            raise
        raise RuleError(
            f"{type(rule).__name__}.update branches on an array (with if, and, or, max, min): a formula is "
            "elementwise; use descend.rules.maths.where, maximum or minimum"
        ) from error


@functools.cache
def _surroundings() -> tuple[str, ...]:
    """Everything behind a kernel that is not the rule: this package's code, the versions, the processor."""
    code = hashlib.sha256()
    for name in ("trace", "emit", "formats", "runtime"):
        code.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    code.update(Path(str(maths.__file__)).read_bytes())
    versions = (importlib.metadata.version(p) for p in ("numba", "llvmlite", "numpy"))
    return (code.hexdigest(), sys.version, *versions, *native.processor())
