"""`curve_fit`: the parameters, the covariance and the manners of SciPy's."""

import contextlib
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from tests.regression.fits import Decay

import descend
from descend.errors import FitError, OptionError

T, P0 = Decay.t, Decay.start
Y = Decay.y
SIGMA = 0.02 * (1.0 + T)
COVARIANCE = np.diag(SIGMA**2) + 1e-4 * np.exp(-np.abs(T[:, None] - T))


def jacobian(t, *p):
    """Derivatives of the model."""
    return Decay.jacobian(p)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sigma": SIGMA},
        {"sigma": SIGMA, "absolute_sigma": True},
        {"sigma": 0.1, "absolute_sigma": True},
        {"sigma": COVARIANCE},
        {"sigma": COVARIANCE, "absolute_sigma": True, "jac": jacobian},
        {"jac": jacobian, "sigma": SIGMA},
        {"bounds": scipy.optimize.Bounds(np.zeros(4), np.full(4, 10.0)), "method": "trf"},
    ],
)
def test_parameters_and_covariance_are_scipys(options):
    """The fit, and its covariance, to the digits that SciPy's has by differences."""
    ours = descend.curve_fit(Decay.model, T, Y, P0, **options)
    popt, pcov = scipy.optimize.curve_fit(Decay.model, T, Y, P0, ftol=1e-14, xtol=1e-14, gtol=1e-13, **options)
    np.testing.assert_allclose(ours[0], popt, rtol=1e-6)
    np.testing.assert_allclose(ours[1], pcov, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"bounds": (0.0, [10.0, 10.0, 1.2, 10.0])},
        {"loss": "soft_l1", "f_scale": 0.05, "method": "trf"},
    ],
)
def test_parameters_at_bounds_and_of_robust_losses_are_scipys(options):
    """The fit where its errors are not those of a plain sum of squares."""
    popt, _ = scipy.optimize.curve_fit(Decay.model, T, Y, P0, ftol=1e-14, xtol=1e-14, gtol=1e-13, **options)
    told = pytest.warns(RuntimeWarning, match=" at a bound") if "bounds" in options else contextlib.nullcontext()
    with told:  # which of them has no error of its own
        ours = descend.curve_fit(Decay.model, T, Y, P0, **options)
    np.testing.assert_allclose(ours[0], popt, rtol=1e-6)


def test_a_fit_unpacks_and_knows_names():
    """A tuple of parameters and covariance, with names from the signature."""
    popt, pcov = fit = descend.curve_fit(lambda t, level, slope: level + slope * t, T, Y)
    assert (len(fit), fit.names) == (2, ("level", "slope"))
    np.testing.assert_allclose(popt, np.polynomial.polynomial.polyfit(T, Y, 1), rtol=1e-9)
    np.testing.assert_array_equal(fit.standard_errors, np.sqrt(np.diag(pcov)))
    assert fit.parameters == dict(zip(fit.names, popt.tolist(), strict=True))
    assert len(descend.curve_fit(lambda t, a: a + 0 * t, T, Y, full_output=True)) == 5


def test_models_of_jax():
    """The Jacobian of a model in JAX is differentiated, with a covariance of the errors, too."""
    fit = descend.curve_fit(
        lambda t, a, b, c, d: Decay.model(t, a, b, c, d, jnp), T, Y, P0, sigma=COVARIANCE, jac="jax"
    )
    given = descend.curve_fit(Decay.model, T, Y, P0, sigma=COVARIANCE, jac=jacobian)
    np.testing.assert_allclose(fit.popt, given.popt, rtol=1e-9)


def test_covariance_that_the_data_do_not_tell():
    """It is infinite, with SciPy's warning: two parameters of one sum; as many parameters as data."""
    with pytest.warns(scipy.optimize.OptimizeWarning, match="could not be estimated"):
        assert np.all(np.isinf(descend.curve_fit(lambda t, a, b: (a + b) * t, T, Y).pcov))
    with pytest.warns(scipy.optimize.OptimizeWarning):
        assert np.all(np.isinf(descend.curve_fit(lambda t, a, b: a + b * t, T[:2], Y[:2]).pcov))


def test_missing_data():
    """NaN is refused, or left out where that is asked for."""
    missing = np.where(np.arange(40) == 7, np.nan, Y)
    kept = np.isfinite(missing)
    with pytest.raises(OptionError, match=r"ydata\[7\] is nan.*nan_policy='omit'"):
        descend.curve_fit(Decay.model, T, missing, P0)
    fit = descend.curve_fit(Decay.model, T, missing, P0, sigma=SIGMA, nan_policy="omit")
    np.testing.assert_allclose(fit[0], descend.curve_fit(Decay.model, T[kept], Y[kept], P0, sigma=SIGMA[kept])[0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({"maxfev": 6}, FitError, "Optimal parameters not found"),
        ({"los": "huber"}, OptionError, "did you mean 'loss'"),
        ({"sigma": np.ones(3)}, OptionError, r"sigma has shape \(3,\)"),
        ({"sigma": -SIGMA}, OptionError, "must be positive"),
        ({"sigma": -COVARIANCE}, OptionError, "positive definite"),
        ({"p0": None, "f": lambda t, *p: t}, OptionError, "give p0"),
        ({"xdata": 1j * T}, OptionError, "complex"),
    ],
)
def test_refusals(call, error, message):
    """What does not fit is said, with its remedy."""
    arguments = {"f": Decay.model, "xdata": T, "ydata": Y, "p0": P0} | call
    with warnings.catch_warnings(), pytest.raises(error, match=message):
        descend.curve_fit(**arguments)


