"""From a rule to machine code: one kernel for each rule, setting of its flags, and number format.

The kernel is a loop over spans that calls the rule's own `update`, compiled by Numba for single numbers; LLVM inlines
it and makes vector code of the loop. Nothing here knows a formula.

Only what is imported at the top is needed to *use* a kernel. Numba is loaded when one has to be made.
"""

from __future__ import annotations

import hashlib
import types
from typing import Any

import numpy as np

from descend.engines.native.formats import Layout, arithmetic
from descend.rules import Rule, maths
from descend.rules import rule as shared

__all__ = ["HEADER", "numbers", "source_of", "translate"]

HEADER = 7
"""Words of a span before its addresses: how many chunks there are up to its end; its length; where its row starts; its
stretch (see `rules.step`), or the count of entries that a cautious step will move; how many chunks there are before it;
and the length of a chunk."""


def translate(
    rule: Rule, row: Any, kept: tuple[str, ...], layout: Layout, *, counting: bool, wide: bool = False
) -> tuple[str, str]:
    """A kernel as LLVM's intermediate representation, and the name of its function.

    `row` is any row of the rule, whose flags the kernel is made for; `kept` are the names of the state that is kept.
    With `wide` its vectors are as wide as the processor's. With `counting` the kernel changes nothing and counts, for
    each span, the entries that a cautious step will move.
    """
    from numba import njit
    from numba.core import types as nb

    from descend.engines.native.emit import Compiled, memory

    number = getattr(nb, arithmetic(layout))
    compiled = Compiled(number)
    source = _source(rule, row, kept, counting=counting)
    scope: dict[str, Any] = {
        "Scalars": type(row),
        "number": number,
        "update": compiled(rule.update),
        "with_decay": compiled(shared.with_decay),
        "goes_downhill": compiled(shared.goes_downhill),
        "with_cautious_mask": compiled(shared.with_cautious_mask),
        **memory(layout, number, wide),
    }
    exec(compile(source, f"<descend kernel of {type(rule).__name__}>", "exec"), scope)
    kernel = njit(
        nb.void(nb.int64, nb.int64, nb.int64),
        error_model="numpy",
        pipeline_class=compiled.pipeline,
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
    )(scope["kernel"])
    (result,) = kernel.overloads.values()
    return result.library.get_llvm_str(), result.fndesc.llvm_func_name


def _source(rule: Rule, row: Any, kept: tuple[str, ...], *, counting: bool) -> str:
    """The loop over spans, in Python: claim a chunk, load its row, step its entries."""
    width = HEADER + 2 + len(kept)
    arrays = ("p", "g", *(f"s{i}" for i in range(len(kept))))
    place = {name: i for i, name in enumerate(numbers(rule, row))}
    scalars = [
        str(value)
        if name not in place
        else "number(as_float(load_word(spans, span * WIDTH + 3)))"
        if name == "cautious_scale" and not counting
        else f"number(load_scalar(rows, row + {place[name]}))"
        for name, value in zip(row._fields, row, strict=True)
    ]
    old = [f"load_{2 + kept.index(name)}(s{kept.index(name)}, i)" if name in kept else "None" for name in rule.state]
    new = [f"new{i}" for i in range(len(rule.state))]
    # A rule without state may return the parameter alone.
    one = np.float64(1.0)
    with np.errstate(all="ignore"):
        tried = rule.update(one, one, *(one if n in kept else None for n in rule.state), row)
    alone = not isinstance(tried, tuple)
    lines = [
        "def kernel(spans, rows, part):",
        "    span = 0",
        "    while True:",
        "        chunk = claim(part)",
        "        if chunk >= load_word(part, 2):",
        "            break",
        "        while chunk >= load_word(spans, span * WIDTH):",
        "            span += 1",
        "        n = load_word(spans, span * WIDTH + 1)",
        "        row = load_word(spans, span * WIDTH + 2)",
        f"        s = Scalars({', '.join(scalars)})",
        *(f"        {a} = load_word(spans, span * WIDTH + {HEADER + k})" for k, a in enumerate(arrays)),
        "        length = load_word(spans, span * WIDTH + 5)",
        "        start = (chunk - load_word(spans, span * WIDTH + 4)) * length",
        "        stop = start + length",
        "        if stop > n:",
        "            stop = n",
        *(["        count = 0"] if counting else []),
        "        for i in range(start, stop):",
        "            old, grad = with_decay(load_0(p, i), load_1(g, i), s)",
        f"            out = update({', '.join(['old', 'grad', *old, 's'])})",
        f"            {', '.join(['new', *new])}{',' if not alone and not new else ''} = out",
        *(
            ["            count += goes_downhill(old, grad, new)"]
            if counting
            else [
                *(["            new = with_cautious_mask(old, grad, new, s)"] if row.cautious else []),
                "            store_0(p, i, number(new))",
                *(
                    f"            store_{2 + k}(s{k}, i, number(new{rule.state.index(name)}))"
                    for k, name in enumerate(kept)
                ),
            ]
        ),
        *(["        add_word(spans, span * WIDTH + 6, count)"] if counting else []),
    ]
    return "\n".join(lines).replace("WIDTH", str(width))


