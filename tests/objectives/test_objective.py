"""What a function and its gradient may return, and what is said of the rest."""

import numpy as np
import pytest
import torch
from tests.objectives.functions import slope, square

import descend
from descend import Reason
from descend.errors import ObjectiveError, OptionError


def test_value_and_gradient_together():
    """jac=True: fun returns both, and is called once a point."""
    result = descend.minimize(lambda x: (square(x), slope(x)), 0.0, jac=True, method=descend.GD(lr=0.1), max_steps=100)
    assert result.x == 2.9999999993888893
    assert result.nfev == 101


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (None, "returned None: .*return"),
        (np.ones(3), r"array of shape \(3,\).*sum or mean"),
        ("nine", "'nine'"),
        (1j, "1j"),
        ([1.0, 2.0], r"shape \(2,\)"),
        (True, "True"),
    ],
    ids=["None", "array", "string", "complex", "list", "bool"],
)
def test_a_function_that_returns_no_number_is_told_so(value, match):
    """What it returned, and what is needed."""
    with pytest.raises(ObjectiveError, match=match) as caught:
        descend.minimize(lambda x: value, 0.0, jac=slope, max_steps=3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value", [np.array([4.0]), np.float32(4), torch.tensor(4.0), 4], ids=["1-array", "f32", "torch", "int"]
)
def test_numbers_of_any_kind_are_accepted(value):
    """Arrays of one number, NumPy and torch scalars, integers."""
    assert descend.minimize(lambda x: value, 0.0, jac=lambda x: 0.0, max_steps=1).fun == 4.0


def test_a_function_that_raises_loses_nothing():
    """Raising in step 57: the history of the 57 steps, the best point and the cause are on the exception."""
    calls = []

    def fun(x):
        calls.append(1)
        if len(calls) == 58:
            raise ZeroDivisionError("boom")
        return square(x)

    with pytest.raises(ObjectiveError, match=r"ZeroDivisionError: boom \(at step 57\)") as caught:
        descend.minimize(fun, 0.0, jac=slope, method=descend.GD(lr=0.01), max_steps=100)
    result = caught.value.result
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert result.reason is Reason.FUNCTION_RAISED
    assert len(result.history.loss) == result.nit == 57
    assert result.fun == result.history.loss[-1]
    assert result.x == pytest.approx(3 - 3 * 0.98**56)


@pytest.mark.parametrize(
    ("jac", "match"),
    [
        (lambda x: np.ones(3), r"jac gave shape \(3,\) for x0, which has shape \(2,\)"),
        (lambda x: np.ones((2, 1)), r"shape \(2, 1\)"),
        (lambda x: None, "jac gave None for x0"),
        (lambda x: "up", "jac gave 'up'"),
        (lambda x: {"w": x}, "jac gave"),
        (lambda x: 1 / 0, "jac raised ZeroDivisionError"),
    ],
    ids=["longer", "column", "None", "string", "dict", "raises"],
)
def test_a_bad_gradient_is_refused_by_name(jac, match):
    """Shape, type, structure: what was given and what is needed."""
    with pytest.raises(ObjectiveError, match=match):
        descend.minimize(lambda x: float(x @ x), np.ones(2), jac=jac, max_steps=3)


def test_a_gradient_of_another_structure_is_refused():
    """A missing key in a container."""
    with pytest.raises(ObjectiveError, match="not built like the parameters"):
        descend.minimize(lambda p: 0.0, {"w": 1.0, "b": 1.0}, jac=lambda p: {"w": 1.0}, max_steps=3)


def test_jac_true_needs_a_pair():
    """jac=True with a function that returns a number alone."""
    with pytest.raises(ObjectiveError, match=r"must return \(value, gradient\)"):
        descend.minimize(square, 0.0, jac=True)


def test_fun_must_be_callable():
    """A value in place of the function."""
    with pytest.raises(OptionError, match=r"fun=9\.0 is not a function"):
        descend.minimize(9.0, 0.0)
