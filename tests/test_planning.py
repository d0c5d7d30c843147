"""What is settled before a comparison: search spaces, trials, the target, studies, what a run is known by, the time."""

import collections
import dataclasses
import itertools
import json
import math
import sqlite3
import statistics

import numpy as np
import pytest
import scipy.stats
from tests.comparing import line, lr, plan_of, run_of

import descend
from descend import Choice, Entry, LogUniform, Problem, Uniform
from descend.comparison.judging.bootstrap import difference, resampled_median
from descend.comparison.judging.choice import sensitivity
from descend.comparison.judging.notes import notes
from descend.comparison.judging.profiles import profiles
from descend.comparison.judging.results import entry_results
from descend.comparison.judging.standings import standings
from descend.comparison.judging.target import find_target
from descend.comparison.planning.spaces import parse_space, points, space_option
from descend.comparison.running.bundles import Bundler
from descend.comparison.running.pilot import estimate
from descend.comparison.running.store import MIGRATIONS
from descend.errors import ComparisonError, OptionError
from descend.intervals import interval

SMALL = {"budget": 240, "trials": 4, "tuning_seeds": 1, "final_seeds": 6, "untuned": False, "jobs": 1}


# ---- search spaces ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trials", [1, 5, 16, 33])
def test_trials_fill_the_space(trials):
    """Points per decade, per tenth of a range and per choice differ by no more than quasi-random points may."""
    spaces = {"lr": LogUniform(1e-4, 1.0), "momentum": Uniform(0.0, 1.0), "batch_size": Choice([8, 16, 32])}
    found = points(spaces, trials, study=0)
    assert len(found) == trials
    assert all(1e-4 <= p["lr"] <= 1.0 and 0.0 <= p["momentum"] <= 1.0 for p in found)
    decades = np.bincount([min(3, int(math.log10(p["lr"]) + 4)) for p in found], minlength=4)
    assert decades.max() - decades.min() <= 2
    counts = [sum(p["batch_size"] == size for p in found) for size in (8, 16, 32)]
    assert max(counts) - min(counts) <= 3  # the third sequence counts in fifths


def test_more_trials_add_to_the_fewer():
    """The first points of a long sequence are the short one; another study has others."""
    space = {"lr": LogUniform(1e-4, 10.0)}
    assert points(space, 16, 0)[:8] == points(space, 8, 0)
    assert not {p["lr"] for p in points(space, 16, 0)} & {p["lr"] for p in points(space, 16, 1)}
    sixteen = np.sort([math.log10(p["lr"]) for p in points(space, 16, 0)])
    np.testing.assert_allclose(np.diff(sixteen), 5 / 16, atol=0.05)  # as even as a grid


def test_points_are_round_and_within():
    """Two digits of a learning rate, three decimals of a momentum; never outside the ends."""
    assert [LogUniform(0.003, 0.0034).at(u) for u in (0.0, 0.5, 1.0)] == [0.003, 0.0032, 0.0034]
    assert Uniform(0.5, 0.99).at(1 / 3) == pytest.approx(0.6633)
    assert Uniform(-1e6, 1e6).at(0.0) == -1e6
    assert [Choice(["a", "b"]).at(u) for u in (0.0, 0.49, 0.5, 1.0)] == ["a", "a", "b", "b"]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: LogUniform(0.0, 1.0), r"LogUniform\(0\.0, 1\.0\): 0\.0 is not a number > 0"),
        (lambda: Uniform(1.0, 1.0), "the lower end comes first; one value alone is Choice"),
        (lambda: Uniform(0.0, math.inf), "inf is not a finite number"),
        (lambda: Choice([]), "a list of values is needed"),
        (lambda: Choice("adam"), "a list of values is needed"),
        (lambda: Entry("e", "adam", space={"momentum": Uniform(0, 1)}), "no hyperparameter of Adam; .*Known: .*betas"),
        (lambda: Entry("e", "adam", space={"eps": 3.0}), "'eps' has 3.0; LogUniform, Uniform or Choice is needed"),
        (lambda: Entry("e", "adam", space=[1]), r"space=\[1\]: a dict is needed"),
    ],
)
def test_a_space_that_is_none_is_refused(make, match):
    """What it was, and what is allowed."""
    with pytest.raises(OptionError, match=match):
        make()


