"""`minimize`: from a function and a start to a result."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from descend.containers import Memory
from descend.descent import Descent
from descend.errors import ObjectiveError, OptionError
from descend.gradients import Jac, Objective, check_at, require_agreement
from descend.history import History
from descend.result import Result
from descend.rules import Rule, resolve
from descend.stopping import Criteria, Reason

__all__ = ["Point", "minimize"]

DEFAULT_MAX_STEPS = 10_000


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
    method: Rule | type[Rule] | str = "adam",
    jac: Jac = None,
    *,
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
) -> Result:
    """Minimise a function of parameters in any container, by any rule.

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
        A rule (``descend.Adam(lr=0.1)``), its class, or its name with default hyperparameters.
    jac
        Where the gradient comes from: a function ``jac(x, *args)`` that returns it in the shape of `x`; True if `fun`
        returns ``(value, gradient)``; ``"2-point"``, ``"3-point"`` or ``"cs"`` for SciPy's finite differences;
        ``"torch"`` or ``"jax"`` for automatic differentiation of `fun`, which is given tensors then. None: autodiff if
        `x0` holds tensors of either, else ``"2-point"``.
    gtol, ftol, xtol
        Stop when the largest absolute gradient entry is at most `gtol`; when the loss changes in a step by at most
        ``ftol · max(1, |loss|)``; when no parameter changes in a step by more than ``xtol · max(1, max |x|)``.
        `tol` is another name for `gtol`. If neither a tolerance, a target nor a budget is given, ``gtol=1e-5``
        (float32: 1e-3) within 10,000 steps; if a budget alone is given, exactly that budget is spent.
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

    Returns
    -------
    Result
        The point where a criterion that was asked for holds, or else the best finite point that was seen; and why the
        descent stopped. Ctrl-C ends the descent after the step at hand and
        returns the result so far.

    Raises
    ------
    ParameterError, OptionError, RuleError
        A bad `x0`, option, or hyperparameter, before anything is run.
    ObjectiveError
        `fun` or `jac` raised, or returned something that is not a number; `.result` holds the descent so far.

    Examples
    --------
    >>> import descend
    >>> result = descend.minimize(lambda x: (x - 3) ** 2, x0=0.0, method=descend.GD(lr=0.1), gtol=1e-6)
    >>> round(result.x, 4), result.success, str(result.reason)
    (3.0, True, 'gradient')
    """
    rule = resolve(method)
    memory = Memory(_as_scipy(x0))
    criteria = _criteria(memory, _tolerances(tol, gtol, ftol, xtol), target, max_steps, max_evals, max_seconds)
    if not (isinstance(history, bool) or history == "path"):
        raise OptionError(f"history={history!r}: True, False or 'path'")
    if callback is not None and not callable(callback):
        raise OptionError(f"callback={callback!r} is not a function")
    extra = tuple(args) if isinstance(args, (tuple, list)) else (args,)
    objective = Objective(fun, jac, memory)
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
    )
    try:
        reason = descent.run()
    except ObjectiveError as error:
        descent.detail = f"{error}."
        error.result = _result(descent, objective, Reason.FUNCTION_RAISED)
        raise
    return _result(descent, objective, reason)


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


def _result(descent: Descent, objective: Objective, reason: Reason) -> Result:
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
    )
