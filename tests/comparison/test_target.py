"""The target, and what it takes to reach it; studies."""

import dataclasses
import math
import statistics

import numpy as np
import pytest
from tests.comparison.comparing import TRIALS, line, plan_of, run_of

import descend
from descend import Problem
from descend.comparison.judging.target import find_target
from descend.errors import OptionError


def test_the_target_is_set_before_the_race():
    """By runs of its own, on seeds of their own, with twice the budget; recomputed here from these runs."""
    order = []
    found = descend.compare(
        line(), ["gd", "adam"], **TRIALS, progress=lambda phase, done, total: order.append((phase, done, total))
    )
    assert list(dict.fromkeys(phase for phase, _, _ in order)) == ["reference", "tuning", "final"]
    pool = [r for r in found.runs if r.phase == "reference"]
    trials, last = pool[:16], pool[16:]
    assert {found.plan.reference[r.entry - 2].label for r in trials} == {"Momentum", "Adam"}
    best = min((r for r in trials if not r.miss), key=lambda r: r.validation)
    assert [(r.entry, r.hyperparameters, r.seed) for r in last] == [
        (best.entry, best.hyperparameters, seed) for seed in range(501, 506)
    ]
    assert all(r.test is None and r.examples == 480 for r in pool if not r.miss)
    reference = statistics.median(r.validation for r in last)
    start = statistics.median(r.curve[0][2] for r in last)
    target = found.target
    assert (target.reference, target.start, target.share) == (reference, start, 0.02)
    exact = reference + 0.02 * (start - reference)
    assert exact <= target.value <= exact * 1.001
    others = {r.seed for r in found.runs if r.phase != "reference"}
    assert not others & {r.seed for r in pool}


def test_evaluations_to_the_target_are_what_the_curves_say():
    """The first look that is good enough, found here with a loop; k of n, medians with misses as the worst."""
    found = descend.compare(line(), ["gd", "adam", "rmsprop"], **{**TRIALS, "final_seeds": 9}, target=1.0)
    assert (found.target.value, found.target.reference) == (1.0, None)
    assert not any(r.phase == "reference" for r in found.runs)
    for row in found.rows:
        times = []
        for run in [r for r in found.runs if r.phase == "final" and r.entry == row.entry]:
            hit = [examples for examples, _, metric in run.curve if metric <= 1.0]
            times.append(hit[0] if hit else math.inf)
        assert row.to_target.hits == sum(map(math.isfinite, times))
        assert row.to_target.runs == 9
        assert row.to_target.median == statistics.median(times)
    medians = [row.to_target.median for row in found.rows]
    assert medians == sorted(medians)
    assert "was first to reach validation loss 1" in found.answer


def test_a_target_that_nobody_reaches():
    """Entries are then ranked by the test metric, as without a target; a note says so."""
    found = descend.compare(line(), ["gd", "adam"], **TRIALS, target=1e-9)
    plain = descend.compare(line(), ["gd", "adam"], **TRIALS, target="none")
    assert all(row.to_target.verdict == "not reached" and math.isinf(row.to_target.median) for row in found.rows)
    assert [row.test for row in found.rows] == [row.test for row in plain.rows]
    assert not found.ranked_by_target
    assert any("No technique reached the target of 1e-09" in note for note in found.notes)
    assert plain.target is None
    assert plain.rows[0].to_target is None


def test_a_pool_that_gets_nowhere_sets_no_target():
    """A problem on which nothing improves: no target, and a note."""
    flat = Problem(lambda rng: np.ones(2), lambda w: 1.0, lambda w: np.zeros(2), name="flat")
    found = descend.compare(flat, ["gd"], **{**TRIALS, "budget": 20})
    assert found.target is None
    assert any("The reference runs got nowhere" in note for note in found.notes)


@pytest.mark.parametrize("target", ["soon", math.nan, math.inf, True, None])
def test_a_target_that_is_none_is_refused(target):
    """What is allowed, by name."""
    with pytest.raises(OptionError, match=r"target=.*: a value of the validation metric is needed"):
        descend.compare(line(), ["gd"], **TRIALS, target=target)


@pytest.mark.parametrize("higher", [True, False])
def test_a_target_is_rounded_to_the_easier_side(higher):
    """Four digits, and never harder than 98 % of the way."""
    plan = plan_of(higher=higher, examples=50, target="reference")
    runs = [run_of(2, s, 0.983333, phase="reference", curve=[[0, 1.0, 0.1 if higher else 3.0]]) for s in range(5)]
    found = find_target(plan, runs)
    assert found.value == (0.9656 if higher else 1.024)
    worse = [dataclasses.replace(r, validation=0.05 if higher else 4.0) for r in runs]
    assert find_target(plan, worse) is None
    assert find_target(plan, [dataclasses.replace(r, validation=None) for r in runs]) is None


def test_each_study_tunes_and_judges_by_itself():
    """Other trials, other seeds; each winner on its own fresh seeds, paired between the entries."""
    found = descend.compare(line(), ["gd", "adam"], **{**TRIALS, "studies": 3}, target="none")
    for study in range(3):
        for entry in range(2):
            tuning_ = [r for r in found.runs if (r.phase, r.study, r.entry) == ("tuning", study, entry)]
            final = [r for r in found.runs if (r.phase, r.study, r.entry) == ("final", study, entry)]
            assert {r.seed for r in tuning_} == {study}
            assert [r.seed for r in final] == list(range(1000 + 6 * study, 1006 + 6 * study))
            best = min((r for r in tuning_ if not r.miss), key=lambda r: (r.validation, r.validation_loss))
            assert {r.learning_rate for r in final} == {best.learning_rate}
    row = found.rows[0]
    assert row.test.runs == 18
    assert len(row.chosen) == 3
