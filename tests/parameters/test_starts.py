"""Starts in whatever form: where it is clear which numbers they mean, they are float64, as in SciPy."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

import descend
from descend.errors import ParameterError
from descend.parameters.starts import as_start


@pytest.mark.parametrize(
    "x0",
    [
        [3, 4], (3, 4), [3, 4.0], range(3, 5), np.array([3, 4]), np.array([3, 4], dtype=np.uint8),
        np.array([3.0, 4.0]).astype(">f8"), np.array([3, 4]).astype(">i2"), np.ma.array([3.0, 4.0]),
        np.ma.array([3, 4]), np.array([3, 4], dtype=np.longdouble), np.array([3, 4], dtype=np.float16),
        np.array([3, 4.0], dtype=object), [Fraction(3), Decimal(4)], pd.Series([3.0, 4.0], index=["a", "b"]),
        pd.Series([3, 4]), pd.Series([3, 4], dtype="Int64"), [np.float16(3), np.longdouble(4)],
    ],
    ids=lambda x0: f"{type(x0).__name__}-{getattr(x0, 'dtype', '')}",
)  # fmt: skip
def test_what_means_two_numbers_is_an_array_of_them(x0):
    """The function is given a plain array of float64 in the machine's order, and so is the result."""
    seen = []

    def fun(x):
        seen.append(x)
        return float(np.sum((x - 1) ** 2))

    result = descend.minimize(fun, x0, jac=lambda x: 2 * (x - 1))
    assert seen[0].tolist() == [3.0, 4.0]
    for array in (seen[0], result.x, result.jac):
        assert type(array) is np.ndarray
        assert array.dtype == np.float64
        assert array.dtype.isnative
    assert result.x == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("x0", [3, np.int64(3), np.array(3), Fraction(3), Decimal(3), np.float16(3), np.longdouble(3)])
def test_what_means_one_number_is_a_float(x0):
    result = descend.minimize(lambda x: (x - 1) ** 2, x0)
    assert result.x == pytest.approx(1.0)
    assert np.asarray(result.x).dtype == np.float64
    assert isinstance(result.x, np.ndarray if isinstance(x0, np.ndarray) else float)


def test_numbers_within_containers():
    """Each leaf by itself; what is a float already stays as it is, float32 too."""
    result = descend.minimize(
        lambda p: np.sum((p["w"] - 1) ** 2) + (p["b"] + 2) ** 2 + p["c"][0] ** 2,
        {"w": np.array([3, 4]), "b": 2, "c": [np.float32(1)]},
        jac=lambda p: {"w": 2 * (p["w"] - 1), "b": 2 * (p["b"] + 2), "c": [2 * p["c"][0]]},
    )
    assert result.x["w"] == pytest.approx([1.0, 1.0], abs=1e-4)
    assert result.x["b"] == pytest.approx(-2.0, abs=1e-4)
    assert (result.x["w"].dtype, type(result.x["b"]), result.x["c"][0].dtype) == (np.float64, float, np.float32)
    with pytest.raises(ParameterError, match=r"x0\['w'\]\[1\]=.*None is not a real number"):
        descend.minimize(lambda p: 0.0, {"w": [1.0, np.array([None, 2])]})


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_a_matrix_is_the_array_of_its_shape():
    result = descend.minimize(lambda x: float(np.sum((x - 1) ** 2)), np.asmatrix([[3, 4]]))
    assert type(result.x) is np.ndarray
    assert result.x.shape == (1, 2)


def test_starts_are_read_as_x0_is():
    result = descend.minimize(lambda x: float(np.sum((x - 1) ** 2)), [3.0, 4.0], starts=[[1, 2], np.array([5, 6])])
    assert [type(run.x) for run in result.runs] == [np.ndarray] * 3


@pytest.mark.parametrize("x0", [np.array([np.longdouble(1) / 3]), np.array([2**60 + 1]), [2**60 + 1]])
def test_digits_that_are_lost_are_told(x0):
    """float64 holds neither a third to 64 bits nor 2⁶⁰ + 1."""
    with pytest.warns(RuntimeWarning, match="x0: float64 does not hold all digits"):
        as_start(x0)