@pytest.mark.parametrize("text", ["0.5..0.99", "1e-06..0.1:log", "16,32,64", "True,False", "full"])
def test_a_space_as_the_command_line_has_it(text):
    """What is read is what is written."""
    space = parse_space(text)
    assert parse_space(space_option(space)) == space


def test_any_hyperparameter_can_be_searched_for():
    """Momentum and batch size beside the learning rate: as many trials for all, the runs have what the table says."""
    entries = [
        Entry("two", "momentum", space={"momentum": Uniform(0.5, 0.95), "batch_size": Choice([5, 10, 20])}),
        Entry("one", "adam", 10),
    ]
    found = descend.compare(line(), entries, **{**SMALL, "trials": 9, "budget": 600}, target="none")
    by_entry = {row.label: row for row in found.rows}
    for i, names in enumerate([{"lr", "momentum", "batch_size"}, {"lr"}]):
        tried = [r for r in found.runs if r.phase == "tuning" and r.entry == i]
        assert len(tried) == 9
        assert all(set(r.hyperparameters) == names for r in tried)
    (chosen,) = by_entry["two"].chosen
    assert by_entry["two"].batch_size == chosen["batch_size"]
    rule = descend.Momentum(lr=chosen["lr"], momentum=chosen["momentum"])
    for run in [r for r in found.runs if r.phase == "final" and r.entry == 0]:
        alone = descend.fit(
            line(), rule, examples=600, batch_size=chosen["batch_size"], seed=run.seed, keep_best=True,
            evaluate_every_examples=found.plan.evaluate_every, progress=False,
        )  # fmt: skip
        assert run.test == pytest.approx(alone.test_metric, rel=1e-12)
    assert f"momentum {chosen['momentum']}" in str(found)


def test_a_space_for_all():
    """Each rule takes what it has of it; a name that no rule has is refused, with the nearest."""
    space = {"momentum": Uniform(0.5, 0.9), "lr": LogUniform(0.01, 0.1)}
    found = descend.compare(line(), ["momentum", "adam"], space=space, **SMALL, target="none")
    assert [set(e.space) for e in found.plan.entries] == [{"lr", "momentum"}, {"lr"}]
    assert all(0.01 <= r.learning_rate <= 0.1 for r in found.runs)
    with pytest.raises(OptionError, match="no rule here has 'momentun'; did you mean 'momentum'"):
        descend.compare(line(), ["momentum"], space={"momentun": Uniform(0, 1)}, **SMALL)
    with pytest.raises(OptionError, match=r"cannot take every point of its search space: .*momentum"):
        descend.compare(line(), ["momentum"], space={"momentum": Uniform(-0.5, -0.2)}, **SMALL)
    with pytest.raises(OptionError, match="trials=4 with 2 learning_rates"):
        descend.compare(line(), ["gd"], learning_rates=[0.1, 0.2], **SMALL)
    with pytest.raises(OptionError, match="both say what is tried"):
        descend.compare(
            line(), ["gd"], learning_rates=[0.1], space={"lr": LogUniform(0.1, 1)}, **{**SMALL, "trials": 1}
        )
    with pytest.raises(OptionError, match="batch sizes are a Choice"):
        descend.compare(line(), ["gd"], space={"batch_size": Uniform(1, 8)}, **SMALL)


def test_a_space_for_all_leaves_the_techniques_what_they_are_called():
    """GD without momentum, Batch GD on all examples, SGD on one: whatever is searched for; the others take it."""
    space = {"momentum": Uniform(0.5, 0.9), "batch_size": Choice([5, 10])}
    found = descend.compare(line(), space=space, **SMALL, target="none")
    searched = {e.label: set(e.space) - {"lr"} for e in found.plan.entries}
    assert searched == {
        "Batch GD": set(), "SGD": set(), "Mini-batch": {"batch_size"}, "Momentum": {"momentum", "batch_size"},
        "Adagrad": {"batch_size"}, "RMSprop": {"momentum", "batch_size"}, "Adam": {"batch_size"},
    }  # fmt: skip
    sizes = {row.label: row.batch_size for row in found.rows}
    assert (sizes["Batch GD"], sizes["SGD"]) == ("full", 1)