def numbers(rule: Rule, row: Any) -> tuple[str, ...]:
    """The names of a row's numbers, in the order in which a kernel finds them in memory; the flags are compiled in."""
    flags = dict(rule.flags)
    return tuple(name for name in row._fields if name not in flags)


# ---- what a kernel depends on -----------------------------------------------------------------------------------


def source_of(rule: type[Rule]) -> str | None:
    """A hash of all code behind a kernel of this rule; None if something in it cannot be hashed."""
    digest = hashlib.sha256()
    for function in (rule.update, shared.with_decay, shared.goes_downhill, shared.with_cautious_mask):
        if not _add(digest, function, set()):
            return None
    return digest.hexdigest()


def _add(digest: Any, value: Any, seen: set[int]) -> bool:
    """Add what a function does, and whatever it refers to; False if something has no lasting spelling."""
    if isinstance(value, types.FunctionType):
        if value.__module__ == maths.__name__:  # a kernel has its own; see `dialect`
            return _spell(digest, value.__qualname__)
        if id(value) in seen:
            return True
        seen.add(id(value))
        refers = {n: value.__globals__[n] for n in value.__code__.co_names if n in value.__globals__}
        refers |= dict(zip(value.__code__.co_freevars, (c.cell_contents for c in value.__closure__ or ()), strict=True))
        defaults = (value.__defaults__, *(value.__kwdefaults__ or {}).items())
        return (
            _add(digest, defaults, seen)
            and _add_code(digest, value.__code__)
            and all(_spell(digest, name) and _add(digest, refers[name], seen) for name in sorted(refers))
        )
    if isinstance(value, types.ModuleType):  # what a module of the user's holds cannot be told from here
        return value.__name__ in ("math", "numpy", maths.__name__) and _spell(digest, value.__name__)
    if isinstance(value, tuple):
        return all(_add(digest, v, seen) for v in value)
    if isinstance(value, (int, float, str, bytes, type(None))):
        return _spell(digest, repr(value))
    if isinstance(value, (type, types.BuiltinFunctionType, np.ufunc, np.generic)):
        return _spell(digest, f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', repr(value))}")
    return False


def _add_code(digest: Any, code: types.CodeType) -> bool:
    for part in (code.co_code, repr(code.co_names), repr(code.co_varnames), code.co_argcount):
        _spell(digest, part)
    return all(
        _add_code(digest, c) if isinstance(c, types.CodeType) else _add(digest, c, set())
        for c in code.co_consts
        if not isinstance(c, frozenset)
    )


def _spell(digest: Any, part: Any) -> bool:
    digest.update(repr(part).encode() + b"\0")
    return True
