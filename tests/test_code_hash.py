"""What a run is known by: hyperparameters that are functions, objects or arrays, as text that is theirs alone."""

import functools
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from tests.comparison.comparing import SMALL

import descend
from descend import Problem
from descend.code_hash import of_rule, spelled, spelled_rule
from descend.errors import ProblemError

MODULE = """
import functools, math
import numpy as np

FACTOR = {factor}

def const(value):
    def schedule(step):
        return value
    return schedule

def of_global(step):
    return FACTOR * step

def helper(step):
    return {factor} * step

def of_function(step):
    return helper(step)

def nested(value):
    return lambda step: (lambda: value)() + step

class Fixed:
    def __init__(self, value):
        self.value = value

    def __call__(self, step):
        return self.value

    def at(self, step):
        return self.value

def recursive(step):
    return recursive(step - 1) if step else {factor}

def membership(step):
    return step in {{"one", "two", "three", "four", "five"}}

a = [
    const({factor}), of_global, of_function, nested({factor}), Fixed({factor}), Fixed({factor}).at, recursive,
    functools.partial(math.pow, {factor}), functools.partial(const({factor})), lambda step, by={factor}: by,
    lambda step, *, by={factor}: by, np.array([{factor}, 1.0]), ({factor}, [2, {{"a": {factor}}}]),
    np.float32({factor}), lambda step: {factor},
]
same = [membership, math.exp, np.exp, np.ndarray, frozenset("abcdefgh")]
"""


