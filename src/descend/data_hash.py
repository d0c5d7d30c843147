"""What a problem made by a file holds beside code: arrays and numbers, wherever its functions have them from."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
import types
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from descend.neighbours import is_own
from descend.problems import FILE_MODULE, Problem

__all__ = ["of_data"]


def of_data(problem: Problem, folder: Path) -> str:
    """A hash of the data of a problem, and of the arrays, numbers and texts that its functions read.

    Functions are looked through: what they close over, their defaults, and the globals that they name in modules of the
    user's own. The `folder` of the problem's file is left out of texts: it may be moved.
    """
    data = _Data(str(folder))
    try:
        for name, value in sorted(vars(problem).items()):
            data.add(name)
            data.see(value)
    except RecursionError:  # nested too deep to be seen through: it never matches again
        data.add(uuid.uuid4().hex)
    return data.hash.hexdigest()


class _Data:
    """A hash of what is seen, each object once."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.hash = hashlib.sha256()
        self._seen: dict[int, Any] = {}

    def add(self, text: str) -> None:
        self.hash.update(text.encode(errors="surrogatepass") + b"\n")

    def see(self, value: Any, names: frozenset[str] = frozenset()) -> None:
        """Take in a value; of a module, what is called by one of the names."""
        if isinstance(value, (bool, int, float, complex, type(None))):
            return self.add(repr(value))
        if isinstance(value, str):
            return self.add(value.replace(self.folder, ".") if len(self.folder) > 1 else value)
        if isinstance(value, (bytes, bytearray)):
            return self.hash.update(value)
        if isinstance(value, types.ModuleType):
            return self._module(value, names)
        if id(value) in self._seen:
            return self.add("again")
        self._seen[id(value)] = value  # kept, so that no other object gets its number
        return self._look_into(value)

    def _look_into(self, value: Any) -> None:
        if (array := _as_array(value)) is not None:
            self._array(array)
        elif isinstance(value, (list, tuple)):
            self.add(f"{type(value).__name__} {len(value)}")
            for part in value:
                self.see(part)
        elif isinstance(value, dict):
            self._named(value)
        elif isinstance(value, functools.partial):
            self.see((value.func, value.args, value.keywords))
        elif inspect.ismethod(value):
            self.see((value.__self__, value.__func__))
        elif inspect.isfunction(value):
            self._function(value)
        elif isinstance(value, type):
            if _is_own(value.__module__):
                self._named(
                    {name: made for name, made in vars(value).items() if not name.startswith("__") or callable(made)}
                )
        elif (wrapped := inspect.getattr_static(value, "__wrapped__", None)) is not None:
            self.see(wrapped)
        elif _is_seen_through(type(value)):
            self.see(type(value))
            self._named({**_slots(value), **getattr(value, "__dict__", {})})

    def _named(self, values: dict[Any, Any]) -> None:
        for name, value in values.items():
            self.see(name if isinstance(name, (str, int, float)) else repr(type(name)))
            self.see(value)

    def _array(self, array: np.ndarray[Any, Any]) -> None:
        self.add(f"{array.dtype} {array.shape}")
        if array.dtype.hasobject:
            self.see(array.ravel().tolist())
        else:
            self.hash.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)

    def _function(self, function: Any) -> None:
        for cell in function.__closure__ or ():
            try:
                self.see(cell.cell_contents)
            except ValueError:  # nothing has been put into it yet
                continue
        self.see((function.__defaults__, function.__kwdefaults__))
        if hasattr(function, "__wrapped__"):
            self.see(function.__wrapped__)
        if _is_own(function.__globals__.get("__name__", "")):
            names = _names(function.__code__)
            for name in sorted(names & function.__globals__.keys()):
                self.add(name)
                self.see(function.__globals__[name], names)

    def _module(self, module: types.ModuleType, names: frozenset[str]) -> None:
        """What code that names the module, and these names, may read in it."""
        if _is_own(module.__name__):
            for name in sorted(names & vars(module).keys()):
                self.add(name)
                self.see(vars(module)[name], names)


def _as_array(value: Any) -> np.ndarray[Any, Any] | None:
    """An array, a tensor or a table as an array of NumPy's; None for anything else, and where that cannot be."""
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value)
    package = type(value).__module__.partition(".")[0]
    torch = sys.modules.get("torch")
    try:
        if torch is not None and isinstance(value, torch.Tensor):
            dense = value.detach().to_dense() if value.layout is not torch.strided else value.detach()
            return np.asarray(
                dense.resolve_conj().resolve_neg().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            )
        if package in ("jax", "jaxlib") and hasattr(value, "__array__"):
            return np.asarray(value)
        if package in ("pandas", "polars") and hasattr(value, "to_numpy"):
            return np.asarray(value.to_numpy())
    except Exception:  # a tracer, a tensor without memory: there are no numbers to be seen
        return None
    return None


def _is_own(module: str) -> bool:
    """Whether a module is the problem's file, or another of the user's own."""
    if module.startswith(FILE_MODULE):
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    return isinstance(file, str) and is_own(Path(file))


_SEEN_THROUGH = ("torch", "scipy", "sklearn")
"""Packages whose objects hold arrays as attributes."""


def _is_seen_through(kind: type) -> bool:
    """Whether the attributes of such an object are data, and not the works of a library."""
    return any(k.__module__.partition(".")[0] in _SEEN_THROUGH or _is_own(k.__module__) for k in kind.__mro__)


def _slots(value: Any) -> dict[str, Any]:
    """The attributes that a class keeps in slots."""
    names = [name for kind in type(value).__mro__ for name in _listed(vars(kind).get("__slots__", ()))]
    return {name: getattr(value, name) for name in names if name != "__dict__" and hasattr(value, name)}


def _listed(slots: Any) -> list[str]:
    return [slots] if isinstance(slots, str) else [str(name) for name in slots]


def _names(code: types.CodeType) -> frozenset[str]:
    """The global names and the attributes in some code and in the functions within it."""
    inner = [_names(c) for c in code.co_consts if isinstance(c, types.CodeType)]
    return frozenset(code.co_names).union(*inner)
