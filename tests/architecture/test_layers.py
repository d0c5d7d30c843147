"""Folders are layers: arrows point one way, imports within functions and by name included, and none in a circle."""

import ast
import sys

import pytest
from tests.architecture.sources import MODULES, imports, imports_in, layers, place_of, tree_of

EVERY = [one for module in MODULES for one in imports(module)]


def test_every_module_stands_in_a_layer():
    """A new folder is given its place in pyproject.toml; the package itself stands above all."""
    assert [m for m in MODULES if m != "descend" and place_of(m, layers()) is None] == []


def against(arrows, rows):
    """The imports that do not point downward: to a layer above, or to another of the same row."""
    wrong = []
    for one in arrows:
        here, there = place_of(one.source, rows), place_of(one.target, rows)
        if one.source == "descend" or one.target == "descend" or here[1] == there[1]:
            continue
        if here[0] >= there[0]:
            wrong.append(str(one))
    return wrong


def test_arrows_point_one_way():
    """No module imports from a layer above its own, nor from another of its row, wherever the import stands."""
    assert against(EVERY, layers()) == []


def test_only_the_command_line_imports_the_package_itself():
    """`descend` offers what all layers make: whoever imports its names imports from above."""
    above = {one.source for one in EVERY if one.target == "descend"}
    command_line = place_of("descend.cli.app", layers())[0]
    assert {source for source in above if place_of(source, layers())[0] > command_line} == set()


def test_rules_import_rules_and_errors_alone():
    """What a step is knows nothing of who runs it."""
    foreign = [
        str(one)
        for one in EVERY
        if one.source.startswith("descend.rules") and not one.target.startswith(("descend.rules", "descend.errors"))
    ]
    assert foreign == []


def test_rules_import_no_library_that_runs_them():
    """A formula is written for all of them at once: of libraries, rules import NumPy alone."""
    imported = set()
    for module in MODULES:
        if module.startswith("descend.rules"):
            for node in ast.walk(tree_of(module)):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    imported.add(node.module.partition(".")[0])
    assert imported - sys.stdlib_module_names == {"descend", "numpy"}


def circles(arrows):
    """The sets of modules each of which is reached from every other (Tarjan 1972), of more than one module."""
    targets = {}
    for one in arrows:
        targets.setdefault(one.source, []).append(one.target)
    found, index, low, path = [], {}, {}, []

    def visit(module):
        index[module] = low[module] = len(index)
        path.append(module)
        for target in targets.get(module, ()):
            if target not in index:
                visit(target)
            if target in path:
                low[module] = min(low[module], low[target])
        if low[module] == index[module]:
            start = path.index(module)
            members = path[start:]
            del path[start:]
            if len(members) > 1:
                found.append(sorted(members))

    for module in sorted(targets):
        if module not in index:
            visit(module)
    return found


def test_no_imports_in_a_circle():
    """Every module can be read after all that it imports."""
    assert circles(EVERY) == []


# ---- what finds them ------------------------------------------------------------------------------------------------

KNOWN = dict.fromkeys(["descend", "descend.low", "descend.low.deep", "descend.high", "descend.beside"])
ROWS = [["descend.high"], ["descend.low", "descend.beside"]]


@pytest.mark.parametrize(
    ("code", "targets"),
    [
        ("import descend.high", ["descend.high"]),
        ("from descend import high", ["descend.high"]),
        ("from descend import minimize", ["descend"]),
        ("from descend.low.deep import thing", ["descend.low.deep"]),
        ("from descend.low import deep, thing", ["descend.low.deep", "descend.low"]),
        ("def f():\n    from descend.high import g", ["descend.high"]),
        ("class A:\n    def f(self):\n        with g:\n            import descend.high", ["descend.high"]),
        ("import_module('descend.high')", ["descend.high"]),
        ("importlib.import_module('descend.high').run()", ["descend.high"]),
        ("__import__('descend.high')", ["descend.high"]),
        ("names = {'f': 'high'}\nimport_module(f'descend.{names[x]}')", ["descend.high"]),
        ("WHERE = 'descend.high'\nimport_module(WHERE)", ["descend.high"]),
        ("if TYPE_CHECKING:\n    from descend.high import g", []),
        ("if TYPE_CHECKING:\n    x = 1\nelse:\n    from descend.high import g", ["descend.high"]),
        ("import numpy\nimport_module('torch')\nx = 'descend.high'", []),
    ],
)  # fmt: skip
def test_imports_are_found(code, targets):
    """Every way to import a module is seen, and what only type checkers read is not."""
    assert [one.target for one in imports_in("descend.low", ast.parse(code), KNOWN)] == targets


def test_arrows_that_point_upward_or_aside_are_found():
    """The layer above and a neighbour of the same row are refused; the layer below and the own one are not."""
    code = "import descend.low, descend.low.deep, descend.high, descend.beside"
    arrows = imports_in("descend.low", ast.parse(code), KNOWN)
    assert against(arrows, ROWS) == ["descend.low:1 imports descend.high", "descend.low:1 imports descend.beside"]
    assert against(imports_in("descend.high", ast.parse(code), KNOWN), ROWS) == []


def test_circles_are_found():
    """Two circles, one of three; a module that leads into a circle is not of it."""
    arrows = [
        one
        for source, code in {
            "descend": "import descend.low",
            "descend.low": "import descend.low.deep",
            "descend.low.deep": "def f():\n    import descend.high",
            "descend.high": "import_module('descend.low')",
        }.items()
        for one in imports_in(source, ast.parse(code), KNOWN)
    ]
    assert circles(arrows) == [["descend.high", "descend.low", "descend.low.deep"]]
    assert circles(arrows[:3]) == []
