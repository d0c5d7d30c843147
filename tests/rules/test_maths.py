"""The functions of maths on plain numbers: they stay Python's, so that a float32 step stays one."""

import math

import numpy as np
import pytest

from descend.rules import maths


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (maths.sqrt(4.0), 2.0),
        (maths.absolute(-3), 3),
        (maths.sign(-0.5), -1.0),
        (maths.maximum(1.0, 2.0), 2.0),
        (maths.minimum(1.0, math.nan), math.nan),
        (maths.clip(5.0, 0.0, 1.0), 1.0),
        (maths.where(True, 1.0, 2.0), 1.0),
        (maths.share(0.5, 4.0), 2.0),
        (maths.share(0.0, math.inf), 0.0),
        (maths.share(0.5, math.nan), math.nan),
    ],
)
def test_of_numbers(found, expected):
    assert type(found) is type(expected)
    assert found == expected or math.isnan(expected)


def test_numbers_with_arrays():
    """A number beside an array takes its format."""
    x = np.ones(3, np.float32)
    assert maths.maximum(2.0, x).dtype == np.float32
    assert (maths.sqrt(2.0) * x).dtype == np.float32
    assert maths.where(True, x, 0.0 * x).dtype == np.float32
