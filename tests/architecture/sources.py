"""The package's source, read as trees of syntax, and who imports whom: what the tests of the architecture share."""

import ast
import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "descend"


@dataclass(frozen=True)
class Import:
    """One import of a module of the package by another."""

    source: str
    target: str
    line: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


def name_of(path: Path) -> str:
    """The dotted name of the module in a file; a package's is that of its folder."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
"""Every module of the package by its dotted name."""


@functools.cache
def tree_of(module: str) -> ast.Module:
    """The tree of syntax of a module."""
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


# ---- imports --------------------------------------------------------------------------------------------------------


def imports(module: str) -> list[Import]:
    """Whatever of the package a module imports: at its top, within functions, and by name through importlib.

    What only type checkers see is left out. A package is imported with each module in it; that does not count.
    """
    found = imports_in(module, tree_of(module), MODULES)
    return [one for one in found if one.target != module]


def imports_in(module: str, tree: ast.Module, modules) -> list[Import]:
    """The imports in one tree, where the package has these modules."""
    words = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    found = []
    for node in walk_running(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names if alias.name in modules]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import, which this test cannot judge"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = [name if name in modules else node.module for name in names if node.module in modules]
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__"):
            targets = imported_by_name(node, words, modules)
        else:
            continue
        found += [Import(module, target, node.lineno) for target in dict.fromkeys(targets)]
    return found


def walk_running(tree: ast.AST):
    """Every node that runs: `ast.walk` without what stands under ``if TYPE_CHECKING``."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in child.orelse:
                yield from walk_running(other)
        else:
            yield from walk_running(child)


def called(call: ast.Call) -> str:
    """The last name of what is called: ``import_module`` of ``importlib.import_module(…)``."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def imported_by_name(call: ast.Call, words: list[str], modules) -> list[str]:
    """The package's modules that ``import_module(…)`` may load; `words` are all strings in the calling module.

    A name that the call spells out is that name. One that ends in a variable may end in any of the words, and one that
    is a variable may be any of them.
    """
    (name, *_) = call.args
    if isinstance(name, ast.Constant):
        return [name.value] if name.value in modules else []
    start = ""
    if isinstance(name, ast.JoinedStr) and isinstance(name.values[0], ast.Constant):
        start = name.values[0].value
    return [start + word for word in words if start + word in modules]


# ---- layers ---------------------------------------------------------------------------------------------------------


def layers() -> list[list[str]]:
    """The contract of import-linter: rows of packages and modules, those above first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = [contract for contract in settings["contracts"] if contract["type"] == "layers"]
    (rows,) = [contract["layers"] for contract in layers if "containers" not in contract]
    return [row.split(" | ") for row in rows]


def place_of(module: str, rows: list[list[str]]) -> tuple[int, str] | None:
    """The row that a module stands in, counted from above, and the entry of that row; None where it stands in none."""
    for i, row in enumerate(rows):
        for entry in row:
            if module == entry or module.startswith(f"{entry}."):
                return i, entry
    return None


# ---- code -----------------------------------------------------------------------------------------------------------


def functions(tree: ast.AST, within: str = ""):
    """Every function and method with its name within the module, such as ``Adam.update``."""
    for child in ast.iter_child_nodes(tree):
        named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        name = f"{within}.{child.name}".lstrip(".") if named else within
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield name, child
        yield from functions(child, name)


def docstring_lines(node: ast.AST) -> set[int]:
    """The lines of the docstrings of a node and of all within it."""
    lines: set[int] = set()
    for child in ast.walk(node):
        if isinstance(child, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = child.body[0] if child.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                lines |= set(range(first.lineno, first.end_lineno + 1))
    return lines
