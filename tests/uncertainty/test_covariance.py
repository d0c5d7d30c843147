"""Covariances from Jacobians and Hessians: NIST's certified figures, closed forms, and what data do not tell."""

import numpy as np
import pytest
from tests.oracles.nist import MODELS, regression

from descend.errors import OptionError, UncertaintyError
from descend.uncertainty import Covariance, from_hessian, from_jacobian
from descend.uncertainty.hessian import of_function, of_gradient

RNG = np.random.default_rng(1)
ANYWHERE = {"lower": np.full(4, -np.inf), "upper": np.full(4, np.inf)}


def covariance(hessian, names):
    """The covariance by a Hessian of differences."""
    return from_hessian(hessian.matrix, names, basis=hessian.basis, error=hessian.error)


@pytest.mark.parametrize("name", MODELS)
def test_standard_errors_are_those_that_nist_certifies(name):
    """To 8 digits, at the certified parameters. Lanczos1's residuals there are those of the parameters' rounding."""
    known = regression(name)
    jacobian, residuals = known.jacobian(known.certified), known.residuals(known.certified)
    names = [f"b{i}" for i in range(len(known.certified))]
    variance = residuals @ residuals / (len(residuals) - len(names))
    if name == "Lanczos1":
        variance = known.residual_deviation**2
    found = from_jacobian(jacobian, variance, names).standard_errors
    np.testing.assert_allclose(found, known.deviations, rtol=1e-6 if name == "Lanczos1" else 1e-8)


def test_a_linear_model_whose_columns_are_badly_scaled():
    """It is s² (XᵀX)⁻¹ by exact arithmetic on unit columns, whatever powers of two the columns are multiplied by."""
    x = RNG.normal(size=(30, 3))
    scale = 2.0 ** np.array([-30, 0, 30])
    found = from_jacobian(x * scale, 4.0, "abc")
    np.testing.assert_allclose(found.matrix, 4.0 * np.linalg.inv(x.T @ x) / np.outer(scale, scale), rtol=1e-12)
    assert found["a", "c"] == found.matrix[0, 2]
    assert found.correlations["b"] == 1.0
    np.testing.assert_array_equal(np.asarray(found), found.matrix)
    with pytest.raises(OptionError, match="did you mean"):
        found["aa", "b"]


@pytest.mark.parametrize("form", ["jacobian", "hessian", "gradient", "function"])
def test_what_the_data_do_not_tell_is_said_by_name(form):
    """Of a + b alone known, a and b have infinite variances, and c has its own."""
    x = np.stack([np.ones(20), np.ones(20), np.arange(20.0) - 9.5], axis=1) * [1e-3, 1e-3, 1e4]
    names, at = ["a", "b", "c"], np.array([3.0, 4.0, 1e-4])
    ends = {"lower": np.full(3, -np.inf), "upper": np.full(3, np.inf)}
    made = {
        "gradient": lambda: of_gradient(lambda p: x.T @ (x @ (p - at)), at, length=0.01, **ends),
        "function": lambda: of_function(lambda p: np.sum((x @ (p - at)) ** 2) / 2, at, noise=1e-16, **ends),
    }
    with pytest.warns(RuntimeWarning, match="do not tell a, b"):
        found = {
            "jacobian": lambda: from_jacobian(x, 1.0, names),
            "hessian": lambda: from_hessian(x.T @ x, names),
        }.get(form, lambda: covariance(made[form](), names))()
    assert np.isinf(found["a"])
    assert np.isinf(found["b"])
    assert np.isnan(found["a", "c"])
    assert found["c"] == pytest.approx(1 / np.sum(x[:, 2] ** 2), rel=1e-6)


