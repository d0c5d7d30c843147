"""Rules and methods as a `method` of `scipy.optimize.minimize`: SciPy's options, callbacks and results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from descend.methods import Method
from descend.minimization.callbacks import Point, caller
from descend.minimization.minimize import minimize
from descend.minimization.options import no_constraints
from descend.minimization.scipy_options import keeps_path
from descend.rules import Rule
from descend.rules.scipy_method import register_adapter

__all__ = ["as_scipy_method"]


@register_adapter
def as_scipy_method(
    method: Rule | Method,
    fun: Callable[..., Any],
    x0: Any,
    args: Sequence[Any] = (),
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    callback: Callable[..., Any] | None = None,
    **options: Any,
) -> Any:
    """What `scipy.optimize.minimize` calls when its `method` is a rule or a method of descend's.

    `options` are those of `minimize`, by SciPy's names or by its own. A method keeps its tolerance on the gradient,
    whatever the budget. Returns a `scipy.optimize.OptimizeResult` that has all fields of a `Result` and, with
    ``return_all``, the points on the way as `allvecs`.
    """
    from scipy.optimize import OptimizeResult

    no_constraints(constraints, method)
    if "gtol" in options:
        options.pop("tol", None)  # SciPy's `tol` stands for it where it is not given
    if bounds is not None and not hasattr(bounds, "lb"):
        bounds = list(bounds)  # SciPy's are pairs, whatever holds them
    tell = None if callback is None else _after_each_step(callback)
    result = minimize(fun, x0, args, method, jac, hess, hessp, bounds=bounds, callback=tell, options=options)
    found = OptimizeResult(result)
    if keeps_path(options) and result.history is not None:
        found["allvecs"] = [*(result.history.path or []), result.x_last]
    return found


def _after_each_step(callback: Callable[..., Any]) -> Callable[[Point], None]:
    """A callback as SciPy calls it: after each step, and with StopIteration alone to stop."""
    call = caller(callback)

    def tell(point: Point) -> None:
        if point.nit:
            call(point)

    return tell
