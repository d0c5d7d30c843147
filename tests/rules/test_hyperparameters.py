"""The checks of hyperparameters: what is refused, and how the error says so."""

import collections
import dataclasses
import decimal
import fractions
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
            bad = [(value, "be True or False") for value in (2, 0.5, "yes", 1.0)]
        else:
            bad = [(value, "be a number or a schedule") for value in (None, True, 1j, b"0.1")]
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


def torch_tensor(numbers):
    torch = pytest.importorskip("torch")
    return torch.tensor(numbers, dtype=torch.float64)


def torch_parameter(numbers):
    tensor = torch_tensor(numbers)
    return pytest.importorskip("torch").nn.Parameter(tensor) if isinstance(numbers, float) else tensor


def jax_array(numbers):
    return pytest.importorskip("jax").numpy.array(numbers)


@pytest.mark.parametrize("array", [np.array, torch_tensor, torch_parameter, jax_array])
def test_arrays_of_any_library_are_numbers(array):
    """An array of one number is that number, of whatever shape; an array in a row is several."""
    rule = descend.Adam(lr=array(0.5), betas=array([0.5, 0.75]), eps=array([0.25]), amsgrad=array(1) > array(0))
    assert rule == descend.Adam(lr=0.5, betas=(0.5, 0.75), eps=0.25, amsgrad=True)
    assert [type(v) for v in (rule.lr, *rule.betas, rule.eps, rule.amsgrad)] == [float] * 4 + [bool]
    assert descend.Adam(betas=[array(0.5), 0.75]).betas == (0.5, 0.75)
    assert descend.Adam(lr=lambda done: array(0.5)).at(1).lr == 0.5
    assert descend.Adam(lr=lambda done: array([0.5])).at(1).lr == 0.5


@pytest.mark.parametrize("kind", [collections.UserList, collections.deque, tuple])
def test_sequences_of_any_kind_are_taken(kind):
    """Such as the lists of a configuration, which are no lists of Python's."""
    assert descend.Adam(betas=kind([0.5, 0.75])).betas == (0.5, 0.75)


def test_exact_numbers_are_taken():
    """Fractions and decimals are numbers; None is a flag that is off, as in `torch.optim`."""
    rule = descend.Adam(lr=fractions.Fraction(1, 4), eps=decimal.Decimal("0.5"), amsgrad=None)
    assert rule == descend.Adam(lr=0.25, eps=0.5, amsgrad=False)


class Later:
    """An array of one number that is not known yet, as those of tracers and of the device "meta"."""

    shape = ()

    def item(self):
        raise RuntimeError("not now")

    def __repr__(self):
        return "Later()"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0.25", "Adam(lr='0.25'): lr must be a number or a schedule, not a string; try 0.25"),
        ("1e-4", "Adam(lr='1e-4'): lr must be a number or a schedule, not a string; try 0.0001"),
        ("fast", "Adam(lr='fast'): lr must be a number or a schedule, not a string; try 0.001"),
        ([0.1], "Adam(lr=[0.1]): lr must be a number or a schedule, not a sequence; try 0.001"),
        (np.array([1, 2]), "Adam(lr=array([1, 2])): lr must be a number or a schedule, not a sequence; try 0.001"),
        (np.array(1j), "Adam(lr=array(0.+1.j)): lr must be a number or a schedule; try 0.001"),
        (np.array(True), "Adam(lr=array(True)): lr must be a number or a schedule; try 0.001"),
        (Later(), "Adam(lr=Later()): lr must be a number or a schedule, and one that is known now; try 0.001"),
        (
            descend.schedules.Cosine,
            "Adam(lr=<class 'descend.schedules.Cosine'>): lr must be a number or a schedule, not the class Cosine; "
            "try 0.001",
        ),
        (decimal.Decimal("NaN"), "Adam(lr=Decimal('NaN')): lr must be a finite number ≥ 0; try 0.001"),
    ],
    ids=repr,
)
def test_what_is_no_number_is_named(value, message):
    """The message says what is there instead of a number, where that is not plain to see."""
    with pytest.raises(RuleError) as caught:
        descend.Adam(lr=value)
    assert str(caught.value) == message


def test_large_arrays_are_not_printed():
    """Weights in a number's place are told by their shape."""
    with pytest.raises(RuleError, match=r"not an array of shape \(300, 4\); try 0\.001$") as caught:
        descend.Adam(lr=np.zeros((300, 4)))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("gives", "message"),
    [
        (None, "Adam(lr=None): lr must be a number; try 0.001"),
        (-1, "Adam(lr=-1): lr must be a finite number ≥ 0; try 0.001"),
        ("0.1", "Adam(lr='0.1'): lr must be a number, not a string; try 0.1"),
        (np.ones(2), "Adam(lr=array([1., 1.])): lr must be a number, not a sequence; try 0.001"),
        (
            descend.schedules.Constant(1.0),
            "Adam(lr=Constant(value=1.0)): lr must be a number, not a function; try 0.001",
        ),
    ],
    ids=repr,
)
def test_what_a_schedule_gives_is_checked(gives, message):
    """It is a number, for the step that it was asked for."""
    with pytest.raises(RuleError) as caught:
        descend.Adam(lr=lambda done: gives).at(3)
    assert str(caught.value) == f"{message}; a schedule gave it when asked with 2, the steps done before"


def test_each_may_be_checked_by_itself():
    """Numbers that are set one after the other may pass through what is refused of several together."""
    values = {**dataclasses.asdict(descend.Nesterov()), "momentum": 0.0}
    assert descend.Nesterov.of_each(values).momentum == 0.0
    with pytest.raises(RuleError, match="momentum must be"):
        descend.Nesterov.of_each({**values, "momentum": -1.0})
