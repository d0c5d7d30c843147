"""`descend rules`, `descend problems`, help and version."""

import json

import pytest

from descend import problems, rules


def test_rules_lists_every_rule(run):
    """One line a rule, and as JSON."""
    _, out, _ = run("rules")
    assert all(name in out for name in rules.all())
    assert max(map(len, out.splitlines())) <= 80
    assert {r["name"] for r in json.loads(run("rules", "--json")[1])} == set(rules.all())


@pytest.mark.parametrize("name", ["sgd", "adam", "RMSprop"])
def test_rules_describes_one(name, run):
    """Formula, hyperparameters with ranges, state, paper; within 80 columns."""
    _, out, _ = run("rules", name)
    known = rules.describe(rules.get(name))
    assert known.formula.splitlines()[0] in out
    assert all(h.name in out for h in known.hyperparameters)
    assert all(s in out for s in known.state)
    assert known.paper.split()[0] in out
    assert max(map(len, out.splitlines())) <= 80
    assert json.loads(run("rules", name, "--json")[1])["state"] == list(known.state)


def test_problems_lists_and_describes(run, tmp_path):
    """Every built-in problem; one with its data and settings; a user's file."""
    _, out, _ = run("problems")
    assert all(name in out for name in problems.BUILT_IN)
    assert {p["name"] for p in json.loads(run("problems", "--json")[1])} == set(problems.BUILT_IN)
    _, one, _ = run("problems", "digits")
    assert "1078 train, 359 validation, 360 test" in one
    assert json.loads(run("problems", "quadratic:condition=50", "--json")[1])["optimum"] == 0.0
    (tmp_path / "own.py").write_text(
        "import descend\nproblem = descend.Problem(lambda rng: 1.0, lambda x: x * x, lambda x: 2 * x, summary='mine')\n"
    )
    assert "own: mine" in run("problems", "own.py")[1]


def test_help_and_version(run):
    """Help for every command within 80 columns; a bare call shows help and counts as wrong usage."""
    for command in ([], ["compare"], ["completion"], ["find-lr"], ["rules"], ["problems"]):
        for option in ("--help", "-h"):
            status, out, _ = run(*command, option)
            assert status == 0
            assert "Usage: descend" in out
            assert max(map(len, out.splitlines())) <= 80
    status, out, _ = run("--version")
    assert (status, out.startswith("descend 0.")) == (0, True)
    status, out, err = run()
    assert (status, out) == (2, "")
    assert "Usage: descend" in err


def test_help_has_the_defaults_of_the_code(run):
    """What the options say of their defaults is what a comparison does without them."""
    from descend.comparison.options import EFFORTS

    _, out, _ = run("compare", "--help")
    text = " ".join(out.split())
    usual = EFFORTS["default"]
    assert f"Points that each rule tries. Default: {usual.trials}." in text
    assert f"Seeds that each trial runs from. Default: {usual.tuning_seeds}." in text
    assert f"Fresh seeds that judge the best trial. Default: {usual.final_seeds}." in text
