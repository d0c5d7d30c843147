"""Bounds: every form they come in, rounded inwards, and what makes no sense is refused."""

import math

import numpy as np
import pytest
import scipy.optimize
from tests.objectives.functions import corner

import descend
from descend.errors import ParameterError


@pytest.mark.parametrize(
    ("bounds", "match"),
    [
        ((1.0, 0.0), r"bounds of x0\[0\]: 1 is not at most 0"),
        (3.0, r"bounds=3.0: \(lower, upper\) is needed"),
        ((0.0, [1.0, 2.0]), "upper bound of x0 is"),
        ((math.nan, 1.0), "nan is not at most 1"),
    ],
)
def test_bounds_that_are_none_are_refused(bounds, match):
    with pytest.raises(ParameterError, match=match):
        descend.minimize(corner, np.zeros(3), jac=True, bounds=bounds)


def test_bounds_are_rounded_inwards():
    """What float32 cannot hold is not looked beyond; where it holds nothing in between, the nearest is taken."""
    looks = []

    def fun(x):
        looks.append(x.copy())
        return float(np.sum((x - 5) ** 2)), 2 * (x - 5)

    result = descend.minimize(fun, np.zeros(2, np.float32), jac=True, bounds=(None, 0.1))
    assert all(np.all(x.astype(float) <= 0.1) for x in looks)
    assert result.x == pytest.approx(0.1)
    assert descend.minimize(fun, np.zeros(2, np.float32), jac=True, bounds=(0.1, 0.1)).x == pytest.approx(0.1)
    tiny = descend.minimize(lambda x: (float(x[0]), np.ones(1)), np.ones(1, np.float32), jac=True, bounds=(1e-50, None))
    assert tiny.x[0] > 0


@pytest.mark.parametrize(
    ("bounds", "match"),
    [
        ((math.inf, None), "bounds of .*inf is not at most inf, or leaves nothing finite"),
        (scipy.optimize.Bounds([0, 0.5, 7], [1, 1, 9]), "3 lower bounds for 2 parameters: give one for each"),
        ([("a", 1), (0, 1)], "lower bound of x0"),
        ([([1], 1), (0, 1)], "lower bound of x0"),
        ([({}, 1), (0, 1)], "lower bound of x0"),
        ([(1j, 1), (0, 1)], "a real number is needed"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(bounds, match):
    with pytest.raises(ParameterError, match=match):
        descend.minimize(lambda x: float(x @ x), np.zeros(2), bounds=bounds)


def test_scipys_arrays_of_bounds_are_pairs():
    """Of two parameters, too, where (lower, upper) looks the same."""
    box = np.array([[0.1, 1], [0.2, 1]])
    options = dict(x0=np.array([0.5, 0.5]), jac=lambda x: 2 * x, bounds=box)
    ours, scipys = (
        scipy.optimize.minimize(lambda x: float(x @ x), method=method, **options)
        for method in (descend.LBFGS(), "L-BFGS-B")
    )
    assert ours.x == pytest.approx(scipys.x)
    assert ours.x == pytest.approx([0.1, 0.2])


def test_bounds_by_pairs_for_any_container():
    """A pair for each number, in the order of the leaves; SciPy's Bounds with one number each."""

    def fun(p):
        return float(np.sum((p["a"] - 3) ** 2) + (p["b"] - 3) ** 2)

    x0 = {"a": np.zeros((2, 2)), "b": 0.0}
    pairs = [(0, 1), (0, None), (None, 2), (0, 4), (0, 0.5)]
    result = descend.minimize(fun, x0, bounds=pairs)
    assert result.x["a"].ravel() == pytest.approx([1.0, 3.0, 2.0, 3.0], abs=1e-5)
    assert result.x["b"] == pytest.approx(0.5)
    one = descend.minimize(fun, x0, bounds=scipy.optimize.Bounds(0, 1))
    assert one.x["a"] == pytest.approx(1.0)
