"""The rules: against oracles from the papers and PyTorch, their hyperparameters, the registry, their description."""

import dataclasses
import inspect
import itertools
import math
import pickle
import subprocess
import sys
import textwrap
from typing import ClassVar

import numpy as np
import pytest
import torch
from tests.oracles import naive

import descend
from descend import rules, schedules
from descend.engines import Reference
from descend.errors import RuleError
from descend.rules import maths
from descend.rules import rule as base

STEPS = 100
SHIPPED = naive.shipped()
CASES = [
    pytest.param(rule, chosen, id=label)
    for name, rule in SHIPPED.items()
    if name in naive.ORACLES
    for label, chosen in naive.settings(rule)
]
SAME_NAME = {
    found.name: getattr(torch.optim, found.__name__)
    for found in SHIPPED.values()
    if hasattr(torch.optim, found.__name__)
}
"""Rules of a name that torch.optim has, too: name → torch's class."""
TORCH = SAME_NAME | dict.fromkeys(("gd", "momentum", "nesterov"), torch.optim.SGD)
HOW_TORCH_RUNS = {"params", "foreach", "fused", "capturable", "differentiable"}
"""Parameters of torch's constructors that are not hyperparameters."""


@pytest.fixture
def registry():
    """The registry, put back afterwards as it was."""
    known = base.registry()
    before = dict(known)
    yield known
    known.clear()
    known.update(before)


def run_reference(rule, start, grads, dtype=np.float64):
    """The numbers after each step of the reference engine, of shape (steps, numbers)."""
    p = start.astype(dtype)
    engine = Reference(rule, [p])
    path = []
    for g in grads.astype(dtype):
        engine.step([g])
        path.append(p.copy())
    return np.array(path)


def run_torch(make, start, grads, each=lambda group, t: None):
    """The numbers after each step of a torch optimizer; `each` may change its parameter group before step t."""
    return torch_descent(make, start, grads, each)[0]


def torch_descent(make, start, grads, each=lambda group, t: None):
    """What `run_torch` returns, and the state that the optimizer has in the end."""
    path = []
    # The numbers that ASGD and NAdam carry are tensors of torch's default dtype.
    torch.set_default_dtype(torch.float64)
    try:
        p = torch.nn.Parameter(torch.from_numpy(start.copy()))
        optimizer = make([p])
        for t, g in enumerate(grads, start=1):
            each(optimizer.param_groups[0], t)
            p.grad = torch.from_numpy(g.copy())
            optimizer.step()
            path.append(p.detach().numpy().copy())
    finally:
        torch.set_default_dtype(torch.float32)
    return np.array(path), optimizer.state[p]


def torch_twin(name, chosen):
    """The torch optimizer with these hyperparameters, as a function of parameters; None where torch has no flag."""
    chosen = dict(chosen)
    twin = TORCH.get(name)
    if twin is None or chosen.pop("cautious"):
        return None
    if twin is torch.optim.AdamW and not chosen["decoupled_weight_decay"]:
        twin = torch.optim.Adam
    elif twin is torch.optim.AdamW:
        del chosen["decoupled_weight_decay"]
    known = inspect.signature(twin).parameters
    for flag in ("decoupled_weight_decay", "weight_decay"):
        if flag not in known and chosen.pop(flag, False):
            return None
    return lambda params: twin(params, **chosen)


TWINS = [case for case in CASES if torch_twin(case.values[0].name, case.values[1]) is not None]


# ---- conformance ------------------------------------------------------------------------------------------------


def test_every_rule_has_an_oracle():
    """A rule enters the conformance table by existing: one without an oracle fails here."""
    assert set(SHIPPED) == set(naive.ORACLES)


def test_every_rule_that_torch_has_is_compared_with_it():
    """The twins are there, with each of their flags on and off; what torch lacks is what descend has for all rules."""
    expected = {"adadelta", "adagrad", "adam", "adamax", "adamw", "asgd", "nadam", "radam", "rmsprop", "rprop", "sgd"}
    assert set(SAME_NAME) == expected
    for name, twin in SAME_NAME.items():
        chosen = [case.values[1] for case in TWINS if case.values[0].name == name]
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


@pytest.mark.parametrize("rule", SHIPPED.values(), ids=SHIPPED)
def test_cautious_is_tried_with_every_other_thing(rule):
    """`cautious` is on with each other hyperparameter and flag on and off, in combinations with and without it."""
    chosen = [c for _, c in naive.settings(rule)]
    assert {c["cautious"] for c in chosen} == {False, True}
    for name in set(chosen[0]) - {"cautious"}:
        values = {c[name] for c in chosen if not c["cautious"]}
        assert {c[name] for c in chosen if c["cautious"]} == values


