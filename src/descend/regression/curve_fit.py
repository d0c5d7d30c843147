"""`curve_fit`: from a model and data to parameters and their covariance, as in SciPy."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from descend.checks import flag, function, is_real, real, shown
from descend.errors import FitError, OptionError, UncertaintyError, did_you_mean
from descend.parameters.memory import Array
from descend.regression.data import CurveData
from descend.regression.least_squares import least_squares
from descend.regression.result import LeastSquaresResult
from descend.stopping import Reason
from descend.uncertainty.covariance import Covariance, NamedMatrix

__all__ = ["CurveFit", "curve_fit"]

RENAMED = {"maxfev": "max_evals", "epsfcn": "diff_step"}
"""Options that SciPy hands to MINPACK, by the names that they have here."""

INSTEAD = {
    "factor": "method=descend.LevenbergMarquardt(radius=…), the first radius as a multiple of the start's length",
    "diag": "x_scale=1/diag, the size of each parameter",
    "col_deriv": "a jac that has a row for each observation and a column for each parameter",
}
"""What stands for those of MINPACK's options that nothing here is named as."""


class CurveFit(tuple[Any, ...]):
    """The outcome of `descend.curve_fit`: a tuple ``(popt, pcov)``, which knows more of the fit.

    With ``full_output=True`` it is SciPy's tuple ``(popt, pcov, infodict, mesg, ier)``. `names` are those of the
    parameters in the model's signature, `result` is the `LeastSquaresResult` of the fit, `model` the function and
    `data` its observations. Printed, it is a table.

    >>> import descend
    >>> fit = descend.curve_fit(lambda t, level, slope: level + slope * t, [0.0, 1.0, 2.0, 3.0], [1.0, 3.1, 4.9, 7.0])
    >>> popt, pcov = fit
    >>> popt.round(4), fit.standard_errors.round(4)
    (array([1.03, 1.98]), array([0.0794, 0.0424]))
    """

    names: tuple[str, ...]
    result: LeastSquaresResult
    model: Callable[..., Any]
    data: CurveData

    @classmethod
    def of(
        cls,
        parts: Sequence[Any],
        names: Sequence[str],
        result: LeastSquaresResult,
        model: Callable[..., Any],
        data: CurveData,
    ) -> CurveFit:
        """A fit of parameters, covariance, and what else the tuple holds."""
        made = cls(parts)
        made.names, made.result, made.model, made.data = tuple(names), result, model, data
        return made

    @property
    def r_squared(self) -> float:
        """The share of the data's sum of squares about their mean that the model explains, weighted as the fit is."""
        return 1.0 - 2.0 * self.result.cost / max(self.data.about_mean(), 1e-300)

    @property
    def popt(self) -> Array:
        """The parameters, an array."""
        return np.asarray(self[0])

    @property
    def pcov(self) -> Array:
        """Their covariance; infinite where the data do not tell."""
        return np.asarray(self[1])

    @property
    def standard_errors(self) -> Array:
        """The standard error of each parameter."""
        return np.asarray(np.sqrt(np.diag(self.pcov)))

    @property
    def parameters(self) -> dict[str, float]:
        """The parameters by name."""
        return dict(zip(self.names, self.popt.tolist(), strict=True))

    @property
    def correlations(self) -> NamedMatrix:
        """The correlation of each two parameters, by name."""
        return self.result.correlations

    def covariance(self) -> Covariance:
        """Compute the covariance of the parameters, by name: `LeastSquaresResult.covariance`."""
        return self.result.covariance()

    def intervals(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """The interval of each parameter by its standard error: `LeastSquaresResult.intervals`."""
        return self.result.intervals(level)

    def profile_intervals(
        self, level: float = 0.95, names: str | Iterable[str] | None = None
    ) -> dict[str, tuple[float, float]]:
        """The interval of each parameter by its profile: `LeastSquaresResult.profile_intervals`."""
        return self.result.profile_intervals(level, names)

    def summary(self) -> str:
        """The fit as a table: `LeastSquaresResult.summary`, and R², the share of the data's variance it explains."""
        return self.result.summary(("R-squared", self.r_squared))

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        lines = [
            f"{name:>{max(map(len, self.names))}}: {value:.10g} ± {error:.2g}"
            for name, value, error in zip(self.names, self.popt, self.standard_errors, strict=True)
        ]
        return "\n".join([f"<CurveFit of {self.result.fun.size} observations: {self.result.message}", *lines, ">"])


def curve_fit(
    f: Callable[..., Any],
    xdata: Any,
    ydata: Any,
    p0: Any = None,
    sigma: Any = None,
    absolute_sigma: bool = False,
    check_finite: bool | None = None,
    bounds: Any = (-np.inf, np.inf),
    method: Any = None,
    jac: Any = None,
    *,
    full_output: bool = False,
    nan_policy: str | None = None,
    **options: Any,
) -> CurveFit:
    """Fit a model to data by least squares: `scipy.optimize.curve_fit` by Levenberg–Marquardt of this package.

    Parameters
    ----------
    f
        The model, ``f(xdata, a, b, …)``: the values that `ydata` are compared with.
    xdata, ydata
        What the model is of, in any form that `f` takes (a list becomes an array), and the observations.
    p0
        The start, one number for each parameter, or a dict of them by name. None: for each the middle of its bounds, 1
        from its only bound, or 1; their number is that of the arguments of `f` after the first.
    sigma
        The standard deviations of the observations, one for all or one for each, or their covariance, shape (M, M).
    absolute_sigma
        Whether `sigma` is known. If not, the covariance of the parameters is scaled so that the residuals have the
        variance that they show.
    check_finite
        Refuse data that are not finite; True unless a `nan_policy` is given.
    bounds
        ``(lower, upper)``, each a number or one for each parameter, or a `scipy.optimize.Bounds`.
    method
        As `descend.least_squares` takes it.
    jac
        Derivatives of the model: ``jac(xdata, a, b, …)`` returns an array of shape (M, parameters); or a name as in
        `descend.least_squares`.
    full_output
        Whether to return what SciPy does: ``(popt, pcov, infodict, mesg, ier)``.
    nan_policy
        "raise" to refuse NaN in the data, "omit" to leave those observations out.
    options
        Further options of `descend.least_squares`, such as `loss`, `fixed` or `max_evals`; SciPy's `maxfev` and
        `max_nfev` are the latter.

    Returns
    -------
    CurveFit
        A tuple ``(popt, pcov)``, with `standard_errors`, `names` and the whole `result`. The covariance is
        s² (JᵀJ)⁻¹ with the Jacobian at the parameters; where the data do not tell them, it is infinite, and a
        `scipy.optimize.OptimizeWarning` says so.

    Raises
    ------
    OptionError
        Data, sigma or options that do not fit each other.
    FitError
        No parameters were found; it is a `RuntimeError`, too, and its `result` says where the descent stood.

    Examples
    --------
    >>> import numpy as np
    >>> import descend
    >>> t = np.linspace(0.0, 4.0, 50)
    >>> y = 2.5 * np.exp(-1.3 * t) + 0.5 + 0.02 * np.sin(40 * t)
    >>> fit = descend.curve_fit(lambda t, a, rate, level: a * np.exp(-rate * t) + level, t, y)
    >>> popt, pcov = fit
    >>> {name: round(value, 2) for name, value in fit.parameters.items()}
    {'a': 2.5, 'rate': 1.3, 'level': 0.5}
    """
    function("f", f)
    flag("absolute_sigma", absolute_sigma)
    data = CurveData(xdata, ydata, sigma, check_finite, nan_policy)
    names, start = _start(f, p0, bounds)
    result = least_squares(
        lambda p: data.residuals(f(data.x, *p)),
        start,
        _jac(jac, data),
        bounds,
        "auto" if method is None else method,
        names=names,
        absolute_sigma=absolute_sigma,
        **_renamed(options),
    )
    if result.reason.kind in ("failed", "spent") and not _exact(result, data):
        raise FitError(f"Optimal parameters not found: {result.message}", result)
    popt = np.asarray(result.x)
    pcov = _covariance(result)
    parts: tuple[Any, ...] = (popt, pcov)
    if full_output:
        info = {"nfev": result.nfev, "fvec": result.fun, "njev": result.njev}
        parts = (popt, pcov, info, result.message, 1)
    return CurveFit.of(parts, names, result, f, data)


def _exact(result: LeastSquaresResult, data: CurveData) -> bool:
    """Whether a descent has stalled where the model agrees with the data to half of the digits of what they vary by."""
    least = float(np.finfo(float).eps) * data.about_mean()
    return result.reason is Reason.STALLED and 2.0 * result.cost <= least


def _start(f: Callable[..., Any], p0: Any, bounds: Any) -> tuple[list[str], Array]:
    """The names of the parameters and where they start."""
    names = _names(f)
    if isinstance(p0, Mapping):
        return _by_name(p0, names)
    if p0 is not None:
        start = np.atleast_1d(np.asarray(p0))
        if start.ndim != 1:
            raise OptionError(f"p0={shown(p0)}: a number for each parameter is needed, in one dimension")
        named = names if names is not None and len(names) == start.size else [f"p[{i}]" for i in range(start.size)]
        return named, start
    if names is None or not names:
        raise OptionError("the number of parameters is not told by the signature of f: give p0, a number for each")
    low, high = (bounds.lb, bounds.ub) if hasattr(bounds, "lb") else bounds
    try:
        lower = np.array(np.broadcast_to(np.asarray(low, dtype=float), len(names)))
        upper = np.array(np.broadcast_to(np.asarray(high, dtype=float), len(names)))
    except (TypeError, ValueError):
        raise OptionError(
            f"bounds={shown(bounds)}: (lower, upper) is needed, each a number or one for each of {', '.join(names)}"
        ) from None
    above, below = np.isfinite(lower), np.isfinite(upper)
    start = np.ones(len(names))
    start[above & below] = 0.5 * (lower[above & below] + upper[above & below])
    start[above & ~below] = lower[above & ~below] + 1.0
    start[~above & below] = upper[~above & below] - 1.0
    return names, start


def _by_name(p0: Mapping[str, Any], names: list[str] | None) -> tuple[list[str], Array]:
    """The same of a start by name."""
    if names is None:
        raise OptionError(f"p0={shown(p0)}: the signature of f names no parameters; give p0 as a list of numbers")
    for name in p0:
        if name not in names:
            raise OptionError(f"p0 holds {name!r}, which is no parameter of f; {did_you_mean(str(name), names)}")
    for name in names:
        if name not in p0:
            raise OptionError(f"p0={shown(p0)}: a number for {name!r} is missing; give all of {', '.join(names)}")
        if not is_real(p0[name]):
            raise OptionError(f"p0[{name!r}]={shown(p0[name])}: a number is needed")
    return names, np.array([float(p0[name]) for name in names])


def _names(f: Callable[..., Any]) -> list[str] | None:
    """The names of a model's parameters; None where its signature does not tell."""
    try:
        found = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        return None
    positional = [p for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if any(p.kind == p.VAR_POSITIONAL for p in found):
        return None
    return [p.name for p in positional[1:]]


def _jac(jac: Any, data: CurveData) -> Any:
    """The Jacobian of the residuals, from the model's."""
    if not callable(jac):
        return jac
    return lambda p: data.scaled(jac(data.x, *p), len(p))


def _renamed(options: dict[str, Any]) -> dict[str, Any]:
    known = set(inspect.signature(least_squares).parameters) - {
        "fun",
        "x0",
        "jac",
        "bounds",
        "method",
        "names",
        "absolute_sigma",
    }
    for name in options.keys() & INSTEAD.keys():
        raise OptionError(f"option {name!r} of MINPACK is not taken: give {INSTEAD[name]}")
    if options.get("epsfcn") is not None:  # the error of the function, whose root is the step
        options = options | {"epsfcn": math.sqrt(real("epsfcn", options["epsfcn"], above=0.0))}
    renamed = {RENAMED.get(name, name): value for name, value in options.items()}
    for name in renamed:
        if name not in known:
            raise OptionError(f"option {name!r} is not known; {did_you_mean(name, [*known, *RENAMED])}")
    if "starts" in renamed or "state" in renamed:
        raise OptionError("curve_fit makes one fit: for starts and state, use descend.least_squares")
    return renamed


def _covariance(result: LeastSquaresResult) -> Array:
    """The covariance of the parameters; infinite throughout, with SciPy's warning, where the data do not tell."""
    from scipy.optimize import OptimizeWarning

    why, size = "", np.size(result.x)
    found = np.full((size, size), np.inf)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = result.covariance().matrix
        except UncertaintyError as error:
            why = f": {error}"
            said.clear()
    if np.any(np.isinf(found)):
        why += "".join(f": {message}" for message in dict.fromkeys(str(warning.message) for warning in said))
        warnings.warn(f"Covariance of the parameters could not be estimated{why}", OptimizeWarning, stacklevel=3)
        return np.full((size, size), np.inf)
    for warning in said:
        warnings.warn(warning.message, warning.category, stacklevel=3)
    return found
