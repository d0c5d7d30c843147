"""`least_squares`: the answers of SciPy's, whatever the source of the Jacobian, the loss and the bounds."""

import numpy as np
import pytest
import scipy.optimize
from tests.regression.fits import Decay

import descend


@pytest.mark.parametrize("loss", ["linear", "huber", "soft_l1", "cauchy", "arctan"])
def test_robust_losses_are_scipys(loss):
    """The least of each loss, with its definition of cost, f_scale and all."""
    options, tight = {"loss": loss, "f_scale": 0.05}, {"xtol": 1e-14, "ftol": 1e-14, "gtol": 1e-12}
    outlying = np.where(np.arange(40) % 9 == 4, 1.0, 0.0)
    theirs = scipy.optimize.least_squares(
        lambda x: Decay.residuals(x) - outlying, Decay.near, Decay.jacobian, **tight, **options
    )
    ours = descend.least_squares(lambda x: Decay.residuals(x) - outlying, Decay.near, Decay.jacobian, **options)
    assert ours.success
    np.testing.assert_allclose(ours.cost, theirs.cost, rtol=1e-10)
    np.testing.assert_allclose(ours.x, theirs.x, rtol=1e-5)
