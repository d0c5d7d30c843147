"""`descend.compare`: equal tuning, equal cost, paired seeds, misses that stay misses, and comparisons that go on."""

import dataclasses
import itertools
import json
import math
import random
import sqlite3
import statistics
import subprocess
import sys
import time

import numpy as np
import pytest
import scipy.stats
from tests.comparing import SMALL, X, Y, line, lr, plan_of, run_of

import descend
from descend import Entry, Problem
from descend.comparison.judging.bootstrap import best_shares
from descend.comparison.judging.choice import choose, sensitivity
from descend.comparison.judging.results import entry_results
from descend.comparison.judging.standings import standings
from descend.errors import ComparisonError, OptionError, ProblemError
from descend.intervals import interval

# ---- fairness ---------------------------------------------------------------------------------------------------


def test_every_technique_gets_the_same():
    """The same learning rates, seeds and gradient evaluations; final seeds that no tuning run has seen."""
    found = descend.compare(line(), **SMALL)
    assert [row.label for row in sorted(found.rows, key=lambda r: r.entry)] == [
        "Batch GD", "SGD", "Mini-batch", "Momentum", "Adagrad", "RMSprop", "Adam",
    ]  # fmt: skip
    for entry in range(7):
        tuning = [r for r in found.runs if r.entry == entry and r.phase == "tuning"]
        final = [r for r in found.runs if r.entry == entry and r.phase == "final"]
        assert {(r.learning_rate, r.seed) for r in tuning} == set(itertools.product([0.01, 0.1], [0, 1]))
        assert len({r.learning_rate for r in final}) == 1
        assert {r.seed for r in final} == set(range(1000, 1006))
        assert {r.examples for r in tuning + final} == {240}
        size = {0: 60, 1: 1}.get(entry, 32)
        looks = [e[0] for e in final[0].curve]
        assert all([e[0] for e in r.curve] == looks for r in final)
        assert (looks[0], looks[1], looks[-1]) == (0, 30 if size == 1 else size, 240)


