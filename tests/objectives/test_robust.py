"""Losses of residuals against SciPy's, as far as floats go."""

import warnings

import numpy as np
import pytest
import scipy.optimize

import descend
from descend.objectives.robust import LOSSES, ResidualLoss

SIZES = [0.0, 1e-200, 0.5, 3.0, 1e50, 1e76, 1e100, 1e153, 1e160]


def by_scipy(loss, scale, residual):
    """What SciPy makes of one residual, by the cost where it begins: there is nothing to descend along."""
    with np.errstate(all="ignore"):
        fit = scipy.optimize.least_squares(
            lambda x: [residual], [0.0], lambda x: [[0.0]], loss=loss, f_scale=scale, max_nfev=1
        )
    return fit.cost


@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize("loss", LOSSES)
def test_values_are_those_of_scipy_and_no_overflow_is_told(loss, scale):
    """What is too large for floats is infinite, and weighs nothing in the model."""
    own = ResidualLoss(loss, scale)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [own(np.array([size])) for size in SIZES]
        own.decrease(np.array(SIZES), np.array(SIZES) / 2)
        values, rows = own.model(np.array(SIZES))
    finite = [size for size in SIZES if size * size / scale**2 < 1e300]
    expected = [by_scipy(loss, scale, size) for size in finite]
    # Small losses are computed here without SciPy's cancellation.
    np.testing.assert_allclose(found[: len(finite)], expected, rtol=1e-12, atol=1e-15 * scale**2)
    assert not np.isnan(found).any()
    assert not np.isnan(values).any()
    assert rows is None or not np.isnan(rows).any()


@pytest.mark.parametrize("loss", ["soft_l1", "huber", "cauchy", "arctan"])
def test_a_descent_from_an_outlier_of_1e100(loss):
    """Squares that overflow end in an answer or a reason, never in a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = descend.least_squares(lambda x: np.array([1e160 * x[0], x[0] - 2, x[1] - 3]), [1.0, 1.0], loss=loss)
    assert result.success == (loss == "arctan")
