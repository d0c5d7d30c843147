"""Side effects of a formula: whether it does more than compute, as far as that can be seen from outside.

Machine code does what a formula computes and nothing else. So a formula that prints, writes to what outlives it, or
gives another graph each time, must be found out before a kernel is made of it.
"""

from __future__ import annotations

import contextlib
import dis
import inspect
import io
import sys
import types
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from descend.rules.tracing import graph
from descend.rules.tracing.tracer import Refused, Untraceable

__all__ = ["side_effect"]

_CHANGING = {
    "add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft", "remove",
    "reverse", "setdefault", "sort", "update",
}  # fmt: skip
"""Methods of Python's containers that change them."""
_SPEAKING = {"print", "input", "open", "warn", "write"}
"""Built-in functions, and methods of files, that the world notices."""
_KNOWN: weakref.WeakKeyDictionary[Any, dict[Any, str | None]] = weakref.WeakKeyDictionary()
"""What was found out, by the formula's function, and the settings it was run with."""


def side_effect(update: Any, settings: Any, trace: Callable[[], Any]) -> str | None:
    """What a formula does beside computing, beginning with a verb; None if nothing is seen.

    `trace` runs it on symbolic values, which is done once for each of its `settings`, as long as the function is the
    same. Raises `Refused` for a formula that gives another graph each time.
    """
    try:
        known = _KNOWN.setdefault(update, {})
    except TypeError:  # a callable that cannot be referred to weakly, or hashed
        known = {}
    if settings not in known:
        known[settings] = _found(update, trace)
    return known[settings]


def _found(update: Any, trace: Callable[[], Any]) -> str | None:
    wrote = _writes(update.__code__) if inspect.isfunction(update) else None
    try:
        with _Watch():
            first, second = trace(), trace()
    except Untraceable as error:
        if not isinstance(error, _Noticed):
            return wrote  # the trace itself will say
        with contextlib.suppress(Untraceable), contextlib.redirect_stdout(io.StringIO()):
            if error.harmless:
                trace()  # beside what it prints it may do what no rule may
        return str(error)
    if _text(first) != _text(second):
        raise Refused(
            "computes something else each time it is called, by random numbers or by what it counts: kernels and JAX "
            "would go on with the first; draw them outside, and let scalars(self, t) count"
        )
    return wrote


def _text(traced: Any) -> str:
    outputs, mask = traced
    return graph.text([*outputs, *([("mask", mask)] if mask is not None else [])])


def _writes(code: types.CodeType) -> str | None:
    """What a function's code assigns to that outlives a call."""
    for instruction in dis.get_instructions(code):
        name = instruction.opname
        if name in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            return f"assigns to the global {instruction.argval}"
        if name == "STORE_DEREF" and instruction.argval in code.co_freevars:
            return f"assigns to {instruction.argval} of the function around it"
        if name == "STORE_ATTR":
            return f"assigns to an attribute {instruction.argval}"
    return next(filter(None, (_writes(c) for c in code.co_consts if isinstance(c, types.CodeType))), None)


class _Noticed(Untraceable):
    """A side effect, before it took place. A harmless one may take place unheard."""

    def __init__(self, message: str, *, harmless: bool) -> None:
        super().__init__(message)
        self.harmless = harmless


class _Watch:
    """Watches which built-in functions this thread calls, and raises before one that has a side effect.

    It sees what a profiler sees, and so nothing while another profiler runs.
    """

    def __enter__(self) -> None:
        self._watches = sys.getprofile() is None
        if self._watches:
            sys.setprofile(self._see)

    def __exit__(self, *_: Any) -> None:
        if self._watches:
            sys.setprofile(None)

    def _see(self, frame: types.FrameType, event: str, function: Any) -> None:
        if event != "c_call":
            return
        name, owner = getattr(function, "__name__", ""), getattr(function, "__self__", None)
        if name in _SPEAKING and (isinstance(owner, types.ModuleType) or owner is sys.stdout or owner is sys.stderr):
            spoken = {"print": "prints", "write": "writes to a file", "warn": "warns"}.get(name, f"calls {name}")
            raise _Noticed(spoken, harmless=name == "print")
        if name in _CHANGING and isinstance(owner, (list, dict, set, deque)) and _outlives(frame, owner):
            raise _Noticed(f"changes a {type(owner).__name__} outside of it, by {name}", harmless=False)


def _outlives(frame: types.FrameType, container: Any) -> bool:
    """Whether a container has a name outside of the function that uses it."""
    code = frame.f_code
    names = {name: frame.f_globals[name] for name in code.co_names if name in frame.f_globals}
    cells = {name: frame.f_locals[name] for name in code.co_freevars if name in frame.f_locals}
    return any(value is container for value in (*names.values(), *cells.values()))
