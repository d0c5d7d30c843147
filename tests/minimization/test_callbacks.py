"""Callbacks: a point is SciPy's array and descend's record at once, and answers mean what SciPy has them mean."""

import copy
import functools
import pickle

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import torch
from tests.objectives.functions import ROSEN, slope, square

import descend
from descend import Reason
from descend.minimization.callbacks import Point

START = dict(**ROSEN, x0=np.array([-1.2, 1.0]), max_steps=6)


def points(**options):
    """The points that a callback was given."""
    seen = []
    descend.minimize(**START | options, callback=seen.append)
    return seen


def test_a_point_is_the_array_of_its_parameters():
    """Whatever NumPy does with an array it does with a point, and gives a usual array."""
    (first, *_, last) = seen = points()
    x = last.x
    assert isinstance(last, np.ndarray)
    assert np.array(seen).dtype == np.float64
    assert np.array(seen).shape == (7, 2)
    assert first.tolist() == [-1.2, 1.0]
    for of in (
        np.copy, np.asarray, np.array, np.sum, np.linalg.norm, np.exp, len, list, np.shape, lambda v: v.copy(),
        lambda v: v[0], lambda v: v[:1], lambda v: v @ v, lambda v: 2 * v - v**2, lambda v: v.tolist(), lambda v: -v,
        lambda v: v.mean(), lambda v: v > 0, lambda v: np.vstack([v, v]), lambda v: v.astype(int), str, lambda v: +v,
        lambda v: np.add(v, 1.0, out=v.copy()), tuple, lambda v: f"{v[0]:.3f}", torch.tensor, np.argmax,
    ):  # fmt: skip
        assert np.array_equal(of(last), of(x))
        assert type(of(last)) in (type(of(x)), Point)
    matrix = scipy.sparse.csr_matrix([[1.0, 2.0], [3.0, 4.0]])
    for of in (
        np.copy, np.exp, lambda v: v.copy(), lambda v: v[:1], lambda v: v - 1.0, lambda v: v.sum(), np.sort, np.cumsum,
        lambda v: np.dot(matrix.toarray(), v), lambda v: matrix @ v, lambda v: np.concatenate([v, v]), np.atleast_2d,
        lambda v: np.linalg.solve(matrix.toarray(), v), lambda v: np.where(v > 0, v, 0.0), lambda v: np.append(v, 1.0),
    ):  # fmt: skip
        assert np.array_equal(of(last), of(x))
        assert type(of(last)) is type(of(x))


def test_a_point_is_a_record_of_what_is_known():
    """Its fields, by attribute and by name; copies and pickles have them too."""
    result = descend.minimize(**START)
    last = points()[-1]
    for again in (last, copy.copy(last), copy.deepcopy(last), pickle.loads(pickle.dumps(last))):
        assert (again.nit, again.nfev, again.fun) == (result.nit, result.nfev, result.fun)
        assert np.array_equal(again, result.x)
        assert np.array_equal(again.jac, result.jac)
        assert again["nit"] == 6
    with pytest.raises(KeyError, match="niter"):
        last["niter"]
    assert "fun=" in repr(last)


@pytest.mark.parametrize(
    ("x0", "row"),
    [
        (2.0, [2.0]),
        (np.array(2.0), [2.0]),
        ({"b": 2.0, "w": np.array([[1.0, 3.0]], dtype=np.float32)}, [2.0, 1.0, 3.0]),
        (torch.tensor([[1.0, 2.0]]), [1.0, 2.0]),
        (np.array([[1.0, 2.0]]), [[1.0, 2.0]]),
    ],
    ids=["float", "0-d", "dict", "torch", "matrix"],
)
def test_a_point_of_any_container_has_all_numbers_in_a_row(x0, row):
    """But `x` is built as x0 was."""

    def fun(x):
        return sum((leaf**2).sum() for leaf in (x.values() if isinstance(x, dict) else [x]))

    seen = []
    descend.minimize(fun, x0, max_steps=1, callback=seen.append)
    assert seen[0].tolist() == row
    assert type(seen[0].x) is type(x0)
    assert len(seen[0]) == len(row)
    if len(row) == 1 and np.size(x0) == 1:
        assert float(seen[0]) == 2.0


class Counting:
    """A callback with state."""

    def __init__(self):
        self.points = []

    def __call__(self, xk):
        self.points.append(np.copy(xk))


def test_whatever_can_be_called_with_a_point_is_a_callback():
    """Bound methods, objects, partial functions, any number of arguments, defaults."""
    seen, object_ = [], Counting()
    callbacks = (
        seen.append, object_, object_.__call__, functools.partial(lambda log, xk: log.append(xk.copy()), seen),
        lambda *args: seen.append(args[0].copy()), lambda xk, log=seen: log.append(xk.tolist()),
        lambda xk, **more: seen.append(xk + 0.0), np.linalg.norm, print,
    )  # fmt: skip
    for callback in callbacks:
        assert descend.minimize(**START, callback=callback).nit == 6
    assert np.array(seen).shape == (7 * 5, 2)
    assert len(object_.points) == 14


def test_a_callback_that_asks_for_an_intermediate_result_is_given_it():
    """By keyword, as an OptimizeResult, as in SciPy."""
    seen = []

    def keyword(*, intermediate_result):
        seen.append(intermediate_result)

    def positional(intermediate_result):
        seen.append(intermediate_result)

    for callback in (keyword, positional):
        descend.minimize(**START, callback=callback)
    assert len(seen) == 14
    assert all(isinstance(one, scipy.optimize.OptimizeResult) for one in seen)
    assert all(one.fun == scipy.optimize.rosen(one.x) == one["fun"] for one in seen)


@pytest.mark.parametrize("answer", [True, np.True_, np.array(True), np.array([True]), torch.tensor(True)])
def test_a_true_answer_stops(answer):
    assert descend.minimize(square, 0.0, jac=slope, callback=lambda xk: answer).reason is Reason.CALLBACK


@pytest.mark.parametrize("answer", [None, False, np.False_, 1, 2.5, "going on", np.ones(3), [True], torch.ones(1)])
def test_any_other_answer_does_not(answer):
    """What a callback happens to return, such as the length of its list, means nothing, as in SciPy."""
    assert descend.minimize(square, 0.0, jac=slope, callback=lambda xk: answer).success


def test_stop_iteration_stops_in_every_form():
    def stop(intermediate_result):
        if intermediate_result.nit == 3:
            raise StopIteration

    result = descend.minimize(**START, callback=stop)
    assert (result.nit, result.reason) == (3, Reason.CALLBACK)
