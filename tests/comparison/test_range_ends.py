"""Ranges of learning rates that end too early: extended, with as many trials for all, or no verdict is given."""

import dataclasses
import math
from collections import Counter

import numpy as np
import pytest
from tests.comparison.comparing import SMALL, line, lr, plan_of, run_of

import descend
from descend import Choice, Entry, LogUniform, Problem
from descend.comparison.experiment import Experiment
from descend.comparison.judging.notes import notes
from descend.comparison.judging.range_ends import edge, extended
from descend.comparison.judging.results import entry_results
from descend.comparison.options import CompareOptions
from descend.comparison.planning.stretches import ROUNDS, Stretch, further_trials

FEW = {"trials": 4, "tuning_seeds": 1, "final_seeds": 6, "budget": 40, "target": "none", "untuned": False, "jobs": 1}


def bowl(curvature, **options):
    """½ c ‖x‖², where GD is stable below a learning rate of 2 / c."""
    return Problem(
        name="bowl", start=lambda rng: rng.normal(size=2), loss=lambda x: 0.5 * curvature * float(x @ x),
        jac=lambda x: curvature * x, **options,
    )  # fmt: skip


def tried(found, label):
    """The learning rates of an entry's tuning runs."""
    (entry,) = (i for i, e in enumerate(found.plan.entries) if e.label == label)
    return sorted(r.learning_rate for r in found.runs if r.phase == "tuning" and r.entry == entry)


def test_a_range_too_high_is_extended_downwards_with_as_many_trials_for_all():
    """Curvature 1e6: GD needs rates below 2e-6, and gets there; Adam, which needs none, has as many trials."""
    said = []
    found = descend.compare(bowl(1e6), ["gd", "adam"], **FEW, announce=said.append)
    rates = {label: tried(found, label) for label in ("GD", "Adam")}
    assert len(rates["GD"]) == len(rates["Adam"]) == found.plan.all_trials > 4
    assert min(rates["GD"]) < 2e-6
    row = next(row for row in found.rows if row.label == "GD")
    assert row.misses == 0
    assert row.learning_rate < 2e-6
    assert any("searched further, for GD down to 1e-" in text for text in said)
    assert any("every technique gets 3 more trials." in note for note in found.notes)
    assert "and learning rates of GD searched down to 1e-" in found.answer.partition(". ")[0]


def test_a_range_too_low_is_extended_upwards():
    """Curvature 1e-4: the best rate of GD is far above 10."""
    found = descend.compare(bowl(1e-4), ["gd"], **{**FEW, "trials": 6})
    assert max(tried(found, "GD")) > 10
    assert found.rows[0].learning_rate > 10
    assert " up to " in found.answer


def test_what_was_set_is_not_extended_and_gives_no_verdict():
    """Every trial of a given range failed, or the best lies at its edge: nothing is said against that entry."""
    for options in ({"learning_rates": [1e-3, 1e-2]}, {"space": {"lr": LogUniform(1e-4, 1.0)}, "trials": 4}):
        found = descend.compare(bowl(1e6), ["gd", "adam"], **{**FEW, "trials": None, **options})
        row = next(row for row in found.rows if row.label == "GD")
        assert (row.learning_rate, row.misses) == (None, 6)
        assert row.test.verdict == row.verdict == "no verdict"
        assert not found.plan.stretches
        assert "there is no verdict on GD, whose every trial failed" in found.answer.partition(". ")[0]
        assert any("Every trial of GD failed, from 0.00" in note for note in found.notes)
        assert any("GD (6 of 6: the loss has grown beyond all bounds" in note for note in found.notes)


@pytest.mark.parametrize(
    ("chosen", "verdict"), [(0.1, "no verdict"), (1.0, "no verdict"), (0.5, "clearly worse"), (None, "no verdict")]
)
def test_a_verdict_against_an_entry_at_an_edge_is_withheld(chosen, verdict):
    """Clearly worse inside of what was tried is clearly worse; at either end it may be for the end."""
    plan = plan_of(rates=(0.1, 0.5, 1.0), rules=[descend.GD(), descend.GD()])
    entries = tuple(dataclasses.replace(e, space={"lr": Choice([0.1, 0.5, 1.0])}) for e in plan.entries)
    plan = dataclasses.replace(plan, entries=entries)
    runs = [run_of(0, seed, 0.9) for seed in plan.final_seeds]
    runs += [run_of(1, seed, None if chosen is None else 0.5) for seed in plan.final_seeds]
    table = entry_results(plan, runs, [lr(0.5), (None,) if chosen is None else lr(chosen)])
    assert [row.test.verdict for row in table] == ["best", verdict]
    best_at_edge = entry_results(plan, runs, [lr(1.0), lr(0.5)])
    assert [row.test.verdict for row in best_at_edge] == ["best", "failed" if chosen is None else "clearly worse"]


