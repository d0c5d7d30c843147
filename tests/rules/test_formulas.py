"""The rules' formulas: against oracles from the papers and PyTorch, and at their edges."""

import dataclasses
import inspect
import pickle

import numpy as np
import pytest
import torch
from tests.oracles import naive
from tests.oracles.twins import (
    HOW_TORCH_RUNS,
    SAME_NAME,
    SHIPPED,
    STEPS,
    TABLE,
    TORCH,
    TWINS,
    reference_descent,
    run_reference,
    run_torch,
    torch_descent,
    torch_twin,
)

import descend
from descend import rules
from descend.engines import Reference

# ---- conformance -----------------------------------------------------------------------------------------------------


def test_every_rule_has_an_oracle():
    """A rule enters the conformance table by existing: one without an oracle fails here."""
    assert set(SHIPPED) == set(naive.ORACLES)


def test_every_rule_that_torch_has_is_compared_with_it():
    """The twins are there, with each of their flags on and off; what torch lacks is what descend has for all rules."""
    expected = {"adadelta", "adagrad", "adam", "adamax", "adamw", "asgd", "nadam", "radam", "rmsprop", "rprop", "sgd"}
    assert set(SAME_NAME) == expected
    for name, twin in SAME_NAME.items():
        chosen = list(TWINS[name].values())
        for flag in set(chosen[0]) & set(inspect.signature(twin).parameters):
            tried = naive.tried(SHIPPED[name], SHIPPED[name].__dataclass_fields__[flag])
            assert {one[flag] for one in chosen} == set(tried), f"{name}: {flag}"


def test_every_hyperparameter_is_tried():
    """A hyperparameter that the table does not switch on and off fails here, and one that no rule has any more."""
    numbers = {
        (rule.name, f.name)
        for rule in SHIPPED.values()
        for f in dataclasses.fields(rule)
        if not isinstance(f.default, bool)
    }
    for rule, name in numbers:
        assert name in naive.TRIED or f"{rule}.{name}" in naive.TRIED, f"{rule}: {name}"
    assert {key for key in naive.TRIED if "." not in key} == {name for _, name in numbers}
    assert {tuple(key.split(".")) for key in naive.TRIED if "." in key} <= numbers


@TABLE
def test_cautious_is_tried_with_every_other_thing(rule):
    """`cautious` is on with each other hyperparameter and flag on and off, in combinations with and without it."""
    chosen = [c for _, c in naive.settings(rule)]
    assert {c["cautious"] for c in chosen} == {False, True}
    for name in set(chosen[0]) - {"cautious"}:
        values = {c[name] for c in chosen if not c["cautious"]}
        assert {c[name] for c in chosen if c["cautious"]} == values


def beyond(bound, distances):
    """The settings, by their labels, in which two paths are further apart than the bound."""
    return {label: distance for label, distance in distances.items() if not distance < bound}


@TABLE
def test_rule_equals_its_paper(rule):
    """100 steps by the reference engine are where the paper's own loop is, at every step."""
    start, grads = naive.gradients(STEPS)
    distances = {}
    for label, chosen in naive.settings(rule):
        expected = naive.path(rule, chosen, start, grads)
        assert np.abs(expected - start).max() > 0.1, label
        distances[label] = naive.distance(run_reference(rule(**chosen), start, grads), expected)
    assert beyond(1e-12, distances) == {}


@pytest.mark.parametrize("name", TWINS)
def test_rule_equals_torch(name):
    """100 steps agree with torch.optim in float64, wherever torch has the flags; so does the state, name by name."""
    start, grads = naive.gradients(STEPS)
    distances = {}
    for label, chosen in TWINS[name].items():
        expected, state = torch_descent(torch_twin(name, chosen), start, grads)
        found, engine = reference_descent(SHIPPED[name](**chosen), start, grads)
        distances[label] = naive.distance(found, expected)
        theirs = {n: value.numpy() for n, value in state.items() if value is not None and n != "step"}
        ours = {**engine.state[0], **engine.carried}
        assert set(ours) == set(theirs), label
        for n, value in ours.items():
            np.testing.assert_allclose(value, theirs[n], rtol=1e-10, atol=1e-10, err_msg=f"{label}: {n}")
    assert beyond(1e-10, distances) == {}


@pytest.mark.parametrize("name", SAME_NAME)
def test_rule_with_its_defaults_is_torch_with_its_defaults(name):
    """A bare rule does what torch's bare optimizer of that name does."""
    start, grads = naive.gradients(STEPS)
    expected = run_torch(TORCH[name], start, grads)
    assert naive.distance(run_reference(SHIPPED[name](), start, grads), expected) < 1e-10


