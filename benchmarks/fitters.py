"""Who fits models to data in `minimize.py --nist` and `--fits`, called as their users call them.

A solver has its own tolerances, or tight ones where its name says so. Every call of the loss, or of the residuals, is
watched: how many there were, the lowest loss seen, and the evaluation at which it fell last.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize
from fits import Fit

import descend

Array = np.ndarray[Any, np.dtype[Any]]
MOST = 100_000
"""Evaluations after which a solver is stopped from outside."""


class Enough(Exception):
    """Ends a solver from outside."""


class Watch:
    """Counts the evaluations of a fit, and remembers when its loss fell last."""

    def __init__(self, fit: Fit, exact: bool) -> None:
        self.fit = fit
        self.exact = exact
        self.count = self.improved = 0
        self.lowest, self.at = np.inf, fit.start

    def fun(self, x: Array) -> tuple[float, Array]:
        """Loss and gradient."""
        f, g = self.fit.loss_and_gradient(np.asarray(x, dtype=float))
        self._seen(f, x)
        return f, g

    def loss(self, x: Array) -> float:
        """The loss alone, for who takes differences."""
        f = self.fit.loss_and_gradient(np.asarray(x, dtype=float))[0]
        self._seen(f, x)
        return f

    def residuals(self, x: Array) -> Array:
        """The residuals."""
        assert self.fit.residuals is not None
        r = self.fit.residuals(np.asarray(x, dtype=float))
        with np.errstate(all="ignore"):
            self._seen(float(r @ r), x)
        return r

    def derivatives(self) -> dict[str, Any]:
        """`fun` and `jac` for a minimiser."""
        return {"fun": self.fun, "jac": True} if self.exact else {"fun": self.loss}

    def of_residuals(self) -> dict[str, Any]:
        """`fun` and `jac` for a solver of least squares."""
        return {"fun": self.residuals} | ({"jac": self.fit.jacobian} if self.exact else {})

    def _seen(self, f: float, x: Array) -> None:
        self.count += 1
        if f < self.lowest - 4 * np.finfo(float).eps * abs(f):  # beyond rounding
            self.lowest, self.at, self.improved = f, np.array(x, dtype=float), self.count
        if self.count >= MOST:
            raise Enough


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a solver returned."""

    x: Array
    success: bool
    why: str


Solver = Callable[[Watch], Any]


def by_descend(**how: Any) -> Solver:
    """descend.minimize."""
    return lambda w: descend.minimize(**w.derivatives(), x0=w.fit.start, bounds=w.fit.ends, history=False, **how)


def by_scipy(method: str, **options: Any) -> Solver:
    """One of SciPy's minimisers."""

    def run(w: Watch) -> Any:
        bounds = {} if w.fit.ends is None else {"bounds": scipy.optimize.Bounds(*w.fit.ends)}
        return scipy.optimize.minimize(**w.derivatives(), x0=w.fit.start, method=method, options=options, **bounds)

    return run


def by_descend_least_squares(w: Watch) -> Any:
    """descend.least_squares."""
    return descend.least_squares(**w.of_residuals(), x0=w.fit.start, bounds=w.fit.ends)


def by_least_squares(method: str, **how: Any) -> Solver:
    """scipy.optimize.least_squares."""

    def run(w: Watch) -> Any:
        bounds = {} if w.fit.ends is None else {"bounds": w.fit.ends}
        return scipy.optimize.least_squares(**w.of_residuals(), x0=w.fit.start, method=method, **how, **bounds)

    return run


def by_lmfit(w: Watch) -> Any:
    """The leastsq of lmfit, which is MINPACK's."""
    import lmfit

    parameters = lmfit.Parameters()
    for k, value in enumerate(w.fit.start):
        parameters.add(f"b{k}", value=value)

    def values(p: Any) -> Array:
        return np.array([p[f"b{k}"].value for k in range(len(w.fit.start))])

    jacobian = w.fit.jacobian
    exact = {} if not w.exact or jacobian is None else {"Dfun": lambda p: jacobian(values(p)), "col_deriv": 0}
    done = lmfit.Minimizer(lambda p: w.residuals(values(p)), parameters, nan_policy="omit").leastsq(**exact)
    return Answer(values(done.params), done.success, done.message)


