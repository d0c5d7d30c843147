"""`least_squares`: from residuals and a start to a result."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from descend.objectives.objective import Jac
from descend.regression.options import LeastSquaresOptions
from descend.regression.result import LeastSquaresResult
from descend.regression.run import Regression
from descend.regression.starts import least_squares_from

__all__ = ["least_squares"]


def least_squares(
    fun: Callable[..., Any],
    x0: Any,
    jac: Jac = None,
    bounds: Any = None,
    method: Any = "auto",
    ftol: float | None = None,
    xtol: float | None = None,
    gtol: float | None = None,
    x_scale: Any = None,
    loss: str | Callable[..., Any] = "linear",
    f_scale: float = 1.0,
    *,
    verbose: Literal[0, 1, 2] = 0,
    tr_solver: None = None,
    tr_options: Mapping[str, Any] | None = None,
    weights: Any = None,
    absolute_sigma: bool = False,
    diff_step: Any = None,
    jac_sparsity: Any = None,
    max_nfev: int | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    max_steps: int | None = None,
    max_evals: int | None = None,
    max_seconds: float | None = None,
    target: float | None = None,
    callback: Callable[..., Any] | None = None,
    history: bool | Literal["path"] = True,
    fixed: Any = None,
    tied: Mapping[Any, Callable[[Any], Any]] | None = None,
    names: Sequence[str] | None = None,
    starts: Sequence[Any] | None = None,
    state: Mapping[str, Any] | None = None,
) -> LeastSquaresResult:
    """Minimise half a sum of squares of residuals, or a robust loss of them, by Levenberg–Marquardt.

    Parameters
    ----------
    fun
        ``fun(x, *args, **kwargs)`` returns the residuals, an array of any shape with one for each observation. `x` is
        built as `x0`; it is a copy, which the function may keep.
    x0
        The start: a float, an array or tensor of float32 or float64, or any nesting of dicts, lists and tuples of them,
        as in `descend.minimize`.
    jac
        Where the Jacobian comes from. A function ``jac(x, *args, **kwargs)`` that returns an array of shape
        (residuals, parameters), a SciPy sparse matrix, or a `scipy.sparse.linalg.LinearOperator`; for a container, also
        one like `x0` whose leaves have the shape of the residuals followed by their own. True if `fun` returns
        ``(residuals, Jacobian)``. ``"2-point"`` for forward differences, which become as exact as central ones near the
        end; ``"3-point"`` and ``"cs"`` as in SciPy. ``"torch"`` or ``"jax"`` for automatic differentiation. None:
        autodiff if `x0` holds tensors of either, else ``"2-point"``.
    bounds
        Where the parameters may lie, in any of the forms of `descend.minimize`, but that two things, be they tuples,
        lists or rows of an array, are always lower and upper bounds, as in `scipy.optimize.least_squares`.
    method
        ``descend.LevenbergMarquardt(…)``; "auto" and SciPy's names stand for its defaults.
    ftol, xtol, gtol
        As in SciPy, where they are given: stop when a step that the model predicts well lowers the loss by less than
        ``ftol · loss``; when its length is below ``xtol · (xtol + ‖x‖)``; when no entry of the gradient exceeds `gtol`,
        with bounds of the projected gradient. Whatever is given, the descent ends where no lower point can be told: the
        decrease that the Gauss–Newton model still promises is lost in the rounding of the loss, or no parameter would
        change by more than half of its digits.
    x_scale
        The size of each parameter: a number, or a container like `x0`. None or "jac": the inverse of the largest norm
        that its column of the Jacobian has had.
    loss, f_scale
        ``"linear"``, ``"soft_l1"``, ``"huber"``, ``"cauchy"``, ``"arctan"`` or a function, and the size of residuals
        that are no outliers, as in SciPy: the loss is ½ Σ C² ρ((f / C)²) with C = `f_scale`.
    verbose
        As in SciPy: 1 to print how the descent ended, 2 to print loss and gradient norm of each step, too.
    tr_solver, tr_options
        SciPy's, of which nothing but None is taken: a dense Jacobian is decomposed, and for a sparse one, or a
        LinearOperator, steps are those of `scipy.sparse.linalg.lsmr`.
    weights
        What the squared residuals are multiplied by, one number for each or one for all: 1 / σ² for known standard
        deviations σ. A robust loss is of the residuals times the root of their weights. 0 leaves a residual out.
    absolute_sigma
        Whether the weights are 1 / σ² of known standard deviations: errors of the answer take them as they are. If not,
        they are relative, and the residuals tell their variance.
    diff_step
        Steps of finite differences relative to each parameter, as in SciPy. Default: the cube root of the spacing of
        floats.
    jac_sparsity
        Where the Jacobian may have entries, an array or sparse matrix: parameters that share no row are differenced
        together, and the Jacobian is sparse.
    max_nfev
        SciPy's name of `max_evals`.
    args, kwargs
        Further arguments of `fun` and `jac`.
    max_steps, max_evals, max_seconds
        Budgets: steps, evaluations of `fun` (never exceeded; finite differences count each one), seconds. 10,000 steps
        where none is given.
    target
        Stop when the loss is at most this.
    callback
        Called at the start and after each step as in `descend.minimize`; `fun` of its argument is the loss. True, or
        raising ``StopIteration``, stops the descent.
    history
        True: loss and gradient norm of each step. "path": the parameters too. False: nothing.
    fixed, tied, names
        Parameters that are held, or follow others, and their names, as in `descend.minimize`.
    starts
        Further starts, each built as `x0`: the loss is minimised from each of them, with the whole budget for each, and
        the best result is returned; its `runs` are the results of all, `x0`'s first. Residuals in JAX are evaluated for
        all starts at once, with their Jacobians, if ``vmap`` takes the function.
    state
        `Result.state` of an earlier call: go on exactly where it stopped, with the same bits as if it had not.

    Returns
    -------
    LeastSquaresResult
        The point with the lowest loss, its residuals and Jacobian, and why the descent stopped.

    Raises
    ------
    ParameterError, OptionError, MethodError, StateError
        A bad `x0`, option, constant or state, before anything is run.
    ObjectiveError
        `fun` or `jac` raised, or returned something that is no residuals or no Jacobian of theirs, or residuals that
        are not finite at the start; `.result` holds the descent so far.

    Examples
    --------
    >>> import numpy as np
    >>> import descend
    >>> t = np.linspace(0.0, 4.0, 9)
    >>> y = 3.0 * np.exp(-0.7 * t)
    >>> result = descend.least_squares(lambda p: p["a"] * np.exp(-p["rate"] * t) - y, {"a": 1.0, "rate": 1.0})
    >>> {name: round(value, 6) for name, value in result.x.items()}, result.success
    ({'a': 3.0, 'rate': 0.7}, True)
    """
    return _fitted(fun, x0, LeastSquaresOptions(
        jac=jac, bounds=bounds, method=method, ftol=ftol, xtol=xtol, gtol=gtol, x_scale=x_scale, loss=loss,
        f_scale=f_scale, verbose=verbose, tr_solver=tr_solver, tr_options=tr_options, weights=weights,
        absolute_sigma=absolute_sigma, diff_step=diff_step, jac_sparsity=jac_sparsity, args=args, kwargs=kwargs,
        max_nfev=max_nfev, max_steps=max_steps, max_evals=max_evals, max_seconds=max_seconds, target=target,
        callback=callback, history=history, fixed=fixed, tied=tied, names=names, starts=starts, state=state,
    ))  # fmt: skip


def _fitted(fun: Callable[..., Any], x0: Any, options: LeastSquaresOptions) -> LeastSquaresResult:
    """The result of one descent or of several, which is told where `verbose` asks for it."""
    if options.verbose == 2:
        options = dataclasses.replace(options, callback=_telling_steps(options.callback))
    result = Regression(fun, x0, options).run() if options.starts is None else least_squares_from(fun, x0, options)
    if options.verbose:
        _say(f"{result.message} Loss {result.cost:.4e}, evaluations {result.nfev}, optimality {result.optimality:.2e}.")
    return result


def _telling_steps(callback: Callable[..., Any] | None) -> Callable[..., Any]:
    """A callback that says where the descent stands, and calls the user's."""

    def tell(*args: Any, **kwargs: Any) -> Any:
        point = [*args, *kwargs.values()][0]  # by the name that the user's has for it
        if point["nit"] == 0:
            _say(f"{'step':>8}{'evaluations':>14}{'loss':>14}{'gradient norm':>16}")
        _say(f"{point['nit']:>8}{point['nfev']:>14}{point['fun']:>14.4e}{point['gradient_norm']:>16.2e}")
        return None if callback is None else callback(*args, **kwargs)

    return tell if callback is None else functools.wraps(callback)(tell)


def _say(line: str) -> None:
    print(line)