@pytest.mark.parametrize(
    ("rule", "torch_hyperparameters"),
    [
        pytest.param(descend.GD, {"lr": 0.01}, id="gd"),
        pytest.param(descend.Momentum, {"lr": 0.01, "momentum": 0.9}, id="momentum"),
        pytest.param(descend.Nesterov, {"lr": 0.01, "momentum": 0.9, "nesterov": True}, id="nesterov"),
    ],
)
def test_names_for_sgd_are_sgd_with_parameters(rule, torch_hyperparameters):
    """GD, Momentum and Nesterov are torch's SGD with the parameters that their documentation states."""
    start, grads = naive.gradients(STEPS)
    expected = run_torch(lambda params: torch.optim.SGD(params, **torch_hyperparameters), start, grads)
    assert naive.distance(run_reference(rule(), start, grads), expected) < 1e-10


@pytest.mark.parametrize("name", SAME_NAME)
def test_hyperparameters_are_named_and_preset_as_in_torch(name):
    """Every hyperparameter of torch's is here, with its name and default; others are those that all rules have."""
    parameters = inspect.signature(TORCH[name]).parameters
    theirs = {n: p.default for n, p in parameters.items() if n not in HOW_TORCH_RUNS}
    ours = {f.name: f.default for f in dataclasses.fields(SHIPPED[name])}
    assert {n: ours.get(n) for n in theirs} == theirs
    assert set(ours) - set(theirs) <= {f.name for f in dataclasses.fields(descend.Rule)}


@TABLE
def test_float32_is_float64_rounded(rule):
    """In float32 the parameters stay float32, and 20 steps are off by no more than the rounding of 20 steps."""
    start, grads = (a.astype(np.float32) for a in naive.gradients(20))
    distances = {}
    for label, chosen in naive.settings(rule):
        expected = run_reference(rule(**chosen), start.astype(np.float64), grads)
        found = run_reference(rule(**chosen), start, grads, np.float32)
        assert found.dtype == np.float32, label
        distances[label] = naive.distance(found.astype(np.float64), expected)
    # About ten roundings a step, each by half a unit in the last place of float32 (6e-8).
    assert beyond(20 * 10 * np.finfo(np.float32).eps / 2, distances) == {}


@TABLE
def test_state_keeps_float32(rule):
    """State is kept in float32 for float32 parameters, even when the gradient comes in float64."""
    _, chosen = naive.settings(rule)[-1]
    p = np.ones(3, np.float32)
    engine = Reference(rule(**chosen), [p])
    engine.step([np.full(3, 0.1)])
    kept = engine.state[0]
    assert set(kept) == set(engine.rule.kept_state())
    assert p.dtype == np.float32
    assert {v.dtype for v in kept.values()} <= {np.dtype(np.float32)}


@TABLE
def test_step_is_pure(rule):
    """A step changes nothing that it is given, whatever the flags: engines alone write."""
    start, grads = naive.gradients(2)
    for _, chosen in naive.settings(rule):
        one = rule(**chosen)
        state = tuple(np.full(7, one.initial(n)) if n in one.kept_state() else None for n in rule.state)
        first, second = naive.rows(one, 2)
        _, *state = rules.step(rule, start, grads[0], state, first)
        before = pickle.dumps((start, grads, state))
        p, *new_state = rules.step(rule, start, grads[1], tuple(state), second)
        rules.cautious_mask(rule, start, grads[1], tuple(state), second)
        assert pickle.dumps((start, grads, state)) == before
        assert not np.array_equal(p, start)
        assert [b is None for b in new_state] == [n not in one.kept_state() for n in rule.state]


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_centered_rmsprop_survives_a_constant_gradient(dtype):
    """E[g²] − E[g]² is never negative by rounding: finite gradients never give NaN."""
    p = np.array([1.0, 0.3, 2.7], dtype)
    engine = Reference(descend.RMSprop(lr=1e-3, centered=True), [p])
    g = np.array([1.0, 0.3, 0.7], dtype)
    with np.errstate(invalid="ignore"):
        for _ in range(3000):
            engine.step([g])
    assert np.isfinite(p).all()


# ---- cautious steps --------------------------------------------------------------------------------------------------


def test_a_cautious_step_by_hand():
    """Momentum that goes against the gradient is left out; the rest is lengthened by the share that moves."""
    p = np.zeros(4)
    engine = Reference(descend.Momentum(lr=1.0, momentum=0.5, cautious=True), [p])
    engine.step([np.array([1.0, 1.0, 1.0, 0.0])])  # three of four have a direction: 1 / (3/4)
    np.testing.assert_allclose(p, [-4 / 3, -4 / 3, -4 / 3, 0.0], rtol=1e-15)
    # The velocity is (0.4, 1.5, 0.5, 1) against gradients of (−0.1, 1, 0, 1): two of four agree in sign.
    engine.step([np.array([-0.1, 1.0, 0.0, 1.0])])
    np.testing.assert_allclose(p, [-4 / 3, -4 / 3 - 3.0, -4 / 3, -2.0], rtol=1e-15)
    np.testing.assert_allclose(engine.state[0]["momentum_buffer"], [0.4, 1.5, 0.5, 1.0], rtol=1e-15)


