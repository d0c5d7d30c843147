"""From a rule to machine code: one kernel for each formula and layout.

A kernel is made of the graph that a rule's formula traces to, and found again by the graph's text: rules and settings
that give the same text have the same kernel, and a formula that has changed has another. Tracing takes a tenth of a
millisecond and is done whenever a kernel is asked for; a kernel is made in a few hundredths of a second.
"""

from __future__ import annotations

import re
import threading
from typing import Any

from descend.engines.native import runtime as native
from descend.engines.native.availability import Unavailable, why_not
from descend.engines.native.formats import Layout
from descend.rules import Rule
from descend.rules.tracing import TracedFormula, Untraceable, trace

__all__ = ["Kernel", "Unavailable", "code", "kernel", "optimised"]


class Kernel:
    """Machine code that steps spans by one formula, in one layout.

    `address` is its entry, `numbers` the names of the scalars in the order in which it finds them in a row, `kept` the
    names of the state in the order in which it finds their addresses in a span.
    """

    def __init__(self, address: int, numbers: tuple[str, ...], kept: tuple[str, ...], layout: Layout) -> None:
        self.address = address
        self.numbers = numbers
        self.kept = kept
        self.layout = layout


_KNOWN: dict[Any, Kernel] = {}
"""The kernels that this process has made, by all that they depend on."""
_LOCK = threading.Lock()


def kernel(rule: Rule, layout: Layout, *, counting: bool = False, wide: bool = False) -> Kernel:
    """The kernel for `rule` as its formula is now; raises `Unavailable`.

    With `counting` it changes nothing and counts, for each span, the entries that a cautious step will move. A `wide`
    one is for steps that memory holds up; it makes no difference where a processor has one width of vectors.
    """
    reason = why_not(layout)
    if reason is not None:
        raise Unavailable(reason)
    try:
        formula = trace(rule)
    except Untraceable as error:
        raise Unavailable(str(error)) from error
    wide = wide and native.has_wide_vectors()
    text = formula.mask_text if counting else formula.text
    key = (text, formula.scalars, formula.kept, layout, counting, wide)
    found = _KNOWN.get(key)
    if found is None:
        with _LOCK:
            found = _KNOWN.get(key)
            if found is None:
                address = _made(formula, layout, counting, wide)
                found = _KNOWN[key] = Kernel(address, formula.scalars, formula.kept, layout)
    return found


def code(formula: TracedFormula, layout: Layout, *, counting: bool = False, wide: bool = False) -> str:
    """A kernel in LLVM's language, before it is optimised; raises `Unavailable` for what kernels cannot compute."""
    from descend.engines.native import emit  # which loads llvmlite

    try:
        text = emit.emit((emit.counts if counting else emit.steps)(formula), layout, wide=wide)
    except Untraceable as error:
        raise Unavailable(f"{formula.name} {error}") from error
    return native.with_modes(text)


def _made(formula: TracedFormula, layout: Layout, counting: bool, wide: bool) -> int:
    """The entry of a new kernel."""
    text = code(formula, layout, counting=counting, wide=wide)
    try:
        return _loaded(text)
    except Exception as error:  # whatever LLVM raises that reads another language, or has no memory
        raise Unavailable(f"LLVM cannot compile {formula.name}: {error}") from error


def optimised(text: str) -> Any:
    """A kernel as a module of LLVM's, once its loop is one over vectors."""
    import llvmlite.binding as llvm

    target = native.target(3)
    module = llvm.parse_assembly(text)
    module.triple, module.data_layout = target.triple, str(target.target_data)
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_unrolling = True
    passes = llvm.create_pass_builder(target, tuning)
    passes.getModulePassManager().run(module, passes)
    return module


def _loaded(text: str) -> int:
    """The entry of a kernel, optimised and loaded into the process."""
    # LLVM may make calls of the C library of these: for powers always, for roundings on older processors.
    called = sorted(set(re.findall(r"@\"?llvm\.(pow|floor|ceil|trunc|rint)\.", text)))
    native.link([spelled for name in called for spelled in (name, f"{name}f")])
    (address,) = native.load(bytes(native.target(3).emit_object(optimised(text))), "kernel")
    return address
