"""A library does not print: what it has to say it returns, raises, warns or logs."""

import ast

import pytest
from tests.architecture.sources import MODULES, functions, tree_of

BY_REQUEST: dict[str, str] = {
    "descend.minimization.minimize: _minimized": "SciPy's option `disp`, which asks for it",
    "descend.regression.least_squares: _say": "SciPy's option `verbose`, which asks for it",
}
"""Module: function → why it may print."""


def prints(tree: ast.Module) -> list[tuple[str, int]]:
    """Where a module prints: the function it does so in, and the line."""
    within = {node: name for name, node in functions(tree)}
    found = []

    def visit(node, name):
        name = within.get(node, name)
        if isinstance(node, ast.Call) and (
            (isinstance(node.func, ast.Name) and node.func.id == "print")
            or ast.unparse(node.func) in ("sys.stdout.write", "sys.stderr.write")
        ):
            found.append((name, node.lineno))
        for child in ast.iter_child_nodes(node):
            visit(child, name)

    visit(tree, "")
    return found


FOUND = [
    (f"{module}: {function}", line)
    for module in MODULES
    if not module.startswith("descend.cli")
    for function, line in prints(tree_of(module))
]


def test_the_package_prints_nothing():
    """Only the command line prints, and what is asked to."""
    assert [f"{where}: line {line}" for where, line in FOUND if where not in BY_REQUEST] == []
    assert set(BY_REQUEST) - {where for where, _ in FOUND} == set(), "an excuse that nothing needs"


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("print(1)", [("", 1)]),
        ("def f():\n    print(1)", [("f", 2)]),
        ("class A:\n    def f(self):\n        return [sys.stderr.write(x) for x in y]", [("A.f", 3)]),
        ("console.print(1)\nsys.stderr.isatty()", []),
    ],
)
def test_prints_are_found(code, found):
    """Printing is seen wherever it stands; what a console of the caller's prints is the caller's."""
    assert prints(ast.parse(code)) == found
