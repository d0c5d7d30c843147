"""The scalars of a step: schedules for hyperparameters, and numbers that a rule carries from step to step."""

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from tests.oracles import naive
from tests.oracles.twins import SHIPPED, STEPS, TABLE, run_reference, run_torch

import descend
from descend import schedules
from descend.engines import Reference
from descend.errors import RuleError

# ---- numbers that go from step to step -------------------------------------------------------------------------------


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


def test_a_rule_of_ones_own_carries_numbers():
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


# ---- schedules for hyperparameters -----------------------------------------------------------------------------------


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


@TABLE
def test_scalars_that_are_constant_stay(rule):
    """From the step on that `constant_from` names, a step's scalars are the same for ever."""
    for label, chosen in naive.settings(rule):
        made = rule(**chosen)
        first = made.constant_from()
        if math.isfinite(first):
            first = max(1, math.ceil(first))
            for more in (1, 2, 17, 1000, 10**7):
                assert made.scalars(first + more) == made.scalars(first), label


def test_which_scalars_become_constant():
    """Those of the others change at every step."""
    settle = {name for name, rule in SHIPPED.items() if math.isfinite(rule().constant_from())}
    assert set(SHIPPED) - settle == {"adopt", "asgd", "nadam", "radam"}
    assert [rule().constant_from() for rule in (descend.Lion, descend.RMSprop, descend.Adagrad)] == [1, 1, 1]
    assert descend.Adagrad(lr_decay=0.1).constant_from() == math.inf
    assert 36_000 < descend.Adam().constant_from() < 38_000


def test_scalars_of_a_subclass_are_not_taken_for_those_that_it_inherits():
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

        def constant_from(self):
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

        def constant_from(self):
            return 1.0

    assert [rule().constant_from() for rule in (Cooperates, Beside, Both, Carries)] == [1, math.inf, math.inf, math.inf]

    class Told(descend.SGD):
        def scalars(self, t):
            return {"inflow": min(1.0, t / 100)}

        def constant_from(self):
            return 100.0

    assert [rule().constant_from() for rule in (Warmed, WithMixed, Renamed, Told)] == [math.inf, math.inf, 2, 100]


def test_a_schedule_that_leaves_the_range_is_refused_at_its_step():
    """The number that a schedule returns is checked like one that was passed."""
    rule = descend.Adam(lr=lambda done: 0.1 - 0.2 * done)
    assert rule.row(1).lr == 0.1
    with pytest.raises(RuleError, match=r"Adam\(lr=-0\.1\): lr must be a finite number ≥ 0; try 0\.001"):
        rule.row(2)


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


@TABLE
def test_scalars_of_a_first_step_are_there(rule):
    """Those that a state's first step has otherwise are among the rule's scalars, at any step."""
    for scalars in rule.first_step.values():
        assert set(scalars) <= set(rule().scalars(3))
        assert set(rule().beginning(3, rule.first_step)) >= set(scalars)