def usual_plan(entries=("gd", "adam"), **options):
    """A plan whose learning rates have the usual range."""
    return Experiment(line(), list(entries), CompareOptions(**{**FEW, **options})).plan


def rates_of(plan, entry, study=0):
    return [point["lr"] for point in plan.points(plan.entries[entry], study)]


def stretched(plan, chosen, steps=10):
    """The plan after tuning runs of so many steps that led to this choice."""
    runs = [
        dataclasses.replace(run_of(i, 0, 0.5, phase="tuning", study=study), examples=steps)
        for i in range(len(plan.entries)) for study in range(plan.studies)
    ]  # fmt: skip
    return extended(plan, chosen, runs)


@pytest.mark.parametrize("which", ["failed", "low", "high"])
def test_each_round_goes_on_where_the_last_one_ended(which):
    """As many trials for all in each; whose range is extended has them there, the other one within its range."""
    plan = usual_plan()
    middle = sorted(rates_of(plan, 1))[1]
    for number in range(1, ROUNDS + 1):
        rates = rates_of(plan, 0)
        chosen = {"failed": None, "low": {"lr": min(rates)}, "high": {"lr": max(rates)}}[which]
        wider = stretched(plan, [(chosen,), ({"lr": middle},)])
        new = [rate for rate in rates_of(wider, 0) if rate not in rates]
        end = 10.0 * 1e3**number if which == "high" else 1e-4 / 1e3**number
        assert all(min(end, end * 1e3, end / 1e3) * 0.99 <= rate <= max(end, end * 1e3) * 1.01 for rate in new)
        assert rates_of(wider, 0)[: len(rates)] == rates
        assert rates_of(wider, 1)[: len(rates_of(plan, 1))] == rates_of(plan, 1)
        assert all(1e-4 <= rate <= 10 for rate in rates_of(wider, 1))
        assert len(rates_of(wider, 0)) == len(rates_of(wider, 1)) == 4 + number * further_trials(4)
        assert wider.hash == plan.hash
        plan = wider
    assert stretched(plan, [(None,), (None,)]) is None


def test_a_range_is_extended_in_the_study_that_needs_it():
    """Another study's points stay in the range; all have as many."""
    plan = usual_plan(studies=2)
    best = [[{"lr": sorted(rates_of(plan, i, study))[1]} for study in (0, 1)] for i in (0, 1)]
    wider = stretched(plan, [(best[0][0], None), tuple(best[1])])
    assert wider.stretches == ((Stretch("GD", 1, False, 1),),)
    assert [min(rates_of(wider, i, study)) < 1e-4 for i in (0, 1) for study in (0, 1)] == [False, True, False, False]
    assert {len(rates_of(wider, i, study)) for i in (0, 1) for study in (0, 1)} == {4 + further_trials(4)}


def test_nothing_is_extended_where_no_learning_rate_would_help():
    """A good rate within the range; runs that fail before their first step; a range that somebody set."""
    plan = usual_plan()
    inside = ({"lr": sorted(rates_of(plan, 0))[1]},)
    assert stretched(plan, [inside, inside]) is None
    assert stretched(plan, [(None,), inside], steps=0) is None
    given = usual_plan(space={"lr": LogUniform(1e-3, 1.0)})
    assert stretched(given, [(None,), ({"lr": min(rates_of(given, 1))},)]) is None
    fixed = usual_plan(trials=None, learning_rates=[0.1, 1.0])
    assert stretched(fixed, [(None,), (None,)]) is None
    assert edge(usual_plan(trials=1), 0, 0, {"lr": rates_of(usual_plan(trials=1), 0)[0]}) == ""


