"""The options of `descend.minimize`: their defaults and their checks, once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, Literal

import numpy as np

from descend.checks import flag, function, optional, record, shown, tolerance
from descend.errors import MethodError, OptionError
from descend.methods import Method
from descend.objectives.objective import Jac
from descend.objectives.products import check_hessian
from descend.parameters.memory import Memory
from descend.rules import Rule
from descend.stopping import Criteria

__all__ = ["DEFAULT_MAX_STEPS", "MethodLike", "MinimizeOptions", "default_gtol", "no_constraints"]

DEFAULT_MAX_STEPS = 10_000
"""The budget where none is given."""

MethodLike = Rule | Method | type[Rule] | type[Method] | str
"""What may be given as `method`."""


@dataclasses.dataclass(frozen=True)
class MinimizeOptions:
    """Everything that `descend.minimize` takes beside the function and its start; it says what each option means.

    Raises `OptionError` where an option has a value that it cannot have, or contradicts another.
    """

    args: Any = ()
    method: MethodLike | None = "auto"
    jac: Jac = None
    hess: Any = None
    hessp: Any = None
    bounds: Any = None
    constraints: Any = ()
    tol: float | None = None
    callback: Callable[[Any], Any] | None = None
    options: Mapping[str, Any] | None = None
    gtol: float | None = None
    ftol: float | None = None
    xtol: float | None = None
    max_steps: int | None = None
    max_evals: int | None = None
    max_seconds: float | None = None
    target: float | None = None
    history: bool | Literal["path"] = True
    finite_diff_rel_step: Any = None
    finite_diff_abs_step: Any = None
    check_gradient: bool = False
    starts: Sequence[Any] | None = None
    vectorized: bool | None = None
    fixed: Any = None
    tied: Mapping[Any, Callable[[Any], Any]] | None = None
    names: Sequence[str] | None = None
    keep_state: bool | None = None
    state: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.tol is not None and self.gtol is not None:
            raise OptionError(
                f"tol={self.tol!r} and gtol={self.gtol!r}: tol is another name for gtol; give one of them"
            )
        if isinstance(self.bounds, Iterator):  # which can be read once, and there may be several starts
            object.__setattr__(self, "bounds", list(self.bounds))
        check_hessian(self.hess, self.hessp)
        no_constraints(self.constraints, self.method)
        optional(tolerance, "tol", self.tol)
        record("history", self.history)
        optional(function, "callback", self.callback)
        optional(flag, "vectorized", self.vectorized, otherwise="None to find out")
        optional(flag, "keep_state", self.keep_state, otherwise="None for where it is likely to be needed")
        if self.finite_diff_rel_step is not None and self.finite_diff_abs_step is not None:
            raise OptionError("finite_diff_rel_step and finite_diff_abs_step (eps) are both steps: give one of them")
        if self.vectorized and not (self.fixed is None and self.tied is None):
            raise OptionError("vectorized=True is for functions of rows, which have no room for fixed or tied ones")
        if self.state is not None and self.starts is not None:
            raise OptionError("state= goes on with one descent: leave starts out")

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Further arguments of the function: `args`, where anything but a tuple is one argument, as in SciPy."""
        return self.args if isinstance(self.args, tuple) else (self.args,)

    @property
    def has_hessian(self) -> bool:
        """Whether the Hessian is given, or products with it."""
        return callable(self.hess) or self.hessp is not None

    def steps(self, memory: Memory) -> tuple[Any, Any]:
        """Steps of finite differences that are given, relative and absolute, for the memory's numbers."""
        return memory.of_free(self.finite_diff_rel_step), memory.of_free(self.finite_diff_abs_step)

    def criteria(self, dtypes: Iterable[np.dtype[Any]], *, searches: bool) -> Criteria:
        """When to stop, with the defaults for parameters of these dtypes; raises `OptionError`.

        `searches` says that a method descends, not a rule: where nothing is given, a method ends by itself.
        """
        tolerances = {"gtol": self.gtol if self.tol is None else self.tol, "ftol": self.ftol, "xtol": self.xtol}
        budget = {"max_steps": self.max_steps, "max_evals": self.max_evals, "max_seconds": self.max_seconds}
        if not searches and all(v is None for v in (*tolerances.values(), self.target, *budget.values())):
            tolerances["gtol"] = default_gtol(dtypes)
        if all(v is None for v in budget.values()):
            budget["max_steps"] = DEFAULT_MAX_STEPS
        return Criteria(target=self.target, **tolerances, **budget)  # type: ignore[arg-type]


def no_constraints(constraints: Any, method: Any) -> None:
    """Raise `MethodError` where there are constraints; None, and a list of none, are accepted."""
    if constraints is None or (hasattr(constraints, "__len__") and len(constraints) == 0):
        return
    kind = method if isinstance(method, type) else type(method)
    name = repr(method or "auto") if isinstance(method, (str, NoneType)) else kind.__name__
    raise MethodError(
        f"constraints={shown(constraints)}: {name} knows no constraints but bounds; write "
        "scipy.optimize.minimize(fun, x0, method='SLSQP', constraints=…), or 'trust-constr', or 'COBYQA'"
    )


def default_gtol(dtypes: Iterable[np.dtype[Any]]) -> float:
    """The tolerance on the gradient where nothing is given that could end a descent."""
    return 1e-5 if all(dtype == np.float64 for dtype in dtypes) else 1e-3