@pytest.mark.parametrize(("rule", "chosen"), CASES)
def test_rule_equals_its_paper(rule, chosen):
    """100 steps by the reference engine end where the paper's own loop ends, at every step."""
    start, grads = naive.gradients(STEPS)
    expected = naive.path(rule, chosen, start, grads)
    assert np.abs(expected - start).max() > 0.1
    assert naive.distance(run_reference(rule(**chosen), start, grads), expected) < 1e-12


@pytest.mark.parametrize(("rule", "chosen"), TWINS)
def test_rule_equals_torch(rule, chosen):
    """100 steps agree with torch.optim in float64, wherever torch has the flags; so does the state, name by name."""
    start, grads = naive.gradients(STEPS)
    expected, state = torch_descent(torch_twin(rule.name, chosen), start, grads)
    p = start.copy()
    engine = Reference(rule(**chosen), [p])
    found = []
    for g in grads:
        engine.step([g])
        found.append(p.copy())
    assert naive.distance(np.array(found), expected) < 1e-10
    theirs = {name: value.numpy() for name, value in state.items() if value is not None and name != "step"}
    ours = {**engine.state[0], **engine.carried}
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=1e-10, atol=1e-10, err_msg=name)


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


@pytest.mark.parametrize(("rule", "chosen"), CASES)
def test_float32_is_float64_rounded(rule, chosen):
    """In float32 the parameters stay float32, and 20 steps are off by no more than the rounding of 20 steps."""
    start, grads = naive.gradients(20)
    start, grads = start.astype(np.float32), grads.astype(np.float32)
    expected = run_reference(rule(**chosen), start.astype(np.float64), grads)
    found = run_reference(rule(**chosen), start, grads, np.float32)
    assert found.dtype == np.float32
    # About ten roundings a step, each by half a unit in the last place of float32 (6e-8).
    assert naive.distance(found.astype(np.float64), expected) < 20 * 10 * np.finfo(np.float32).eps / 2


@pytest.mark.parametrize("rule", SHIPPED.values(), ids=SHIPPED)
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


@pytest.mark.parametrize("rule", SHIPPED.values(), ids=SHIPPED)
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
        rules.heeded(rule, start, grads[1], tuple(state), second)
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


# ---- cautious steps ---------------------------------------------------------------------------------------------


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


# ---- numbers that go from step to step --------------------------------------------------------------------------


def test_momenta_of_nadam_follow_a_schedule_as_in_torch():
    """The product of momenta is of those that were, when β₁ changes from step to step."""
    start, grads = naive.gradients(STEPS)
    beta1, lr = schedules.Cosine(0.95, steps=80, final=0.5), schedules.StepDecay(0.1, every=30)
    found = run_reference(descend.NAdam(lr=lr, betas=(beta1, 0.99)), start, grads)
    expected = run_torch(
        torch.optim.NAdam, start, grads, lambda group, t: group.update(lr=lr(t - 1), betas=(beta1(t - 1), 0.99))
    )
    assert naive.distance(found, expected) < 1e-10


def test_steps_of_asgd_follow_a_schedule_as_in_torch():
    """The step of ASGD is what the learning rate of the step before made it; the first is the first learning rate."""
    start, grads = naive.gradients(STEPS)
    lr = schedules.Exponential(0.1, 0.99)
    found = run_reference(descend.ASGD(lr=lr, lambd=0.01), start, grads)
    expected = run_torch(
        lambda params: torch.optim.ASGD(params, lr=0.1, lambd=0.01),
        start,
        grads,
        lambda group, t: group.update(lr=lr(t - 1)),
    )
    assert naive.distance(found, expected) < 1e-10
    assert descend.ASGD(lr=lr).starting() == {"eta": 0.1, "mu": 1.0}


def test_asgd_averages_from_t0_on():
    """The average is the point itself up to step t0 + 2, then the mean of the points since."""
    p = np.zeros(1)
    engine = Reference(descend.ASGD(lr=0.1, lambd=0.0, t0=3), [p])
    points, averages = [], []
    for g in (1.0, -2.0, 0.5, 3.0, 1.0, -1.0, 2.0, 0.25):
        engine.step([np.array([g])])
        points.append(p[0])
        averages.append(engine.state[0]["ax"][0])
    assert averages[:5] == points[:5]
    np.testing.assert_allclose(averages[5:], [np.mean(points[4:n]) for n in (6, 7, 8)], rtol=1e-14)


