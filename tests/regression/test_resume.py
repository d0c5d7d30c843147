"""Least squares go on exactly where they stopped, and never beyond a budget."""

import io

import numpy as np
import pytest
import scipy.sparse
from tests.regression.fits import Decay

import descend

JACS = {
    "given": Decay.jacobian,
    "2-point": None,
    "3-point": "3-point",
    "sparse": lambda x: scipy.sparse.csr_array(Decay.jacobian(x)),
}
BOUNDS = [0.0, 0.0, 0.0, 2.8], [2.5, 2.0, 10.0, 10.0]


@pytest.mark.parametrize("jac", JACS)
@pytest.mark.parametrize("bounds", [None, BOUNDS])
@pytest.mark.parametrize("steps", [0, 1, 3, 5])
def test_going_on_is_as_if_never_stopped(jac, bounds, steps):
    """The same bits and counts, through a file, wherever it stopped."""
    call = {"fun": Decay.residuals, "x0": Decay.start, "jac": JACS[jac], "bounds": bounds}
    whole = descend.least_squares(**call)
    file = io.BytesIO()
    np.savez(file, **descend.least_squares(**call, max_steps=steps).state)
    file.seek(0)
    resumed = descend.least_squares(**call, state=np.load(file))
    np.testing.assert_array_equal(resumed.x, whole.x)
    for name in ("cost", "nit", "nfev", "njev", "reason"):
        assert resumed[name] == whole[name], name


@pytest.mark.parametrize("jac", ["given", "2-point", "3-point"])
def test_budgets_of_evaluations_are_kept(jac):
    """Every evaluation counts, those of differences too, and none is made beyond the budget."""
    calls = []

    def residuals(x):
        calls.append(1)
        return Decay.residuals(x)

    for budget in range(9, 60, 5):
        calls.clear()
        result = descend.least_squares(residuals, Decay.start, JACS[jac], max_evals=budget)
        assert result.nfev == len(calls) <= budget


def test_a_state_of_another_method_is_refused():
    """A state fits the method and the parameters that it was taken of."""
    state = descend.least_squares(Decay.residuals, Decay.start, Decay.jacobian, max_steps=2).state
    with pytest.raises(descend.errors.StateError, match="mixing=0"):
        descend.least_squares(
            Decay.residuals, Decay.start, Decay.jacobian, method=descend.LevenbergMarquardt(mixing=0), state=state
        )
