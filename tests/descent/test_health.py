"""Values that are not finite are a named reason; large ones are no failure."""

import math

import numpy as np
import pytest

import descend
from descend import Reason


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf], ids=str)
def test_a_value_that_is_not_finite_is_a_named_reason(bad):
    """The best finite point is kept, the message tells value and step."""
    result = descend.minimize(
        lambda x: bad if x < 0.5 else x**2, 1.0, jac=lambda x: 2 * x, method=descend.GD(lr=0.1), max_steps=50
    )
    assert result.reason is Reason.NON_FINITE
    assert not result.success
    assert 0.5 < result.x < 0.7
    assert math.isfinite(result.fun)
    assert f"{bad} at step 4" in result.message


def test_a_gradient_that_is_not_finite_names_its_entry():
    """NaN in one entry of the gradient, in a container."""
    result = descend.minimize(
        lambda p: float(p["w"] @ p["w"]),
        {"w": np.ones(3)},
        jac=lambda p: {"w": np.array([1.0, np.nan, 1.0])},
        max_steps=5,
    )
    assert result.reason is Reason.NON_FINITE
    assert "x0['w'][1] is nan" in result.message


def test_a_large_finite_gradient_is_no_failure():
    """Entries whose squares overflow are finite all the same."""
    result = descend.minimize(
        lambda x: float(np.abs(x).sum()),
        np.ones(2),
        jac=lambda x: np.full(2, 1e200),
        method=descend.GD(lr=1e-202),
        max_steps=3,
    )
    assert result.reason is Reason.MAX_STEPS
    assert result.history.gradient_norm[0] == pytest.approx(math.sqrt(2) * 1e200)
