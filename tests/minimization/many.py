"""Starts, a function of one point or many, and results that are to be the same."""

import numpy as np

from descend import Reason

STARTS = [np.array([a, b]) for a in (-1.2, 0.5, 2.0) for b in (-1.0, 1.0, 3.0)]


class Valleys:
    """Rosenbrock's function of one point or, row by row, of many, with the same bits; it notes how it is called."""

    def __init__(self):
        self.shapes = []

    def __call__(self, x):
        self.shapes.append(x.shape)
        a, b = x[..., 0], x[..., 1]
        hill, short = b - a * a, 1 - a
        gradient = np.stack([-400 * a * hill - 2 * short, 200 * hill], axis=-1)
        return 100 * hill * hill + short * short, gradient


def agree(together, alone):
    """Each start came to the same to the bit, by as many evaluations."""
    assert len(together.runs) == len(alone.runs)
    for a, b in zip(together.runs, alone.runs, strict=True):
        assert a.reason is b.reason
        assert (a.nit, a.nfev, a.njev) == (b.nit, b.nfev, b.njev)
        assert np.array_equal(a.x, b.x)
    assert together.fun == min(run.fun for run in together.runs if run.reason is not Reason.FUNCTION_RAISED)
