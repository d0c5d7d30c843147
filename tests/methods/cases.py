"""Methods and rules, with the points that a descent by one goes through."""

import numpy as np
import pytest
from tests.objectives.functions import bowl

import descend
from descend import Wolfe

METHODS = {
    "lbfgs": descend.LBFGS(),
    "lbfgs, memory 3, strong": descend.LBFGS(memory=3, search=Wolfe(strong=True)),
    "bfgs": descend.BFGS(),
    "truncated newton": descend.TruncatedNewton(),
    "hager-zhang": descend.ConjugateGradient(),
    "polak-ribiere": descend.ConjugateGradient("polak-ribiere"),
    "barzilai-borwein": descend.BarzilaiBorwein(),
    "steepest, armijo": descend.SteepestDescent(),
    "steepest, wolfe": descend.SteepestDescent(Wolfe(c2=0.1, strong=True)),
    "accelerated": descend.AcceleratedGradient(),
    "adaptive": descend.AdaptiveGradient(),
}
RULES = {"adam": descend.Adam(lr=0.1), "momentum": descend.Momentum(lr=0.01), "nadam": descend.NAdam(lr=0.05)}
EVERY = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def path(method, fun=bowl, x0=(3.0, -2.0, 0.0, 5.0), **options):
    """The points of a descent, with loss and gradient."""
    points = []
    descend.minimize(fun, np.array(x0), jac=True, method=method, callback=points.append, **options)
    return [(p.x, p.fun, p.jac) for p in points]


def inverse_of(steps, changes, scale, n=None):
    """BFGS's inverse from its pairs, by the product form (Nocedal and Wright 2006, equation 6.17), entry by entry."""
    n = n or len(steps[0])
    H = scale * np.eye(n)
    for s, y in zip(steps, changes, strict=True):
        rho = 1 / (s @ y)
        left = np.eye(n) - rho * np.outer(s, y)
        H = left @ H @ left.T + rho * np.outer(s, s)
    return H
