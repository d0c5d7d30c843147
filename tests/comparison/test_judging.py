"""Judging: choices, verdicts, and how often they are right."""

import dataclasses
import math
import random
import statistics

import numpy as np
import pytest
import scipy.stats
from tests.comparison.comparing import lr, plan_of, run_of

import descend
from descend import Entry
from descend.comparison.judging import bootstrap
from descend.comparison.judging.bootstrap import best_shares
from descend.comparison.judging.choice import choose, sensitivity
from descend.comparison.judging.results import entry_results
from descend.comparison.judging.standings import standings
from descend.comparison.planning.spaces import LEARNING_RATES
from descend.intervals import interval


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
    assert not table[0].at_edge


@pytest.fixture
def verdicts_alone(monkeypatch):
    """Draw hardly any resamples: they say who is how often best, and no verdict depends on them."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 2)


@pytest.mark.usefixtures("verdicts_alone")
def test_false_differences_are_rare():
    """200 comparisons of two rules that are the same but for noise: at most 5 % claim a difference, by design fewer."""
    rng, false = np.random.default_rng(0), 0
    plan = plan_of(finals=10)
    for _ in range(200):
        runs = [run_of(e, s, float(rng.normal())) for e in (0, 1) for s in plan.final_seeds]
        false += any(r.verdict == "clearly worse" for r in entry_results(plan, runs, [lr(0.1)] * 2))
    assert false <= 10


@pytest.mark.usefixtures("verdicts_alone")
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


@pytest.mark.usefixtures("verdicts_alone")
def test_a_real_difference_is_found():
    """A shift of one and a half standard deviations of the paired noise is found most of the time with 10 seeds."""
    rng, found = np.random.default_rng(1), 0
    plan = plan_of(finals=10)
    for _ in range(100):
        runs = [run_of(e, s, float(rng.normal() + 2.1 * e)) for e in (0, 1) for s in plan.final_seeds]
        table = entry_results(plan, runs, [lr(0.1)] * 2)
        found += table[0].label == "e1" and table[1].verdict == "clearly worse"
    assert found >= 80


@pytest.mark.usefixtures("verdicts_alone")
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


def test_a_verdict_has_to_hold_in_each_study():
    """Far ahead in two studies and a little behind in the third: no verdict; ahead in all three: one."""
    seeds = np.arange(10)
    studies = [0] * 10 + [1] * 10 + [2] * 10
    ahead = np.concatenate([5.0 + seeds, 5.0 + seeds, 5.0 + seeds])
    behind = np.concatenate([9.0 + seeds, 9.0 + seeds, 4.9 + seeds])
    assert [s.verdict for s in standings([ahead, behind], studies)] == ["best", "no clear difference"]
    behind[20:] = 5.5 + seeds
    assert [s.verdict for s in standings([ahead, behind], studies)] == ["best", "clearly worse"]


def test_hits_between_the_same_looks_are_level():
    """Two entries that may have reached the target at the same cost are not told apart, whatever their looks say."""
    looks = {"fast": [736.0] * 10, "slow": [1437.0] * 10}
    alone = standings(list(looks.values()), [0] * 10)
    assert [s.verdict for s in alone] == ["best", "clearly worse"]
    assert [s.best_probability for s in alone] == [1.0, 0.0]
    apart = standings(list(looks.values()), [0] * 10, earliest=[[32.0] * 10, [768.0] * 10])
    assert [s.verdict for s in apart] == ["best", "clearly worse"]
    level = standings(list(looks.values()), [0] * 10, earliest=[[32.0] * 10, [700.0] * 10])
    assert [s.verdict for s in level] == ["best", "no clear difference"]
    assert [s.best_probability for s in level] == [0.5, 0.5]
    never = standings([[720.0] * 10, [math.inf] * 10], [0] * 10, earliest=[[40.0] * 10, [700.0] * 10])
    assert [s.verdict for s in never] == ["best", "failed"]


def test_looks_of_other_batches_do_not_make_a_difference():
    """The same descent as two entries that are looked at elsewhere: level; told apart they would have been clearly."""
    plan = plan_of(2, higher=False, finals=10, examples=100, target=0.5)
    entries = (Entry(n, descend.GD(), size, space={"lr": LEARNING_RATES}) for n, size in (("a", 9), ("b", 7)))
    plan = dataclasses.replace(plan, entries=tuple(entries), evaluate_every=50, budget=200)
    a = [(0, 1.0, 1.0), (54, 0.5, 0.5), (100, 0.1, 0.1)]
    b = [(0, 1.0, 1.0), (49, 0.9, 0.9), (100, 0.4, 0.4)]
    runs = [run_of(i, s, 0.4, curve=curve) for i, curve in enumerate((a, b)) for s in plan.final_seeds]
    table = entry_results(plan, runs, [lr(), lr()], 0.5)
    assert [(r.to_target.median, r.to_target.verdict) for r in table] == [(54, "best"), (100, "clearly worse")]
    b[1] = (42, 0.9, 0.9)
    runs = [run_of(i, s, 0.4, curve=curve) for i, curve in enumerate((a, b)) for s in plan.final_seeds]
    table = entry_results(plan, runs, [lr(), lr()], 0.5)
    assert [(r.to_target.median, r.to_target.verdict) for r in table] == [(54, "best"), (100, "no clear difference")]


def test_nobody_is_best_where_no_median_run_gets_there():
    """Three and five hits of ten: neither is first, and neither is called so."""
    some = [[1.0] * k + [math.inf] * (10 - k) for k in (3, 5)]
    found = standings(some, [0] * 10, never="not reached")
    assert [s.verdict for s in found] == ["no clear difference"] * 2
    found = standings([*some, [math.inf] * 10], [0] * 10, never="not reached")
    assert found[2].verdict == "not reached"
    assert "best" not in [s.verdict for s in found]


def test_how_wide_the_good_range_is():
    """The stretch of learning rates around the best one that reach the target."""
    rates = (0.01, 0.03, 0.1, 0.3, 1.0)
    plan = plan_of(entries=1, higher=True, rates=rates)
    values = dict(zip(rates, [0.97, 0.5, 0.96, 0.98, 0.4], strict=True))
    runs = [run_of(0, s, values[r], phase="tuning", rate=r) for r in rates for s in range(3)]
    assert sensitivity(plan, runs, 0.95)[0].good == (0.1, 0.3)
    assert sensitivity(plan, runs, 0.99)[0].good is None
    assert sensitivity(plan, runs)[0].good is None
