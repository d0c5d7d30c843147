"""`minimize`: from a function and a start to a result."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from descend.descent.result import Result
from descend.errors import MethodError, OptionError, did_you_mean
from descend.methods import Method
from descend.minimization.multistart import from_starts
from descend.minimization.run import Minimization, Point, usual_gtol
from descend.objectives.objective import Jac
from descend.rules import Rule

__all__ = ["SCIPY_OPTIONS", "Point", "as_scipy_method", "minimize"]


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: Sequence[Any] = (),
    method: Rule | Method | type[Rule] | type[Method] | str = "auto",
    jac: Jac = None,
    *,
    bounds: Any = None,
    tol: float | None = None,
    gtol: float | None = None,
    ftol: float | None = None,
    xtol: float | None = None,
    max_steps: int | None = None,
    max_evals: int | None = None,
    max_seconds: float | None = None,
    target: float | None = None,
    callback: Callable[[Point], Any] | None = None,
    history: bool | Literal["path"] = True,
    check_gradient: bool = False,
    starts: Sequence[Any] | None = None,
    vectorized: bool | None = None,
    state: Mapping[str, Any] | None = None,
) -> Result:
    """Minimise a function of parameters in any container, by a method that searches for its steps, or by any rule.

    Parameters
    ----------
    fun
        ``fun(x, *args)`` returns one number. `x` is built as `x0`; it is a copy, which the function may keep.
    x0
        The start: a float, an array or tensor of float32 or float64 (whose dtype is kept), or any nesting of dicts,
        lists and tuples of them. A plain list of numbers is taken as an array, as in SciPy.
    args
        Further arguments of `fun` and `jac`.
    method
        ``"auto"``: L-BFGS, unless its pairs would take more than 4 GiB, and `Result.why` says so. Or a method
        (``descend.LBFGS(memory=10)``, see `descend.methods`) or a rule (``descend.Adam(lr=0.1)``), its class, or its
        name with default constants.
    jac
        Where the gradient comes from: a function ``jac(x, *args)`` that returns it in the shape of `x`; True if `fun`
        returns ``(value, gradient)``; ``"2-point"``, ``"3-point"`` or ``"cs"`` for SciPy's finite differences;
        ``"torch"`` or ``"jax"`` for automatic differentiation of `fun`, which is given tensors then. None: autodiff if
        `x0` holds tensors of either, else ``"2-point"``.
    bounds
        Where the parameters may lie: ``(lower, upper)``, each None, a number, or a container like `x0`; a
        `scipy.optimize.Bounds`; or a ``(low, high)`` pair for each parameter. Rules are projected after each step; of
        the methods, BFGS, conjugate gradients and steepest descent do not keep to bounds. `gtol` is then for how far a
        step along the gradient would lead within them.
    gtol, ftol, xtol
        Stop when the largest absolute gradient entry is at most `gtol`; when the loss changes in a step by at most
        ``ftol · max(1, |loss|)``; when no parameter changes in a step by more than ``xtol · max(1, max |x|)``.
        `tol` is another name for `gtol`. If neither a tolerance, a target nor a budget is given, ``gtol=1e-5``
        (float32: 1e-3) within 10,000 steps; if a budget alone is given, a rule spends exactly that, and a method what
        it takes until no lower point can be told.
    max_steps, max_evals, max_seconds
        Budgets: steps, evaluations of `fun` (never exceeded; finite differences count each one), seconds.
    target
        Stop when the loss is at most this (at least, with ``maximize=True``).
    callback
        Called with a `Point` at the start and after each step; a true return value, or raising ``StopIteration``,
        stops the descent.
    history
        True: loss and gradient norm of each step. "path": the parameters too. False: nothing. Thinned beyond 10,000
        records.
    check_gradient
        Compare the gradient with finite differences at `x0` first; raise `GradientError` naming the worst entry.
    starts
        Further starts, each built as `x0`: the function is minimised from each of them, with the whole budget for each,
        and the best result is returned; its `runs` are the results of all, `x0`'s first. Where the function raises from
        one of them, that is the reason of its result.
    vectorized
        Whether the function is asked for many starts at once. True: it takes that itself; each leaf of `x` has a
        leading axis, one row for each start, and `fun` and `jac` return a row for each. False: one start after the
        other. None: together if the gradient comes from PyTorch or JAX and ``vmap`` takes the function, which is tried
        at the first two starts, with evaluations that are not counted. The descents then go on side by side, and
        `max_seconds` is for all of them.
    state
        `Result.state` of an earlier call: go on exactly where it stopped, with the same bits as if it had not. What
        the function raises is not in it, nor is the history. ``numpy.savez(file, **result.state)`` keeps it and
        ``numpy.load(file)`` gives it back, without pickle.

    Returns
    -------
    Result
        The point where a criterion that was asked for holds, or else the best finite point that was seen; and why the
        descent stopped. Ctrl-C ends the descent after the step at hand and
        returns the result so far.

    Raises
    ------
    ParameterError, OptionError, RuleError, MethodError, StateError
        A bad `x0`, option, hyperparameter, constant or state, before anything is run.
    ObjectiveError
        `fun` or `jac` raised, or returned something that is not a number; `.result` holds the descent so far.

    Examples
    --------
    >>> import descend
    >>> result = descend.minimize(lambda x: (x - 3) ** 2, x0=0.0, method=descend.GD(lr=0.1), gtol=1e-6)
    >>> round(result.x, 4), result.success, str(result.reason)
    (3.0, True, 'gradient')
    """
    options = dict(locals())
    del options["starts"], options["vectorized"]
    if vectorized is not None and starts is None:
        raise OptionError(f"vectorized={vectorized!r} is about several starts: give starts, or leave it out")
    return Minimization(**options).run() if starts is None else from_starts(starts, vectorized, options)


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
    for old, new in SCIPY_OPTIONS.items():
        if old in options:
            if new in options:
                raise OptionError(f"options {old!r} and {new!r} are the same; give one of them")
            options[new] = options.pop(old)
    known = list(inspect.signature(minimize).parameters)[5:]
    for name in options:
        if name not in known:
            raise OptionError(f"option {name!r} is not known; {did_you_mean(name, [*known, *SCIPY_OPTIONS, 'disp'])}")
    if "gtol" in options:
        options.pop("tol", None)  # which stands for it where it is not given
    if isinstance(method, Method) and not options.keys() & {"tol", "gtol", "ftol", "xtol", "target"}:
        options["gtol"] = usual_gtol([np.asarray(x0).dtype])  # SciPy's budgets do not end its tolerances
    tell = None if callback is None else _scipy_callback(callback)
    result = minimize(fun, x0, args, method, jac, bounds=bounds, callback=tell, **options)
    if show:
        print(result.message)
    return OptimizeResult({name: result[name] for name in result.keys()})  # noqa: SIM118 - they are not all its fields


SCIPY_OPTIONS = {"maxiter": "max_steps", "maxfun": "max_evals", "maxfev": "max_evals"}
"""SciPy's options that have another name here."""


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
