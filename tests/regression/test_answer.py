"""Errors of least-squares answers: NIST's certified figures, lmfit's, closed forms of linear models, by name."""

import pickle

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from tests.oracles.nist import MODELS, regression

import descend
from descend.errors import UncertaintyError

X = np.linspace(0.0, 4.0, 25)
Y = 2.5 * np.exp(-1.3 * X) + 0.5 + 0.1 * np.sin(29.0 * X)


def line(p):
    """The residuals of a straight line."""
    return p["level"] + p["slope"] * X - Y


def decay(p):
    """The residuals of an exponential."""
    return p["a"] * np.exp(-p["rate"] * X) + p["c"] - Y


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"Lanczos1"}))
def test_standard_errors_to_six_digits_of_those_certified(name):
    """By exact Jacobians, at the answer of the fit itself; Lanczos1's residuals are rounding, and so are its errors."""
    known = regression(name)
    result = descend.least_squares(known.residuals, known.starts[1], jac=known.jacobian)
    np.testing.assert_allclose(result.standard_errors, known.deviations, rtol=1e-6)


@pytest.mark.parametrize(("name", "digits"), [("Misra1a", 1e-6), ("Gauss2", 1e-6), ("MGH10", 1e-6), ("Hahn1", 1e-6)])
def test_standard_errors_without_a_jacobian(name, digits):
    """The differences that are made for the errors are more exact than those of the descent."""
    known = regression(name)
    result = descend.least_squares(known.residuals, known.starts[1])
    np.testing.assert_allclose(result.standard_errors, known.deviations, rtol=digits)


def test_a_fit_has_the_figures_that_lmfit_gives():
    """lmfit 1.3.4 on NIST's Misra1a, by leastsq with tolerances of 1e-15, and its conf_interval."""
    known = regression("Misra1a")
    result = descend.least_squares(known.residuals, known.starts[0], jac=known.jacobian, names=["b1", "b2"])
    figures = dict(result.summary_statistics())
    assert figures["chi-square"] == pytest.approx(0.12455138894441123)
    assert figures["reduced chi-square"] == pytest.approx(0.01037928241203427)
    assert figures["Akaike's criterion (AIC)"] == pytest.approx(-62.1093190134996)
    assert figures["Bayes' criterion (BIC)"] == pytest.approx(-60.83120435426908)
    np.testing.assert_allclose(result.standard_errors, [2.7069813229054462, 7.2668094041806715e-06], rtol=1e-4)
    assert result.correlations["b1", "b2"] == pytest.approx(-0.9987761682885132)
    found = result.profile_intervals()
    assert found["b1"] == pytest.approx((233.19530792493964, 245.01736924448784))
    assert found["b2"] == pytest.approx((0.0005343182679045464, 0.0005660298972975445))
    assert result.profile_intervals(0.99, "b1")["b1"] == pytest.approx((230.9720779001948, 247.55816172319055))


def test_what_is_tied_has_the_figures_that_lmfit_gives():
    """lmfit 1.3.4 on NIST's Chwirut2, with b3 = 2 b2 as an expression; its errors are by forward differences."""
    known = regression("Chwirut2")
    result = descend.least_squares(
        known.residuals, np.array([0.1, 0.01, 0.02]), names=["b1", "b2", "b3"], tied={"b3": lambda p: 2 * p[1]}
    )
    np.testing.assert_allclose(result.x, [0.18987773970774, 0.005585341874570818, 0.011170683749141637], rtol=1e-5)
    right = [0.016822333656113585, 9.836403755594466e-05, 0.00019672807561819908]
    np.testing.assert_allclose(result.standard_errors, right, rtol=3e-5)
    assert dict(result.summary_statistics())["Akaike's criterion (AIC)"] == pytest.approx(126.00073652476758)
    assert [row.split()[-1] for row in str(result).splitlines() if row.startswith("b3")] == ["tied"]


