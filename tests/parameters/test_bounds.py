"""Bounds: every form they come in, rounded inwards, and what makes no sense is refused."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.optimize
from tests.objectives.functions import corner

import descend
from descend.errors import ParameterError
from descend.parameters.bounds import Bounds
from descend.parameters.memory import Memory


@pytest.mark.parametrize(
    ("bounds", "match"),
    [
        ((1.0, 0.0), r"bounds of x0\[0\]: 1 is not at most 0"),
        (3.0, r"bounds=3.0: \(lower, upper\) is needed"),
        ((0.0, [1.0, 2.0]), "upper bound of x0 is"),
        ((math.nan, 1.0), "nan is not at most 1.*None for no bound"),
        ([(0, 1), (0, np.nan), (0, 1)], r"bounds of x0\[1\]: 0 is not at most nan.*None for no bound"),
        ([(0, 1), (2, 1), (0, 1)], r"bounds of x0\[1\]: 2 is not at most 1"),
        ([(0, 1), (2, 3)], "pairs, one for each of 3 parameters; there are 2 pairs"),
        ([(0, 1)] * 4, "there are 4 pairs"),
        (np.zeros((2, 3)), r"bounds\[0\]=an array of shape \(3,\) and dtype float64 is no pair"),
        ([[0, 0, 0], [1, 1, 1]], r"bounds\[0\]=\[0, 0, 0\] is no pair"),
        ([(0, 1), None, (0, 1)], r"bounds\[1\]=None is no pair"),
        ([], "there are 0 pairs"),
        ([("0", "1")] * 3, "lower bound of x0 .*not text"),
        ("bounds", "bounds='bounds': .*is needed"),
        ({"lower": 0}, "is needed"),
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


BOX = [(0.5, 2.0), (None, -0.25)]


@pytest.mark.parametrize(
    "form",
    [
        lambda: BOX, lambda: tuple(BOX), lambda: zip([0.5, None], [2.0, -0.25], strict=True), lambda: iter(BOX),
        lambda: (pair for pair in BOX), lambda: map(tuple, BOX), lambda: [list(pair) for pair in BOX],
        lambda: np.array(BOX), lambda: np.array([(0.5, 2.0), (-np.inf, -0.25)]), lambda: [np.array(p) for p in BOX],
        lambda: scipy.optimize.Bounds([0.5, -np.inf], [2.0, -0.25]),
        lambda: scipy.optimize.Bounds([0.5, -np.inf], [2.0, -0.25], keep_feasible=True),
        lambda: (np.array([0.5, -np.inf]), np.array([2.0, -0.25])), lambda: ([0.5, None], [2.0, -0.25]),
        lambda: pd.DataFrame([(0.5, 2.0), (-np.inf, -0.25)]),
        lambda: ([0.5, -math.inf], np.array([2.0, -0.25])),
    ],
    ids=[
        "list", "tuple", "zip", "iterator", "generator", "map", "lists", "objects", "array", "arrays", "Bounds",
        "feasible", "ends", "ends as lists", "frame", "mixed ends",
    ],
)  # fmt: skip
def test_every_form_of_bounds_for_two_parameters(form):
    """A list, an array or an iterator holds pairs, a tuple two ends, unless of two tuples: as documented."""
    found = descend.minimize(lambda x: (float(x @ x), 2 * x), np.array([1.0, -1.0]), jac=True, bounds=form())
    assert found.x == pytest.approx([0.5, -0.25])
    assert "moved" not in found.message


def test_iterators_of_bounds_are_for_every_start():
    found = descend.minimize(
        lambda x: (float(x @ x), 2 * x),
        [1.0, -1.0],
        jac=True,
        starts=[[2.0, -2.0]],
        bounds=iter([(0.5, 2), (-9, -0.25)]),
    )
    assert [run.x.tolist() for run in found.runs] == [pytest.approx([0.5, -0.25])] * 2


def test_bounds_between_ends_are_never_pairs():
    """Where (lower, upper) is what is meant, as for least squares, two tuples are two ends."""
    bounds = Bounds.between(Memory(np.zeros(2)), (0.0, -1.0), (1.0, 2.0))
    assert [end.tolist() for end in bounds.ends] == [[0.0, -1.0], [1.0, 2.0]]


def test_a_start_outside_its_bounds_is_moved_with_a_word():
    """Once, in the message; by rounding alone it is not said."""
    inside = lambda x0, **more: descend.minimize(  # noqa: E731
        lambda x: (float(x @ x), 2 * x), np.array(x0), jac=True, bounds=[(1.0, 2.0), (0.0, 5.0)], **more
    )
    for more in ({}, {"max_steps": 1}, {"max_evals": 1}):
        told = inside([3.0, 1.0], **more).message
        assert told.count("The start was moved into the bounds, as x0[0]=3 is outside [1, 2].") == 1
    for x0 in ([1.5, 1.0], [1.0, 0.0], [1.0 - 1e-16, 5.0 + 1e-15]):
        assert "moved" not in inside(x0).message
    first = inside([3.0, 1.0], max_steps=1)
    assert "moved" not in inside([3.0, 1.0], state=first.state, max_steps=2).message  # x0 is not begun from