def test_the_share_that_moves_is_that_of_each_array():
    """Two arrays of one engine are lengthened by their own shares, of all their entries, whatever their length."""
    n = 40_000  # more than one block of the engine
    few, all_of_them = np.zeros(n), np.zeros(2)
    g = np.zeros(n)
    g[[3, 20_000, 39_999]] = 1.0, -1.0, 2.0
    one = Reference(descend.GD(lr=1.0, cautious=True), [few, all_of_them])
    one.step([g, np.array([1.0, -1.0])])
    # Three of 40,000 is less than a thousandth, the least share that counts.
    np.testing.assert_allclose(few[[0, 3, 20_000, 39_999]], [0.0, -1000.0, 1000.0, -2000.0], rtol=1e-12)
    assert all_of_them.tolist() == [-1.0, 1.0]
    g[:100] = 1.0
    one.step([g, np.zeros(2)])
    share = 102 / n
    np.testing.assert_allclose(few[50], -1.0 / share, rtol=1e-12)
    assert all_of_them.tolist() == [-1.0, 1.0]


def test_cautious_climbs_too():
    """With `maximize` the mask goes by the gradient that is descended, and an empty array is no error."""
    found = descend.engines.run(descend.GD(lr=0.5, maximize=True, cautious=True), [1.0, 1.0], [[2.0, -1.0]])
    assert found == [2.0, 0.5]
    engine = Reference(descend.GD(cautious=True), [np.zeros(0)])
    engine.step([np.zeros(0)])


# ---- formulas at their edges -----------------------------------------------------------------------------------------


def test_rprop_turns_for_the_tiniest_gradients():
    """In float32 the product of two gradients of 1e-30 would be zero; their signs still count."""
    p = np.zeros(2, np.float32)
    engine = Reference(descend.Rprop(lr=1.0), [p])
    for g in ([1e-30, 1e-30], [1e-30, -1e-30]):
        engine.step([np.array(g, np.float32)])
    np.testing.assert_allclose(engine.state[0]["step_size"], [1.2, 0.5], rtol=1e-6)
    np.testing.assert_allclose(p, [-2.2, -1.0], rtol=1e-6)
    assert engine.state[0]["prev"][1] == 0.0


def test_adopt_stays_at_its_first_step():
    """The first gradient only starts the scale: from the second on the step is a bounded multiple of lr."""
    found = run_reference(descend.ADOPT(lr=1.0, betas=(0.0, 0.5)), np.zeros(2), np.array([[1.0, 0.0], [9.0, 9.0]]))
    # The second step is clipped to ±1: by the square of 1 that came before it would be 9, by none 9 / eps.
    np.testing.assert_array_equal(found, [[0.0, 0.0], [-1.0, -1.0]])
    found = run_reference(
        descend.ADOPT(lr=1.0, betas=(0.0, 0.5), eps=0.1, use_clipping=False),
        np.zeros(2),
        np.array([[1.0, 0.0], [9.0, 9.0]]),
    )
    np.testing.assert_allclose(found, [[0.0, 0.0], [-9.0, -90.0]], rtol=1e-15)


def test_warm_up_of_ademamix_from_and_to_zero():
    """β₃ warms up from a β₁ of zero, to a β₃ of zero, and is never more than β₃ when it starts above."""
    rows = [descend.AdEMAMix(betas=(0.0, 0.9, 0.5), beta3_warmup=4).row(t) for t in (1, 2, 4, 5)]
    # ln β₃ₜ = ln β₃ / (t / T): 0.5⁴, 0.5², 0.5
    assert [row.slow for row in rows] == pytest.approx([0.0625, 0.25, 0.5, 0.5], rel=1e-15)
    assert descend.AdEMAMix(betas=(0.9, 0.9, 0.0), beta3_warmup=4).row(1).slow == 0.0
    assert descend.AdEMAMix(betas=(0.0, 0.9, 0.0), beta3_warmup=4).row(1).slow == 0.0
    assert descend.AdEMAMix(betas=(0.9, 0.9, 0.5), beta3_warmup=4).row(1).slow == 0.5
    half_way = descend.AdEMAMix(lr=1.0, alpha=5.0, alpha_warmup=10).row(5)
    assert half_way.slow_step_size == 2.5


def test_radam_follows_momentum_while_few_gradients_are_seen():
    """With β₂ = 0.999 the first five steps are lr times the corrected momentum, the sixth is scaled."""
    rows = [descend.RAdam(lr=0.5).row(t) for t in range(1, 8)]
    assert [row.plain_step_size > 0.0 for row in rows] == [True] * 5 + [False] * 2
    assert [row.scaled_step_size > 0.0 for row in rows] == [False] * 5 + [True] * 2
    assert descend.RAdam(betas=(0.9, 0.0)).row(9).scaled_step_size == 0.0