def test_a_rule_that_takes_no_higher_rate_is_left_at_the_edge():
    """A stretch that a rule refuses is not tried: the edge is told instead."""

    class Capped(descend.Rule, register=False):
        """Takes learning rates up to 10."""

        lr: float = descend.hyper(default=0.01, doc="learning rate", at_least=0, at_most=10)

        @staticmethod
        def update(p, g, s):
            return p - s.lr * g

    plan = usual_plan([Capped()])
    assert stretched(plan, [({"lr": max(rates_of(plan, 0))},)]) is None


def test_an_entry_that_fails_everywhere_has_failed():
    """In all stretches as well: the verdict is 'failed', and every technique had as many trials."""

    class Exploding(descend.Rule, register=False):
        """Runs away."""

        @staticmethod
        def update(p, g, s):
            return p * 1e200

    found = descend.compare(line(), ["gd", Exploding()], **{**FEW, "budget": 240})
    assert found.rows[-1].test.verdict == "failed"
    assert len(found.plan.stretches) == ROUNDS
    assert min(tried(found, "Exploding")) < 1e-12
    assert len(tried(found, "GD")) == len(tried(found, "Exploding"))


def test_fresh_forgets_the_runs_of_stretches_too(tmp_path):
    """What the same command had made beyond the range is made again; without the option it is taken up."""
    problem, options = "quadratic:condition=1000000", {**FEW, "budget": 20, "out": tmp_path}
    first = descend.compare(problem, ["gd", "adam"], **options)
    assert first.plan.stretches
    again = descend.compare(problem, ["gd", "adam"], **options)
    assert again.reused == len(again.runs) == len(first.runs)
    assert again.answer == first.answer
    assert descend.compare(problem, ["gd", "adam"], **options, fresh=True).reused == 0


def test_points_of_a_stretch_are_as_dense_as_those_of_the_range():
    """Trials per decade, and the other dimensions of the space besides."""
    entry = Entry("Momentum", "momentum", space={"momentum": descend.Uniform(0.5, 0.9)})
    plan = usual_plan([entry], trials=20)
    wider = stretched(plan, [(None,)])
    decades = Counter(math.floor(math.log10(point["lr"])) for point in wider.points(wider.entries[0], 0))
    usual = np.mean([decades[d] for d in range(-4, 1)])
    beyond = np.mean([decades[d] for d in range(-7, -4)])
    assert beyond == pytest.approx(usual, abs=0.5)
    assert all(0.5 <= point["momentum"] <= 0.9 for point in wider.points(wider.entries[0], 0))


@pytest.mark.slow
def test_targets_in_plain_units():
    """Inputs and targets as they are measured, targets of 25 to 346: Momentum is not last for its range, but first."""
    X, y = pytest.importorskip("sklearn.datasets").load_diabetes(return_X_y=True, scaled=False)
    X = np.column_stack([X, np.ones(len(y))])
    problem = Problem(
        start=lambda rng: 0.01 * rng.normal(size=11), loss=lambda w, X, y: float(np.mean((X @ w - y) ** 2)),
        jac=lambda w, X, y: 2 * X.T @ (X @ w - y) / len(y), metric=lambda w, X, y: float(np.mean(abs(X @ w - y))),
        metric_name="error", data=(X, y),
    )  # fmt: skip
    found = descend.compare(problem, ["gd", "momentum", "adam"], trials=12, tuning_seeds=2, untuned=False, jobs=2)
    assert found.rows[0].label == "Momentum"
    assert not any(row.misses for row in found.rows)


def test_runs_that_failed_say_why_in_the_notes():
    """The most frequent reason of each entry, in a clause, without step and advice."""

    def loss(w):
        if w[0] > 1.0:
            raise ValueError("outside the domain")
        return float(w @ w) / 2

    problem = Problem(name="domain", start=lambda rng: rng.normal(size=3), loss=loss, jac=lambda w: w.copy())
    found = descend.compare(problem, ["gd"], **{**SMALL, "final_seeds": 12})
    (told,) = (note for note in found.notes if "count as the worst" in note)
    assert "of 12: domain: its loss or metric raised ValueError: outside the domain)" in told
    plan = plan_of(entries=1)
    runs = [dataclasses.replace(run_of(0, s, None), message="The test metric is nan.") for s in plan.final_seeds]
    assert "(12 of 12: The test metric is nan)" in notes(plan, entry_results(plan, runs, [lr()]), None, runs)[-1]