def by_optimistix(solver: str) -> Solver:
    """One of optimistix's solvers of least squares, whose steps are counted: it works under jax.jit."""

    def run(w: Watch) -> Any:
        import jax
        import optimistix

        jax.config.update("jax_enable_x64", True)
        model = w.fit.model
        assert model is not None
        method = getattr(optimistix, solver)(rtol=1e-8, atol=1e-8)
        start = jax.numpy.asarray(w.fit.start)
        done = optimistix.least_squares(lambda b, _: model(b), method, start, max_steps=MOST, throw=False)
        w.count = int(done.stats["num_steps"])
        return Answer(np.asarray(done.value), bool(done.result == optimistix.RESULTS.successful), str(done.result))

    return run


TIGHT: dict[str, Any] = {"gtol": 1e-10}
SOLVERS: dict[str, Solver] = {
    "descend": by_descend(),
    "descend bfgs": by_descend(method="bfgs"),
    "descend lbfgs": by_descend(method="lbfgs"),
    "descend newton": by_descend(method="truncatednewton"),
    "L-BFGS-B": by_scipy("L-BFGS-B"),
    "L-BFGS-B tight": by_scipy("L-BFGS-B", maxcor=30, ftol=0.0, maxfun=10**6, maxiter=10**6, **TIGHT),
    "BFGS": by_scipy("BFGS"),
    "BFGS tight": by_scipy("BFGS", maxiter=10**6, **TIGHT),
    "Newton-CG": by_scipy("Newton-CG", xtol=1e-10, maxiter=10**4),
    "trust-constr": by_scipy("trust-constr", maxiter=10**4),
    "descend least_squares": by_descend_least_squares,
    "lm": by_least_squares("lm", max_nfev=MOST),
    "lm tight": by_least_squares("lm", max_nfev=MOST, **dict.fromkeys(("ftol", "xtol", "gtol"), 1e-15)),
    "trf": by_least_squares("trf", x_scale="jac", max_nfev=MOST),
    "lmfit": by_lmfit,
    "optimistix LM": by_optimistix("LevenbergMarquardt"),
    "optimistix Gauss–Newton": by_optimistix("GaussNewton"),
}
USUAL = [name for name in SOLVERS if name != "lmfit" and not name.startswith("optimistix")]
NEED_GRADIENTS = ("descend newton", "Newton-CG", "optimistix LM", "optimistix Gauss–Newton")
NO_BOUNDS = ("descend bfgs", "descend newton", "BFGS", "BFGS tight", "Newton-CG", "lm", "lm tight", "lmfit")
OF_RESIDUALS = ("descend least_squares", "lm", "lm tight", "trf", "lmfit", "optimistix LM", "optimistix Gauss–Newton")


def able(solver: str, fit: Fit, exact: bool) -> bool:
    """Whether a solver takes a fit, and is there."""
    if solver == "descend least_squares" and not hasattr(descend, "least_squares"):
        return False
    return (
        (exact or solver not in NEED_GRADIENTS)
        and (fit.ends is None or solver not in NO_BOUNDS)
        and (fit.residuals is not None or solver not in OF_RESIDUALS)
        and (fit.model is not None or not solver.startswith("optimistix"))
    )


def solve(solver: str, fit: Fit, exact: bool) -> tuple[Watch, Answer]:
    """Have a solver fit: what was seen, and what it says."""
    watch = Watch(fit, exact)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            done = SOLVERS[solver](watch)
        except Enough:
            return watch, Answer(watch.at, False, f"stopped after {MOST:,} evaluations")
        except Exception as error:  # a solver that fails has an answer, too
            if isinstance(error.__cause__, Enough):
                return watch, Answer(watch.at, False, f"stopped after {MOST:,} evaluations")
            return watch, Answer(watch.at, False, f"{type(error).__name__}: {error}")
    why = getattr(done, "reason", None) or getattr(done, "why", None) or done.message
    return watch, Answer(np.asarray(done.x, dtype=float), bool(done.success), str(getattr(why, "name", why)))
