"""What least squares and curve fits refuse, in words that say what to do."""

import numpy as np
import pytest
from tests.regression.fits import Decay

import descend
from descend.errors import MethodError, ObjectiveError, OptionError

F, X0, J = Decay.residuals, Decay.start, Decay.jacobian


@pytest.mark.parametrize(
    ("fun", "jac", "message"),
    [
        (lambda x: F(x) * np.nan, None, "residual 0 of 40 is nan at x0"),
        (lambda x: np.where(Decay.t > 3.9, np.inf, F(x)), None, "residual 39 of 40 is inf"),
        (lambda x: float(F(x) @ F(x)), None, "use descend.minimize"),
        (lambda x: None, None, "returned None"),
        (lambda x: F(x) + 0j, None, r"np.concatenate\(\[r.real, r.imag\]\)"),
        (lambda x: F(x)[: 40 - int(x[0] != 2.0)], None, "the number of residuals must stay the same"),
        (lambda x: [], None, "no residual"),
        (lambda x: ["a"], None, "an array of real numbers"),
        (F, lambda x: J(x).T, "it looks transposed"),
        (F, lambda x: J(x)[:-1], r"returned shape \(39, 4\)"),
        (F, lambda x: J(x) * np.nan, "the Jacobian's entry 0, 0"),
        (F, lambda x: "a", "a Jacobian of real numbers"),
        (F, True, r"must return \(residuals, Jacobian\)"),
        (F, "torch", "Can't call numpy|a tensor of residuals"),
    ],
)
def test_bad_functions(fun, jac, message):
    """Residuals and Jacobians that are none."""
    with pytest.raises(ObjectiveError, match=message):
        descend.least_squares(fun, X0, jac)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hubert"}, "did you mean 'huber'"),
        ({"f_scale": 0.0}, "f_scale=0.0"),
        ({"weights": -1.0}, r"weights\[0\]=-1.0"),
        ({"weights": np.ones(3)}, r"shape \(40,\)"),
        ({"x_scale": [1.0, 2.0]}, "x_scale"),
        ({"method": "newton"}, "method='newton'"),
        ({"verbose": 3}, "verbose=3: 0, 1 or 2"),
        ({"tr_solver": "exact"}, "tr_solver='exact': the Jacobian tells"),
        ({"tr_options": {"regularize": True}}, "tr_options="),
        ({"diff_step": "small"}, "diff_step='small'"),
        ({"diff_step": 0.0}, "diff_step=0.0"),
        ({"diff_step": np.array([np.nan, 1.0])}, "diff_step="),
        ({"jac_sparsity": np.ones((3, 3))}, r"shape \(40, 4\)"),
        ({"jac_sparsity": np.ones((40, 4)), "jac": J}, "leave one of them out"),
        ({"max_nfev": 3, "max_evals": 3}, "are the same"),
        ({"max_nfev": 3}, "does not pay for one Jacobian"),
        ({"ftol": -1.0}, "ftol=-1.0"),
    ],
)
def test_bad_options(options, message):
    """Options with a value that they cannot have."""
    with pytest.raises(OptionError, match=message):
        descend.least_squares(F, X0, **options)


@pytest.mark.parametrize("method", ["lm", descend.LevenbergMarquardt, descend.LevenbergMarquardt()])
def test_minimize_says_where_the_method_belongs(method):
    """A method for residuals is none for a loss, however it is named."""
    with pytest.raises(MethodError, match=r"descend.least_squares"):
        descend.minimize(lambda x: x @ x, X0, method=method)