@pytest.mark.parametrize("sigma", [None, 0.3])
def test_profile_intervals_of_a_linear_model_are_those_by_standard_errors(sigma):
    """With the variance estimated, of t; with it known, of the normal distribution."""
    known = {} if sigma is None else {"weights": sigma**-2, "absolute_sigma": True}
    result = descend.least_squares(line, {"slope": 0.0, "level": 0.0}, **known)
    design = np.stack([X, np.ones_like(X)], axis=1)
    best, (squares,), *_ = np.linalg.lstsq(design, Y)
    variance = squares / 23 if sigma is None else sigma**2
    errors = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    away = errors * (scipy.stats.t(23).ppf(0.975) if sigma is None else scipy.stats.norm.ppf(0.975))
    for intervals in (result.intervals(), result.profile_intervals()):
        assert list(intervals) == ["slope", "level"]
        np.testing.assert_allclose(list(intervals.values()), np.stack([best - away, best + away], axis=1), atol=1e-7)
    assert result.standard_errors == pytest.approx(dict(zip(["slope", "level"], errors, strict=True)), rel=1e-8)


def test_fixed_and_tied_parameters_of_a_fit():
    """One is held, one follows: the free one has the error of the model with both put in by hand."""
    result = descend.least_squares(
        decay, {"a": 1.0, "rate": 1.0, "c": 0.0}, fixed={"c": 0.5}, tied={"rate": lambda p: p["a"] / 2}
    )
    by_hand = descend.least_squares(lambda a: a * np.exp(-a / 2 * X) + 0.5 - Y, 1.0)
    assert result.x["a"] == pytest.approx(by_hand.x)
    errors = result.standard_errors
    assert errors["a"] == pytest.approx(by_hand.standard_errors, rel=1e-6)
    assert errors["rate"] == pytest.approx(errors["a"] / 2)
    assert errors["c"] == 0.0
    assert result.profile_intervals()["a"] == pytest.approx(by_hand.profile_intervals()["x"], rel=1e-6)


def test_parameters_of_a_curve_fit_are_held_by_the_names_of_its_signature():
    """Fixed and tied by name; pcov is that of the whole, zero for what is fixed."""

    def model(x, a, rate, c):
        return a * np.exp(-rate * x) + c

    fit = descend.curve_fit(model, X, Y, fixed={"c": 0.5}, tied={"rate": lambda p: p["a"] / 2})
    assert fit.parameters["rate"] == fit.parameters["a"] / 2
    assert fit.parameters["c"] == 0.5
    assert fit.pcov[2].tolist() == [0.0, 0.0, 0.0]
    assert fit.pcov[1, 1] == pytest.approx(fit.pcov[0, 0] / 4)
    with pytest.warns(RuntimeWarning, match="c at a bound"):
        fit = descend.curve_fit(model, X, Y, bounds=([0, 0, 0.6], [9, 9, 9]))
    assert np.isnan(fit.pcov[2, 2])


def test_known_standard_deviations_are_taken_as_they_are():
    """SciPy's curve_fit has the same covariance, with sigma absolute and relative."""

    def model(x, a, rate, c):
        return a * np.exp(-rate * x) + c

    sigma = 0.1 + 0.05 * X
    for absolute in (False, True):
        ours = descend.curve_fit(model, X, Y, [1.0, 1.0, 0.0], sigma, absolute_sigma=absolute)
        _, theirs = scipy.optimize.curve_fit(model, X, Y, [1.0, 1.0, 0.0], sigma, absolute_sigma=absolute, xtol=1e-12)
        np.testing.assert_allclose(ours.pcov, theirs, rtol=1e-4)
        assert ours.covariance()["a", "rate"] == pytest.approx(theirs[0, 1], rel=1e-4)


def test_a_robust_loss_has_hubers_covariance():
    """(JᵀDJ)⁻¹ JᵀΨ²J (JᵀDJ)⁻¹ n / (n - p), written out for a line whose data have outliers."""
    y = Y.copy()
    y[[3, 17]] += 5.0
    result = descend.least_squares(
        lambda p: p["level"] + p["slope"] * X - y, {"slope": 0.0, "level": 0.0}, loss="huber", f_scale=0.5
    )
    design = np.stack([X, np.ones_like(X)], axis=1)
    r = design @ [result.x["slope"], result.x["level"]] - y
    near = np.abs(r) <= 0.5
    psi = np.where(near, r, 0.5 * np.sign(r))
    bread = np.linalg.inv((design * near[:, None]).T @ design)
    right = bread @ (design.T * psi**2) @ design @ bread * 25 / 23
    np.testing.assert_allclose(result.covariance().matrix, right, rtol=1e-3)
    with pytest.raises(UncertaintyError, match="profile intervals are for a sum of squares"):
        result.profile_intervals()


