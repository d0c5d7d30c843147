"""A small linear problem with a known answer."""

import numpy as np

from descend import Problem

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 3))
Y = X @ np.array([1.0, -2.0, 3.0]) + 0.1 * RNG.normal(size=90)


def line(**options):
    """A small linear problem with a known answer."""
    settings = {
        "start": lambda rng: rng.normal(size=3),
        "loss": lambda w, X, y: float(np.mean((X @ w - y) ** 2)),
        "jac": lambda w, X, y: 2 * X.T @ (X @ w - y) / len(y),
        "data": (X, Y),
        "name": "line",
    }
    return Problem(**{**settings, **options})
