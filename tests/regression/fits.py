"""Fits that several tests share: a model, its data, and a start."""

import numpy as np


class Decay:
    """Two decays with noise: residuals and their Jacobian, of four parameters and forty observations."""

    t = np.linspace(0.0, 4.0, 40)
    y = 3.0 * np.exp(-0.4 * t) + 1.5 * np.exp(-2.5 * t) + 0.05 * np.random.default_rng(0).normal(size=40)
    start, near = np.array([2.0, 0.5, 1.0, 3.0]), np.array([3.0, 0.4, 1.5, 2.5])

    @classmethod
    def model(cls, t, a, b, c, d, xp=np):
        """The decays."""
        return a * xp.exp(-b * t) + c * xp.exp(-d * t)

    @classmethod
    def residuals(cls, x, xp=np):
        """Model minus data."""
        return cls.model(cls.t, *x, xp) - cls.y

    @classmethod
    def jacobian(cls, x):
        """Derivatives of the residuals."""
        a, b, c, d = x
        first, second = np.exp(-b * cls.t), np.exp(-d * cls.t)
        return np.stack([first, -a * cls.t * first, second, -c * cls.t * second], axis=1)


def random_fit(seed):
    """A small random nonlinear problem: residuals, their Jacobian, and a start; 12 of 4 parameters."""
    rng = np.random.default_rng(seed)
    matrix, offset, target = rng.normal(size=(12, 4)), rng.normal(size=12), rng.normal(size=12)

    def residuals(x):
        return np.tanh(matrix @ x + offset) + 0.3 * (matrix @ x) - target

    def jacobian(x):
        return matrix * (1.3 - np.tanh(matrix @ x + offset) ** 2)[:, None]

    return residuals, jacobian, rng.normal(size=4)