def test_a_seed_gives_every_rule_the_same_start_and_order():
    """What the loss is shown at the first step of each run depends on the seed alone, not on the rule or the rate."""
    shown = []

    def jac(w, X, y):
        shown.append((w.copy(), X.copy()))
        return 2 * X.T @ (X @ w - y) / len(y)

    descend.compare(line(jac=jac), ["gd", "adam", "rmsprop"], **SMALL, batch_size=10)
    steps = 24
    runs = [shown[1 + i * steps : 1 + (i + 1) * steps] for i in range((len(shown) - 1) // steps)]
    assert len(runs) == 3 * (2 * 2 + 6)
    orders = {tuple(float(x[0, 0]) for _, x in run) for run in runs}
    starts = {tuple(run[0][0]) for run in runs}
    assert len(orders) == len(starts) == 2 + 6
    by_start = {}
    for run in runs:
        by_start.setdefault(tuple(run[0][0]), set()).add(tuple(float(x[0, 0]) for _, x in run))
    assert all(len(v) == 1 for v in by_start.values())


def test_test_data_are_read_in_final_runs_alone():
    """The metric is shown the test data once for each final run, and never while learning rates are chosen."""
    problem = line()
    test_rows = problem.test[0].tobytes()
    asked = []
    metric = lambda w, X, y: asked.append(X.tobytes() == test_rows) or float(np.mean((X @ w - y) ** 2))  # noqa: E731
    problem = line(metric=metric, metric_name="mse")
    found = descend.compare(problem, ["gd", "adam"], **SMALL)
    assert sum(asked) == 2 * 6
    first_test = asked.index(True)
    looks_while_tuning = 2 * 2 * 2 * (5 + 2)  # entries × rates × seeds × (looks and the two of the result)
    assert first_test > looks_while_tuning
    assert all(r.test is None for r in found.runs if r.phase == "tuning")
    assert all(r.test is not None for r in found.runs if r.phase == "final")


def test_learning_rates_are_chosen_on_validation_data():
    """A rate that is best on training data and worst on validation data is not chosen."""
    flipped = Problem(
        start=lambda rng: np.zeros(1),
        loss=lambda w, X, y: float(np.mean((w - y[:, None]) ** 2)),
        jac=lambda w, X, y: np.array([2 * np.mean(w - y[:, None])]),
        train=(np.zeros((10, 1)), np.ones(10)),
        validation=(np.zeros((10, 1)), np.full(10, 0.05)),
        test=(np.zeros((10, 1)), np.ones(10)),
    )
    found = descend.compare(
        flipped,
        ["gd"],
        learning_rates=[0.001, 0.5],
        batch_size="full",
        budget=20,
        tuning_seeds=1,
        untuned=False,
        final_seeds=6,
        target="none",
        jobs=1,
    )
    assert found.rows[0].learning_rate == 0.001


def test_the_table_is_what_the_runs_say():
    """Median, misses and order recomputed here from the runs, with NumPy alone."""
    found = descend.compare(line(), **SMALL)
    medians = []
    for row in found.rows:
        tests = [r.test for r in found.runs if r.entry == row.entry and r.phase == "final"]
        assert row.test.median == pytest.approx(np.median(tests))
        assert (row.test.low, row.test.high) == (min(tests), max(tests))  # 6 seeds: the widest order statistics
        assert row.misses == 0
        medians.append(row.test.median)
    assert medians == sorted(medians)
    assert found.rows[0].verdict == "best"


def test_identical_rules_under_two_names_do_not_differ():
    """Paired seeds: the same rule twice gives differences of exactly zero, and no verdict between them."""
    found = descend.compare(line(), [Entry("one", descend.Adam()), Entry("two", descend.Adam())], **SMALL)
    assert [r.verdict for r in found.rows] == ["best", "no clear difference"]
    assert found.rows[1].test.difference.median == 0.0


# ---- misses -----------------------------------------------------------------------------------------------------


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
        "--json",
    ]  # fmt: skip
    for text, reused in (("0.5", 0), ("0.5", 7), ("0.25", 0)):
        base = tmp_path / "base_of_mine.py"
        base.write_text(base.read_text().replace("0.5", text))
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["reused_runs"] == reused


def test_a_technique_that_always_fails_is_a_row_that_says_so():
    """No learning rate survives: the row is last, its verdict 'failed', its misses all of them."""

    class Exploding(descend.Rule, register=False):
        """Runs away."""

        @staticmethod
        def update(p, g, s):
            return p * 1e200

    found = descend.compare(line(), ["gd", Exploding()], **SMALL)
    last = found.rows[-1]
    assert (last.label, last.verdict, last.misses, last.learning_rate) == ("Exploding", "failed", 6, None)
    assert "Exploding failed" in found.answer


def test_when_everything_fails_the_first_reason_is_told():
    """A loss that is NaN from the start ends in a clear error."""
    problem = Problem(start=lambda rng: np.ones(2), loss=lambda w: math.nan, jac=lambda w: w, name="void")
    with pytest.raises(ComparisonError, match=r"every run failed on void; the first one: .*The loss is nan at step 0"):
        descend.compare(problem, ["gd"], learning_rates=[0.1], budget=5, jobs=1)


# ---- statistics -------------------------------------------------------------------------------------------------


def test_the_interval_has_its_coverage():
    """By the binomial distribution: at least 95 % for every n ≥ 6, and no narrower pair of order statistics has it."""
    for n in range(6, 40):
        found = interval(list(range(n)))
        low, high = int(found.low), int(found.high)
        coverage = scipy.stats.binom.cdf(high, n, 0.5) - scipy.stats.binom.cdf(low, n, 0.5)
        assert coverage >= 0.95
        narrower = scipy.stats.binom.cdf(high - 1, n, 0.5) - scipy.stats.binom.cdf(low + 1, n, 0.5)
        assert narrower < 0.95
    assert interval(list(range(5))).low is None


def test_misses_take_part_in_median_and_interval():
    """Infinite values are ranked, not averaged."""
    inf = math.inf
    assert interval([1, 2, 3, 4, 5, 6, inf, inf, inf, inf]) == interval([4, inf, 1, inf, 3, 6, 2, inf, 5, inf])
    found = interval([1, 2, 3, 4, 5, 6, inf, inf, inf, inf])
    assert (found.median, found.low, found.high) == (5.5, 2, inf)
    assert interval([1, 2, 3, inf, inf, inf]).median == inf
    assert interval([inf] * 8).median == inf


def test_misses_against_figures_are_a_difference():
    """A rule that misses half its runs beside one that misses none: never an interval of zero."""
    plan = plan_of(higher=False, finals=10)
    runs = [run_of(0, s, 1.0 + 0.01 * i) for i, s in enumerate(plan.final_seeds)]
    runs += [run_of(1, s, None if i < 5 else 0.5) for i, s in enumerate(plan.final_seeds)]
    worse = entry_results(plan, runs, [lr(0.1)] * 2)[1]
    assert (worse.label, worse.misses) == ("e1", 5)
    assert worse.test.difference.low < 0
    assert math.isinf(worse.test.difference.high)


def test_choosing_prefers_the_median_then_the_loss_then_the_smaller_rate():
    """Two misses of three make a median miss; ties in accuracy go to the lower validation loss."""
    plan = plan_of(entries=1, rates=(0.1, 0.3, 1.0))
    values = {0.1: [0.9, 0.9, 0.9], 0.3: [0.9, 0.9, 0.1], 1.0: [0.99, None, None]}
    runs = [
        run_of(0, s, v, rate=r, phase="tuning", loss=1.0 if r == 0.1 else 0.5)
        for r, vs in values.items()
        for s, v in enumerate(vs)
    ]
    assert choose(plan, runs) == [lr(0.3)]
    seen = sensitivity(plan, runs)[0]
    assert seen.validation == [0.9, 0.9, None]
    assert seen.misses == [0, 0, 2]
    even = [run_of(0, s, 0.9, rate=r, phase="tuning") for r in (0.1, 0.3, 1.0) for s in range(3)]
    assert choose(plan, even) == [lr(0.1)]
    assert choose(plan, [run_of(0, 0, None, rate=r, phase="tuning") for r in (0.1, 0.3, 1.0)]) == [(None,)]


@pytest.mark.parametrize("higher", [True, False], ids=["higher", "lower"])
def test_verdicts_follow_the_paired_differences(higher):
    """Always a little worse on the same seed is clearly worse, though the spread between seeds is far larger."""
    plan, sign = plan_of(higher=higher), 1 if higher else -1
    runs = []
    for i, seed in enumerate(plan.final_seeds):
        runs.append(run_of(0, seed, 0.5 + 0.03 * i))
        runs.append(run_of(1, seed, 0.5 + 0.03 * i - sign * 0.001))
    table = entry_results(plan, runs, [lr(0.1)] * 2)
    assert [(r.label, r.verdict) for r in table] == [("e0", "best"), ("e1", "clearly worse")]
    assert table[1].test.difference.median == pytest.approx(-sign * 0.001)
    assert table[0].at_edge


def test_false_differences_are_rare():
    """200 comparisons of two rules that are the same but for noise: at most 5 % claim a difference, by design fewer."""
    rng, false = np.random.default_rng(0), 0
    plan = plan_of(finals=10)
    for _ in range(200):
        runs = [run_of(e, s, float(rng.normal())) for e in (0, 1) for s in plan.final_seeds]
        false += any(r.verdict == "clearly worse" for r in entry_results(plan, runs, [lr(0.1)] * 2))
    assert false <= 10


def test_false_differences_are_rare_among_many():
    """200 comparisons of seven rules that are the same but for noise: any claim at all in at most 5 % of them.

    The best is picked from the same runs, which is what makes a false claim likely; the correction allows for it.
    """
    rng, false = np.random.default_rng(2), 0
    plan = plan_of(entries=7, finals=10)
    for _ in range(200):
        runs = [run_of(e, s, float(rng.normal())) for e in range(7) for s in plan.final_seeds]
        table = entry_results(plan, runs, [lr(0.1)] * 7)
        assert all(r.verdict in ("best", "clearly worse", "no clear difference") for r in table)
        false += any(r.verdict == "clearly worse" for r in table)
    assert false <= 10


def test_a_real_difference_is_found():
    """A shift of one and a half standard deviations of the paired noise is found most of the time with 10 seeds."""
    rng, found = np.random.default_rng(1), 0
    plan = plan_of(finals=10)
    for _ in range(100):
        runs = [run_of(e, s, float(rng.normal() + 2.1 * e)) for e in (0, 1) for s in plan.final_seeds]
        table = entry_results(plan, runs, [lr(0.1)] * 2)
        found += table[0].label == "e1" and table[1].verdict == "clearly worse"
    assert found >= 80


def test_one_fifth_better_is_found_and_never_turned_round():
    """200 comparisons in which one entry needs a fifth less, and runs vary by a tenth: its power is reported."""
    rng, found, wrong = np.random.default_rng(3), 0, 0
    for _ in range(200):
        noise = 1 + 0.1 * rng.normal(size=(2, 10))
        worse = [s.verdict for s in standings((np.array([[0.8], [1.0]]) * noise).tolist(), [0] * 10)]
        found += worse == ["best", "clearly worse"]
        wrong += worse == ["clearly worse", "best"]
    assert wrong == 0
    assert found / 200 == pytest.approx(0.9, abs=0.08)  # the power that docs/comparing.md tells


def test_each_entry_runs_untuned_beside_it_tuned():
    """With its own learning rate, on the seeds of the final runs; where that was chosen, nothing runs twice."""
    options = {**SMALL, "untuned": True, "learning_rates": [0.01, 0.1]}
    entries = [Entry("own", descend.Adam(lr=0.002), 10), Entry("chosen", descend.GD(lr=0.1), 10)]
    found = descend.compare(line(), entries, **options)
    own, chosen = sorted(found.rows, key=lambda row: row.entry)
    runs = [run for run in found.runs if run.phase == "untuned"]
    assert {(run.entry, run.learning_rate) for run in runs} == {(0, 0.002), (1, 0.1)}
    finals = [dataclasses.replace(run, phase="untuned") for run in found.runs if (run.entry, run.phase) == (1, "final")]
    assert [run for run in runs if run.entry == 1] == finals  # seconds and all: the same runs
    runs = [run for run in runs if run.entry == 0]
    assert [run.seed for run in runs] == list(found.plan.final_seeds)
    for run in runs:
        alone = descend.fit(
            line(), descend.Adam(lr=0.002), examples=240, batch_size=10, seed=run.seed, keep_best=True, progress=False
        )
        assert run.test == pytest.approx(alone.test_metric, rel=1e-12)
    assert own.untuned.median == pytest.approx(statistics.median(run.test for run in runs))
    assert (own.own_learning_rate, own.untuned_misses) == (0.002, 0)
    assert (chosen.learning_rate, chosen.untuned) == (0.1, chosen.test.interval)
    assert "own 0" not in str(found).partition("Untuned")[0]
    assert f"own {own.untuned.median:.4f} at 0.002" in " ".join(str(found).split())
    plain = descend.compare(line(), entries, **{**options, "untuned": False})
    assert [row.test for row in plain.rows] == [row.test for row in found.rows]
    assert [row.verdict for row in plain.rows] == [row.verdict for row in found.rows]
    assert plain.rows[0].untuned is None
    assert plain.plan.hash != found.plan.hash
    with pytest.raises(OptionError, match="untuned=1: True or False"):
        descend.compare(line(), entries, **{**options, "untuned": 1})


@pytest.mark.parametrize(
    ("effort", "trials", "tuning", "final", "studies"),
    [("quick", 8, 1, 10, 1), ("default", 16, 3, 10, 1), ("thorough", 16, 3, 10, 3)],
)
def test_effort(effort, trials, tuning, final, studies):
    """How much is done where nothing else is asked for: the same range of rates, more or fewer points of it."""
    options = {"budget": 4, "jobs": 1, "untuned": False, "target": "none"}
    found = descend.compare("booth", ["gd"], effort=effort, **options)
    plan, rates = found.plan, np.array(found.sensitivity[0].learning_rates)
    assert (plan.trials, plan.studies) == (trials, studies)
    assert (len(plan.tuning_seeds), len(plan.final_seeds)) == (tuning * studies, final * studies)
    assert len(rates) == trials * studies
    assert 1e-4 <= rates.min() < 1e-4 * 10 ** (5 / trials)
    assert 10 / 10 ** (5 / trials) < rates.max() <= 10.0
    assert np.diff(np.log10(rates)).max() < 1.2 * 5 / trials
    own = descend.compare("booth", ["gd"], effort=effort, learning_rates=[0.01], final_seeds=7, **options).plan
    assert (own.trials, len(own.tuning_seeds), len(own.final_seeds)) == (1, tuning * studies, 7 * studies)


def test_how_often_each_is_best():
    """Shares of resamples: against a plain loop, where it is certain, where it is a tie, and with misses."""
    rng = np.random.default_rng(8)
    costs = [list(rng.normal(loc=m, size=9)) for m in (0.0, 0.2, 3.0)] + [[math.inf] * 9]
    costs[0][4] = math.inf
    shares = best_shares(costs)
    assert sum(shares) == pytest.approx(1.0)
    assert shares[2] < 0.01
    assert shares[3] == 0.0
    loop, wins = random.Random(1), [0, 0, 0, 0]
    for _ in range(4000):
        seeds = [loop.randrange(9) for _ in range(9)]
        wins[min(range(4), key=lambda e: statistics.median(costs[e][s] for s in seeds))] += 1
    assert shares == pytest.approx([w / 4000 for w in wins], abs=0.03)
    assert best_shares([[1.0, 2.0, 3.0]] * 2) == pytest.approx([0.5, 0.5])
    assert best_shares([[1.0] * 6, [2.0] * 6]) == [1.0, 0.0]
    assert best_shares([[math.inf] * 6, []]) == [0.0, 0.0]
    assert best_shares([[-1.0] * 6, [1.0] * 6, []]) == [1.0, 0.0, 0.0]


def test_notes_protect_the_reader():
    """A best rate at the edge, too few seeds, batch GD's few steps."""
    found = descend.compare(line(), ["gd"], **{**SMALL, "learning_rates": [1e-5, 1e-4], "final_seeds": 3})
    assert any("edge of the range 1e-05 … 0.0001" in note for note in found.notes)
    assert any("3 final seeds are too few for a verdict on 1 technique: use at least 6" in note for note in found.notes)
    assert found.rows[0].at_edge
    assert found.rows[0].test.low is None
    full = descend.compare(line(), **SMALL)
    assert any("one step for each pass over the data, so only 4 steps" in note for note in full.notes)


# ---- store, output ----------------------------------------------------------------------------------------------


def test_a_comparison_goes_on_where_it_stopped(tmp_path):
    """Half the rows deleted: the same call makes only these again, and ends with the identical table."""
    options = {**SMALL, "out": tmp_path}
    first = descend.compare("booth", ["gd", "adam"], **{**options, "budget": 60})
    assert first.reused == 0
    with sqlite3.connect(tmp_path / "runs.sqlite") as db:
        total = db.execute("SELECT count(*) FROM runs").fetchone()[0]
        db.execute("DELETE FROM runs WHERE rowid % 2")
        left = db.execute("SELECT count(*) FROM runs").fetchone()[0]
    assert total == len(first.runs)
    told = []
    again = descend.compare("booth", ["gd", "adam"], **{**options, "budget": 60}, progress=lambda *a: told.append(a))
    assert again.reused == left < total
    assert again.rows == first.rows
    assert told[0][1] > 0
    assert descend.compare("booth", ["gd", "adam"], **{**options, "budget": 60}, fresh=True).reused == 0


def test_another_plan_makes_its_own_runs(tmp_path):
    """Any change of the plan (here: budget, rates) makes new runs; the old ones stay."""
    options = {**SMALL, "out": tmp_path}
    descend.compare("booth", ["gd"], **{**options, "budget": 60})
    assert descend.compare("booth", ["gd"], **{**options, "budget": 61}).reused == 0
    assert descend.compare("booth", ["gd"], **{**options, "budget": 60}).reused == 10


def test_a_changed_problem_file_makes_new_runs(tmp_path):
    """The file's bytes are part of the plan."""
    path = tmp_path / "mine.py"
    text = "import descend\nproblem = descend.Problem(lambda rng: 1.0, lambda x: {}x ** 2, lambda x: {}2 * x)\n"
    for factor, reused in (("", 0), ("", 7), ("3 * ", 0)):
        path.write_text(text.format(factor, factor))
        found = descend.compare(
            path, ["gd"], learning_rates=[0.1], budget=5, tuning_seeds=1, final_seeds=6, untuned=False, target="none",
            jobs=1, out=tmp_path / "o",
        )  # fmt: skip
        assert found.reused == reused


def test_what_is_written_is_what_is_returned(tmp_path):
    """comparison.json is to_dict(), strict JSON (a miss is null); the report is one file."""
    found = descend.compare(
        "booth", ["gd", "adam"], **{**SMALL, "budget": 60, "learning_rates": [0.01, 10.0]}, out=tmp_path
    )
    text = (tmp_path / "comparison.json").read_text(encoding="utf-8")
    whole = json.loads(text, parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
    assert whole == json.loads(json.dumps(found.to_dict()))
    assert whole["rows"][0]["label"] == found.rows[0].label
    assert len(whole["runs"]) == found.plan.runs
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert {p.name for p in tmp_path.iterdir()} == {"comparison.json", "report.html", "runs.sqlite"}


def test_a_comparison_prints_as_its_table():
    """str() fits 80 columns and has the answer and every row."""
    found = descend.compare(line(), **SMALL)
    text = str(found)
    assert max(map(len, text.splitlines())) <= 80
    assert all(row.label in text for row in found.rows)
    assert found.answer.split(",")[0] in text


# ---- the user's own ---------------------------------------------------------------------------------------------


def test_two_processes_in_one_folder_make_no_run_twice(tmp_path):
    """The second says that it waits, takes all runs of the first, and writes the same table; also after a SIGKILL."""
    path = tmp_path / "slow.py"
    path.write_text(
        "import descend, time\n"
        "def loss(w):\n    time.sleep(0.004)\n    open('made', 'a').write('.')\n    return float(w @ w)\n"
        "problem = descend.Problem(lambda rng: rng.normal(size=2), loss, lambda w: 2 * w)\n"
    )
    command = "compare slow.py --rules gd --lr 0.01,0.1 --budget 20 --tuning-seeds 2 --final-seeds 6 --jobs 1"
    command += " --no-untuned --target none --json"
    start = lambda: subprocess.Popen(  # noqa: E731
        [sys.executable, "-m", "descend.cli", *command.split()],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    first = start()
    while not (tmp_path / "made").exists() and first.poll() is None:
        time.sleep(0.01)
    second = start()
    (one, _), (two, said) = first.communicate(timeout=60), second.communicate(timeout=60)
    assert json.loads(two)["reused_runs"] == 10
    assert json.loads(two)["rows"] == json.loads(one)["rows"]
    assert "Another process works in descend-slow; waiting for it to end." in said
    made = len((tmp_path / "made").read_text())
    third = start()
    third.kill()
    third.communicate()
    assert json.loads(start().communicate(timeout=60)[0])["reused_runs"] == 10
    assert len((tmp_path / "made").read_text()) - made < 20  # what is tried before the first run, and no run


def test_frames_and_files(tmp_path):
    """Every run, every look and the table as frames; the same from files."""
    pandas = pytest.importorskip("pandas")
    found = descend.compare(line(), ["gd", "adam"], **SMALL)
    runs = found.frame()
    assert len(runs) == len(found.runs)
    assert runs.groupby("label")["test"].median().to_dict() == pytest.approx(
        {r.label: r.test.median for r in found.rows}
    )
    curves = found.frame("curves")
    assert len(curves) == sum(len(run.curve) for run in found.runs)
    assert set(curves.columns) >= {"label", "seed", "examples", "loss", "metric"}
    assert found.frame("rows")["test_median"].tolist() == [row.test.median for row in found.rows]
    readers = {".csv": pandas.read_csv, ".json": pandas.read_json}
    for suffix, read in readers.items():
        back = read(found.export(tmp_path / f"runs{suffix}"))
        assert back["validation"].tolist() == pytest.approx(runs["validation"].tolist())
    with pytest.raises(OptionError, match=r"must end in \.csv, \.json, \.parquet"):
        found.export(tmp_path / "runs.xls")
    with pytest.raises(OptionError, match="what='nothing'"):
        found.frame("nothing")
    with pytest.raises(OptionError, match=r"there is no folder .*nowhere'; make it, or choose another"):
        found.export(tmp_path / "nowhere" / "runs.csv")
    (tmp_path / "taken.csv").mkdir()
    with pytest.raises(ComparisonError, match="cannot be written"):
        found.export(tmp_path / "taken.csv")


@pytest.mark.slow
def test_parquet(tmp_path):
    """The frame from a Parquet file is the frame."""
    pytest.importorskip("pyarrow")
    import pandas

    found = descend.compare(line(), ["gd", "adam"], **SMALL)
    pandas.testing.assert_frame_equal(pandas.read_parquet(found.export(tmp_path / "runs.parquet")), found.frame())


def test_a_torch_problem_can_be_compared():
    """A user's network in two processes."""
    import torch

    problem = descend.TorchProblem(
        lambda: torch.nn.Linear(4, 1),
        lambda out, y: torch.nn.functional.mse_loss(out[:, 0], y),
        data=(X, Y),
        name="linear",
    )
    found = descend.compare(problem, ["gd", "adam"], **{**SMALL, "jobs": 2, "learning_rates": [0.03, 0.1]})
    assert found.rows[0].misses == 0
    assert found.rows[0].test.median < 2.0


# ---- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"learning_rates": []}, "learning_rates is empty"),
        ({"learning_rates": [0.1, -1.0]}, r"-1\.0 is not a number > 0"),
        ({"learning_rates": ["a"]}, "'a' is not a number"),
        ({"budget": 0}, "budget=0"),
        ({"budget": 30}, "budget=30 does not pay for one step of Batch GD, which sees 60 examples"),
        ({"batch_size": 70}, "batch_size=70 is larger than the training data"),
        ({"tuning_seeds": 0}, "tuning_seeds=0"),
        ({"final_seeds": 1.5}, r"final_seeds=1\.5"),
        ({"jobs": 0}, "jobs=0"),
        ({"effort": "much"}, "effort='much': one of 'quick', 'default', 'thorough'"),
        ({"rules": []}, "names nothing to compare"),
        ({"rules": ["adam", "adam"]}, "two entries are called 'Adam'"),
        ({"rules": [descend.GD(lr=descend.schedules.Constant(0.1))]}, "is a schedule, but lr is what is tuned"),
    ],
    ids=str,
)
def test_a_bad_option_is_refused_by_name(options, match):
    """Option, value, what is allowed, before anything is run."""
    with pytest.raises(OptionError, match=match):
        descend.compare(line(), **{**SMALL, **options})


def test_a_problem_without_validation_or_test_data_is_refused():
    """There would be nothing to choose on, or nothing to judge by."""
    with pytest.raises(ProblemError, match="has no validation data"):
        descend.compare(line(data=None, train=(X, Y)), **SMALL)
    with pytest.raises(ProblemError, match="has no test data"):
        descend.compare(line(data=None, train=(X, Y), validation=(X, Y)), **SMALL)


@pytest.mark.parametrize("name", [name for name in descend.problems.BUILT_IN if name != "mnist"])
def test_every_built_in_problem_can_be_compared(name):
    """A small comparison of each: a table whose best entry did not fail."""
    found = descend.compare(
        name,
        ["gd", "adam"],
        learning_rates=[1e-3, 1e-2],
        budget=1100,
        tuning_seeds=1,
        final_seeds=1,
        target=0.0,
        untuned=False,
        jobs=1,
    )
    assert found.rows[0].misses == 0
    assert found.source == name


def test_a_broken_problem_says_so_before_any_run():
    """A gradient of the wrong shape, a metric that raises."""
    with pytest.raises(ProblemError, match=r"line: jac gave shape \(3,\)"):
        descend.compare(line(jac=lambda w, X, y: np.ones(3)), **SMALL)
    with pytest.raises(ProblemError, match="raised KeyError"):
        descend.compare(line(metric=lambda w, X, y: {}["accuracy"]), **SMALL)


def test_an_output_folder_that_cannot_be_written_is_refused(tmp_path):
    """A file in its place; before anything is run."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(OptionError, match=r"taken/x' cannot be written"):
        descend.compare("booth", out=tmp_path / "taken" / "x")


def test_a_store_that_is_none_is_refused(tmp_path):
    """Some other file named runs.sqlite, or a store of a later version."""
    (tmp_path / "runs.sqlite").write_text("this is no database, it is a letter to a friend" * 30)
    with pytest.raises(ComparisonError, match="cannot be used as a store"):
        descend.compare("booth", ["gd"], **{**SMALL, "budget": 10}, out=tmp_path)
    (tmp_path / "runs.sqlite").unlink()
    with sqlite3.connect(tmp_path / "runs.sqlite") as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(ComparisonError, match="store of schema 99"):
        descend.compare("booth", ["gd"], **{**SMALL, "budget": 10}, out=tmp_path)
