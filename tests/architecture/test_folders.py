"""The tests stand where what they test stands: folders of tests are folders of the package."""

from tests.architecture.sources import PACKAGE, ROOT

TESTS = ROOT / "tests"

BESIDE = {"architecture", "oracles"}
"""Folders of tests that stand beside those of the package: what is tested there is no folder of it."""

OF_THE_WHOLE = {"test_benchmarks", "test_docs", "test_examples", "test_package"}
"""Files of tests at the top that are about more than one module."""


def folders(root) -> set[str]:
    """Every folder with Python in it below a root."""
    return {str(p.parent.relative_to(root)) for p in root.rglob("*.py")} - {"."}


def test_tests_mirror_the_package():
    """A folder of tests has the name of a folder of the package, and each of them has tests."""
    tests = {name for name in folders(TESTS) if name.partition("/")[0] not in BESIDE}
    assert tests - folders(PACKAGE) == set()
    assert [f"no tests of {name}" for name in folders(PACKAGE) - tests if "/" not in name] == []


def test_tests_at_the_top_are_of_modules_at_the_top():
    """A file of tests that stands in no folder is about a module that stands in none."""
    modules = {f"test_{p.stem}" for p in PACKAGE.glob("*.py")}
    assert {p.stem for p in TESTS.glob("test_*.py")} - modules - OF_THE_WHOLE == set()


def test_helpers_are_no_tests():
    """What pytest would not collect by its name has no test in it."""
    for path in TESTS.rglob("*.py"):
        if not path.stem.startswith("test_"):
            assert "\ndef test_" not in path.read_text(encoding="utf-8"), path