def test_a_rule_of_ones_own_carries_numbers(registry):
    """`carry` has what it returned at the step before; rules without it carry nothing."""

    class Tired(descend.Rule):
        lr: float = 1.0
        carried = {"energy": 8.0}  # noqa: RUF012

        def carry(self, t, before):
            return {"now": before["energy"]}, {"energy": before["energy"] / 2}

        @staticmethod
        def update(p, g, s):
            return p - s.lr * s.now * g

    assert descend.engines.run(Tired(), 0.0, [1.0, 1.0, 1.0]) == -14.0
    engine = Reference(Tired(), [np.zeros(1)])
    engine.step([np.ones(1)])
    assert engine.carried == {"energy": 4.0}
    assert Tired().row(1).now == 8.0
    assert Reference(descend.Adam(), [np.zeros(1)]).carried == {}


# ---- formulas at their edges ------------------------------------------------------------------------------------


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


# ---- schedules for hyperparameters ------------------------------------------------------------------------------


def test_learning_rate_and_beta_follow_schedules_as_in_torch():
    """Adam with lr, betas[0], eps and weight_decay on schedules is torch's Adam with its group edited at each step."""
    start, grads = naive.gradients(STEPS)
    lr, beta1 = schedules.Cosine(0.1, steps=80, final=0.01), schedules.OneCycle(0.95, steps=STEPS, start_div=1.1)
    eps, decay = schedules.Exponential(1e-3, 0.9), schedules.StepDecay(0.1, every=30)
    rule = descend.Adam(lr=lr, betas=(beta1, 0.99), eps=eps, weight_decay=decay)

    def edit(group, t):
        k = t - 1
        group.update(lr=lr(k), betas=(beta1(k), 0.99), eps=eps(k), weight_decay=decay(k))

    expected = run_torch(torch.optim.Adam, start, grads, edit)
    assert naive.distance(run_reference(rule, start, grads), expected) < 1e-10


@pytest.mark.parametrize("decoupled", [False, True], ids=["coupled", "decoupled"])
def test_weight_decay_may_pass_through_zero(decoupled):
    """A decay that is 0 at some steps, the first among them, decays at the others as torch does."""
    start, grads = naive.gradients(STEPS)

    def decay(done):
        return 0.1 if done % 3 == 1 else 0.0

    rule = descend.Adam(lr=0.05, weight_decay=decay, decoupled_weight_decay=decoupled)
    expected = run_torch(
        lambda params: torch.optim.Adam(params, lr=0.05, decoupled_weight_decay=decoupled),
        start,
        grads,
        lambda group, t: group.update(weight_decay=decay(t - 1)),
    )
    assert naive.distance(run_reference(rule, start, grads), expected) < 1e-10


@pytest.mark.parametrize("nesterov", [False, True], ids=["heavy_ball", "nesterov"])
def test_momentum_may_start_at_zero(nesterov):
    """Momentum that warms up from 0 keeps its velocity from the first step on, with and without look-ahead."""
    momentum = schedules.LinearWarmup(0.9, steps=5)
    p = b = 0.0
    expected = []
    for done, g in enumerate([1.0, -2.0, 3.0, 0.5, 0.25, 1.5, -1.0]):
        b = momentum(done) * b + g
        p -= 0.1 * (g + momentum(done) * b if nesterov else b)
        expected.append(p)
    grads = np.array([[1.0], [-2.0], [3.0], [0.5], [0.25], [1.5], [-1.0]])
    found = run_reference(descend.SGD(lr=0.1, momentum=momentum, nesterov=nesterov), np.zeros(1), grads)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-14)


def test_dampening_and_alpha_follow_schedules():
    """Dampening of SGD and alpha of RMSprop are asked for at each step, as torch's groups are."""
    start, grads = naive.gradients(STEPS)
    share = schedules.Cosine(0.9, steps=STEPS, final=0.5)
    for rule, twin, name in (
        (descend.SGD(lr=0.05, momentum=0.9, dampening=share), torch.optim.SGD, "dampening"),
        (descend.RMSprop(alpha=share), torch.optim.RMSprop, "alpha"),
    ):
        fixed = {"lr": 0.05, "momentum": 0.9} if name == "dampening" else {}
        expected = run_torch(
            lambda params, twin=twin, fixed=fixed: twin(params, **fixed),
            start,
            grads,
            lambda group, t, name=name: group.update({name: share(t - 1)}),
        )
        assert naive.distance(run_reference(rule, start, grads), expected) < 1e-10


def test_a_schedule_is_asked_for_the_steps_done_before():
    """Step t asks for the number t − 1, and only then; `at` gives the rule of that step, with plain numbers."""
    asked = []

    def lr(done):
        asked.append(done)
        return 0.5 / (1 + done)

    rule = descend.GD(lr=lr)
    assert asked == []
    run_reference(rule, np.zeros(1), np.ones((3, 1)))
    assert asked == [0, 1, 2]
    assert rule.at(2) == descend.GD(lr=0.25)


