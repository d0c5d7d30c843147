"""Profile intervals against closed forms: parabolas, rates, open ends, bounds, and lower minima on the way."""

import math

import numpy as np
import pytest
import scipy.optimize

from descend.errors import ObjectiveError
from descend.uncertainty.profile import Profile, profile_interval

Z = 1.959963984540054


def profile(loss, estimate, x=None):
    """The profile of a loss of one number, at distances of negative log-likelihoods."""
    return Profile(lambda v, start: (loss(v), v, True), estimate, loss(estimate), x, 0.5)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_a_parabola_has_the_interval_by_its_curvature(scale):
    """It is that of the standard error, whatever the parameter's size."""
    low, high = profile_interval(profile(lambda v: (v / scale - 3) ** 2 / 2, 3 * scale), scale, Z)
    assert (low / scale, high / scale) == pytest.approx((3 - Z, 3 + Z), abs=1e-8)


def test_a_rate_has_the_roots_of_its_likelihood():
    """Of n = 4 exponential waits of mean 2; the function has no value at negative rates."""

    def loss(rate):
        return math.nan if rate <= 0 else -4 * math.log(rate) + 8 * rate

    def root(u):
        return 8 * (u - 1 - math.log(u)) - Z**2

    right = [scipy.optimize.brentq(root, *ends, xtol=1e-15) / 2 for ends in ((1e-6, 1), (1, 9))]
    assert profile_interval(profile(loss, 0.5), 0.25, Z) == pytest.approx(right, abs=1e-8)


def test_an_end_is_open_where_the_loss_levels_off():
    """A loss that rises to less than the quantile on one side has no end there."""
    low, high = profile_interval(profile(lambda v: (v**2 if v < 0 else 1.5 * v**2 / (1 + v**2)) / 2, 0.0), 1.0, Z)
    assert low == pytest.approx(-Z, abs=1e-8)
    assert high == math.inf


def test_an_end_is_the_bound_that_comes_first():
    """A bound ends the interval, and so does the edge of where the function is defined."""
    loss = profile(lambda v: v**2 / 2, 0.0)
    assert profile_interval(loss, 1.0, Z, low=-0.5, high=0.0) == (-0.5, 0.0)

    def edged(v):
        if v > 1.25:
            raise ObjectiveError("beyond")
        return v**2 / 2

    assert profile_interval(profile(edged, 0.0), 1.0, Z)[1] == pytest.approx(1.25, abs=1e-8)


def test_a_lower_minimum_is_kept():
    """What was found below the answer stands in `lower`, with its loss."""
    found = profile(lambda v: -np.cos(v) - 0.3 * v, 0.0)
    found.best = -1.0
    assert found.lower is None
    profile_interval(found, 3.0, Z)
    loss, x = found.lower
    assert loss < -1.0
    assert loss == pytest.approx(-np.cos(x) - 0.3 * x)


def test_a_pole_at_zero_is_not_stepped_over():
    """Where 1/k is what is told, k is as good far beyond the pole as here, and that is no part of the interval."""

    def loss(k):
        return (1 / k - 0.01) ** 2 / (2 * 0.02**2) if k else math.inf

    low, high = profile_interval(profile(loss, 100.0), 200.0, Z)
    assert low == pytest.approx(1 / (0.01 + 0.02 * Z), rel=1e-8)
    assert high == math.inf
