"""Models fitted to data: regressions, likelihoods, a Gaussian process' hyperparameters, curves.

Each is a loss with its exact gradient, as a scientist would write it: a whole sum, not a mean; parameters in their own
units; a start that needs no knowledge of the answer. Data are those that scikit-learn and statsmodels ship (the latter
are optional: pip install statsmodels), or simulated with a fixed seed.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg
import scipy.signal
from scipy.special import digamma, expit, gammaln, log_softmax

Array = np.ndarray[Any, np.dtype[Any]]
Loss = Callable[[Array], tuple[float, Array]]


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """A loss with its exact gradient and a start; of least squares also residuals and Jacobian."""

    name: str
    loss_and_gradient: Loss
    start: Array
    residuals: Callable[[Array], Array] | None = None
    """Their sum of squares is the loss."""
    jacobian: Callable[[Array], Array] | None = None
    ends: tuple[Array, Array] | None = None
    """Lower and upper bounds."""
    model: Callable[[Any], Any] | None = None
    """The residuals by the functions of jax.numpy."""


def fit(name: str) -> Fit:
    """A fit by its name in `FITS`."""
    loss, start, *more = FITS[name]()
    if not more:
        return Fit(name, _quiet(loss), start)
    residuals, jacobian, ends = more
    return Fit(name, _quiet(loss), start, _quiet(residuals), _quiet(jacobian), ends)


def _quiet(function: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """Without warnings where a trial point overflows."""

    @functools.wraps(function)
    def quiet(x: Array) -> Any:
        with np.errstate(all="ignore"):
            return function(np.asarray(x, dtype=float))

    return quiet


def _statsmodels(name: str) -> Any:
    try:
        from statsmodels import datasets
    except ImportError:
        raise SystemExit(f"the data {name} are those of statsmodels: pip install statsmodels") from None
    return getattr(datasets, name).load_pandas().data


def _with_ones(X: Any) -> Array:
    X = np.asarray(X, dtype=float)
    return np.column_stack([np.ones(len(X)), X])


# ---- classification ---------------------------------------------------------------------------------------------


def _logistic(scaled: bool) -> tuple[Loss, Array]:
    """Breast cancer, with the penalty ½|w|² on all but the intercept: scikit-learn's LogisticRegression(C=1)."""
    from sklearn.datasets import load_breast_cancer

    X, y = load_breast_cancer(return_X_y=True)
    X = _with_ones((X - X.mean(axis=0)) / X.std(axis=0) if scaled else X)
    sign = 2.0 * y - 1

    def loss(w: Array) -> tuple[float, Array]:
        z, held = sign * (X @ w), np.r_[0.0, w[1:]]
        return float(np.logaddexp(0, -z).sum() + 0.5 * held @ held), X.T @ (-sign * expit(-z)) + held

    return loss, np.zeros(X.shape[1])


def _softmax() -> tuple[Loss, Array]:
    """Wine, standardised: three classes, the penalty ½|W|²."""
    from sklearn.datasets import load_wine

    X, y = load_wine(return_X_y=True)
    X = _with_ones((X - X.mean(axis=0)) / X.std(axis=0))
    one_hot = np.eye(3)[y]

    def loss(w: Array) -> tuple[float, Array]:
        logs = log_softmax(X @ w.reshape(-1, 3), axis=1)
        return float(0.5 * w @ w - (logs * one_hot).sum()), (X.T @ (np.exp(logs) - one_hot)).ravel() + w

    return loss, np.zeros(X.shape[1] * 3)


# ---- likelihoods of regressions ---------------------------------------------------------------------------------


def _visits() -> tuple[Array, Array]:
    """Visits to the doctor in the RAND Health Insurance Experiment, 20,190 of them."""
    data = _statsmodels("randhie")
    return _with_ones(data.drop(columns="mdvis")), data["mdvis"].to_numpy(dtype=float)


def _poisson() -> tuple[Loss, Array]:
    X, y = _visits()
    constant = float(gammaln(y + 1).sum())

    def loss(b: Array) -> tuple[float, Array]:
        eta = X @ b
        mean = np.exp(eta)
        return float((mean - y * eta).sum()) + constant, X.T @ (mean - y)

    return loss, np.zeros(X.shape[1])


