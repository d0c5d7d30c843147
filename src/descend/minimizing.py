"""`minimize`: from a function and a start to a result."""

from __future__ import annotations

import dataclasses
import inspect
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from descend.containers import Bounds, Memory
from descend.descent import Descent
from descend.errors import MethodError, ObjectiveError, OptionError, ParameterError, StateError, did_you_mean
from descend.gradients import Jac, Objective, check_at, require_agreement
from descend.history import History
from descend.methods import LBFGS, BarzilaiBorwein, ConjugateGradient, Method, known, registry
from descend.result import Result
from descend.rules import Rule, resolve
from descend.rules.base import registry as rules_by_name
from descend.rules.base import spelling
from descend.stopping import Criteria, Reason

__all__ = ["SCIPY_OPTIONS", "Point", "as_scipy_method", "minimize"]

DEFAULT_MAX_STEPS = 10_000
PAIRS_BYTES, LEAST_PAIRS = 4 * 2**30, 5
"""What the pairs of "auto" may take, and below how many of them it takes another method."""


@dataclasses.dataclass(frozen=True)
class Point:
    """What a callback of `minimize` is given: the point just evaluated.

    `x` and `jac` are copies, built as `x0` was.
    """

    x: Any
    fun: float
    jac: Any
    gradient_norm: float
    nit: int
    nfev: int
    njev: int
    seconds: float


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
        Further starts, each built as `x0`: the function is minimised from each of them, with the same budget, and the
        best result is returned; its `runs` are the results of all, `x0`'s first. Where the function raises from one of
        them, that is the reason of its result.
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
    if starts is not None:
        given = dict(locals())
        del given["starts"], given["x0"]
        return _from_all([x0, *_listed(starts)], given, state)
    memory = Memory(_as_scipy(x0))
    limits = None if bounds is None else Bounds(memory, bounds)
    rule, why = _chosen(method, memory, limits)
    if limits is not None:
        limits.apply(memory.vectors)
    criteria = _criteria(memory, _tolerances(tol, gtol, ftol, xtol), target, max_steps, max_evals, max_seconds)
    if not (isinstance(history, bool) or history == "path"):
        raise OptionError(f"history={history!r}: True, False or 'path'")
    if callback is not None and not callable(callback):
        raise OptionError(f"callback={callback!r} is not a function")
    extra = tuple(args) if isinstance(args, (tuple, list)) else (args,)
    objective = Objective(fun, jac, memory)
    if limits is not None:
        objective.bounds = limits.ends
    if criteria.max_evals is not None and criteria.max_evals < objective.cost:
        raise OptionError(
            f"max_evals={criteria.max_evals} does not pay for one gradient, which takes {objective.cost} evaluations"
            f" ({objective.source}): raise it, or give jac"
        )
    if check_gradient:
        value = (lambda x, *a: fun(x, *a)[0]) if objective.source == "together" else fun
        require_agreement(check_at(memory, objective, value, extra))
        objective.nfev = objective.njev = 0

    descent = Descent(
        memory,
        rule,
        lambda grad: objective(grad, extra),
        criteria,
        History(path=history == "path") if history else None,
        whole=True,
        evaluations=lambda: (objective.nfev, objective.cost),
        each=None if callback is None else _asking(callback, objective),
        bounds=limits,
    )
    if state is not None:
        descent.restore(state)
        try:
            objective.nfev, objective.njev = int(state["nfev"]), int(state["njev"])
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"state= has no count of evaluations ({type(error).__name__}: {error})") from error
    try:
        reason = descent.run()
    except ObjectiveError as error:
        descent.detail = f"{error}."
        error.result = _result(descent, objective, Reason.FUNCTION_RAISED, why)
        raise
    return _result(descent, objective, reason, why)


def _listed(starts: Any) -> list[Any]:
    """The further starts; raises `OptionError`."""
    if isinstance(starts, (str, Mapping)) or not hasattr(starts, "__iter__"):
        raise OptionError(f"starts={starts!r}: a list of starts is needed, each built as x0")
    return list(starts)