def test_a_rule_without_schedules_is_the_same_at_every_step():
    """`at` gives the rule itself when nothing in it is scheduled."""
    rule = descend.Adam(lr=0.1)
    assert rule.at(7) is rule


@pytest.mark.parametrize(("rule", "chosen"), CASES)
def test_scalars_that_have_settled_stay(rule, chosen):
    made = rule(**chosen)
    first = made.settles()
    if math.isfinite(first):
        first = max(1, math.ceil(first))
        assert all(made.scalars(first + more) == made.scalars(first) for more in (1, 2, 17, 1000, 10**7))


def test_which_scalars_settle():
    """Those of the others change at every step."""
    settle = {name for name, rule in SHIPPED.items() if math.isfinite(rule().settles())}
    assert set(SHIPPED) - settle == {"adopt", "asgd", "nadam", "radam"}
    assert [rule().settles() for rule in (descend.Lion, descend.RMSprop, descend.Adagrad)] == [1, 1, 1]
    assert descend.Adagrad(lr_decay=0.1).settles() == math.inf
    assert 36_000 < descend.Adam().settles() < 38_000


def test_scalars_of_a_subclass_are_not_taken_for_those_that_it_inherits(registry):
    """Whoever writes scalars of his own need not know that what he inherits had settled."""

    class Warmed(descend.SGD):
        def scalars(self, t):
            return {"inflow": min(1.0, t / 100)}

    class Mixed:
        def scalars(self, t):
            return {"inflow": min(1.0, t / 100)}

    class WithMixed(Mixed, descend.SGD):
        pass

    class Renamed(descend.SGD):
        pass

    class Cooperates(descend.Lion):
        def scalars(self, t):
            return {"one": 1.0, **super().scalars(t)}

        def settles(self):
            return 1.0

    class Beside(descend.Lion):
        def scalars(self, t):
            return {"two": 1.0 / t, **super().scalars(t)}

    class Both(Cooperates, Beside):
        pass

    class Carries(descend.Lion):
        carried: ClassVar = {"n": 0.0}

        def carry(self, t, before):
            return {"one": 1.0}, {"n": before["n"] + 1.0}

        def settles(self):
            return 1.0

    assert [rule().settles() for rule in (Cooperates, Beside, Both, Carries)] == [1, math.inf, math.inf, math.inf]

    class Told(descend.SGD):
        def scalars(self, t):
            return {"inflow": min(1.0, t / 100)}

        def settles(self):
            return 100.0

    assert [rule().settles() for rule in (Warmed, WithMixed, Renamed, Told)] == [math.inf, math.inf, 2, 100]


def test_a_schedule_that_leaves_the_range_is_refused_at_its_step():
    """The number that a schedule returns is checked like one that was passed."""
    rule = descend.Adam(lr=lambda done: 0.1 - 0.2 * done)
    assert rule.row(1).lr == 0.1
    with pytest.raises(RuleError, match=r"Adam\(lr=-0\.1\): lr must be a finite number ≥ 0; try 0\.001"):
        rule.row(2)


# ---- checks of hyperparameters ----------------------------------------------------------------------------------


def bad_values():
    """Rule, field, value, and what the message must contain, for every hyperparameter of every rule."""
    cases = []
    for name, rule in SHIPPED.items():
        for field in dataclasses.fields(rule):
            default, allowed = field.default, base.allowed_range(field)
            if isinstance(default, bool):
                bad = [(value, "be True or False") for value in (2, 0.5, "yes", None)]
            else:
                bad = [(value, "be a number or a schedule") for value in ("0.1", None, True, 1j)]
                beyond = [float("nan"), float("inf"), allowed.low - 1.0, allowed.high if allowed.high_open else np.nan]
                bad += [(value, str(allowed)) for value in beyond]
            places = range(len(default)) if isinstance(default, tuple) else [None]
            for i, (value, must) in itertools.product(places, bad):
                label, given, preset = field.name, value, default
                if i is not None:
                    label, preset = f"{field.name}[{i}]", default[i]
                    given = (*default[:i], value, *default[i + 1 :])
                says = (label, must, preset)
                cases.append(pytest.param(rule, field.name, given, says, id=f"{name}-{label}-{value}"))
    return cases


