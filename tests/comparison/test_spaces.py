"""Search spaces: the points that are tried, and which entry takes which."""

import json
import math

import numpy as np
import pytest
import torch
from tests.comparison.comparing import TRIALS, X, Y, line

import descend
from descend import Choice, Entry, LogUniform, Uniform
from descend.comparison.experiment import Experiment
from descend.comparison.options import CompareOptions
from descend.comparison.planning.spaces import parse_space, points, space_option
from descend.errors import OptionError


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
    found = descend.compare(line(), entries, **{**TRIALS, "trials": 9, "budget": 600}, target="none")
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
    found = descend.compare(line(), ["momentum", "adam"], space=space, **TRIALS, target="none")
    assert [set(e.space) for e in found.plan.entries] == [{"lr", "momentum"}, {"lr"}]
    assert all(0.01 <= r.learning_rate <= 0.1 for r in found.runs)
    with pytest.raises(OptionError, match="no rule here has 'momentun'; did you mean 'momentum'"):
        descend.compare(line(), ["momentum"], space={"momentun": Uniform(0, 1)}, **TRIALS)
    with pytest.raises(OptionError, match=r"cannot take every point of its search space: .*momentum"):
        descend.compare(line(), ["momentum"], space={"momentum": Uniform(-0.5, -0.2)}, **TRIALS)
    with pytest.raises(OptionError, match="trials=4 with 2 learning_rates"):
        descend.compare(line(), ["gd"], learning_rates=[0.1, 0.2], **TRIALS)
    with pytest.raises(OptionError, match="both say what is tried"):
        descend.compare(
            line(), ["gd"], learning_rates=[0.1], space={"lr": LogUniform(0.1, 1)}, **{**TRIALS, "trials": 1}
        )
    with pytest.raises(OptionError, match="batch sizes are a Choice"):
        descend.compare(line(), ["gd"], space={"batch_size": Uniform(1, 8)}, **TRIALS)


def test_a_space_for_all_leaves_the_techniques_what_they_are_called():
    """GD without momentum, Batch GD on all examples, SGD on one: whatever is searched for; the others take it."""
    space = {"momentum": Uniform(0.5, 0.9), "batch_size": Choice([5, 10])}
    found = descend.compare(line(), space=space, **TRIALS, target="none")
    searched = {e.label: set(e.space) - {"lr"} for e in found.plan.entries}
    assert searched == {
        "Batch GD": set(), "SGD": set(), "Mini-batch": {"batch_size"}, "Momentum": {"momentum", "batch_size"},
        "Adagrad": {"batch_size"}, "RMSprop": {"momentum", "batch_size"}, "Adam": {"batch_size"},
    }  # fmt: skip
    sizes = {row.label: row.batch_size for row in found.rows}
    assert (sizes["Batch GD"], sizes["SGD"]) == ("full", 1)


def planned(entries, **options):
    """The plan of a comparison that is not made."""
    return Experiment(line(), entries, CompareOptions(**{"budget": 240, "jobs": 1, **options})).plan


@pytest.mark.parametrize("batch_size", [None, 8, "full"])
def test_an_entry_without_settings_of_its_own_has_the_comparisons(batch_size):
    """Batch size and range of learning rates: those that a rule's name gets. What an entry sets stays."""
    space = {"lr": LogUniform(1e-6, 1e-2)}
    plain, wider, own = planned(
        ["adam", Entry("wider", "momentum", space={"momentum": Uniform(0.5, 0.9)}),
         Entry("own", "gd", 16, space={"lr": LogUniform(0.1, 1.0)})],
        batch_size=batch_size, space=space,
    ).entries  # fmt: skip
    assert plain.batch_size == wider.batch_size == (32 if batch_size is None else batch_size)
    assert plain.space["lr"] == wider.space["lr"] == space["lr"]
    assert (own.batch_size, own.space["lr"]) == (16, LogUniform(0.1, 1.0))


