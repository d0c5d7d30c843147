"""`Minimization`: one descent of `minimize`, from what its user asks for to a result."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from descend import rules
from descend.descent.history import History
from descend.descent.loop import Descent
from descend.descent.result import Result
from descend.errors import MethodError, ObjectiveError, OptionError, StateError, did_you_mean
from descend.methods import LBFGS, BarzilaiBorwein, ConjugateGradient, Method, known, registry
from descend.objectives.objective import Jac, Objective, check_at, require_agreement
from descend.parameters.memory import Bounds, Memory
from descend.rules import Rule, resolve
from descend.rules.rule import spelling
from descend.stopping import Criteria, Reason

__all__ = ["Minimization", "Point", "as_scipy", "usual_gtol"]

DEFAULT_MAX_STEPS = 10_000
PAIRS_BYTES, LEAST_PAIRS = 4 * 2**30, 5
"""What the pairs of "auto" may take, as may descents side by side; below how many pairs it takes another method."""


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


class Minimization:
    """A function, a start and options, as `descend.minimize` takes them: checked, and ready to descend.

    `memory` is where it stands, `objective` the function and the counts of its evaluations, `args` the further
    arguments of it, and `descent` the descent, which may be given another `evaluate` before it is run.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        x0: Any,
        args: Sequence[Any],
        method: Rule | Method | type[Rule] | type[Method] | str,
        jac: Jac,
        *,
        bounds: Any,
        tol: float | None,
        gtol: float | None,
        ftol: float | None,
        xtol: float | None,
        max_steps: int | None,
        max_evals: int | None,
        max_seconds: float | None,
        target: float | None,
        callback: Callable[[Point], Any] | None,
        history: bool | Literal["path"],
        check_gradient: bool,
        state: Mapping[str, Any] | None,
    ) -> None:
        self.memory = memory = Memory(as_scipy(x0))
        limits = None if bounds is None else Bounds(memory, bounds)
        rule, self.why = _chosen(method, memory, limits)
        if limits is not None:
            limits.apply(memory.vectors)
        criteria = _criteria(memory, _tolerances(tol, gtol, ftol, xtol), target, max_steps, max_evals, max_seconds)
        if not (isinstance(history, bool) or history == "path"):
            raise OptionError(f"history={history!r}: True, False or 'path'")
        if callback is not None and not callable(callback):
            raise OptionError(f"callback={callback!r} is not a function")
        self.args = extra = tuple(args) if isinstance(args, (tuple, list)) else (args,)
        self.objective = objective = Objective(fun, jac, memory)
        if limits is not None:
            objective.bounds = limits.ends
        if criteria.max_evals is not None and criteria.max_evals < objective.cost:
            raise OptionError(
                f"max_evals={criteria.max_evals} does not pay for one gradient, which takes {objective.cost} "
                f"evaluations ({objective.source}): raise it, or give jac"
            )
        self._unchecked = check_gradient
        self.descent = Descent(
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
            self.descent.restore(state)
            try:
                objective.nfev, objective.njev = int(state["nfev"]), int(state["njev"])
            except (KeyError, TypeError, ValueError) as error:
                raise StateError(f"state= has no count of evaluations ({type(error).__name__}: {error})") from error

    @property
    def bytes(self) -> int:
        """The memory that the descent takes, about: some ten vectors, and pairs."""
        rule, size = self.descent.rule, self.memory.size
        bounded = self.descent.bounds is not None
        pairs = rule.memory * LBFGS.bytes_of_a_pair(size, bounded=bounded) if isinstance(rule, LBFGS) else 0
        return 80 * size + pairs

    def check(self) -> None:
        """Compare the gradient with finite differences, if that was asked for and not done; raises `GradientError`."""
        if self._unchecked:
            self._unchecked = False
            objective = self.objective
            fun, counts = objective.fun, (objective.nfev, objective.njev)
            value = (lambda x, *a: fun(x, *a)[0]) if objective.source == "together" else fun
            try:
                require_agreement(check_at(self.memory, objective, value, self.args))
            finally:
                objective.nfev, objective.njev = counts

    def run(self, interrupted: Callable[[], bool] | None = None) -> Result:
        """Descend; `interrupted` is as in `Descent.run`. Raises `ObjectiveError` with the result so far."""
        try:
            self.check()
            return self.result(self.descent.run(interrupted))
        except ObjectiveError as error:
            raise self.failed(error) from error.__cause__

    def result(self, reason: Reason) -> Result:
        """What there is to say when the descent has ended."""
        return _result(self.descent, self.objective, reason, self.why)

    def failed(self, error: ObjectiveError) -> ObjectiveError:
        """An error that has ended the descent, with the result so far."""
        self.descent.detail = f"{error}."
        error.result = self.result(Reason.FUNCTION_RAISED)
        return error


def _chosen(
    method: Rule | Method | type[Rule] | type[Method] | str, memory: Memory, bounds: Bounds | None
) -> tuple[Rule | Method, str]:
    """The rule or method that was named, or picked, and why; raises `MethodError` or `RuleError`."""
    if isinstance(method, str) and method.strip().lower() == "auto":
        return _automatic(memory, bounds)
    found: Any = known(method) if isinstance(method, str) else method
    if isinstance(found, type) and issubclass(found, Method) and found.name in registry():
        found = found()
    if not isinstance(found, Method):
        if isinstance(method, str):
            if spelling(method) not in rules.all():
                names = ["auto", *registry(), *rules.all()]
                raise MethodError(f"unknown method or rule {method!r}: {did_you_mean(spelling(method), names)}")
        elif not (isinstance(method, Rule) or (isinstance(method, type) and issubclass(method, Rule))):
            raise MethodError(
                f"method={method!r} is neither a method nor a rule: pass one such as descend.LBFGS() or "
                "descend.Adam(lr=1e-3), or a name such as 'auto'"
            )
        return resolve(method), ""
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
    of_a_pair = LBFGS.bytes_of_a_pair(memory.size, bounded=bounds is not None)
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
        tolerances["gtol"] = usual_gtol(v.dtype for v in memory.vectors)
    if all(v is None for v in budget.values()):
        budget["max_steps"] = DEFAULT_MAX_STEPS
    return Criteria(target=target, **tolerances, **budget)  # type: ignore[arg-type]


def usual_gtol(dtypes: Iterable[np.dtype[Any]]) -> float:
    """The tolerance on the gradient where none is asked for."""
    return 1e-5 if all(dtype == np.float64 for dtype in dtypes) else 1e-3


def as_scipy(x0: Any) -> Any:
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