@pytest.mark.parametrize(("rule", "argument", "value", "says"), bad_values())
def test_bad_hyperparameter_is_refused_with_advice(rule, argument, value, says):
    """The message names the rule, the argument, its value, what it may be, and what to try."""
    label, must, default = says
    with pytest.raises(RuleError) as caught:
        rule(**{argument: value})
    message = str(caught.value)
    assert message.startswith(f"{rule.__name__}({argument}={value!r}): {label} must ")
    assert must in message
    assert message.endswith(f"; try {default!r}")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(
            lambda: descend.Adam(lr=-0.1), "Adam(lr=-0.1): lr must be a finite number ≥ 0; try 0.001", id="lr_negative"
        ),
        pytest.param(
            lambda: descend.Adam(betas=(0.9, 1.0)),
            "Adam(betas=(0.9, 1.0)): betas[1] must lie in [0, 1); try 0.999",
            id="beta2_one",
        ),
        pytest.param(
            lambda: descend.Adam(betas=(0.9,)),
            "Adam(betas=(0.9,)): betas must be 2 numbers; try (0.9, 0.999)",
            id="one_beta",
        ),
        pytest.param(
            lambda: descend.Adam(betas=0.9),
            "Adam(betas=0.9): betas must be 2 numbers; try (0.9, 0.999)",
            id="beta_alone",
        ),
        pytest.param(
            lambda: descend.RMSprop(alpha=1), "RMSprop(alpha=1): alpha must lie in [0, 1); try 0.99", id="alpha_one"
        ),
        pytest.param(
            lambda: descend.Momentum(momentum=-0.5),
            "Momentum(momentum=-0.5): momentum must be a finite number ≥ 0; try 0.9",
            id="momentum_negative",
        ),
        pytest.param(
            lambda: descend.SGD(nesterov=True),
            "SGD(nesterov=True, momentum=0.0, dampening=0.0): nesterov needs momentum > 0 and dampening = 0; "
            "try momentum=0.9, dampening=0.0",
            id="nesterov_without_momentum",
        ),
        pytest.param(
            lambda: descend.Nesterov(dampening=0.5),
            "Nesterov(nesterov=True, momentum=0.9, dampening=0.5): nesterov needs momentum > 0 and dampening = 0; "
            "try momentum=0.9, dampening=0.0",
            id="nesterov_with_dampening",
        ),
        pytest.param(
            lambda: descend.Rprop(etas=(1.0, 1.2)),
            "Rprop(etas=(1.0, 1.2)): the first must be < 1 and the second > 1; try (0.5, 1.2)",
            id="etas_that_do_not_shorten",
        ),
        pytest.param(
            lambda: descend.Rprop(etas=(0.5, 1)),
            "Rprop(etas=(0.5, 1.0)): the first must be < 1 and the second > 1; try (0.5, 1.2)",
            id="etas_that_do_not_lengthen",
        ),
    ],
)
def test_message_in_full(make, message):
    """Messages read as a user sees them."""
    with pytest.raises(RuleError) as caught:
        make()
    assert str(caught.value) == message


def test_rule_errors_are_value_errors():
    """Code that catches ValueError around torch's constructors catches descend's too."""
    with pytest.raises(ValueError, match="lr"):
        descend.Adam(lr=-1.0)


def test_numbers_of_every_kind_become_floats():
    """Integers, NumPy scalars and a list of betas are taken, and kept as floats and a tuple."""
    rule = descend.Adam(lr=np.float32(0.5), betas=[0, np.float64(0.25)], eps=1, amsgrad=1)
    assert rule == descend.Adam(lr=0.5, betas=(0.0, 0.25), eps=1.0, amsgrad=True)
    assert [type(v) for v in (rule.lr, *rule.betas, rule.eps, rule.amsgrad)] == [float] * 4 + [bool]


# ---- the registry -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", SHIPPED.values(), ids=SHIPPED)
def test_names_are_found_in_any_spelling(rule):
    """Case, hyphens, underscores and spaces around do not matter, and the class itself is at descend's top."""
    name = rule.__name__
    assert getattr(descend, name) is rule
    for spelling in (name, name.lower(), name.upper(), f" {name} ", f"{name[:2]}-{name[2:]}", f"{name[:2]}_{name[2:]}"):
        assert rules.get(spelling) is rule


def test_unknown_name_is_answered_with_the_nearest():
    """A misspelt rule gets the one that was meant, and all that there are."""
    with pytest.raises(RuleError, match=r"unknown rule 'adamm': did you mean 'adam'\? Known: adabelief, adadelta, ad"):
        rules.get("adamm")


def test_name_like_no_other_is_answered_with_all():
    """A name that resembles none gets the list, and no wild guess."""
    with pytest.raises(RuleError, match=r"unknown rule 'xyzzy': Known: adabelief") as caught:
        rules.get("xyzzy")
    assert "did you mean" not in str(caught.value)


