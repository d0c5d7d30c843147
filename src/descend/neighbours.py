"""Modules of the user's own that a file imports, from its neighbourhood or wherever they lie, and what these import."""

from __future__ import annotations

import ast
import functools
import sys
import sysconfig
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

__all__ = ["imported_files", "is_own"]

_INSTALLED = ("site-packages", "dist-packages")
"""Folders that hold what is installed: its version says what it is."""


def imported_files(source: Path, module: str = "") -> dict[str, Path]:
    """The files of the user's own that a file imports, and those that they import, by the names of their modules.

    `module` is the file's own name, if it has one: relative imports start there. Imports are read, wherever in a file
    they stand, and not made.
    """
    found: dict[str, Path] = {}
    pending = [(module, source)]
    while pending:
        name, path = pending.pop()
        for wanted in _imports(path, name):
            if wanted not in found and (place := _own_file(wanted)) is not None:
                found[wanted] = place
                if place.suffix == ".py":
                    pending.append((wanted, place))
    return dict(sorted(found.items()))


def is_own(path: Path) -> bool:
    """Whether a file is neither Python's, nor installed, nor descend's."""
    place = path.resolve()
    if any(part in _INSTALLED for part in place.parts) or place.is_relative_to(Path(__file__).parent):
        return False
    return not any(place.is_relative_to(folder) for folder in _python())


@functools.cache
def _python() -> tuple[Path, ...]:
    """The folders of Python itself."""
    paths = sysconfig.get_paths()
    return tuple(Path(paths[name]).resolve() for name in ("stdlib", "platstdlib"))


def _imports(path: Path, module: str) -> Iterator[str]:
    """The names of all modules that a file may import; those of packages come before what is in them."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        for name in _named(node, package):
            parts = name.split(".")
            for i in range(len(parts)):
                yield ".".join(parts[: i + 1])


def _named(node: ast.AST, package: str) -> list[str]:
    """The names in one statement, or in a call that imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        start = package.split(".") if node.level and package else []
        start = start[: len(start) - node.level + 1] if node.level > 1 else start
        base = ".".join([*start, *([node.module] if node.module else [])])
        return [name for name in (base, *(f"{base}.{alias.name}".strip(".") for alias in node.names)) if name]
    if isinstance(node, ast.Call) and node.args:
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        first = node.args[0]
        if called in ("import_module", "__import__") and isinstance(first, ast.Constant):
            return [first.value] if isinstance(first.value, str) and not first.value.startswith(".") else []
    return []


def _own_file(name: str) -> Path | None:
    """The file of a module of the user's own; None for any other."""
    top = name.partition(".")[0]
    if top == "descend" or (top in sys.stdlib_module_names and top not in sys.modules):
        return None
    loaded = sys.modules.get(name)
    file = getattr(loaded, "__file__", None) if loaded is not None else getattr(_spec(name), "origin", None)
    if not isinstance(file, str):
        return None
    path = Path(file)
    return path if path.is_file() and is_own(path) else None


def _spec(name: str) -> ModuleSpec | None:
    """Where a module would be found, without importing the packages that it is in."""
    spec, path = None, None
    parts = name.split(".")
    for i in range(len(parts)):
        try:
            spec = PathFinder.find_spec(".".join(parts[: i + 1]), path)
        except (ImportError, ValueError, OSError):
            return None
        if spec is None:
            return None
        path = None if spec.submodule_search_locations is None else [*spec.submodule_search_locations]
        if path is None and i < len(parts) - 1:
            return None
    return spec
