"""`minimize`: from a function and a start to a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from descend.descent.result import Result
from descend.minimization.multistart import minimize_from
from descend.minimization.options import MethodLike, MinimizeOptions
from descend.minimization.run import Minimization
from descend.minimization.scipy_options import prints_message, translated
from descend.objectives.objective import Jac

__all__ = ["minimize"]


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: Any = (),
    method: MethodLike | None = "auto",
    jac: Jac = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    tol: float | None = None,
    callback: Callable[[Any], Any] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    gtol: float | None = None,
    ftol: float | None = None,
    xtol: float | None = None,
    max_steps: int | None = None,
    max_evals: int | None = None,
    max_seconds: float | None = None,
    target: float | None = None,
    history: bool | Literal["path"] = True,
    finite_diff_rel_step: Any = None,
    finite_diff_abs_step: Any = None,
    check_gradient: bool = False,
    starts: Sequence[Any] | None = None,
    vectorized: bool | None = None,
    fixed: Any = None,
    tied: Mapping[Any, Callable[[Any], Any]] | None = None,
    names: Sequence[str] | None = None,
    keep_state: bool | None = None,
    state: Mapping[str, Any] | None = None,
) -> Result:
    """Minimise a function of parameters in any container, by a method that searches for its steps, or by any rule.

    Parameters
    ----------
    fun
        ``fun(x, *args)`` returns one number. `x` is built as `x0`; it is a copy, which the function may keep.
    x0
        The start: a float, an array or tensor of float32 or float64 (whose dtype is kept), or any nesting of dicts,
        lists and tuples of them. A plain list of numbers is taken as an array, and integers and other real numbers in
        NumPy as float64, as in SciPy.
    args
        Further arguments of `fun` and `jac`, a tuple; anything else is one argument, as in SciPy.
    method
        ``"auto"``: BFGS for up to 100 parameters without bounds; else L-BFGS, unless its pairs would take more than 4
        GiB; with `hess` or `hessp` the truncated Newton method; `Result.why` says so. Or a method
        (``descend.LBFGS(memory=10)``, see `descend.methods`) or a rule (``descend.Adam(lr=0.1)``), its class, or its
        name with default constants. None is ``"auto"``.
    jac
        Where the gradient comes from: a function ``jac(x, *args)`` that returns it in the shape of `x`, but for axes
        of length 1, as a row, a column, a matrix, a list, or anything else that holds numbers; True if `fun`
        returns ``(value, gradient)``; ``"torch"`` or ``"jax"`` for automatic differentiation of `fun`, which is given
        tensors then; ``"differences"`` for finite differences that are forward or central as the descent needs them;
        ``"2-point"``, ``"3-point"`` or ``"cs"`` for SciPy's schemes throughout. None: autodiff if `x0` holds tensors of
        either, else ``"differences"``.
    hess, hessp
        The Hessian, for `descend.TruncatedNewton`, which ``"auto"`` is then, but for bounds: ``hess(x, *args)`` returns
        the matrix, as an array, a sparse one or a `scipy.sparse.linalg.LinearOperator`, in the order of the leaves'
        numbers; ``hessp(x, p, *args)`` its product with `p`, both built as `x`. `hess` goes first; ``hess="2-point"``
        is differences of gradients. Where neither is given, that method has products from PyTorch or JAX if the
        gradient is theirs, else from differences of gradients. Other methods warn that they do not use it.
    bounds
        Where the parameters may lie: a tuple ``(lower, upper)``, each None, a number, or a container like `x0`; a
        `scipy.optimize.Bounds`; or a list, an array of shape (n, 2) or an iterator of a ``(low, high)`` pair for each
        of the n parameters (two tuples in a tuple are pairs, too, where n is 2). A start outside is moved to the
        nearest point within, and the message says so. Rules are projected after each step; of the methods, BFGS,
        conjugate gradients and steepest descent do not keep to bounds. `gtol` is then for the projected gradient: how
        far a step along the gradient would lead within them.
    constraints
        SciPy's constraints: none. For others use `scipy.optimize.minimize` with "SLSQP", "trust-constr" or "COBYQA".
    callback
        Called at the start and after each step with a `Point`: the array of the parameters, whose attributes are the
        loss `fun`, the gradient `jac`, `x` as `x0` was built, `nit` and more. One whose only parameter is named
        ``intermediate_result`` is given a `scipy.optimize.OptimizeResult` of these. Returning True, or raising
        ``StopIteration``, stops the descent; any other value does not.
    options
        The options of SciPy's methods, by their names (docs/minimizing.md has a table), or further arguments of this
        function. A budget that is given here leaves a method its end, as in SciPy.
    gtol, ftol, xtol
        Stop when the largest absolute gradient entry is at most `gtol`; when the loss changes in a step by at most
        ``ftol · max(1, |loss|)``; when no parameter changes in a step by more than ``xtol · max(1, max |x|)``.
        `tol` is another name for `gtol`. If neither a tolerance nor a target is given, a method ends where no lower
        point can be told, and a rule spends its budget or, if none is given either, has ``gtol=1e-5`` (float32: 1e-3);
        without a budget within 10,000 steps.
    max_steps, max_evals, max_seconds
        Budgets: steps, evaluations of `fun` (never exceeded; finite differences count each one, and products
        with the Hessian one each), seconds.
    target
        Stop when the loss is at most this (at least, with ``maximize=True``).
    history
        True: loss and gradient norm of each step. "path": the parameters too. False: nothing. Thinned beyond 10,000
        records.
    finite_diff_rel_step, finite_diff_abs_step
        Steps of finite differences, relative to the parameters (as in SciPy) or absolute (which SciPy's methods call
        ``eps``): a number, or one for each. None: steps follow from the size of each parameter, from the noise of the
        function and from its curvature, and are longer where the function has not changed within them.
    check_gradient
        Compare the gradient with finite differences at `x0` first; raise `GradientError` naming the worst entry.
    starts
        Further starts, each built as `x0`: the function is minimised from each of them, with the whole budget for each,
        and the best result is returned; its `runs` are the results of all, `x0`'s first. Where the function raises from
        one of them, that is the reason of its result.
    vectorized
        Whether the function is asked for many points at once: of all starts, and of their finite differences. True: it
        takes that itself; each leaf of `x` has a leading axis, one row for each point, and `fun` and `jac` return a row
        for each. False: one start after the other. None: together if the gradient comes from PyTorch or JAX and
        ``vmap`` takes the function. Either is tried at the first two starts, with evaluations that are not counted. The
        descents then go on side by side, and `max_seconds` is for all of them.
    fixed
        Which parameters are held, and at what: their names, such as ``["rate"]`` (where they start); a dict of name →
        value; for an array, indices or a mask of True and False. A name may stand for a whole array or a nested dict.
        The function sees all parameters, and so does `jac`; a descent changes the free ones.
    tied
        Which parameters follow others: a dict of name or index → a function of the whole container, such as
        ``{"b": lambda p: 2 * p["a"]}``. A gradient that is given is that of the whole; the functions' own derivatives
        are taken by complex steps and differences. What is tied has no bounds.
    names
        Names for the numbers of an array, one each, in `fixed`, `tied` and the errors of the answer. By default the
        path in the container: ``rate``, ``w[0]``, ``x[2]`` in a bare array.
    keep_state
        Whether `Result.state` has all that it takes to go on exactly, which for L-BFGS is up to 60 times as much as `x`
        (n² numbers for BFGS). None: where the descent was stopped by the callback, by Ctrl-C or by what the function
        raised; where a budget is spent, if it takes 8 MiB at most; and with a rule. Otherwise it has `x` and the
        counts, and a method begins anew there.
    state
        `Result.state` of an earlier call: go on exactly where it stopped, with the same bits as if it had not. What
        the function raises is not in it, nor is the history. ``numpy.savez(file, **result.state)`` keeps it and
        ``numpy.load(file)`` gives it back, without pickle.

    Returns
    -------
    Result
        The point where a criterion that was asked for holds, or else the best finite point that was seen; and why the
        descent stopped. Ctrl-C ends the descent after the step at hand and returns the result so far; pressed again
        within that step, it raises `KeyboardInterrupt`, whose `.result` is the result so far.

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
    return _minimized(fun, x0, MinimizeOptions(
        args=args, method=method, jac=jac, hess=hess, hessp=hessp, bounds=bounds, constraints=constraints, tol=tol,
        callback=callback, options=options, gtol=gtol, ftol=ftol, xtol=xtol, max_steps=max_steps, max_evals=max_evals,
        max_seconds=max_seconds, target=target, history=history, finite_diff_rel_step=finite_diff_rel_step,
        finite_diff_abs_step=finite_diff_abs_step, check_gradient=check_gradient, starts=starts, vectorized=vectorized,
        fixed=fixed, tied=tied, names=names, keep_state=keep_state, state=state,
    ))  # fmt: skip


def _minimized(fun: Callable[..., Any], x0: Any, options: MinimizeOptions) -> Result:
    """The result of one descent or of several; its message is printed where SciPy's options ask for it."""
    asked = translated(options)
    alone = asked.starts is None and not asked.vectorized
    result = Minimization(fun, x0, asked).run() if alone else minimize_from(fun, x0, asked)
    if prints_message(options.options):
        print(result.message)
    return result