def nearly_flat(scale, fourth):
    """Loss, gradient and Hessian of four parameters, two of them alike to 1e-4, with a fourth power; and a minimum."""
    a = RNG.normal(size=(50, 4))
    a[:, 3] = a[:, 0] + 1e-4 * a[:, 3]
    at = np.array([1.0, -2.0, 0.5, 1.0])

    def loss(x):
        return np.sum((a @ (x / scale - at)) ** 2) / 2 + fourth * np.sum((x / scale - at) ** 4) + 300.0

    def gradient(x):
        u = x / scale - at
        return (a.T @ (a @ u) + 4 * fourth * u**3) / scale

    return loss, gradient, a.T @ a / np.outer(scale, scale), at * scale


@pytest.mark.parametrize("scale", [np.ones(4), np.array([1e-9, 1.0, 1e9, 1e3])], ids=["plain", "badly scaled"])
@pytest.mark.parametrize(
    ("way", "fourth", "digits"), [("hessian", 1.0, 1e-6), ("gradient", 0.02, 1e-6), ("function", 1e-12, 1e-6)]
)
def test_hessians_by_differences_follow_the_scale_and_correlation(scale, way, fourth, digits):
    """Standard errors are exact for parameters from 1e-9 to 1e9 that are correlated to 1 - 1e-8."""
    loss, gradient, hessian, at = nearly_flat(scale, fourth)
    unit = np.outer(scale, scale)
    right = np.sqrt(np.diag(np.linalg.inv(hessian * unit))) * scale
    if way == "hessian":
        found = from_hessian(hessian, "abcd")
    elif way == "gradient":
        made = of_gradient(gradient, at, length=0.01, **ANYWHERE)
        found = covariance(made, "abcd")
    else:
        made = of_function(loss, at, noise=300 * 2.0**-52, **ANYWHERE)
        found = covariance(made, "abcd")
    np.testing.assert_allclose(found.standard_errors, right, rtol=digits)


@pytest.mark.parametrize("way", ["gradient", "function"])
def test_a_kink_has_no_curvature(way):
    """Absolute deviations: there is no standard error of b, which a warning says, and a has its own."""
    ends = {"lower": np.full(2, -np.inf), "upper": np.full(2, np.inf)}
    at = np.array([2.0, 3.0])
    if way == "gradient":
        made = of_gradient(lambda x: np.array([4 * (x[0] - 2), np.sign(x[1] - 3)]), at, length=0.01, **ends)
    else:
        made = of_function(lambda x: 2 * (x[0] - 2) ** 2 + abs(x[1] - 3), at, noise=1e-15, **ends)
    with pytest.warns(RuntimeWarning, match="no curvature in b"):
        found = covariance(made, ["a", "b"])
    assert found["a"] == pytest.approx(0.25)
    assert np.isnan(found["b"])


def test_no_minimum_is_refused_by_name():
    """Where the curvature is negative there is no covariance, and the parameters it is negative along are named."""
    with pytest.raises(UncertaintyError, match="negative along b"):
        from_hessian(np.diag([1.0, -1.0]), ["a", "b"])
    made = of_gradient(
        lambda x: np.array([x[0], -x[1]]), np.zeros(2), length=0.01, lower=np.full(2, -9.0), upper=np.full(2, 9.0)
    )
    with pytest.raises(UncertaintyError, match="negative along b"):
        covariance(made, ["a", "b"])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(bad):
    """A Jacobian's column is named; no singular value of NaN is computed."""
    with pytest.raises(UncertaintyError, match="not finite for b"):
        from_jacobian([[1.0, bad], [1.0, 2.0]], 1.0, ["a", "b"])
    with pytest.raises(UncertaintyError, match="Hessian is not finite"):
        from_hessian(np.array([[1.0, bad], [bad, 2.0]]), ["a", "b"])


def test_the_delta_method():
    """Functions of parameters have the covariance by their slopes; one of what is not told has an infinite variance."""
    found = Covariance(("a", "b"), np.array([[4.0, np.nan], [np.nan, np.inf]]))
    made = found.expanded(np.array([[1.0, 0.0], [0.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), "acde")
    assert np.diag(made.matrix).tolist() == [4.0, 0.0, 16.0, np.inf]
    assert made["a", "d"] == 8.0
    assert np.isnan(made.correlations["c"])
