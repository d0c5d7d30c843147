"""Functions whose minima are known, with their gradients, that tests minimise."""

import numpy as np
import scipy.optimize

ROSEN = dict(fun=scipy.optimize.rosen, jac=scipy.optimize.rosen_der)
SCALES = np.array([1.0, 3.0, 10.0, 30.0])


def square(theta):
    return (theta - 3) ** 2


def slope(theta):
    return 2 * (theta - 3)


def bowl(x):
    """A quadratic with a minimum at 1, and its gradient."""
    return 0.5 * float(SCALES @ (x - 1) ** 2), SCALES * (x - 1)


def valley(x):
    return scipy.optimize.rosen(x), scipy.optimize.rosen_der(x)


def corner(x):
    """A function whose minimum within [0, 1] lies in a corner and on an edge."""
    return float(np.sum((x - np.array([2.0, 0.5, -1.0])) ** 2)), 2 * (x - np.array([2.0, 0.5, -1.0]))