def test_resolve_takes_a_rule_a_class_or_a_name():
    """Wherever a rule is wanted, its class or name stands for its defaults; anything else is refused with advice."""
    rule = descend.Adam(lr=0.5)
    assert rules.resolve(rule) is rule
    assert rules.resolve(descend.Adam) == rules.resolve("ADAM") == descend.Adam()
    for wrong in (3, None, object, [descend.Adam()]):
        with pytest.raises(RuleError, match=r"is not a rule: pass one such as descend\.Adam\(lr=1e-3\)"):
            rules.resolve(wrong)


def test_all_is_alphabetical_and_a_copy(registry):
    """`all` lists rules in order; changing what it returns changes nothing."""
    names = list(rules.all())
    assert names == sorted(names)
    rules.all().clear()
    assert list(rules.all()) == names


def test_ten_lines_make_a_rule(registry):
    """A user's subclass is registered, minimises, has state, weight decay, maximize, schedules and a description."""

    class Signum(descend.Rule):
        """Step by the sign of the momentum."""

        lr: float = 0.01
        beta: float = descend.hyper(default=0.9, doc="share of the velocity kept", at_least=0, below=1)

        @staticmethod
        def update(p, g, velocity, s):
            velocity = s.beta * velocity + (1.0 - s.beta) * g
            return p - s.lr * maths.sign(velocity), velocity

    assert rules.get("signum") is Signum
    assert Signum.state == ("velocity",)
    result = descend.minimize(lambda x: (x - 1.0) ** 2, 0.0, jac=lambda x: 2 * (x - 1.0), method="signum", max_steps=50)
    assert result.x_last == pytest.approx(0.5)
    climbed = descend.engines.run(Signum(lr=0.5, maximize=True), 2.0, [3.0])
    shrunk = descend.engines.run(Signum(lr=0.5, weight_decay=0.1, decoupled_weight_decay=True), 2.0, [3.0])
    scheduled = descend.engines.run(Signum(lr=schedules.StepDecay(0.5, every=1)), 2.0, [3.0, 3.0])
    assert (climbed, shrunk, scheduled) == pytest.approx((2.5, 1.4, 1.45))
    with pytest.raises(RuleError, match=r"Signum\(beta=1\.0\): beta must lie in \[0, 1\); try 0\.9"):
        Signum(beta=1.0)
    with pytest.raises(RuleError, match=r"Signum\(lr=-1\): lr must be a finite number ≥ 0; try 0\.01"):
        Signum(lr=-1)
    assert rules.describe(Signum).summary == "Step by the sign of the momentum."


def test_update_may_be_written_as_a_plain_function(registry):
    """Forgetting `@staticmethod` makes no difference, and a rule without state may return `p` alone."""

    class Plain(descend.Rule):
        def update(p, g, s):  # noqa: N805
            return p - s.lr * g

    assert descend.engines.run(Plain(lr=0.5), 1.0, [1.0]) == 0.5


def test_own_initial_and_conditional_state(registry):
    """A user's rule may start state elsewhere than at zero, and drop it when a hyperparameter is off."""

    class Counting(descend.Rule):
        lr: float = 1.0
        shift: float = 0.0
        state_if = {"total": "shift"}  # noqa: RUF012

        def initial(self, state):
            return {"total": 10.0}[state]

        @staticmethod
        def update(p, g, total, s):
            if total is not None:
                total = total + g
                g = g + s.shift * total
            return p - s.lr * g, total

    assert Counting().kept_state() == ()
    assert Counting(shift=1.0).kept_state() == ("total",)
    assert descend.engines.run(Counting(), 0.0, [1.0]) == -1.0
    assert descend.engines.run(Counting(shift=1.0), 0.0, [1.0]) == -12.0


def test_underscore_in_a_class_name(registry):
    """A rule whose class name has an underscore is found by that name, as in every other spelling."""

    class Sign_Descent(descend.Rule):  # noqa: N801
        @staticmethod
        def update(p, g, s):
            return p - s.lr * maths.sign(g)

    for spelling in ("Sign_Descent", "sign_descent", "signdescent", "sign-descent"):
        assert rules.get(spelling) is Sign_Descent


def test_taken_name_is_refused(registry):
    """A second rule of a known name is an error that says whose it is and what to do, and registers nothing."""
    with pytest.raises(
        RuleError,
        match=r"'adam' exists already \(descend\.rules\.adam\.Adam\): rename the class, or pass register=False",
    ):

        class Adam(descend.Rule):
            @staticmethod
            def update(p, g, s):
                return p - s.lr * g

    assert rules.get("adam") is descend.Adam


