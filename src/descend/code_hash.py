"""What a run's outcome depends on beside its numbers: code, and the versions of what runs it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import platform
import sys
import types
import uuid
import weakref
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from descend.data_hash import of_data
from descend.errors import ProblemError
from descend.neighbours import imported_files, is_own
from descend.problems import Problem
from descend.rules import Rule

__all__ = ["of_problem", "of_rule", "spelled", "spelled_rule", "versions"]

SHOWING = (
    "cli/",
    "plots/",
    "progress.py",
    "comparison/judging/",
    "comparison/reporting/",
    "comparison/experiment.py",
    "comparison/options.py",
    "comparison/phrases.py",
    "comparison/suite.py",
    "comparison/running/lock.py",
    "comparison/running/pilot.py",
    "comparison/running/store.py",
    "comparison/running/store_file.py",
    "comparison/running/written.py",
)
"""Files that no figure of a run depends on: finished runs outlive a change of these."""


def of_problem(source: Path | str | None, problem: Problem) -> str:
    """A hash of the package, the versions, the problem's file with what it imports of the user's own, and the data.

    Where the file lies is no part of it: a folder may be moved. A problem made in Python never matches again. Raises
    `ProblemError` where what was imported is not what the file of the module says now.
    """
    root = Path(__file__).parent
    package = sorted(f for f in root.rglob("*.py") if not f.relative_to(root).as_posix().startswith(SHOWING))
    parts = [str(sorted(versions().items())), *map(_of_file, package)]
    if source is None:
        parts.append(uuid.uuid4().hex)
    elif isinstance(source, str):
        parts += [source, of_data(problem, Path())]
    else:
        parts += [_of_file(source), *_of_imports(source), of_data(problem, source.resolve().parent)]
    return _hashed("\n".join(parts))


def _of_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


_IMPORTED: dict[str, tuple[Any, str]] = {}
"""The spec of a module of the user's own, None until it is imported, and a hash of its file."""


def _of_imports(source: Path, module: str = "") -> list[str]:
    """What a file imports of the user's own, as names and hashes; raises `ProblemError` for a module that is stale."""
    found = []
    for name, path in imported_files(source, module).items():
        digest, spec = _of_file(path), getattr(sys.modules.get(name), "__spec__", None)
        before, known = _IMPORTED.get(name, (None, digest))
        if spec is not None and before in (None, spec) and known != digest:
            raise ProblemError(
                f"{path} has changed since it was imported, so that this process and its workers would run "
                f"different code: start Python anew, or importlib.reload the module {name}"
            )
        _IMPORTED[name] = spec, digest
        found.append(f"{name} {digest}")
    return found


def of_rule(rule: Rule) -> str:
    """A hash of what a rule outside the package is made from; empty for one of ours.

    These are the files of all its classes with what they import of the user's own, and what their functions close over,
    which a file does not tell.
    """
    made = {k for k in type(rule).__mro__ if not _known(k)}
    return _hashed("\n".join(sorted(_files_of(k) + _closed_over(k) for k in made))) if made else ""


_FILES: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()
"""What `_files_of` found, by the class: its code is what it was."""


def _files_of(made: type) -> str:
    """The file that defines a class, and what it imports of the user's own."""
    if made not in _FILES:
        text = _file_of(made)
        try:
            path = Path(inspect.getfile(made))
        except (OSError, TypeError):
            path = Path()
        _FILES[made] = "\n".join(
            [text, *(_of_imports(path, made.__module__) if path.is_file() and is_own(path) else [])]
        )
    return _FILES[made]


def spelled_rule(rule: Rule, without: str = "") -> str:
    """A rule with all its hyperparameters but one, as text that is the same in every process."""
    parts = [f"{f.name}={spelled(getattr(rule, f.name))}" for f in dataclasses.fields(rule) if f.name != without]
    return f"{type(rule).__name__}({', '.join(parts)})"


def spelled(value: Any) -> str:
    """A value as text that is the same in every process, and another one for another value.

    A function is known by what it computes: its code, its defaults, what it closes over, and what it takes from the
    module that it stands in; an object of a class written in Python by that class and its attributes. What cannot be
    seen through never matches again, in another process.
    """
    return _Spelling(getattr(value, "__module__", None)).of(value)