LINE = lambda t, a, b: a + b * t  # noqa: E731
EXACT = {
    "as many observations": (LINE, [0.0, 1.0], [1.0, 3.0]),
    "one parameter": (lambda t, a: a + 0 * t, [1.0], [5.0]),
    "a curve": (lambda t, a, b: a * np.exp(-b * t), [0.0, 1.0], [1.0, 0.3]),
}


@pytest.mark.parametrize("name", EXACT)
def test_without_spare_observations_the_covariance_is_infinite(name):
    """As in SciPy, with its warning, and no other."""
    with pytest.warns(scipy.optimize.OptimizeWarning, match="could not be estimated") as said:
        found = descend.curve_fit(*EXACT[name])
    assert len(said) == 1
    with pytest.warns(scipy.optimize.OptimizeWarning):
        popt, pcov = scipy.optimize.curve_fit(*EXACT[name])
    np.testing.assert_allclose(found.popt, popt, rtol=1e-6)
    np.testing.assert_array_equal(found.pcov, pcov)
    assert np.isinf(found.standard_errors).all()
    assert "inf" in repr(found)


@pytest.mark.parametrize("observations", [3, 4, 10])
@pytest.mark.parametrize("true", [(2.0, 0.7, 0.5), (2.0, 0.7, 0.0), (5.0, 1.5, 0.0)])
def test_data_that_the_model_fits_exactly(true, observations):
    """The parameters are found, without a word of what was divided by nothing."""
    t = np.linspace(0.5, 4.0, observations)
    model = lambda t, a, b, c: a * np.exp(-b * t) + c  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", scipy.optimize.OptimizeWarning)
        popt, pcov = descend.curve_fit(model, t, model(t, *true))
    np.testing.assert_allclose(popt, true, rtol=1e-6, atol=1e-6)
    diagonal = np.diag(pcov)
    assert np.all(np.isinf(diagonal) | (diagonal < 1e-12))


@pytest.mark.parametrize("model", [LINE, lambda t, a, b: a * np.exp(-b * t)])
def test_data_of_zeros(model):
    """Parameters as small as the least floats have no Jacobian by longer steps; the fit goes on without."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scipy.optimize.OptimizeWarning)
        fit = descend.curve_fit(model, np.arange(4.0), np.zeros(4))
    np.testing.assert_allclose(model(np.arange(4.0), *fit.popt), 0.0, atol=1e-12)


def test_a_start_by_name():
    """In any order, as long as all are there."""
    fit = descend.curve_fit(LINE, [0.0, 1.0, 2.0], [1.0, 3.0, 5.5], p0={"b": 1.0, "a": np.float64(2.0)})
    popt, pcov = scipy.optimize.curve_fit(LINE, [0.0, 1.0, 2.0], [1.0, 3.0, 5.5])
    assert fit.names == ("a", "b")
    np.testing.assert_allclose(fit.popt, popt, rtol=1e-6)
    np.testing.assert_allclose(fit.pcov, pcov, rtol=1e-6)


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (LINE, {"p0": {"a": 1.0}}, "a number for 'b' is missing; give all of a, b"),
        (LINE, {"p0": {"a": 1.0, "slope": 1.0}}, "holds 'slope', which is no parameter of f"),
        (LINE, {"p0": {"a": "one", "b": 1.0}}, r"p0\['a'\]='one': a number is needed"),
        (lambda t, *p: p[0] + 0 * t, {"p0": {"a": 1.0}}, "names no parameters"),
        (LINE, {"factor": 10.0}, r"LevenbergMarquardt\(radius=…\)"),
        (LINE, {"diag": [1.0, 2.0]}, "x_scale=1/diag"),
        (LINE, {"epsfcn": -1.0}, "epsfcn=-1.0"),
        (LINE, {"tr_solver": "lsmr"}, "jac_sparsity"),
    ],
)
def test_what_is_refused_says_what_to_write(model, options, words):
    """Starts by wrong names, and options of SciPy's that have another name here."""
    with pytest.raises(OptionError, match=words):
        descend.curve_fit(model, [0.0, 1.0, 2.0], [1.0, 3.0, 5.5], **options)


@pytest.mark.parametrize("method", ["lm", "trf", "dogbox"])
@pytest.mark.parametrize("options", [{"ftol": 1e-12, "xtol": 1e-12, "gtol": 1e-12}, {"x_scale": [2.0, 0.5]}, {}])
def test_options_of_scipy_lead_where_they_do_there(method, options):
    """SciPy's methods with tolerances, scales and budgets: the same parameters and covariance."""
    t, y = np.linspace(0.0, 3.0, 12), 2.0 * np.exp(-0.8 * np.linspace(0.0, 3.0, 12)) + 0.05 * np.cos(np.arange(12.0))
    budget = {"maxfev" if method == "lm" else "max_nfev": 500}
    model = lambda t, a, b: a * np.exp(-b * t)  # noqa: E731
    theirs = {"diag": [0.5, 2.0]} if method == "lm" and "x_scale" in options else options
    popt, pcov = scipy.optimize.curve_fit(model, t, y, method=method, **budget, **theirs)
    fit = descend.curve_fit(model, t, y, method=method, **budget, **options)
    np.testing.assert_allclose(fit.popt, popt, rtol=1e-5)
    np.testing.assert_allclose(fit.pcov, pcov, rtol=1e-4)


def test_the_step_of_minpack_is_the_root_of_its_error():
    """SciPy's `epsfcn` is the error of the function."""
    seen = []

    def model(t, a):
        seen.append(a)
        return a * t

    descend.curve_fit(model, [1.0, 2.0], [1.0, 3.0], p0=[4.0], epsfcn=1e-6)
    assert min(abs(a - 4.0) for a in seen if a != 4.0) == pytest.approx(4e-3, rel=1e-6)
