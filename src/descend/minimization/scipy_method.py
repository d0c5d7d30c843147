"""Rules and methods as a `method` of `scipy.optimize.minimize`: SciPy's options, callbacks and results."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from descend.errors import MethodError, OptionError, did_you_mean
from descend.methods import Method
from descend.minimization.minimize import minimize
from descend.minimization.options import MinimizeOptions, Point, default_gtol
from descend.rules import Rule
from descend.rules.scipy_method import register_adapter

__all__ = ["SCIPY_OPTIONS", "as_scipy_method"]

SCIPY_OPTIONS = {"maxiter": "max_steps", "maxfun": "max_evals", "maxfev": "max_evals"}
"""SciPy's options that have another name here."""

GIVEN_OTHERWISE = ("args", "method", "jac", "bounds", "callback")
"""Options that are arguments of `scipy.optimize.minimize` itself."""


@register_adapter
def as_scipy_method(
    method: Rule | Method,
    fun: Callable[..., Any],
    x0: Any,
    args: Sequence[Any] = (),
    jac: Any = None,
    hess: Any = None,  # noqa: ARG001 - SciPy gives it
    hessp: Any = None,  # noqa: ARG001
    bounds: Any = None,
    constraints: Any = (),
    callback: Callable[..., Any] | None = None,
    **options: Any,
) -> Any:
    """What `scipy.optimize.minimize` calls when its `method` is a rule or a method of descend's.

    SciPy's options have descend's names, but for ``maxiter`` (`max_steps`) and ``maxfun`` or ``maxfev`` (`max_evals`);
    ``disp`` prints the message. A method keeps its tolerance on the gradient, whatever the budget. `hess` and `hessp`
    are not used. Returns a `scipy.optimize.OptimizeResult` that has all fields of a `Result`.
    """
    from scipy.optimize import OptimizeResult

    if len(constraints) if hasattr(constraints, "__len__") else constraints is not None:
        raise MethodError(
            f"{type(method).__name__} knows no constraints; use SciPy's 'SLSQP' or 'trust-constr', or bounds"
        )
    if isinstance(bounds, np.ndarray):  # SciPy's are pairs, whatever its shape
        bounds = [tuple(pair) for pair in bounds]
    show = options.pop("disp", False)
    options = _renamed(options)
    if isinstance(method, Method) and not options.keys() & {"tol", "gtol", "ftol", "xtol", "target"}:
        options["gtol"] = default_gtol([np.asarray(x0).dtype])  # SciPy's budgets do not end its tolerances
    tell = None if callback is None else _scipy_callback(callback)
    result = minimize(fun, x0, args, method, jac, bounds=bounds, callback=tell, **options)
    if show:
        print(result.message)
    return OptimizeResult({name: result[name] for name in result.keys()})  # noqa: SIM118 - they are not all its fields


def _renamed(options: dict[str, Any]) -> dict[str, Any]:
    """SciPy's options by the names that `minimize` has for them; raises `OptionError` for one that it has not."""
    for old, new in SCIPY_OPTIONS.items():
        if old in options:
            if new in options:
                raise OptionError(f"options {old!r} and {new!r} are the same; give one of them")
            options[new] = options.pop(old)
    known = [field.name for field in dataclasses.fields(MinimizeOptions) if field.name not in GIVEN_OTHERWISE]
    for name in options:
        if name not in known:
            raise OptionError(f"option {name!r} is not known; {did_you_mean(name, [*known, *SCIPY_OPTIONS, 'disp'])}")
    if "gtol" in options:
        options.pop("tol", None)  # SciPy's `tol` stands for it where it is not given
    return options


def _scipy_callback(callback: Callable[..., Any]) -> Callable[[Point], Any]:
    """A callback as SciPy has them: given the parameters or, if it asks for `intermediate_result`, a result."""
    from scipy.optimize import OptimizeResult

    try:
        whole = set(inspect.signature(callback).parameters) == {"intermediate_result"}
    except (TypeError, ValueError):
        whole = False

    def tell(point: Point) -> None:  # StopIteration alone stops
        if point.nit == 0:  # SciPy calls it after each step
            return
        if whole:
            callback(intermediate_result=OptimizeResult(dataclasses.asdict(point)))
        else:
            callback(point.x)

    return tell