class _Spelling:
    """Spells a value and what it is made of; `module` is whose globals are looked into."""

    def __init__(self, module: str | None) -> None:
        self.module = module
        self._within: list[int] = []
        """Who is being spelled: one that holds itself is not spelled for ever."""

    def of(self, value: Any) -> str:
        if type(value) in _PLAIN:
            return repr(value)
        if id(value) in self._within:
            return f"<{self._within.index(id(value))}>"
        self._within.append(id(value))
        try:
            return self._made(value)
        finally:
            self._within.pop()

    def _made(self, value: Any) -> str:
        if type(value) in (tuple, list):
            open_, close = "()" if type(value) is tuple else "[]"
            return f"{open_}{', '.join(map(self.of, value))}{close}"
        if type(value) in (set, frozenset):
            return f"{{{', '.join(sorted(map(self.of, value)))}}}"
        if type(value) is dict:
            return f"{{{', '.join(f'{self.of(k)}: {self.of(v)}' for k, v in value.items())}}}"
        if isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
            return f"<{type(value).__name__} {value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}>"
        if isinstance(value, functools.partial):
            return f"<partial {self.of((value.func, value.args, value.keywords))}>"
        if inspect.ismethod(value):
            return f"<method {self.of((value.__self__, value.__func__))}>"
        if inspect.isfunction(value):
            return f"<{value.__qualname__} {_hashed(self._function(value))}>"
        if isinstance(value, type):
            return _named(value) if _known(value) else f"{_named(value)} {_hashed(_file_of(value))}"
        if inspect.ismodule(value):
            return f"<module {value.__name__}>"
        if inspect.isbuiltin(value) or isinstance(value, np.ufunc):
            return f"<{getattr(value, '__module__', None)}.{value.__name__}>"
        if all(k.__flags__ & _IN_PYTHON for k in type(value).__mro__[:-1]) and hasattr(value, "__dict__"):
            return f"{self.of(type(value))}({', '.join(f'{k}={self.of(v)}' for k, v in vars(value).items())})"
        return _token(value)

    def _function(self, function: Any) -> str:
        code = function.__code__
        cells = [_contents(cell) for cell in function.__closure__ or ()]
        parts = [_code(code), *map(self.of, (function.__defaults__, function.__kwdefaults__, cells))]
        if function.__module__ == self.module:
            names = sorted(n for n in _names(code) if n in function.__globals__)
            parts += [f"{name}={self.of(function.__globals__[name])}" for name in names]
        return "\n".join(parts)


_PLAIN = (type(None), type(...), bool, int, float, complex, str, bytes)
_IN_PYTHON = 1 << 9
"""The flag of a class that was made by a class statement (Py_TPFLAGS_HEAPTYPE)."""
_TOKENS: dict[int, tuple[Any, str]] = {}
"""What cannot be seen through, and the word for it in this process."""


def _token(value: Any) -> str:
    if id(value) not in _TOKENS:
        _TOKENS[id(value)] = value, uuid.uuid4().hex
    return f"<{type(value).__qualname__} {_TOKENS[id(value)][1]}>"


def _code(code: types.CodeType) -> str:
    """What a code object does, without where it stands."""
    constants = [_code(c) if isinstance(c, types.CodeType) else spelled(c) for c in code.co_consts]
    shape = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    return repr((code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars, shape))


def _names(code: types.CodeType) -> set[str]:
    """The global names and the attributes in some code and in the functions within it."""
    inner = [_names(c) for c in code.co_consts if isinstance(c, types.CodeType)]
    return set(code.co_names).union(*inner)


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing has been put into it yet
        return ...


def _known(made: type) -> bool:
    """Whether a class is the package's or Python's own."""
    return made.__module__.partition(".")[0] in ("descend", "builtins")


def _named(made: type) -> str:
    return f"{made.__module__}.{made.__qualname__}"


def _closed_over(made: type) -> str:
    """What the functions of a class close over, and its attributes that are plain values."""
    found = []
    for name, member in sorted(vars(made).items()):
        function = inspect.unwrap(getattr(member, "__func__", member)) if callable(member) else member
        if inspect.isfunction(function) and function.__code__.co_filename != "<string>":  # a dataclass makes those
            cells = zip(function.__code__.co_freevars, map(_contents, function.__closure__ or ()), strict=True)
            found += [f"{name}.{free}={spelled(value)}" for free, value in cells if free != "__class__"]
        elif type(member) in _PLAIN and name not in ("__module__", "__doc__", "__firstlineno__"):
            found.append(f"{name}={member!r}")
    return "\n".join(found)


def _file_of(made: type) -> str:
    """The file that defines a class, or else its own source."""
    try:
        return Path(inspect.getfile(made)).read_text(encoding="utf-8")
    except (OSError, TypeError, ValueError):
        try:
            return inspect.getsource(made)
        except (OSError, TypeError):
            return _token(made)


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """The versions of what a comparison's figures depend on."""
    found = {"python": platform.python_version()}
    for package in ("descend", "numpy", "scipy", "llvmlite", "torch", "jax"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
