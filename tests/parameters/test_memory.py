"""Parameters in any container: the result is built as the start was, and a bad start is refused by name."""

import math

import numpy as np
import pytest
import scipy.optimize
import torch

import descend
from descend.errors import ParameterError


@pytest.mark.parametrize(
    "x0",
    [
        1.5,
        np.float32(1.5),
        np.array(1.5),
        np.array([1.5, -2.0]),
        np.ones((2, 3), dtype=np.float32),
        {"w": np.ones(3), "b": 0.5},
        [np.ones(2), {"deep": (np.zeros(1), 2.0)}],
        (np.ones(2, dtype=np.float32), np.ones(3)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_the_result_is_built_as_x0_was(x0):
    """Any nesting of dicts, lists, tuples, arrays and numbers comes back with its types, shapes and dtypes."""
    import optree

    def fun(x):
        return sum(float(np.sum((np.asarray(leaf) - 1) ** 2)) for leaf in optree.tree_leaves(x))

    def jac(x):
        return optree.tree_map(lambda leaf: 2 * (np.asarray(leaf) - 1), x)

    result = descend.minimize(fun, x0, jac=jac, method=descend.GD(lr=0.2), gtol=1e-4)
    assert result.success
    assert optree.tree_structure(result.x) == optree.tree_structure(x0)
    for before, after in zip(optree.tree_leaves(x0), optree.tree_leaves(result.x), strict=True):
        assert np.shape(before) == np.shape(after)
        assert np.asarray(before).dtype == np.asarray(after).dtype
        assert np.allclose(after, 1, atol=1e-3)


def test_a_plain_list_of_numbers_is_an_array():
    """As in SciPy, the function is given an array for x0=[1.3, 0.7]."""
    result = descend.minimize(scipy.optimize.rosen, [1.3, 0.7], jac=scipy.optimize.rosen_der, max_steps=1)
    assert isinstance(result.x, np.ndarray)


def test_x0_is_left_alone_and_the_function_may_keep_its_argument():
    """The descent works on copies: neither x0 nor what the function has kept changes later."""
    x0, seen = np.array([2.0, 2.0]), []

    def fun(x):
        seen.append(x)
        x += 0.0
        return float(x @ x)

    descend.minimize(fun, x0, jac=lambda x: 2 * x, method=descend.GD(lr=0.1), max_steps=3)
    assert x0.tolist() == [2.0, 2.0]
    assert [round(float(x[0]), 6) for x in seen] == [2.0, 1.6, 1.28, 1.024]


@pytest.mark.parametrize(
    ("x0", "match"),
    [
        (np.array([1.0, np.nan]), r"x0\[1\] is nan: a start must be finite"),
        (math.inf, "x0 is inf"),
        (np.array([]), r"x0 is empty \(shape \(0,\)\)"),
        ([], "holds no parameter"),
        ({}, "holds no parameter"),
        (True, "integer type bool"),
        (np.array([True, False]), "integer type bool"),
        (1j, "complex"),
        (np.array([1j]), "complex"),
        ("0.0", r"x0='0\.0' is not a number"),
        (None, "x0=None is not a number"),
        ({"w": np.ones(2), "b": None}, r"x0\['b'\]=None"),
        ({"w": object()}, r"x0\['w'\]"),
        (np.array([1.0, None], dtype=object), "x0=an array .*: None is not a real number; pass floats"),
        (np.array([1.0, 1j], dtype=object), "is not a real number"),
        (np.array(["1", "2"]), "x0=.* has type <U1"),
        (np.ma.array([1.0, 2.0], mask=[0, 1]), r"x0 is a masked array.*filled.*compressed"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "has type datetime64"),
        ([10**400, 1], r"x0\[0\] is inf"),
        (torch.tensor([1, 2]), "integer type int64"),
        (torch.tensor([1.0], dtype=torch.float16), "has type float16"),
        ({"w": [np.ones(2), np.array([np.inf])]}, r"x0\['w'\]\[1\]\[0\] is inf"),
    ],
    ids=[
        "nan",
        "inf",
        "empty",
        "empty list",
        "empty dict",
        "bool",
        "bools",
        "complex",
        "complex array",
        "string",
        "None",
        "None in dict",
        "object",
        "None in objects",
        "complex in objects",
        "strings",
        "masked",
        "dates",
        "huge",
        "tensor of ints",
        "tensor of float16",
        "inf in nest",
    ],
)
def test_a_bad_start_is_refused_by_name(x0, match):
    """The leaf, its value and what to do, in one line, before anything is run."""
    calls = []
    with pytest.raises(ParameterError, match=match) as caught:
        descend.minimize(lambda x: calls.append(1) or 0.0, x0)
    assert not calls
    assert "\n" not in str(caught.value)