def test_taken_name_in_the_same_module_is_refused(registry):
    """Two classes of one name in different places of a module are two rules: the second is refused."""

    def one():
        class Twin(descend.Rule):
            @staticmethod
            def update(p, g, s):
                return p - s.lr * g

        return Twin

    def other():
        class Twin(descend.Rule):
            @staticmethod
            def update(p, g, s):
                return p + s.lr * g

        return Twin

    first = one()
    with pytest.raises(RuleError, match=r"'twin' exists already \(.*one\.<locals>\.Twin\)"):
        other()
    assert rules.get("twin") is first


def test_register_false_keeps_a_rule_out(registry):
    """``register=False`` makes a rule that works and has no name in the registry."""

    class Adam(descend.Rule, register=False):
        @staticmethod
        def update(p, g, s):
            return p - s.lr * g

    assert rules.get("adam") is descend.Adam
    assert descend.engines.run(Adam(lr=0.5), 1.0, [1.0]) == 0.5


def test_same_class_may_be_defined_again(registry):
    """A notebook cell that is run twice replaces its rule."""

    def cell(factor):
        class Twice(descend.Rule):
            @staticmethod
            def update(p, g, s):
                return p - factor * s.lr * g

        return Twice

    cell(1.0)
    second = cell(2.0)
    assert rules.get("twice") is second
    assert descend.engines.run(rules.get("twice")(lr=0.5), 1.0, [1.0]) == 0.0


@pytest.mark.parametrize(
    ("update", "shown"),
    [
        pytest.param(lambda g, p, s: p, "update(g, p, s)", id="swapped"),
        pytest.param(lambda p, g: p, "update(p, g)", id="no_scalars"),
        pytest.param(lambda p, g, s, m: p, "update(p, g, s, m)", id="scalars_not_last"),
        pytest.param(lambda self, p, g, s: p, "update(self, p, g, s)", id="self"),
    ],
)
def test_malformed_update_is_refused(registry, update, shown):
    """An `update` with other parameters than p, g, state, s is refused when the class is made, and not registered."""
    before = dict(registry)
    with pytest.raises(RuleError) as caught:
        type("Malformed", (descend.Rule,), {"update": staticmethod(update)})
    assert str(caught.value).startswith(f"Malformed.{shown}: the parameters must be p, g, ")
    assert registry == before


def test_rule_without_update_is_refused(registry):
    """A rule that has no formula cannot be made; the message gives the signature to write."""

    class Empty(descend.Rule):
        lr: float = 0.1

    with pytest.raises(RuleError, match=r"Empty has no update\(p, g, <state …>, s\): define it as a staticmethod"):
        Empty()


def test_rule_itself_is_no_rule():
    """`Rule` is what rules derive from; it is not registered and cannot be made."""
    assert "rule" not in rules.all()
    with pytest.raises(RuleError, match="Rule has no update"):
        descend.Rule(lr=0.1)


# ---- description ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", SHIPPED.values(), ids=SHIPPED)
def test_rule_describes_itself(rule):
    """Every rule has a one-line summary, a formula, a paper, and a line and range for each hyperparameter."""
    said = rules.describe(rule)
    assert said.name == rule.name
    assert said.summary.endswith(".")
    assert "\n" not in said.summary
    assert "←" in said.formula
    assert "`" not in said.summary + said.formula + said.notes
    assert not said.formula.startswith((" ", ":"))
    assert any(year in said.paper for year in map(str, range(1800, 2100)))
    assert [h.name for h in said.hyperparameters] == [f.name for f in dataclasses.fields(rule)]
    assert all(h.doc and h.allowed for h in said.hyperparameters)
    assert said.state == rule.state


def test_description_in_parts():
    """What `descend rules adam` prints comes from the class: state, defaults, ranges and notes."""
    said = rules.describe(descend.Adam)
    by_name = {h.name: h for h in said.hyperparameters}
    assert said.state == ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    assert (by_name["betas"].default, by_name["betas"].allowed) == ((0.9, 0.999), "2 numbers, each in [0, 1)")
    assert (by_name["lr"].default, by_name["lr"].allowed) == (0.001, "a finite number ≥ 0")
    assert by_name["amsgrad"].allowed == "True or False"
    assert said.formula.startswith("m ← β₁ · m + (1 − β₁) · g\n")
    assert said.notes.startswith("AMSGrad in Reddi et al.")
    assert said.paper.startswith("Kingma & Ba 2015")


def test_rule_without_docstring_has_no_summary(registry):
    """A rule without a docstring neither takes its parent's nor shows a signature in its place."""

    class Bare(descend.Adam):
        lr: float = 0.5

    assert rules.describe(Bare).summary == ""