def _from_all(points: Sequence[Any], options: dict[str, Any], state: Any) -> Result:
    """The best of the results from several starts, with all of them."""
    if state is not None:
        raise OptionError("state= goes on with one descent: leave starts out")
    memories = [Memory(_as_scipy(point), f"starts[{i - 1}]" if i else "x0") for i, point in enumerate(points)]
    shapes = [", ".join(memory.layout) for memory in memories]
    for i, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ParameterError(f"starts[{i - 1}] has {shape}, x0 has {shapes[0]}: all starts are built alike")
    runs: list[Result] = []
    failure: ObjectiveError | None = None
    for point in points:
        try:
            runs.append(minimize(x0=point, **options))
        except ObjectiveError as error:
            if error.result is None:
                raise
            failure = error
            runs.append(error.result)
        if runs[-1].reason is Reason.INTERRUPTED:
            break
    alive = [run for run in runs if run.reason is not Reason.FUNCTION_RAISED]
    if not alive:
        assert failure is not None
        raise failure
    sign = -1.0 if alive[0].method.maximize else 1.0
    best = min(alive, key=lambda run: (not math.isfinite(run.fun), sign * run.fun))
    return dataclasses.replace(best, runs=tuple(runs))


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
    ``disp`` prints the message. `hess` and `hessp` are not used. Returns a `scipy.optimize.OptimizeResult` that has
    all fields of a `Result`.
    """
    from scipy.optimize import OptimizeResult

    if len(constraints) if hasattr(constraints, "__len__") else constraints is not None:
        raise MethodError(
            f"{type(method).__name__} knows no constraints; use SciPy's 'SLSQP' or 'trust-constr', or bounds"
        )
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


def _chosen(
    method: Rule | Method | type[Rule] | type[Method] | str, memory: Memory, bounds: Bounds | None
) -> tuple[Rule | Method, str]:
    """The rule or method that was named, or picked, and why; raises `MethodError` or `RuleError`."""
    if isinstance(method, str) and method.strip().lower() == "auto":
        return _automatic(memory, bounds)
    found: Any = known(method) if isinstance(method, str) else method
    if isinstance(found, type) and issubclass(found, Method):
        found = found()
    if not isinstance(found, Method):
        if isinstance(method, str) and spelling(method) not in rules_by_name():
            names = ["auto", *registry(), *rules_by_name()]
            raise MethodError(f"unknown method or rule {method!r}: {did_you_mean(spelling(method), names)}")
        return resolve(method), ""  # type: ignore[arg-type]
    if bounds is not None and not found.takes_bounds:
        able = [name for name, made in registry().items() if made.takes_bounds]
        raise MethodError(
            f"{type(found).__name__} cannot keep to bounds; use a rule, or {', '.join(map(repr, sorted(able)))}"
        )
    return found, ""


def _automatic(memory: Memory, bounds: Bounds | None) -> tuple[Method, str]:
    """L-BFGS, with as many pairs as there should be room for, and why; with room for few, what needs none."""
    many = "1 parameter has" if memory.size == 1 else f"{memory.size:,} parameters have"
    usual = LBFGS()
    of_a_pair = memory.size * 8 * (2 if bounds is None else 4)
    pairs = PAIRS_BYTES // of_a_pair
    if pairs >= usual.memory:
        return usual, f"LBFGS, as {many} a whole gradient"
    room = f"{usual.memory} pairs of {memory.size:,} parameters would take {usual.memory * of_a_pair / 2**30:.1f} GiB"
    if pairs >= LEAST_PAIRS:
        return LBFGS(memory=pairs), f"LBFGS(memory={pairs}), as {room}"
    least: Method = ConjugateGradient() if bounds is None else BarzilaiBorwein()
    return least, f"{type(least).__name__}, which keeps no pairs, as {room}"


def _tolerances(
    tol: float | None, gtol: float | None, ftol: float | None, xtol: float | None
) -> dict[str, float | None]:
    """The tolerances by name, `tol` having become `gtol`."""
    if tol is not None and gtol is not None:
        raise OptionError(f"tol={tol!r} and gtol={gtol!r}: tol is another name for gtol; give one of them")
    return {"gtol": gtol if tol is None else tol, "ftol": ftol, "xtol": xtol}


def _criteria(
    memory: Memory,
    tolerances: dict[str, float | None],
    target: float | None,
    max_steps: int | None,
    max_evals: int | None,
    max_seconds: float | None,
) -> Criteria:
    budget = {"max_steps": max_steps, "max_evals": max_evals, "max_seconds": max_seconds}
    given = any(v is not None for v in (*tolerances.values(), target, *budget.values()))
    if not given:
        tolerances["gtol"] = 1e-5 if all(v.dtype == np.float64 for v in memory.vectors) else 1e-3
    if all(v is None for v in budget.values()):
        budget["max_steps"] = DEFAULT_MAX_STEPS
    return Criteria(target=target, **tolerances, **budget)  # type: ignore[arg-type]


def _as_scipy(x0: Any) -> Any:
    """A plain list or tuple of numbers as an array; everything else as it is."""
    plain = isinstance(x0, (list, tuple)) and not hasattr(x0, "_fields") and len(x0) > 0
    if plain and all(isinstance(v, numbers.Number) for v in x0):
        return np.asarray(x0)
    return x0


def _asking(callback: Callable[[Point], Any], objective: Objective) -> Callable[[Descent], Reason | None]:
    def each(descent: Descent) -> Reason | None:
        point = Point(
            x=descent.memory.result(),
            fun=descent.loss,
            jac=descent.memory.result([g.copy() for g in descent.grad]),
            gradient_norm=descent.norm,
            nit=descent.steps,
            nfev=objective.nfev,
            njev=objective.njev,
            seconds=descent.seconds,
        )
        try:
            return Reason.CALLBACK if callback(point) else None
        except StopIteration:
            return Reason.CALLBACK
        except Exception as error:
            raise ObjectiveError(f"callback raised {type(error).__name__}: {error} (at step {point.nit})") from error

    return each


def _result(descent: Descent, objective: Objective, reason: Reason, why: str) -> Result:
    memory, detail = descent.memory, descent.detail
    vectors, grad, loss = descent.best, descent.best_grad, descent.best_loss
    if reason.success:
        # What a criterion was found to hold for is the point at hand; it is not swapped for another.
        if loss != descent.loss:
            detail += f" A better loss, {loss:.6g}, was seen on the way."
        vectors, grad, loss = memory.vectors, descent.grad, descent.loss
    elif vectors is None or grad is None:
        nothing_known = [np.full_like(g, math.nan) for g in descent.grad]
        vectors, grad, loss = memory.vectors, nothing_known, descent.loss
    message = reason.message(detail)
    counts = {"nfev": np.array(objective.nfev), "njev": np.array(objective.njev)}
    if reason is Reason.MAX_STEPS and not descent.criteria.has_tolerance:
        message = (
            f"{reason.sentence} {descent.steps} were asked for, and no tolerance; pass gtol to stop when converged."
        )
    return Result(
        x=memory.result(vectors),
        fun=loss,
        jac=memory.result(grad),
        nit=descent.steps,
        nfev=objective.nfev,
        njev=objective.njev,
        reason=reason,
        message=message,
        history=descent.history,
        x_last=memory.result(),
        seconds=descent.seconds,
        method=descent.rule,
        why=why,
        _state=lambda: descent.state() | counts,
    )
