"""Files and functions that can be read at one sitting; what is longer says why.

A file's length is that of the file. A function's is its lines of code: its docstring, blank lines and comments are not
counted, its signature and the functions within it are.
"""

import ast
import io
import tokenize

import pytest
from tests.architecture.sources import MODULES, PACKAGE, ROOT, docstring_lines, functions, tree_of

FILE, TEST_FILE, FUNCTION = 400, 500, 40

LONG_FILES: dict[str, str] = {}
"""File → why it is longer than it should be."""

LONG_FUNCTIONS: dict[str, str] = {
    "descend.comparison.experiment: compare": "its signature names 19 options, and so does the call inside",
    "descend.regression.least_squares: least_squares": "its signature names 30 options, and so does the call inside",
}
"""Module: function → why it is longer than it should be."""


def lines(path) -> int:
    """The lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def files() -> dict[str, int]:
    """Every file with code in it, of package, benchmarks and examples, and its length."""
    found = [p for p in PACKAGE.rglob("*") if p.suffix in (".py", ".ll", ".j2")]
    found += [p for folder in ("benchmarks", "examples") for p in (ROOT / folder).glob("*.py")]
    return {str(p.relative_to(ROOT)): lines(p) for p in sorted(found)}


def code_lines(source: str, tree: ast.Module) -> set[int]:
    """The lines of a source that have code on them."""
    empty = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in empty:
            found |= set(range(token.start[0], token.end[0] + 1))
    return found - docstring_lines(tree)


def lengths(source: str, tree: ast.Module) -> dict[str, int]:
    """Every function of a source and its lines of code."""
    code = code_lines(source, tree)
    return {name: len(code & set(range(node.lineno, node.end_lineno + 1))) for name, node in functions(tree)}


def test_files_are_short():
    """No file of the package, the benchmarks or the examples is longer than 400 lines without a reason."""
    long = {name for name, length in files().items() if length > FILE}
    assert [f"{name}: {files()[name]} lines" for name in long - set(LONG_FILES)] == []
    assert set(LONG_FILES) - long == set(), "a reason that nothing needs"


def test_functions_are_short():
    """No function of the package has more than 40 lines of code without a reason."""
    long = {
        f"{module}: {name}": length
        for module, path in MODULES.items()
        for name, length in lengths(path.read_text(encoding="utf-8"), tree_of(module)).items()
        if length > FUNCTION
    }
    assert [f"{name}: {length} lines" for name, length in long.items() if name not in LONG_FUNCTIONS] == []
    assert set(LONG_FUNCTIONS) - set(long) == set(), "a reason that nothing needs"


def test_files_of_tests_are_short():
    """No file of tests is longer than 500 lines: a longer one is about two things."""
    long = [f"{p.relative_to(ROOT)}: {lines(p)} lines" for p in (ROOT / "tests").rglob("*.py") if lines(p) > TEST_FILE]
    assert long == []


SOURCE = '''
@decorated
def f(x):
    """A docstring.

    Of three lines.
    """
    # A comment.

    def g():
        """Another."""
        return """two
        lines"""

    return g(  # with a comment


    )


class A:
    """Not a function."""

    def method(self): ...
'''


@pytest.mark.parametrize(("name", "length"), [("f", 6), ("f.g", 3), ("A.method", 1)])
def test_lines_of_code_are_counted(name, length):
    """Signatures, strings and inner functions count; docstrings, comments and blank lines do not."""
    assert lengths(SOURCE, ast.parse(SOURCE))[name] == length