# ---- rules are values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", SHIPPED.values(), ids=SHIPPED)
def test_rules_are_values(rule):
    """Equal hyperparameters make equal rules with equal hashes; a copy through pickle is one of them."""
    cases = [rule(**chosen) for _, chosen in naive.settings(rule)]
    for chosen, one in zip((c for _, c in naive.settings(rule)), cases, strict=True):
        one.row(1)  # whatever it remembers is no part of it
        other = pickle.loads(pickle.dumps(one))
        assert type(other) is rule
        assert one == other == rule(**chosen)
        assert hash(one) == hash(other)
        assert one.row(3) == other.row(3)
    assert len(set(cases)) == len(cases)
    assert rule() != rule(lr=0.25)


@pytest.mark.parametrize("rule", SHIPPED.values(), ids=SHIPPED)
def test_rules_are_frozen(rule):
    """A hyperparameter of a rule cannot be changed; `dataclasses.replace` makes another rule, checked again."""
    one = rule()
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.lr = 0.5
    assert dataclasses.replace(one, lr=0.5).lr == 0.5
    with pytest.raises(RuleError, match="lr=-1"):
        dataclasses.replace(one, lr=-1)


def test_rules_of_different_names_differ():
    """Momentum is not equal to the SGD that does the same: its name in a table is another."""
    assert descend.Momentum(lr=0.1) != descend.SGD(lr=0.1, momentum=0.9)


def test_scheduled_rule_pickles_and_compares():
    """descend's schedules are values too, so a rule that follows one pickles, compares and hashes."""
    rule = descend.Adam(
        lr=schedules.Cosine(0.1, steps=9), betas=(schedules.Constant(0.8), 0.9), weight_decay=lambda_free
    )
    other = pickle.loads(pickle.dumps(rule))
    assert rule == other
    assert hash(rule) == hash(other)
    assert rule.row(5) == other.row(5)


def lambda_free(done):
    """A user's own schedule, at module level so that it pickles."""
    return 0.01 * done


def test_rule_of_a_script_travels_by_cloudpickle(tmp_path):
    """A rule defined in ``__main__``, at its top or in a function, arrives whole in another process."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, cloudpickle, descend

            class Leaky(descend.Rule):
                "A leaky sum."
                lr: float = 0.1
                leak: float = 0.5

                @staticmethod
                def update(p, g, total, s):
                    total = s.leak * total + g
                    return p - s.lr * total, total

            def local():
                class Inner(descend.Rule):
                    @staticmethod
                    def update(p, g, s):
                        return p - s.lr * g
                return Inner

            for made in (Leaky(lr=1.0), local()(lr=0.5), local()(lr=0.25)):
                print(cloudpickle.dumps(made).hex())
            """
        )
    )
    sent = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True).stdout
    received = textwrap.dedent(
        """
        import sys, pickle
        leaky, inner, again = (pickle.loads(bytes.fromhex(line)) for line in sys.stdin.read().split())
        import descend
        print(leaky.state, descend.rules.get("leaky") is type(leaky), descend.rules.describe(type(leaky)).summary)
        print(*(descend.engines.run(rule, 0.0, [1.0, 1.0]) for rule in (leaky, inner, again)))
        """
    )
    printed = subprocess.run(
        [sys.executable, "-c", received], input=sent, capture_output=True, text=True, check=True
    ).stdout
    assert printed.splitlines() == ["('total',) True A leaky sum.", "-2.5 -1.0 -0.5"]


def test_a_common_base_without_a_formula_is_no_rule():
    """A class that only others are made from is not listed."""

    class Base(descend.Rule):
        """What two rules share."""

    class Child(Base):
        """One of them."""

        @staticmethod
        def update(p, g, s):
            return p - s.lr * g

    assert "base" not in descend.rules.all()
    assert descend.rules.get("child") is Child


def test_scalars_may_not_take_a_hyperparameters_name():
    """The row would hold two numbers of one name."""

    class Clash(descend.Rule):
        """Its scalars overwrite its lr."""

        def scalars(self, t):
            return {"lr": self.lr / t}

        @staticmethod
        def update(p, g, s):
            return p - s.lr * g

    with pytest.raises(RuleError, match=r"scalars\(\) returns lr, which a hyperparameter is called already"):
        Clash().row(1)


def test_numbers_beyond_float_and_numpy_flags():
    """An integer too large for a float is out of range, not an OverflowError; NumPy's True is True."""
    with pytest.raises(RuleError, match="lr must be a finite number ≥ 0"):
        descend.Adam(lr=10**400)
    assert descend.Adam(amsgrad=np.True_).amsgrad is True
