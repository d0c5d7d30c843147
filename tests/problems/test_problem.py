"""Problems of the user's own: metrics, odd data, wrong options, functions that raise, other libraries' losses."""

import collections
import functools
import math

import numpy as np
import pytest
import torch
from tests.problems.lines import X, Y, line, net

import descend
from descend.errors import DescendError, ObjectiveError, ProblemError


def test_evaluation_of_a_jax_problem_has_the_precision_of_training():
    """float64 parameters: losses and metrics are float64, as in training; float32 ones stay what they are."""
    jnp = pytest.importorskip("jax.numpy")

    def loss(w, X, y):
        return jnp.mean((jnp.asarray(X) @ w - y) ** 2)

    problem = line(loss=loss, jac="jax", start=lambda rng: np.full(3, 0.1), metric=lambda *a: jnp.sqrt(loss(*a)))
    result = descend.fit(problem, descend.GD(lr=0.05), epochs=2, batch_size="full")
    exact = float(np.mean((problem.train[0] @ result.x - problem.train[1]) ** 2))
    assert result.fun == pytest.approx(exact, rel=1e-13)
    test = float(np.mean((problem.test[0] @ result.x - problem.test[1]) ** 2))
    assert result.test_metric == pytest.approx(math.sqrt(test), rel=1e-13)
    narrow = line(loss=loss, jac="jax", start=lambda rng: jnp.full(3, 0.1))
    one = narrow.instance(0)
    assert np.float32(one.value(one.params, *narrow.train)) == one.value(one.params, *narrow.train)
    assert jnp.zeros(1).dtype == jnp.float32


def worst(w, X, y):
    return float(np.abs(X @ w - y).max())


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "loss"),
        ({"metric_name": "ignored"}, "loss"),
        ({"metric": worst}, "worst"),
        ({"metric": lambda w, X, y: 0.0}, "metric"),
        ({"metric": functools.partial(worst)}, "metric"),
        ({"metric": worst, "metric_name": "gap"}, "gap"),
    ],
    ids=range(6),
)
def test_a_metric_is_called_as_its_function(options, name):
    """Its own name, 'metric' where it has none, what the user says before both; without a metric it is the loss."""
    assert line(**options).metric_name == name


def test_numpy_numbers_are_stored_as_python_ones():
    """higher_is_better as bool, optimum as float."""
    problem = line(metric=worst, higher_is_better=np.True_, optimum=np.float32(0.5))
    assert problem.higher_is_better is True
    assert type(problem.optimum) is float
    assert line(optimum=3).optimum == 3.0
    assert line().optimum is None


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"metric": worst, "metric_name": ""}, "line: metric_name='' must be a text"),
        ({"metric": worst, "metric_name": 3}, "line: metric_name=3 must be a text"),
        ({"metric": worst, "higher_is_better": "yes"}, "line: higher_is_better='yes' must be True or False"),
        ({"optimum": math.nan}, "line: optimum=nan must be a finite number"),
        ({"optimum": -math.inf}, "line: optimum=-inf must be a finite number"),
        ({"optimum": "0"}, "line: optimum='0' must be a finite number"),
        ({"optimum": True}, "line: optimum=True must be a finite number"),
        ({"split": None}, "line: split=None must be three shares"),
        ({"split": "abc"}, "line: split='abc' must be three shares"),
        ({"split": 0.5}, r"line: split=0\.5 must be three shares"),
        ({"split": ("1", 0, 0)}, r"line: split=\('1', 0, 0\) must be three shares"),
        ({"split": (math.nan, 0.5, 0.5)}, "must be three shares"),
        ({"data": ([[1.0], [2.0, 3.0]], [1, 2])}, "line: data cannot be made an array: ValueError"),
    ],
    ids=range(13),
)
def test_a_bad_option_of_a_problem_is_refused(options, match):
    """By name and value, with what is allowed, on one line."""
    with pytest.raises(ProblemError, match=match) as caught:
        line(**options)
    assert "\n" not in str(caught.value)


def with_bad(value, row, dtype=np.float64):
    array = X.astype(dtype)
    array[row, 1] = value
    return array


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (
            lambda: line(data=None, train=(with_bad(math.nan, 7), Y)),
            "^line: train data: array 0 has nan in row 7; remove or fill such rows$",
        ),
        (lambda: line(data=(X, np.append(Y[:-1], math.inf))), "^line: data: array 1 has inf in row 59;"),
        (
            lambda: line(data=None, train=(X, Y), test=(with_bad(-math.inf, 3, np.float32), Y)),
            "^line: test data: array 0 has -inf in row 3;",
        ),
        (lambda: net(data=(torch.tensor(with_bad(math.nan, 5)), Y[:, None])), "^net: data: array 0 has nan in row 5;"),
    ],
    ids=["nan", "inf", "float32", "torch"],
)
def test_data_that_are_not_finite_are_refused(make, match):
    """Role, array, row and value of the first such number."""
    with pytest.raises(ProblemError, match=match):
        make()