# ---- the target -------------------------------------------------------------------------------------------------


def test_the_target_is_set_before_the_race():
    """By runs of its own, on seeds of their own, with twice the budget; recomputed here from these runs."""
    order = []
    found = descend.compare(
        line(), ["gd", "adam"], **SMALL, progress=lambda phase, done, total: order.append((phase, done, total))
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
    found = descend.compare(line(), ["gd", "adam", "rmsprop"], **{**SMALL, "final_seeds": 9}, target=1.0)
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
    found = descend.compare(line(), ["gd", "adam"], **SMALL, target=1e-9)
    plain = descend.compare(line(), ["gd", "adam"], **SMALL, target="none")
    assert all(row.to_target.verdict == "not reached" and math.isinf(row.to_target.median) for row in found.rows)
    assert [row.test for row in found.rows] == [row.test for row in plain.rows]
    assert not found.ranked_by_target
    assert any("No technique reached the target of 1e-09" in note for note in found.notes)
    assert plain.target is None
    assert plain.rows[0].to_target is None


def test_a_pool_that_gets_nowhere_sets_no_target():
    """A problem on which nothing improves: no target, and a note."""
    flat = Problem(lambda rng: np.ones(2), lambda w: 1.0, lambda w: np.zeros(2), name="flat")
    found = descend.compare(flat, ["gd"], **{**SMALL, "budget": 20})
    assert found.target is None
    assert any("The reference runs got nowhere" in note for note in found.notes)


@pytest.mark.parametrize("target", ["soon", math.nan, math.inf, True, None])
def test_a_target_that_is_none_is_refused(target):
    """What is allowed, by name."""
    with pytest.raises(OptionError, match=r"target=.*: a value of the validation metric is needed"):
        descend.compare(line(), ["gd"], **SMALL, target=target)


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


# ---- studies ----------------------------------------------------------------------------------------------------


def test_each_study_tunes_and_judges_by_itself():
    """Other trials, other seeds; each winner on its own fresh seeds, paired between the entries."""
    found = descend.compare(line(), ["gd", "adam"], **{**SMALL, "studies": 3}, target="none")
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


def test_a_verdict_has_to_hold_in_each_study():
    """Far ahead in two studies and a little behind in the third: no verdict; ahead in all three: one."""
    seeds = np.arange(10)
    studies = [0] * 10 + [1] * 10 + [2] * 10
    ahead = np.concatenate([5.0 + seeds, 5.0 + seeds, 5.0 + seeds])
    behind = np.concatenate([9.0 + seeds, 9.0 + seeds, 4.9 + seeds])
    assert [s.verdict for s in standings([ahead, behind], studies)] == ["best", "no clear difference"]
    behind[20:] = 5.5 + seeds
    assert [s.verdict for s in standings([ahead, behind], studies)] == ["best", "clearly worse"]


# ---- statistics -------------------------------------------------------------------------------------------------


def test_the_interval_of_a_difference_is_a_bootstrap():
    """Against a bootstrap written as a loop, at the percentiles that a table of Student's t gives."""
    import random

    rng = np.random.default_rng(5)
    minus = rng.normal(0.3, 1.0, size=10)
    draw = random.Random(2)
    medians = sorted(statistics.median(draw.choices(list(minus), k=10)) for _ in range(20_000))
    tail = statistics.NormalDist().cdf(-math.sqrt(10 / 9) * 2.2622)  # Student's t for 95 % and 9 degrees of freedom
    found = difference(minus, 0.95)
    assert found.median == pytest.approx(statistics.median(minus))
    assert found.low == pytest.approx(medians[int(tail * 20_000)], abs=0.1)
    assert found.high == pytest.approx(medians[int((1 - tail) * 20_000)], abs=0.1)
    wide = difference(minus, 0.9976)
    assert wide.low <= found.low <= found.high <= wide.high


def test_the_interval_of_a_difference_is_that_of_ever_more_resamples():
    """The exact bootstrap distribution against SciPy's draws, and every resample of four values counted."""
    values = np.array([3.0, -1.0, 2.0, 10.0])
    medians, weights = resampled_median(values)
    counts = collections.Counter(statistics.median(draw) for draw in itertools.product(values, repeat=4))
    for median in counts:
        assert weights[medians == median].sum() == pytest.approx(counts[median] / 4**4, rel=1e-12)
    rng = np.random.default_rng(0)
    for n in (9, 10, 20):
        values = rng.normal(size=n)
        medians, weights = resampled_median(values)
        assert weights.sum() == pytest.approx(1.0)
        drawn = scipy.stats.bootstrap((values,), np.median, n_resamples=100_000, rng=rng).bootstrap_distribution
        for share in (0.025, 0.1, 0.5, 0.9):
            assert np.mean(drawn <= np.quantile(drawn, share)) == pytest.approx(
                weights[medians <= np.quantile(drawn, share)].sum(), abs=0.006
            )
    assert not np.isnan(resampled_median(rng.normal(size=1000))[1]).any()
    many = rng.normal(size=3000)
    found = difference(many, 0.95)
    assert (found.low, found.high) == (interval(many).low, interval(many).high)


@pytest.mark.parametrize("confidence", [0.95, 0.9976])
def test_a_verdict_does_not_depend_on_the_order_of_the_seeds(confidence):
    """One of ten seeds the other way round: the same interval wherever it stands, and zero within it."""
    minus = np.array([-0.5, *np.linspace(1.0, 1.8, 9)])
    found = {difference(np.roll(minus, k), confidence) for k in range(10)}
    assert len(found) == 1
    if confidence > 0.99:
        assert found.pop().low == -0.5


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
    entries = Entry("a", descend.GD(), 9, space={}), Entry("b", descend.GD(), 7, space={})
    plan = dataclasses.replace(plan, entries=entries, evaluate_every=50, budget=200)
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


def test_differences_of_misses():
    """Two misses are level, one is infinitely worse; +∞ and −∞ in the middle give no finite figure."""
    inf = math.inf
    assert difference(np.zeros(10), 0.95) == descend.comparison.Interval(0.0, 0.0, 0.0)
    found = difference(np.array([inf] * 4 + [1.0] * 6), 0.95)
    assert (found.median, found.low, found.high) == (1.0, 1.0, inf)
    assert difference(np.array([inf] * 5 + [-inf] * 5), 0.95).median == inf
    same = standings([[inf] * 10, [inf] * 10], [0] * 10)
    assert [s.verdict for s in same] == ["failed", "failed"]


def test_how_wide_the_good_range_is():
    """The stretch of learning rates around the best one that reach the target."""
    rates = (0.01, 0.03, 0.1, 0.3, 1.0)
    plan = plan_of(entries=1, higher=True, rates=rates)
    values = dict(zip(rates, [0.97, 0.5, 0.96, 0.98, 0.4], strict=True))
    runs = [run_of(0, s, values[r], phase="tuning", rate=r) for r in rates for s in range(3)]
    assert sensitivity(plan, runs, 0.95)[0].good == (0.1, 0.3)
    assert sensitivity(plan, runs, 0.99)[0].good is None
    assert sensitivity(plan, runs)[0].good is None


def test_profiles_by_hand():
    """Dolan and Moré's definition on three problems; who did not take part in all has none."""
    inf = math.inf
    costs = [{"a": 10.0, "b": 20.0, "c": 1.0}, {"a": 40.0, "b": 10.0}, {"a": inf, "b": inf}]
    found = {p.label: p for p in profiles(costs)}
    assert set(found) == {"a", "b"}
    assert found["a"].ratios == (10.0, 4.0, inf)
    assert found["b"].ratios == (20.0, 1.0, inf)
    assert [found["b"].within(t) for t in (1.0, 19.0, 20.0)] == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert found["a"].steps() == ([1.0, 4.0, 10.0], pytest.approx([0.0, 1 / 3, 2 / 3]))
    assert found["a"].solved == pytest.approx(2 / 3)
    assert profiles([]) == []


def test_a_hopeless_problem_does_not_end_the_others(tmp_path):
    """It is told with its reason; where all are hopeless, there is nothing to tell but the error."""
    void = Problem(lambda rng: np.ones(2), lambda w: math.nan, lambda w: w, name="void")
    options = {**SMALL, "budget": 40}
    suite = descend.compare_all(["booth", void, "beale"], ["gd", "adam"], **options, out=tmp_path)
    assert [c.plan.problem for c in suite.comparisons] == ["booth", "beale"]
    ((name, reason),) = suite.failures
    assert name == "void"
    assert "The loss is nan at step 0" in reason
    assert "void could not be compared: every run failed on void" in " ".join(str(suite).split())
    assert json.loads((tmp_path / "comparisons.json").read_text())["failures"] == [[name, reason]]
    with pytest.raises(ComparisonError, match="every run failed on void"):
        descend.compare_all([void], ["gd"], **options)
    with pytest.raises(OptionError, match="a list of problems is needed"):
        descend.compare_all("booth", ["gd"], **options)
    with pytest.raises(OptionError, match="two problems are called 'booth'"):
        descend.compare_all(["booth", "booth"], ["gd"], **options)


# ---- warnings ---------------------------------------------------------------------------------------------------


def test_an_adaptive_rule_far_behind_a_momentum_is_suspected():
    """“Under-tuned?”, where the gap is wider than the intervals; not where it is small, and not the other way round."""
    rules = [descend.Momentum(), descend.Adam()]
    plan = plan_of(rules=rules, examples=50, finals=10)

    def told(momentum, adam):
        runs = [run_of(0, s, momentum + 1e-4 * i) for i, s in enumerate(plan.final_seeds)]
        runs += [run_of(1, s, adam + 1e-4 * i) for i, s in enumerate(plan.final_seeds)]
        return [n for n in notes(plan, entry_results(plan, runs, [lr()] * 2), None) if "seldom is" in n]

    assert "e1 is far behind e0" in told(0.95, 0.80)[0]
    assert not told(0.95, 0.9499)
    assert not told(0.80, 0.95)


def test_validation_and_test_that_disagree_are_told():
    """The best on validation data, clearly worse on test data."""
    plan = plan_of(examples=50, finals=10)
    runs = [dataclasses.replace(run_of(0, s, 0.9), test=0.5 + 0.001 * i) for i, s in enumerate(plan.final_seeds)]
    runs += [dataclasses.replace(run_of(1, s, 0.8), test=0.8 + 0.001 * i) for i, s in enumerate(plan.final_seeds)]
    found = notes(plan, entry_results(plan, runs, [lr()] * 2), None)
    assert any("e0 is best on validation data and clearly worse than e1 on test data" in n for n in found)


def test_studies_that_choose_far_apart_are_told():
    """A factor of more than ten between the learning rates of the studies."""
    plan = plan_of(examples=50, studies=2, finals=12)
    runs = [run_of(e, s, 0.9, study=int(s >= 1006)) for e in (0, 1) for s in plan.final_seeds]
    chosen = [({"lr": 0.01}, {"lr": 0.5}), ({"lr": 0.01}, {"lr": 0.03})]
    found = notes(plan, entry_results(plan, runs, chosen), None)
    assert any("for e0 that are more than a factor of ten apart" in n for n in found)


# ---- what a run is known by -------------------------------------------------------------------------------------


def test_a_rule_or_seeds_more_run_only_what_is_missing(tmp_path):
    """Another plan on the same folder finds the runs that it has in common, and makes the others."""
    options = {**SMALL, "out": tmp_path, "target": "none"}
    first = descend.compare("booth", ["gd"], **options)
    more = descend.compare("booth", ["gd", "adam"], **options)
    assert more.reused == len(first.runs)
    assert len(more.runs) == 2 * len(first.runs)
    seeds = descend.compare("booth", ["gd"], **{**options, "final_seeds": 8})
    assert seeds.reused == len(first.runs)
    assert len(seeds.runs) == len(first.runs) + 2
    trials = descend.compare("booth", ["gd"], **{**options, "trials": 6})
    assert trials.reused >= 4
    labelled = descend.compare("booth", [Entry("another name", descend.GD())], **options)
    assert labelled.reused == len(labelled.runs)
    assert labelled.rows[0].test == first.rows[0].test
    assert descend.compare("booth", ["gd"], **{**options, "budget": 241}).reused == 0


def test_a_row_of_the_store_says_where_it_comes_from(tmp_path):
    """The outcome with its curve, the plan, the task, the versions, the machine, the time."""
    found = descend.compare("booth", ["gd"], **SMALL, out=tmp_path, target="none")
    with sqlite3.connect(tmp_path / "runs.sqlite") as db:
        rows_ = db.execute("SELECT run, plan, task, versions, machine, finished FROM runs").fetchall()
        plans = dict(db.execute("SELECT hash, plan FROM plans"))
    assert json.loads(plans[found.plan.hash]) == json.loads(json.dumps(found.plan.settings()))
    assert len(rows_) == len(found.runs)
    run, plan, task, versions, machine, finished = rows_[0]
    assert len(json.loads(run)["curve"]) == 41
    assert plan == found.plan.hash
    assert json.loads(task)["phase"] == "tuning"
    assert json.loads(versions)["numpy"] == np.__version__
    assert machine
    assert finished.endswith("+00:00")


def test_an_old_store_is_brought_up_to_date(tmp_path):
    """A store of schema 1: its rows are kept aside, and the comparison goes on in the same file."""
    with sqlite3.connect(tmp_path / "runs.sqlite") as db:
        db.executescript(f"{MIGRATIONS[0]}; PRAGMA user_version=1; INSERT INTO runs VALUES ('p', 't', '{{}}');")
    found = descend.compare("booth", ["gd"], **SMALL, out=tmp_path, target="none")
    with sqlite3.connect(tmp_path / "runs.sqlite") as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert db.execute("SELECT * FROM runs_of_schema_1").fetchall() == [("p", "t", "{}")]
        assert db.execute("SELECT count(*) FROM runs").fetchone() == (len(found.runs),)
    with sqlite3.connect(tmp_path / "runs.sqlite") as db:
        db.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    with pytest.raises(ComparisonError, match="use a newer descend, or choose another --out"):
        descend.compare("booth", ["gd"], **SMALL, out=tmp_path, target="none")


# ---- time -------------------------------------------------------------------------------------------------------


def test_timed_runs_are_made_one_at_a_time():
    """Three more runs of each, in turns, which say what the final ones said; nothing is claimed without them."""
    alive, together = [0], []

    def loss(w, X, y):
        alive[0] += 1
        together.append(alive[0])
        value = float(np.mean((X @ w - y) ** 2))
        alive[0] -= 1
        return value

    found = descend.compare(line(loss=loss), ["gd", "adam"], **SMALL, timed=True, target="none")
    timed = [r for r in found.runs if r.phase == "timing"]
    assert [(r.entry, r.seed) for r in timed] == [(e, s) for s in (1000, 1001, 1002) for e in (0, 1)]
    finals = {(r.entry, r.seed): r.test for r in found.runs if r.phase == "final"}
    assert all(r.test == finals[r.entry, r.seed] for r in timed)
    assert set(together) == {1}
    for row in found.rows:
        assert row.seconds.median == statistics.median(r.seconds for r in timed if r.entry == row.entry)
    assert "A run with no other beside it takes" in str(found)
    untimed = descend.compare(line(), ["gd", "adam"], **SMALL, target="none")
    assert all(row.seconds is None for row in untimed.rows)


def test_the_pilot_foretells_the_time():
    """About right for runs that sleep: steps × sleep, over the processes; and it says so before the first run."""
    import time

    def loss(w):
        time.sleep(0.002)
        return float(w @ w)

    slow = Problem(lambda rng: rng.normal(size=2), loss, lambda w: 2 * w, name="slow")
    said = []
    options = {**SMALL, "budget": 40, "trials": 6, "final_seeds": 8, "target": "none"}
    found = descend.compare(slow, ["gd"], **options, announce=said.append)
    tasks = list(found.plan.tuning())
    expected = len(tasks) * 0.002 * (40 + 41)  # a step each, and a look after each
    bundles = Bundler(slow, found.plan).bundles(tasks)
    assert estimate(slow, found.plan, bundles, jobs=2) == pytest.approx(expected / 2, rel=0.5)
    assert "about" in said[0]
    quick = []
    descend.compare("booth", ["gd"], **options, announce=quick.append)
    assert "about" not in quick[0]


# ---- stacked runs -----------------------------------------------------------------------------------------------


def stacking(**options):
    """The linear problem with functions that take many runs at once."""

    def loss_and_grad(w, X, y):
        residual = (X @ w[..., None])[..., 0] - y
        return (residual**2).mean(axis=-1), 2 * (np.swapaxes(X, -1, -2) @ residual[..., None])[..., 0] / y.shape[-1]

    return line(
        loss=lambda w, X, y: loss_and_grad(w, X, y)[0], jac=None, loss_and_grad=loss_and_grad, stacks=True, **options
    )


def test_stacked_runs_are_the_runs():
    """The same comparison with runs made together and one at a time: figures to rounding, choices and order alike."""
    together, alone = (descend.compare(problem, **SMALL, target=1.0) for problem in (stacking(), line()))
    assert [row.label for row in together.rows] == [row.label for row in alone.rows]
    assert [row.chosen for row in together.rows] == [row.chosen for row in alone.rows]
    for one, other in zip(together.runs, alone.runs, strict=True):
        assert (one.hyperparameters, one.seed, one.miss, one.reason) == (
            other.hyperparameters, other.seed, other.miss, other.reason
        )  # fmt: skip
        assert one.examples == other.examples
        if not one.miss:
            assert one.validation == pytest.approx(other.validation, rel=1e-9)


def test_bundles_do_not_depend_on_what_is_finished(tmp_path):
    """Half the runs deleted, and another number of processes: the identical table, to the bit."""
    path = tmp_path / "stacks.py"
    path.write_text(
        "import numpy as np, descend\n"
        "A = np.diag([1.0, 10.0])\n"
        "def both(w):\n"
        "    slope = (A @ w[..., None])[..., 0]\n"
        "    return 0.5 * (w * slope).sum(axis=-1), slope\n"
        "problem = descend.Problem(lambda rng: rng.normal(size=2), loss_and_grad=both, stacks=True)\n"
    )
    options = {**SMALL, "out": tmp_path / "o"}
    first = descend.compare(path, ["gd", "adam"], **options)
    with sqlite3.connect(tmp_path / "o" / "runs.sqlite") as db:
        db.execute("DELETE FROM runs WHERE rowid % 3")
    again = descend.compare(path, ["gd", "adam"], **{**options, "jobs": 2})
    assert 0 < again.reused < len(first.runs)
    assert again.rows == first.rows
    strip = [dataclasses.replace(r, seconds=0.0) for r in first.runs]
    assert [dataclasses.replace(r, seconds=0.0) for r in again.runs] == strip


def test_what_is_not_stacked_says_why():
    """Once, before the runs, with who is meant where that is not everybody."""
    said = []
    descend.compare(line(), ["gd", "adam"], **SMALL, target="none", announce=said.append)
    told = [text for text in said if "one at a time" in text]
    assert told == ["Runs are made one at a time: the problem has no stacked gradient (stacks=True declares one)."]
    said.clear()
    descend.compare(stacking(), ["gd", "adam"], **SMALL, target="none", announce=said.append)
    assert not any("one at a time" in text for text in said)


def test_a_stacked_run_that_raises_is_found():
    """A loss that raises from some starts: these runs are misses with their reason, and their neighbours are made."""
    first = {seed: np.random.default_rng(seed).uniform(0.0, 2.0, size=2)[1] for seed in (0, *range(1000, 1012))}

    def loss(w):
        if np.any(w[..., 1] > first[0] + 1e-9):
            raise RuntimeError("out of bounds")
        return (w**2).sum(axis=-1)

    problem = Problem(lambda rng: rng.uniform(0.0, 2.0, size=2), loss, lambda w: 2 * w, name="raises", stacks=True)
    options = {**SMALL, "budget": 20, "final_seeds": 12, "learning_rates": [0.01], "trials": 1}
    found = descend.compare(problem, ["gd"], **options, target="none")
    missed = {r.seed for r in found.runs if r.miss and r.phase == "final"}
    assert missed == {seed for seed, at in first.items() if at > first[0]}
    assert 0 < len(missed) < 12
    assert all("out of bounds" in r.message for r in found.runs if r.miss)