def _negative_binomial() -> tuple[Loss, Array]:
    """Variance μ + αμ²; the last parameter is log α."""
    X, y = _visits()

    def loss(b: Array) -> tuple[float, Array]:
        mean, a = np.exp(X @ b[:-1]), math.exp(np.clip(-b[-1], -700.0, 700.0))  # a = 1/α
        logs = np.log(a / (a + mean))
        terms = gammaln(y + a) - gammaln(a) - gammaln(y + 1) + a * logs + y * np.log(mean / (a + mean))
        by_a = digamma(y + a) - digamma(a) + logs + (mean - y) / (a + mean)
        return -float(terms.sum()), np.r_[X.T @ ((mean - y) * a / (a + mean)), a * by_a.sum()]

    return loss, np.zeros(X.shape[1] + 1)


def _gamma() -> tuple[Loss, Array]:
    """Votes in Scotland, log link, covariates as they are; the last parameter is the shape's logarithm."""
    data = _statsmodels("scotland")
    X, y = _with_ones(data.drop(columns="YES")), data["YES"].to_numpy(dtype=float)
    logs = np.log(y)

    def loss(b: Array) -> tuple[float, Array]:
        eta, a = X @ b[:-1], math.exp(np.clip(b[-1], -700.0, 700.0))
        relative = y * np.exp(-eta)
        terms = gammaln(a) - a * np.log(a) + a * (eta + relative) - (a - 1) * logs
        by_a = digamma(a) - np.log(a) - 1 + eta + relative - logs
        return float(terms.sum()), np.r_[X.T @ (a * (1 - relative)), a * by_a.sum()]

    return loss, np.zeros(X.shape[1] + 1)


def _huber() -> tuple[Loss, Array]:
    """Diabetes, its ten covariates in their own units; losses are linear beyond 60."""
    from sklearn.datasets import load_diabetes

    X, y = load_diabetes(return_X_y=True, scaled=False)
    X, edge = _with_ones(X), 60.0

    def loss(b: Array) -> tuple[float, Array]:
        r = X @ b - y
        far = np.abs(r) > edge
        return float(np.where(far, edge * (np.abs(r) - edge / 2), r**2 / 2).sum()), X.T @ np.clip(r, -edge, edge)

    return loss, np.zeros(X.shape[1])


def _weibull() -> tuple[Loss, Array]:
    """Survival after a heart transplant, censored, accelerated by age; the last parameter is the shape's logarithm."""
    data = _statsmodels("heart")
    times, died = data["survival"].to_numpy(dtype=float), data["censors"].to_numpy(dtype=float)
    X, logs = _with_ones(data[["age"]]), np.log(times)

    def loss(b: Array) -> tuple[float, Array]:
        k = math.exp(np.clip(b[-1], -700.0, 700.0))
        w = k * (logs - X @ b[:-1])
        hazard = np.exp(w)
        by_k = died * (1 + w) - w * hazard
        return float((hazard - died * (b[-1] + w - logs)).sum()), np.r_[k * (X.T @ (died - hazard)), -by_k.sum()]

    return loss, np.zeros(3)


def _student() -> tuple[Loss, Array]:
    """500 draws of Student's t with 4 degrees of freedom: location, logarithms of scale and degrees."""
    y = 3.0 + 2.5 * np.random.default_rng(4).standard_t(4, 500)

    def loss(b: Array) -> tuple[float, Array]:
        scale, nu = np.exp(np.minimum(b[1:], 700.0))
        z = (y - b[0]) / scale
        u = 1 + z**2 / nu
        constant = gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * np.log(nu * math.pi) - b[1]
        share = (nu + 1) * z**2 / (nu * u)
        by_nu = 0.5 * (digamma((nu + 1) / 2) - digamma(nu / 2) - 1 / nu - np.log(u) + share / nu)
        by_location = -((nu + 1) * z / (nu * u)).sum() / scale
        value = float(((nu + 1) / 2 * np.log(u)).sum() - len(y) * constant)
        return value, np.array([by_location, (1 - share).sum(), -nu * by_nu.sum()])

    return loss, np.zeros(3)


