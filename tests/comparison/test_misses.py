"""Runs that fail: counted misses with their reasons, and comparisons in which everything fails."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from tests.comparison.comparing import SMALL, line

import descend
from descend import Problem
from descend.comparison.options import CompareOptions
from descend.comparison.planning.make_plan import make_plan
from descend.comparison.running.dry_run import dry_run
from descend.errors import ComparisonError, OptionError, ProblemError


def test_a_diverged_run_is_a_counted_miss():
    """A learning rate that diverges from some seeds: counted, ranked as the worst, never averaged away."""
    problem = Problem(
        start=lambda rng: rng.choice([-1.0, 1.0]) * np.ones(1),
        loss=lambda w: float(w[0] ** 2) if w[0] > 0 else math.nan,
        jac=lambda w: 2 * w,
        name="half",
    )
    found = descend.compare(
        problem, ["gd"], learning_rates=[0.1], budget=30, tuning_seeds=1, final_seeds=12, target="none", jobs=1
    )
    row = found.rows[0]
    finals = [r for r in found.runs if r.phase == "final"]
    expected = sum(np.random.default_rng(s).choice([-1.0, 1.0]) < 0 for s in range(1000, 1012))
    assert 0 < expected < 12
    assert row.misses == expected == sum(r.miss for r in finals)
    assert all(r.reason == "non_finite" and r.test is None for r in finals if r.miss)
    assert math.isinf(row.test.high)
    assert any("count as the worst" in note for note in found.notes)


def test_a_function_that_raises_is_a_miss_with_its_reason():
    """One bad seed does not end the comparison."""

    def start(rng):
        return np.array([float(rng.integers(0, 3))])

    def loss(w):
        if w[0] == 0.0:
            raise RuntimeError("no licence")
        return float(w[0] ** 2)

    problem = Problem(start=start, loss=loss, jac=lambda w: 2 * w)
    found = descend.compare(
        problem, ["gd"], learning_rates=[0.1], budget=5, tuning_seeds=3, final_seeds=12, target="none", jobs=1
    )
    missed = [r for r in found.runs if r.miss]
    assert 0 < len(missed) < 15
    assert all("RuntimeError: no licence" in r.message for r in missed)


@pytest.mark.parametrize(("bad_seed", "out"), [(0, False), (1, True), (1003, False), (1003, True)])
@pytest.mark.parametrize("where", ["start", "loss", "jac", "metric"])
def test_what_raises_at_some_starts_is_a_miss_of_those(where, bad_seed, out, tmp_path):
    """At the first start, which is tried before all runs and then passed over; in tuning; in a final run."""
    bad = np.random.default_rng(bad_seed).normal(size=4)

    def raising(function):
        def guarded(w, *data):
            if np.allclose(w, bad, atol=1e-6):
                raise ValueError("outside the domain")
            return function(w, *data)

        return guarded

    def start(rng):
        w = rng.normal(size=4)
        return raising(lambda w: w)(w) if where == "start" else w

    usual = line(metric=lambda w, X, y: float(np.mean(np.abs(X @ w - y))), metric_name="error")
    guarded = {} if where == "start" else {where: raising(getattr(usual, where))}
    parts = {"metric": usual.metric, "metric_name": "error", "start": start, **guarded}
    found = descend.compare(line(**parts), ["gd"], **SMALL, out=tmp_path if out else None)
    missed = {r.seed for r in found.runs if r.miss}
    assert missed == ({bad_seed} if bad_seed else set())
    assert found.plan.tuning_seeds == ((0, 1) if bad_seed else (1, 2))
    assert found.rows[0].misses == (bad_seed == 1003)
    assert all("outside the domain" in r.message for r in found.runs if r.miss)


def test_what_raises_everywhere_is_refused_before_the_first_run():
    """With what the first start raised."""

    def loss(w, X, y):
        raise ValueError(f"no {w[0]:.3f}")

    first = np.random.default_rng(0).normal(size=4)[0]
    with pytest.raises(ProblemError, match=f"raised ValueError: no {first:.3f}"):
        descend.compare(line(loss=loss), ["gd"], **SMALL)


def test_whatever_a_run_does_is_a_record():
    """A start that fails for some seeds, a metric that fails on test data: misses with their reasons, no end."""

    def start(rng):
        w = rng.normal(size=4)
        if w[0] < -0.5:
            raise OSError("no such file")
        return w

    found = descend.compare(line(start=start), ["gd"], **{**SMALL, "tuning_seeds": 3, "final_seeds": 12})
    assert any("no such file" in r.message for r in found.runs if r.miss)
    assert any(not r.miss for r in found.runs)


def test_an_exit_is_a_miss_and_a_message_is_no_novel():
    """sys.exit() in a loss ends a run, and not the comparison; an error that quotes all data is clipped."""

    def loss(w, X, y):
        if w[0] < -0.5:
            raise SystemExit(f"no licence {'x' * 10**6}")
        return float(np.mean((X @ w - y) ** 2))

    found = descend.compare(line(loss=loss), ["gd"], **{**SMALL, "tuning_seeds": 3, "final_seeds": 12})
    missed = [run.message for run in found.runs if run.miss]
    assert 0 < len(missed) < len(found.runs)
    assert all("SystemExit: no licence" in message and len(message) < 3000 for message in missed)


def test_a_rule_that_cannot_step_is_told_before_any_run():
    """A typo in update; a learning rate that the rule does not allow."""

    class Typo(descend.Rule, register=False):
        """Broken."""

        @staticmethod
        def update(p, g, s):
            return p - s.learning_rate * g

    class Capped(descend.Rule, register=False):
        """Takes small learning rates alone."""

        lr: float = descend.hyper(default=0.01, doc="learning rate", at_least=0, at_most=0.05)

        @staticmethod
        def update(p, g, s):
            return p - s.lr * g

    with pytest.raises(OptionError, match="Typo cannot make a step: AttributeError"):
        descend.compare(line(), [Typo()], **SMALL)
    with pytest.raises(OptionError, match=r"Capped cannot take every point of its search space: Capped\(lr=0\.1\)"):
        descend.compare(line(), [Capped()], **SMALL)


@pytest.mark.slow
def test_a_changed_base_class_makes_new_runs(tmp_path):
    """What a rule inherits decides the outcome too: the file of every class it is made from is part of the plan."""
    (tmp_path / "base_of_mine.py").write_text(
        "import descend\nclass Half(descend.Rule, register=False):\n"
        "    @staticmethod\n    def update(p, g, s):\n        return p - 0.5 * s.lr * g\n"
    )
    (tmp_path / "with_base.py").write_text(
        "import descend, base_of_mine\nclass Mine(base_of_mine.Half):\n    'Inherits its step.'\n"
        "problem = descend.Problem(lambda rng: 1.0, lambda x: x ** 2, lambda x: 2 * x)\n"
    )
    command = [
        sys.executable, "-m", "descend.cli", "compare", "with_base.py", "--rules", "mine", "--lr", "0.1",
        "--budget", "5", "--tuning-seeds", "1", "--final-seeds", "6", "--no-untuned", "--target", "none", "--out", "o",
        "--json", "--jobs", "1",
    ]  # fmt: skip
    for text, reused in (("0.5", 0), ("0.5", 7), ("0.25", 0)):
        base = tmp_path / "base_of_mine.py"
        base.write_text(base.read_text().replace("0.5", text))
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["reused_runs"] == reused


def test_a_technique_that_always_fails_is_a_row_that_says_so():
    """None of the learning rates given survives: the row is last, its misses all of them, and no verdict is given."""

    class Exploding(descend.Rule, register=False):
        """Runs away."""

        @staticmethod
        def update(p, g, s):
            return p * 1e200

    found = descend.compare(line(), ["gd", Exploding()], **SMALL)
    last = found.rows[-1]
    assert (last.label, last.verdict, last.misses, last.learning_rate) == ("Exploding", "no verdict", 6, None)
    assert "there is no verdict on Exploding, whose every trial failed" in found.answer


def test_when_everything_fails_the_first_reason_is_told():
    """A loss that is NaN from the start ends in a clear error."""
    problem = Problem(start=lambda rng: np.ones(2), loss=lambda w: math.nan, jac=lambda w: w, name="void")
    with pytest.raises(ComparisonError, match=r"every run failed on void; the first one: .*The loss is nan at step 0"):
        descend.compare(problem, ["gd"], learning_rates=[0.1], budget=5, jobs=1)


def test_the_dry_run_sees_real_batches():
    """A loss that cannot take one example is not shown one; one that cannot take the last batch says so at once."""
    seen = []

    def jac(w, X, y):
        seen.append(len(X))
        return 2 * X.T @ (X @ w - y) / len(y)

    problem = line(jac=jac)
    entries = [descend.Entry("GD", descend.GD(), 25), descend.Entry("Adam", descend.Adam(), 32)]
    plan = make_plan(problem, entries, CompareOptions(target="none"), None)
    dry_run(problem, plan)
    assert seen == [25, 60 % 25, 32, 60 % 32]
