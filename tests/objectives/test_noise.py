"""The noise of a function, measured: against noise that is put there."""

import numpy as np
import pytest

from descend.objectives.noise import NOISE_POINTS, Spacing, noise_of

LINE = np.arange(float(NOISE_POINTS))


def test_noise_that_is_added_is_found():
    """The standard deviation within a factor of 4, as the paper has it, for smooth functions of many slopes."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sigma = 10.0 ** rng.uniform(-12, -4)
        smooth = 3.0 + 100 * sigma * rng.normal() * LINE + 0.1 * sigma * LINE**2
        found = noise_of(smooth + sigma * rng.standard_normal(NOISE_POINTS))
        assert isinstance(found, Spacing) or sigma / 4 < found < 4 * sigma
        assert noise_of(1e200 * (smooth + sigma * rng.standard_normal(NOISE_POINTS))) is not None


def test_rounding_is_found():
    """Values rounded to six decimals jitter by 1e-6 / √12."""
    for slope in (0.7, 0.3, 0.2):
        assert noise_of(np.round(np.exp(slope * 1e-6 * LINE), 6)) == pytest.approx(1e-6 / np.sqrt(12), rel=0.5)


def test_points_too_close_or_too_far_apart_are_told():
    assert noise_of(np.full(NOISE_POINTS, 3.0)) is Spacing.COARSER
    assert noise_of(np.round(np.exp(1e-8 * LINE), 6)) is Spacing.COARSER
    assert noise_of(np.exp(LINE)) is Spacing.FINER
    assert noise_of(np.array([1.0, np.nan, 1, 1, 1, 1, 1])) is Spacing.FINER