def _garch(unit: float) -> tuple[Loss, Array]:
    """A GARCH(1, 1) of 1,500 returns: mean, ω, α and β as they are. Infinite where a variance is not positive."""
    rng = np.random.default_rng(11)
    returns, variance, shock = np.empty(1500), 0.8, 0.0
    for t in range(len(returns)):
        variance = 0.05 + 0.08 * shock**2 + 0.86 * variance
        shock = math.sqrt(variance) * rng.standard_normal()
        returns[t] = (0.06 + shock) * unit
    first = float(returns.var())

    def loss(b: Array) -> tuple[float, Array]:
        mean, omega, alpha, beta = b
        e = returns - mean

        def past(source: Array) -> Array:  # hₜ = sourceₜ + β hₜ₋₁ from t = 1, from h₀ that no parameter changes
            return np.r_[0.0, scipy.signal.lfilter([1.0], [1.0, -beta], source)]

        h = past(omega + alpha * e[:-1] ** 2 + np.r_[beta * first, np.zeros(len(e) - 2)])
        h[0] = first
        if not (np.isfinite(h).all() and (h > 0).all()):
            return math.inf, np.full(4, np.nan)
        slopes = past(-2 * alpha * e[:-1]), past(np.ones(len(e) - 1)), past(e[:-1] ** 2), past(h[:-1])
        by_h = 0.5 * (1 / h - (e / h) * (e / h))
        gradient = np.array([by_h @ slope for slope in slopes])
        gradient[0] -= (e / h).sum()
        return 0.5 * float((np.log(2 * math.pi * h) + e**2 / h).sum()), gradient

    return loss, np.array([0.0, 0.1 * first, 0.1, 0.8])


# ---- Gaussian processes: logarithms of amplitude, noise and length scales ---------------------------------------


def _gaussian_process(X: Array, y: Array) -> tuple[Loss, Array]:
    squares = [(column[:, None] - column[None, :]) ** 2 for column in X.T]
    eye = np.eye(len(y))

    def loss(b: Array) -> tuple[float, Array]:
        amplitude, noise, *lengths = np.exp(2 * np.clip(b, -300.0, 300.0))
        scaled = [square / length for square, length in zip(squares, lengths, strict=True)]
        kernel = amplitude * np.exp(-0.5 * sum(scaled))
        try:
            factor = scipy.linalg.cho_factor(kernel + noise * eye, lower=True)
        except (np.linalg.LinAlgError, ValueError):
            return math.inf, np.full(len(b), np.nan)
        a = scipy.linalg.cho_solve(factor, y)
        inner = scipy.linalg.cho_solve(factor, eye) - np.outer(a, a)
        weighted = inner * kernel
        value = 0.5 * float(y @ a) + float(np.log(np.diag(factor[0])).sum()) + 0.5 * len(y) * math.log(2 * math.pi)
        by_lengths = [0.5 * float((weighted * one).sum()) for one in scaled]
        return value, np.array([float(weighted.sum()), noise * float(np.trace(inner)), *by_lengths])

    return loss, np.zeros(2 + X.shape[1])


def _process_of_one() -> tuple[Loss, Array]:
    """70 noisy observations of a smooth curve."""
    rng = np.random.default_rng(3)
    x = np.sort(rng.uniform(0, 10, 70))
    return _gaussian_process(x[:, None], np.sin(x) + 0.3 * x + 0.2 * rng.normal(size=70))