def test_what_the_data_do_not_tell():
    """Two parameters whose sum alone counts are named; without spare residuals there is no variance."""
    with pytest.warns(RuntimeWarning, match="do not tell b, c"):
        errors = descend.least_squares(
            lambda p: p["a"] * X + p["b"] + p["c"] - Y, {"a": 0.0, "b": 0.0, "c": 0.0}
        ).standard_errors
    assert np.isinf([errors["b"], errors["c"]]).all()
    assert np.isfinite(errors["a"])
    exact = descend.least_squares(lambda p: np.array([p[0] - 1, p[1] - 2]), np.zeros(2))
    assert "do not tell their own variance" in exact.summary()
    with pytest.warns(
        RuntimeWarning, match=r"of x\[0\], x\[1\]: 2 residuals do not tell their own variance beside 2"
    ) as said:
        errors = exact.standard_errors
    assert np.isinf(errors).all()
    assert exact.intervals() == {"x[0]": (-np.inf, np.inf), "x[1]": (-np.inf, np.inf)}
    assert len(said) == 1
    with pytest.raises(UncertaintyError, match="2 residuals do not tell their own variance"):
        exact.profile_intervals()


@pytest.mark.parametrize("options", [{}, {"gtol": 1e-8}, {"loss": "soft_l1"}])
def test_errors_of_residuals_that_are_zero(options):
    """They are zero, too; intervals are points, and a profile has no width."""
    result = descend.least_squares(lambda p: np.array([p[0] - 1, p[1] - 2, p[0] + p[1] - 3]), [1.0, 2.0], **options)
    assert result.standard_errors.tolist() == [0.0, 0.0]
    assert result.intervals() == {"x[0]": (1.0, 1.0), "x[1]": (2.0, 2.0)}
    with pytest.raises(UncertaintyError, match=r"all residuals are zero|for a sum of squares"):
        result.profile_intervals()


def test_no_errors_where_a_fit_has_not_ended():
    """A budget that is spent on the way leaves no errors."""
    with pytest.raises(UncertaintyError, match="standard errors away"):
        descend.least_squares(decay, {"a": 1.0, "rate": 1.0, "c": 0.0}, max_steps=1).covariance()


def test_a_pickled_fit_keeps_its_covariance():
    """It comes from the Jacobian; profiles ask for the function, which is lost."""
    result = descend.least_squares(
        decay, {"a": 1.0, "rate": 1.0, "c": 0.0}, tied={"c": lambda p: p["a"] / 5}, jac="3-point"
    )
    kept = pickle.loads(pickle.dumps(result))
    assert kept.standard_errors == result.standard_errors
    with pytest.raises(UncertaintyError, match="loses when it is pickled"):
        kept.profile_intervals()


def test_a_printed_fit_is_a_table_of_80_columns():
    """Names, values, errors, starts, roles, bounds, correlations, and how well it fits."""
    fit = descend.curve_fit(
        lambda x, a, rate, c: a * np.exp(-rate * x) + c, X, Y, bounds=([0, 0, -np.inf], [9, np.inf, np.inf])
    )
    text = str(fit)
    assert max(map(len, text.splitlines())) <= 80
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line}
    assert rows["a"][1:] == [f"{fit.popt[0]:.8g}", f"{fit.standard_errors[0]:.4g}", *rows["a"][3:]]
    assert "a: 0 to 9" in text
    assert float(rows["R-squared"][1]) == pytest.approx(1 - np.sum(fit.result.fun**2) / np.sum((Y - Y.mean()) ** 2))
    (shown,) = [row.split()[-1] for row in text.splitlines() if row.startswith("  rate, c ")]
    assert shown == f"{fit.correlations['rate', 'c']:+.4f}"


def test_printing_a_fit_calls_no_function():
    """The table has the errors by the Jacobian that is there; better differences are made when errors are asked for."""
    calls = []

    def counted(p):
        calls.append(p)
        return decay(p)

    result = descend.least_squares(counted, {"a": 1.0, "rate": 1.0, "c": 0.0})
    before = len(calls)
    text = str(result)
    assert len(calls) == before
    errors = result.standard_errors
    assert len(calls) > before
    assert f"{errors['a']:.4g}" in text
