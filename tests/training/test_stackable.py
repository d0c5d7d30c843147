"""What cannot be stacked says why, before anything is run."""

import numpy as np
import pytest

import descend
from descend.training import fit_many as stacking


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ([descend.Adam(), descend.AdamW()], "the rules differ in kind: Adam and AdamW"),
        ([descend.SGD(momentum=0.9), descend.SGD(momentum=0.9, nesterov=True)], "the rules differ in nesterov"),
        ([descend.Adam(), descend.Adam(maximize=True)], "the rules differ in maximize: False and True"),
        ([descend.Adam(), descend.Adam(weight_decay=0.1)], "the rules differ in couples decay: False and True"),
        ([descend.SGD(), descend.SGD(momentum=0.9)], "state that they keep: none and momentum_buffer"),
    ],
)
def test_rules_that_do_not_stack_say_why(rules, reason):
    problem = descend.problems.load("diabetes")
    assert reason in stacking.stackable(problem, rules, 16)
    with pytest.raises(descend.errors.OptionError, match="the runs cannot be stacked"):
        descend.fit_many(problem, rules, [0, 0], steps=3)


def bowl(**options):
    given = {"start": lambda rng: rng.normal(size=3), "stacks": True, **options}
    return descend.Problem(**given)


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (bowl(loss_and_grad=lambda x: (0.5 * x @ x, x), stacks=False), "no stacked gradient .stacks=True declares"),
        (bowl(loss=lambda x: np.vecdot(x, x)), "jac=None is for one run"),
        (bowl(loss_and_grad=lambda x: (0.5 * float(np.sum(x * x)), x)), r"shape \(\) for 2 runs: one real number"),
        (bowl(loss_and_grad=lambda x: (np.vecdot(x, x), x.reshape(-1, 3)[0])), r"gave shape \(3,\) for params"),
        (
            bowl(loss_and_grad=lambda x: (np.vecdot(x, x), x - x.mean())),
            "the stacked gradient is not that of each alone",
        ),
        (bowl(loss_and_grad=lambda x: (np.vecdot(x, x) * x.ndim, x)), "the stacked loss is not that of each alone"),
        (bowl(loss_and_grad=lambda x: (x @ x, x)), "stacked, the problem raised ObjectiveError: .*matmul"),
        (
            bowl(start=lambda rng: np.ones(rng.integers(1, 9)), loss_and_grad=lambda x: (np.vecdot(x, x), x)),
            "stacked, the problem raised ParameterError: the starts differ",
        ),
    ],
)
def test_problems_that_do_not_stack_say_why(problem, reason):
    with pytest.raises(descend.errors.OptionError, match=reason):
        descend.fit_many(problem, [descend.GD(), descend.GD()], [0, 1], steps=3)


def test_options_are_checked_as_those_of_fit():
    problem, rule = descend.problems.load("diabetes"), descend.GD()
    for rules, seeds, options, match in [
        ([], [], {}, "0 rules and 0 seeds"),
        ([rule], [0, 1], {}, "1 rules and 2 seeds"),
        ([rule], [-1], {}, "seed=-1"),
        ([rule], [0], {"steps": 1, "epochs": 1}, "give one of them"),
        ([rule], [0], {"evaluate_every": 0}, "evaluate_every=0"),
        ([rule], [0], {"batch_size": 10**6}, "larger than the training data"),
    ]:
        with pytest.raises(descend.errors.OptionError, match=match):
            descend.fit_many(problem, rules, seeds, **options)
    with pytest.raises(descend.errors.ProblemError, match="not a Problem"):
        descend.fit_many("digits", [rule], [0])
    with pytest.raises(descend.errors.ProblemError, match="stacks='yes' must be True or False"):
        bowl(loss=lambda x: 0.0, stacks="yes")


def test_loss_and_metric_at_once_is_what_both_are():
    problem = descend.problems.load("digits")
    one = problem.instance(0)
    both = one.measure(one.params, *problem.validation)
    assert both == (one.value(one.params, *problem.validation), problem.metric(one.params, *problem.validation))
    with pytest.raises(descend.errors.ProblemError, match="loss_and_metric= is given but no metric"):
        bowl(loss=lambda x: 0.0, loss_and_metric=lambda x: (0.0, 0.0))