def test_an_entry_takes_the_learning_rates_of_the_comparison():
    """`learning_rates` are tried for an entry that searches for something else, too."""
    plan = planned([Entry("e", "momentum", space={"momentum": Uniform(0.5, 0.9)})], learning_rates=[0.01, 0.1])
    assert [point["lr"] for point in plan.points(plan.entries[0], 0)] == [0.01, 0.1]


def test_an_entry_on_few_examples_has_all_of_them_in_a_batch():
    """As a rule's name does: the default of 32 is more than there are."""
    few = line(data=(X[:30], Y[:30]))
    plan = Experiment(few, ["adam", Entry("e", "adam")], CompareOptions(jobs=1)).plan
    assert [entry.batch_size for entry in plan.entries] == [18, 18]


COSINE = descend.schedules.Cosine(0.1, steps=10)


@pytest.mark.parametrize(
    ("space", "match"),
    [
        ({"lr": lambda: Choice([COSINE, COSINE])}, r"e: space=.* has Cosine\(value=0.1.* is a schedule.*give numbers"),
        ({"lr": lambda: Choice([0.1, COSINE])}, "is a schedule"),
        ({"lr": lambda: Choice([lambda step: 0.1])}, "is a schedule"),
        ({"lr": lambda: Choice([0, 0.1])}, "e: space=.* has 0, which is not a number > 0"),
        ({"lr": lambda: Choice([math.nan, 0.1])}, "has nan, which is not a number > 0"),
        ({"lr": lambda: Choice(["0.1"])}, "has '0.1', which is not a number > 0"),
        ({"lr": lambda: Choice([True])}, "has True, which is not a number > 0"),
        ({"lr": lambda: Choice([None])}, "has None, which is not a number > 0"),
        ({"lr": lambda: Uniform(-1, 1)}, "has -1, which is not a number > 0"),
        ({"momentum": lambda: Choice([np.ones(2)])}, "cannot be told from other values by its hash"),
        ({"momentum": lambda: Choice([{0.5: 1}])}, "cannot be told from other values by its hash"),
        ({"momentum": lambda: Choice(["0.5"])}, "momentum must be a number or a schedule"),
        ({"nesterov": lambda: Uniform(0, 1)}, "nesterov must be True or False"),
        ({"batch_size": lambda: Choice([None, 5])}, "e: a batch size of None"),
        ({"batch_size": lambda: Choice([True, 5])}, "batch_size=True: a whole number"),
        ({"batch_size": lambda: Choice([5.0])}, r"batch_size=5\.0: a whole number"),
    ],
    ids=range(16),
)  # fmt: skip
def test_what_cannot_be_searched_for_is_refused_before_the_first_run(space, match):
    """Any kind of space with any kind of values: an error that names entry and value."""
    with pytest.raises(OptionError, match=match):
        planned([Entry("e", "sgd", space={name: make() for name, make in space.items()})])


def test_values_of_any_kind_are_compared_and_told(tmp_path):
    """Numbers of NumPy and PyTorch, schedules and functions beside numbers, pairs, flags: as far as every file."""
    mixed = Choice([COSINE, 0.5, lambda step: 0.25])
    entries = [
        Entry("mixed", "sgd", space={"momentum": mixed, "nesterov": Choice([np.False_])}),
        Entry("sizes", "sgd", space={"batch_size": Choice([np.int64(5), "full"]), "lr": Choice([np.float32(0.5)])}),
        Entry("pairs", "adam", space={"betas": Choice([[0.9, torch.tensor(0.5)], (COSINE, 0.99)])}),
    ]
    found = descend.compare(line(), entries, **TRIALS, target="none", out=tmp_path)
    told = json.loads((tmp_path / "comparison.json").read_text())
    assert len(told["runs"]) == len(found.runs)
    assert {row.label: row.learning_rate for row in found.rows}["sizes"] == 0.5
    for suffix in ("csv", "json", "parquet"):
        pytest.importorskip("pyarrow" if suffix == "parquet" else "pandas")
        found.export(tmp_path / f"runs.{suffix}")
    assert "Chosen besides: " in str(found)