def _process_of_nine() -> tuple[Loss, Array]:
    """150 patients of the diabetes data, a length scale for each covariate but sex."""
    from sklearn.datasets import load_diabetes

    X, y = load_diabetes(return_X_y=True)
    X, y = np.delete(X, 1, axis=1)[:150], y[:150]
    return _gaussian_process((X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std())


# ---- least squares ----------------------------------------------------------------------------------------------

Squares = tuple[Loss, Array, Callable[[Array], Array], Callable[[Array], Array], "tuple[Array, Array] | None"]


def _squares(
    predict: Callable[[Array], tuple[Array, Array]], y: Array, start: Any, ends: tuple[Array, Array] | None = None
) -> Squares:
    """The sum of squares of a model that gives its predictions and their Jacobian."""

    def loss(b: Array) -> tuple[float, Array]:
        f, jacobian = predict(b)
        return float((f - y) @ (f - y)), 2 * ((f - y) @ jacobian)

    return loss, np.array(start, dtype=float), lambda b: predict(b)[0] - y, lambda b: predict(b)[1], ends


def _two_exponentials(second: float = 1.0, volt: float = 1.0) -> Squares:
    """A decay of two rates above a floor, 80 noisy readings."""
    rng = np.random.default_rng(5)
    t = np.linspace(0, 12, 80) * second
    y = (3 * np.exp(-1.7 * t / second) + 1.5 * np.exp(-0.3 * t / second) + 0.2 + 0.03 * rng.normal(size=80)) * volt

    def predict(b: Array) -> tuple[Array, Array]:
        first, last = np.exp(-b[1] * t), np.exp(-b[3] * t)
        columns = first, -b[0] * t * first, last, -b[2] * t * last, np.ones_like(t)
        return b[0] * first + b[2] * last + b[4], np.column_stack(columns)

    return _squares(predict, y, np.array([1, 1, 1, 0.1, 0]) * [volt, 1 / second, volt, 1 / second, volt])


def _period() -> Squares:
    """The yearly number of sunspots: a line over calendar years, and a wave whose period is free."""
    data = _statsmodels("sunspots")
    t, y = data["YEAR"].to_numpy(dtype=float), data["SUNACTIVITY"].to_numpy(dtype=float)

    def predict(b: Array) -> tuple[Array, Array]:
        angle = 2 * math.pi * t / b[4]
        cos, sin = np.cos(angle), np.sin(angle)
        by_period = (b[2] * sin - b[3] * cos) * angle / b[4]
        return b[0] + b[1] * t + b[2] * cos + b[3] * sin, np.column_stack([np.ones_like(t), t, cos, sin, by_period])

    return _squares(predict, y, [50, 0, 10, 10, 11])


def _peaks() -> Squares:
    """Eight peaks at known places, of heights that are not negative and one width: three heights end at zero."""
    rng = np.random.default_rng(6)
    x, places = np.linspace(0, 40, 120)[:, None], np.linspace(4, 36, 8)
    heights = np.array([2.0, 0.0, 1.0, 3.0, 0.0, 0.7, 0.0, 1.5])
    y = np.exp(-0.5 * ((x - places) / 1.8) ** 2) @ heights + 0.05 * rng.normal(size=120) - 0.02

    def predict(b: Array) -> tuple[Array, Array]:
        z = (x - places) / b[8]
        bells = np.exp(-0.5 * z**2)
        return bells @ b[:8], np.column_stack([bells, (bells * z**2) @ b[:8] / b[8]])

    return _squares(predict, y, [*np.ones(8), 1], (np.r_[np.zeros(8), 0.5], np.r_[np.full(8, np.inf), 5.0]))


def _longley() -> Squares:
    """Longley's employment, in its own units: a linear regression of a condition of 1e10."""
    data = _statsmodels("longley")
    X, y = _with_ones(data.drop(columns="TOTEMP")), data["TOTEMP"].to_numpy(dtype=float)
    return _squares(lambda b: (X @ b, X), y, np.zeros(X.shape[1]))


def _dose_response() -> Squares:
    """A response to doses in mol/l, half of it near 2e-7: floor, ceiling, dose at half, Hill's exponent."""
    rng = np.random.default_rng(7)
    dose = np.repeat(np.logspace(-9, -5, 12), 3)
    y = 5 + 90 / (1 + (2e-7 / dose) ** 1.3) + 2 * rng.normal(size=36)

    def predict(b: Array) -> tuple[Array, Array]:
        ratio = (b[2] / dose) ** b[3]
        share = 1 / (1 + ratio)
        slope = -(b[1] - b[0]) * share**2 * ratio
        columns = 1 - share, share, slope * b[3] / b[2], slope * np.log(b[2] / dose)
        return b[0] + (b[1] - b[0]) * share, np.column_stack(columns)

    return _squares(predict, y, [0, 100, 1e-6, 1])


FITS: dict[str, Callable[[], Any]] = {
    "logistic, raw": lambda: _logistic(scaled=False),
    "logistic, scaled": lambda: _logistic(scaled=True),
    "Poisson": _poisson,
    "Gaussian process": _process_of_one,
    "Weibull, censored": _weibull,
    "two exponentials": _two_exponentials,
    "softmax": _softmax,
    "negative binomial": _negative_binomial,
    "Huber": _huber,
    "gamma": _gamma,
    "GARCH, per cent": lambda: _garch(1.0),
    "GARCH, raw": lambda: _garch(0.01),
    "Student's t": _student,
    "Gaussian process of 11": _process_of_nine,
    "free period": _period,
    "bounded least squares": _peaks,
    "Longley": _longley,
    "two exponentials, s and V": lambda: _two_exponentials(1e-6, 1e-3),
    "dose and response": _dose_response,
}
