"""The checks of hyperparameters: what is refused, and how the error says so."""

import dataclasses
import itertools

import numpy as np
import pytest
from tests.oracles.twins import TABLE

import descend
from descend.errors import RuleError
from descend.rules.hyperparameters import allowed_range


def bad_values(rule):
    """Argument, its value, and what the message must contain, for every hyperparameter of a rule."""
    for field in dataclasses.fields(rule):
        default, allowed = field.default, allowed_range(field)
        if isinstance(default, bool):
            bad = [(value, "be True or False") for value in (2, 0.5, "yes", None)]
        else:
            bad = [(value, "be a number or a schedule") for value in ("0.1", None, True, 1j)]
            beyond = [float("nan"), float("inf"), allowed.low - 1.0, allowed.high if allowed.high_open else np.nan]
            bad += [(value, str(allowed)) for value in beyond]
        if not isinstance(default, tuple):
            yield from ((field.name, field.name, value, must, default) for value, must in bad)
            continue
        for i, (value, must) in itertools.product(range(len(default)), bad):
            yield field.name, f"{field.name}[{i}]", (*default[:i], value, *default[i + 1 :]), must, default[i]


@TABLE
def test_bad_hyperparameter_is_refused_with_advice(rule):
    """The message names the rule, the argument, its value, what it may be, and what to try."""
    for argument, label, value, must, preset in bad_values(rule):
        with pytest.raises(RuleError) as caught:
            rule(**{argument: value})
        message = str(caught.value)
        assert message.startswith(f"{rule.__name__}({argument}={value!r}): {label} must ")
        assert must in message
        assert message.endswith(f"; try {preset!r}")


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


def test_numbers_beyond_float_and_numpy_flags():
    """An integer too large for a float is out of range, not an OverflowError; NumPy's True is True."""
    with pytest.raises(RuleError, match="lr must be a finite number ≥ 0"):
        descend.Adam(lr=10**400)
    assert descend.Adam(amsgrad=np.True_).amsgrad is True
