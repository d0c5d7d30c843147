"""Fits that several tests share: a model, its data, and a start."""

import numpy as np


class Decay:
    """Two decays with noise: residuals and their Jacobian, of four parameters and forty observations."""

    t = np.linspace(0.0, 4.0, 40)
    y = 3.0 * np.exp(-0.4 * t) + 1.5 * np.exp(-2.5 * t) + 0.05 * np.random.default_rng(0).normal(size=40)
    start, near = np.array([2.0, 0.5, 1.0, 3.0]), np.array([3.0, 0.4, 1.5, 2.5])

    @classmethod
    def model(cls, t, a, b, c, d):
        """The decays."""
        return a * np.exp(-b * t) + c * np.exp(-d * t)

    @classmethod
    def residuals(cls, x):
        """Model minus data."""
        return cls.model(cls.t, *x) - cls.y

    @classmethod
    def jacobian(cls, x):
        """Derivatives of the residuals."""
        a, b, c, d = x
        first, second = np.exp(-b * cls.t), np.exp(-d * cls.t)
        return np.stack([first, -a * cls.t * first, second, -c * cls.t * second], axis=1)