def spellings(tmp_path, factor, seed):
    """What a module's values are spelled like in another process, with another hash seed."""
    (tmp_path / "values.py").write_text(MODULE.format(factor=factor))
    code = "import values, json; from descend.code_hash import spelled; "
    code += "print(json.dumps([[spelled(v) for v in values.a], [spelled(v) for v in values.same]]))"
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    env = {"PYTHONHASHSEED": str(seed), "PATH": "", "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_same_in_every_process_and_another_for_another_value(tmp_path):
    """Closures, defaults, globals, helpers, methods, arrays: equal ones match across processes, others never do."""
    first, same = spellings(tmp_path, 0.5, 1)
    assert spellings(tmp_path, 0.5, 2) == [first, same]
    other, still = spellings(tmp_path, 0.25, 3)
    assert still == same
    assert [a == b for a, b in zip(first, other, strict=True)] == [False] * len(first)


def test_what_cannot_be_seen_through_matches_nothing_but_itself():
    """An iterator, an object of C: one word for it as long as the process lives, another one for the next."""
    one, other = iter([1]), iter([1])
    assert spelled(one) == spelled(one) != spelled(other)


def test_what_holds_itself_is_spelled():
    """A list that is its own element, and a closure that sees itself."""
    whole = [1]
    whole.append(whole)
    assert spelled(whole) == "[1, <0>]"

    def down(step):
        return down(step - 1) if step else 0.0

    assert spelled(down) == spelled(down)


def test_rules_of_one_factory_are_told_apart():
    """The same file and the same name, another number that the update closes over, or that the class has."""

    def made(by, power=1):
        class Scaled(descend.Rule, register=False):
            """Another step."""

            exponent = power

            @staticmethod
            def update(p, g, s):
                return p - by * s.lr * g

        return Scaled()

    assert of_rule(made(1.0)) == of_rule(made(1.0))
    assert len({of_rule(made(1.0)), of_rule(made(2.0)), of_rule(made(1.0, 2))}) == 3
    assert of_rule(descend.Adam()) == ""
    assert spelled_rule(descend.Adam(eps=1e-6)) != spelled_rule(descend.Adam())


@pytest.mark.parametrize("wrap", [lambda f: f, functools.partial])
def test_schedules_that_close_over_other_numbers_share_no_run(tmp_path, wrap):
    """Two momentum schedules from one function: as two entries, and as two comparisons in one folder."""

    def const(value):
        return wrap(lambda step: value)

    def entry(value):
        return descend.Entry(f"by {value}", descend.Momentum(momentum=const(value)))

    problem = tmp_path / "booth_like.py"
    problem.write_text(
        "import descend\nproblem = descend.Problem(lambda rng: rng.normal(size=2), lambda w: w @ w, lambda w: 2 * w)\n"
    )
    options = {**SMALL, "learning_rates": [0.05], "budget": 20, "tuning_seeds": 1, "out": tmp_path / "o"}
    both = descend.compare(problem, [entry(0.0), entry(0.9)], **options)
    medians = {row.label: row.test.median for row in both.rows}
    assert not math.isclose(medians["by 0.0"], medians["by 0.9"])
    again = descend.compare(problem, [descend.Entry("again", descend.Momentum(momentum=const(0.9)))], **options)
    assert again.reused == 7
    assert again.rows[0].test.median == medians["by 0.9"]
    assert (
        descend.compare(problem, [descend.Entry("else", descend.Momentum(momentum=const(0.8)))], **options).reused == 0
    )


def test_a_problem_is_its_file_however_it_is_called(tmp_path, monkeypatch):
    """p.py, ./p.py and its absolute path find each other's runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.py").write_text(
        "import descend\nproblem = descend.Problem(lambda rng: 1.0, lambda x: x ** 2, lambda x: 2 * x)\n"
    )
    options = {**SMALL, "learning_rates": [0.1], "budget": 5, "tuning_seeds": 1, "out": tmp_path / "o"}
    reused = [descend.compare(name, ["gd"], **options).reused for name in ("p.py", "./p.py", tmp_path / "p.py")]
    assert reused == [0, 7, 7]


def test_a_fresh_comparison_that_was_stopped_goes_on_with_new_runs_alone(tmp_path):
    """`fresh` forgets every run that the plan may come to before the first new one: none is mixed in later."""
    path = tmp_path / "other.py"
    path.write_text(
        "import descend, pathlib\n"
        f"factor = float(pathlib.Path({str(tmp_path / 'factor')!r}).read_text())\n"
        "def loss(w):\n    return factor * float(w @ w)\n"
        "problem = descend.Problem(lambda rng: rng.normal(size=2), loss, lambda w: 2 * factor * w)\n"
    )
    options = {"trials": 4, "budget": 40, "tuning_seeds": 1, "final_seeds": 6, "timed": True, "jobs": 1}
    (tmp_path / "factor").write_text("1.0")
    old = descend.compare(path, ["gd", "adam"], **options, out=tmp_path / "o")
    (tmp_path / "factor").write_text("2.0")

    def stop(phase, finished, total):
        if phase == "tuning" and finished == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        descend.compare(path, ["gd", "adam"], **options, out=tmp_path / "o", fresh=True, progress=stop)
    found = descend.compare(path, ["gd", "adam"], **options, out=tmp_path / "o")
    assert 0 < found.reused < len(found.runs)
    truth = descend.compare(path, ["gd", "adam"], **options)
    assert [row.test for row in found.rows] == [row.test for row in truth.rows]
    assert [row.test.median for row in found.rows] != [row.test.median for row in old.rows]
    values = {(r.phase, r.entry, r.seed, str(r.hyperparameters)): r.validation for r in truth.runs}
    assert all(r.validation == values[r.phase, r.entry, r.seed, str(r.hyperparameters)] for r in found.runs)


def test_arrays_of_objects_and_unlike_types():
    """What looks alike is told apart by its type: 1, 1.0 and True, float32 and float64, a tuple and a list."""
    alike = [1, 1.0, True, np.float32(1), np.float64(1), np.array(1.0), (1,), [1], {1}, "1", b"1", None]
    assert len({spelled(value) for value in alike}) == len(alike)
    hidden = np.array([object()], dtype=object)
    assert spelled(hidden) == spelled(hidden) != spelled(hidden.copy())


def test_problems_made_in_python_never_match(tmp_path):
    """Nobody can tell what a problem in memory is made of: its runs are not taken up again."""
    problem = Problem(lambda rng: rng.normal(size=2), lambda w: w @ w, lambda w: 2 * w)
    options = {"learning_rates": [0.1], "budget": 5, "tuning_seeds": 1, "final_seeds": 6, "jobs": 1, "out": tmp_path}
    assert [descend.compare(problem, ["gd"], **options).reused for _ in range(2)] == [0, 0]


SMALLEST = {"learning_rates": [0.1], "budget": 5, "tuning_seeds": 1, "final_seeds": 6, "target": "none"} | {
    "untuned": False, "jobs": 1
}  # fmt: skip


def reused_elsewhere(path, out, rules=("gd",)):
    """How many runs another Python process finds there."""
    code = (
        f"import descend; print(descend.compare({str(path)!r}, {list(rules)}, **{SMALLEST}, out={str(out)!r}).reused)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=path.parent)
    return int(done.stdout)


def test_a_moved_folder_keeps_its_runs(tmp_path):
    """Where a problem's file lies says nothing of what it computes."""
    (tmp_path / "here").mkdir()
    path = tmp_path / "here" / "moved_one.py"
    path.write_text(
        "import descend, pathlib\nhere = str(pathlib.Path(__file__).parent)\n"
        "problem = descend.Problem(lambda rng: 1.0, lambda x: x ** 2 + 0 * len(here), lambda x: 2 * x)\n"
    )
    assert descend.compare(path, ["gd"], **SMALLEST, out=tmp_path / "here" / "o").reused == 0
    (tmp_path / "here").rename(tmp_path / "there")
    there = tmp_path / "there"
    assert descend.compare(there / "moved_one.py", ["gd"], **SMALLEST, out=there / "o").reused == 7


def test_a_module_that_the_file_imports_belongs_to_it(tmp_path):
    """Changed two imports away: new runs; in the process that has the old one already, an error, and no mixture."""
    (tmp_path / "factor_of_mine.py").write_text("factor = lambda: 1.0\n")
    (tmp_path / "loss_of_mine.py").write_text(
        "def loss(x):\n    import factor_of_mine\n    return factor_of_mine.factor() * x ** 2\n"
    )
    path = tmp_path / "importing.py"
    path.write_text(
        "import descend, loss_of_mine\nproblem = descend.Problem(lambda rng: 1.0, loss_of_mine.loss, lambda x: 2 * x)\n"
    )
    out = tmp_path / "o"
    assert descend.compare(path, ["gd"], **SMALLEST, out=out).reused == 0
    assert reused_elsewhere(path, out) == 7
    (tmp_path / "factor_of_mine.py").write_text("factor = lambda: 2.0\n")
    assert reused_elsewhere(path, out) == 0
    with pytest.raises(ProblemError, match=r"factor_of_mine\.py has changed since it was imported"):
        descend.compare(path, ["gd"], **SMALLEST, out=out)


def test_data_that_changed_under_a_file_make_new_runs(tmp_path):
    """The file of the problem is the same; what it has read is not."""
    path = tmp_path / "reading_data.py"
    path.write_text(
        "import descend, pathlib, numpy as np\n"
        "X = np.loadtxt(pathlib.Path(__file__).with_name('data.txt'))\n"
        "problem = descend.Problem(lambda rng: np.zeros(1), lambda w, x: np.mean((x - w) ** 2),\n"
        "                          lambda w, x: 2 * np.mean(w - x, keepdims=True), data=(X,))\n"
    )
    options = {**SMALLEST, "budget": 100, "out": tmp_path / "o"}
    for last, reused in ((1.0, 0), (1.0, 7), (2.0, 0)):
        np.savetxt(tmp_path / "data.txt", [*np.linspace(0, 1, 49), last])
        assert descend.compare(path, ["gd"], **options).reused == reused


@pytest.mark.slow
def test_a_module_that_a_rules_file_imports_belongs_to_it(tmp_path):
    """The rule's own file is the same; what it imports is not."""
    (tmp_path / "formula_of_mine.py").write_text("def step(p, g, s):\n    return p - s.lr * g\n")
    (tmp_path / "rule_of_mine.py").write_text(
        "import descend, formula_of_mine\nclass Imported(descend.Rule):\n    'Steps.'\n"
        "    @staticmethod\n    def update(p, g, s):\n        return formula_of_mine.step(p, g, s)\n"
    )
    path = tmp_path / "with_rule.py"
    path.write_text(
        "import descend, rule_of_mine\nproblem = descend.Problem(lambda rng: 1.0, lambda x: x ** 2, lambda x: 2 * x)\n"
    )
    assert [reused_elsewhere(path, tmp_path / "o", ["imported"]) for _ in range(2)] == [0, 7]
    (tmp_path / "formula_of_mine.py").write_text("def step(p, g, s):\n    return p - 0.5 * s.lr * g\n")
    assert reused_elsewhere(path, tmp_path / "o", ["imported"]) == 0
