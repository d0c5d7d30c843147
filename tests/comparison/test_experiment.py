"""`descend.compare`: equal tuning, equal cost, paired seeds, misses that stay misses, and comparisons that go on."""

import dataclasses
import itertools
import statistics

import numpy as np
import pytest
from tests.comparison.comparing import SMALL, X, Y, line

import descend
from descend import Entry, Problem
from descend.errors import OptionError


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
    tried = len(shown) % steps  # before the first run
    runs = [shown[tried + i * steps : tried + (i + 1) * steps] for i in range(len(shown) // steps)]
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


def test_a_comparison_prints_as_its_table():
    """str() fits 80 columns and has the answer and every row."""
    found = descend.compare(line(), **SMALL)
    text = str(found)
    assert max(map(len, text.splitlines())) <= 80
    assert all(row.label in text for row in found.rows)
    assert found.answer.split(",")[0] in text


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])  # as each process loads torch
def test_a_torch_problem_can_be_compared(jobs):
    """A user's network, in this process and in two others."""
    import torch

    problem = descend.TorchProblem(
        lambda: torch.nn.Linear(4, 1),
        lambda out, y: torch.nn.functional.mse_loss(out[:, 0], y),
        data=(X, Y),
        name="linear",
    )
    found = descend.compare(problem, ["gd", "adam"], **{**SMALL, "jobs": jobs, "learning_rates": [0.03, 0.1]})
    assert found.rows[0].misses == 0
    assert found.rows[0].test.median < 2.0


@pytest.mark.parametrize("name", [name for name in descend.problems.BUILT_IN if name != "mnist"])
def test_every_built_in_problem_can_be_compared(name):
    """A small comparison of each: a table whose best entry did not fail."""
    found = descend.compare(
        name,
        ["gd", "adam"],
        learning_rates=[1e-3, 1e-2],
        budget=64,
        tuning_seeds=1,
        final_seeds=1,
        target=0.0,
        untuned=False,
        jobs=1,
    )
    assert found.rows[0].misses == 0
    assert found.source == name