def test_data_that_cannot_be_checked_for_nan_pass():
    """Integers, text, sparse tensors and matrices, masked numbers."""
    sparse = pytest.importorskip("scipy.sparse")
    masked = np.ma.masked_invalid(with_bad(math.nan, 2))
    for inputs in (np.arange(60), np.array(["a"] * 60), masked, sparse.csr_array(with_bad(math.nan, 2))):
        assert line(data=(inputs, Y)).size == 36
    tensor = torch.tensor(X).to_sparse()
    assert line(data=None, train=(tensor, Y)).size == 60


@pytest.mark.parametrize("form", ["coo_matrix", "coo_array", "dia_matrix", "dia_array", "bsr_matrix"])
def test_sparse_formats_without_rows_are_converted(form):
    """They train as the dense array does."""
    sparse = pytest.importorskip("scipy.sparse")
    jac = {"jac": lambda w, X, y: 2 * (X.T @ (X @ w - y)) / len(y)}
    dense = descend.fit(line(**jac), descend.GD(lr=0.05), epochs=2, batch_size=8)
    result = descend.fit(line(data=(getattr(sparse, form)(X), Y), **jac), descend.GD(lr=0.05), epochs=2, batch_size=8)
    assert np.allclose(result.x, dense.x)


def raising(error):
    def start(rng):
        raise error

    return start


def test_a_start_that_raises_is_refused_with_its_seed():
    """One line with the error, which is its cause."""
    with pytest.raises(ProblemError, match=r"^line: start raised ValueError: no luck \(seed 3\)") as caught:
        descend.fit(line(start=raising(ValueError("no\nluck"))), "gd", seed=3)
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), DescendError("mine"), ObjectiveError("mine")], ids=repr)
def test_what_a_start_raises_on_purpose_passes(error):
    """Ctrl-C and descend's own errors."""
    with pytest.raises(type(error)) as caught:
        line(start=raising(error)).instance(0)
    assert caught.value is error


@pytest.mark.parametrize("jac", ["jax", "torch"])
def test_evaluation_hands_out_what_training_hands_out(jac):
    """A loss that only its own library can compute is measured as it is trained: same leaves, same precision."""
    import jax.numpy as jnp

    def loss(w, X, y):
        if jac == "jax":
            residual = jnp.asarray(X) @ w.at[0].add(0.0) - y
            return (residual**2).mean()
        return (torch.as_tensor(X) @ w.clone() - torch.as_tensor(y)).square().mean()

    X = np.random.default_rng(0).normal(size=(50, 3))
    problem = descend.Problem(lambda rng: np.zeros(3), loss, jac, data=(X, X @ np.ones(3)))
    result = descend.fit(problem, descend.GD(lr=0.1), epochs=150, batch_size="full")
    assert result.fun < 1e-15


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: line(data=(X, Y[:-1])), "line: data have different lengths: 60, 59"),
        (lambda: line(data=None, train=(X, Y[:5])), "line: train data have different lengths: 60, 5"),
        (lambda: line(data=(X[:0], Y[:0])), "empty"),
        (lambda: line(data=(1.0, 2.0)), "one row an example"),
        (lambda: line(split=(0.5, 0.2, 0.2)), "sum to 1"),
        (lambda: line(loss=None, jac=None), "give loss="),
        (lambda: line(loss=3), "loss=3 is not a function"),
        (lambda: line(start=3), "start=3"),
        (lambda: line(train=(X, Y)), "not both"),
        (lambda: line(data=None, test=(X, Y)), "give train= too"),
    ],
    ids=range(10),
)
def test_a_bad_problem_is_refused_by_name(make, match):
    """Data that do not fit together, shares that do not sum to one, missing functions."""
    with pytest.raises(ProblemError, match=match):
        make()


class Endless:
    """Has a length and computes an item for any number, as a dataset that draws examples at random does."""

    def __len__(self):
        return 5

    def __getitem__(self, i):
        return float(i), float(i)


@pytest.mark.parametrize("make", [line, net])
def test_data_that_are_no_arrays_are_refused_unread(make):
    """A dataset, an iterator or a mapping; NumPy would read the first for ever."""
    for data in (Endless(), (Endless(), Endless()), {"X": [1.0], "y": [1.0]}, torch.utils.data.DataLoader([1, 2])):
        with pytest.raises(ProblemError, match=r"(data: (Endless|dict|DataLoader) is no array: give arrays)"):
            make(data=data)


def test_sequences_and_tensor_datasets_are_data():
    """Whatever has a length and items up to it, or says by itself how it is an array."""
    xs, dataset = collections.deque(range(10)), torch.utils.data.TensorDataset(torch.ones(10, 3), torch.ones(10, 1))
    assert line(train=(xs, range(10)), data=None).train[0].tolist() == list(range(10))
    assert [t.shape for t in net(train=dataset, data=None).train] == [(10, 3), (10, 1)]
