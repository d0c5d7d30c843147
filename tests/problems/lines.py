"""A small linear problem, and a network on the same data."""

import numpy as np
import torch

import descend
from descend import Problem

X = np.random.default_rng(0).normal(size=(60, 3))
Y = X @ np.array([1.0, -2.0, 3.0])


def line(**options):
    """A small linear problem."""
    settings = {
        "start": lambda rng: rng.normal(size=3),
        "loss": lambda w, X, y: float(np.mean((X @ w - y) ** 2)),
        "jac": lambda w, X, y: 2 * X.T @ (X @ w - y) / len(y),
        "data": (X, Y),
        "name": "line",
    }
    return Problem(**{**settings, **options})


def net(model=None, **options):
    """A small network on the same data."""
    settings = {"data": (X, Y[:, None]), "name": "net"}
    return descend.TorchProblem(
        model or (lambda: torch.nn.Linear(3, 1)), torch.nn.functional.mse_loss, **{**settings, **options}
    )
