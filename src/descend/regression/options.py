"""The options of `descend.least_squares`: their defaults and their checks, once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from descend.checks import count, flag, function, is_real, is_whole, optional, record, refuse, shown, tolerance
from descend.errors import OptionError
from descend.methods import LevenbergMarquardt
from descend.minimization.options import DEFAULT_MAX_STEPS
from descend.objectives.objective import Jac
from descend.parameters.memory import Array, Memory
from descend.stopping import Criteria

__all__ = ["LeastSquaresOptions"]

SCIPY_METHODS = ("trf", "dogbox", "lm")
"""SciPy's names of methods, in whose place Levenberg–Marquardt stands: it takes bounds and sparse Jacobians, too."""


@dataclasses.dataclass(frozen=True)
class LeastSquaresOptions:
    """Everything that `descend.least_squares` takes beside the residuals and their start; it says what each means.

    Raises `OptionError` where an option has a value that it cannot have, or contradicts another.
    """

    jac: Jac = None
    bounds: Any = None
    method: Any = "auto"
    ftol: float | None = None
    xtol: float | None = None
    gtol: float | None = None
    x_scale: Any = None
    loss: str | Callable[..., Any] = "linear"
    f_scale: float = 1.0
    verbose: Literal[0, 1, 2] = 0
    tr_solver: None = None
    tr_options: Mapping[str, Any] | None = None
    weights: Any = None
    absolute_sigma: bool = False
    diff_step: Any = None
    jac_sparsity: Any = None
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] | None = None
    max_nfev: int | None = None
    max_steps: int | None = None
    max_evals: int | None = None
    max_seconds: float | None = None
    target: float | None = None
    callback: Callable[..., Any] | None = None
    history: bool | Literal["path"] = True
    fixed: Any = None
    tied: Mapping[Any, Callable[[Any], Any]] | None = None
    names: Sequence[str] | None = None
    starts: Sequence[Any] | None = None
    state: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "bounds", _lower_and_upper(self.bounds))
        record("history", self.history)
        optional(function, "callback", self.callback)
        for name in ("ftol", "xtol"):
            optional(tolerance, name, getattr(self, name))
        self._check_scipys()
        optional(count, "max_nfev", self.max_nfev)
        if self.max_nfev is not None and self.max_evals is not None:
            raise OptionError(
                f"max_nfev={self.max_nfev!r} and max_evals={self.max_evals!r} are the same; give one of them"
            )
        flag("absolute_sigma", self.absolute_sigma)
        if self.state is not None and self.starts is not None:
            raise OptionError("state= goes on with one descent: leave starts out")
        if self.kwargs is not None and not isinstance(self.kwargs, Mapping):
            raise refuse("kwargs", self.kwargs, "a dict of further arguments")
        self._check_sparsity()

    def _check_scipys(self) -> None:
        """Refuse what has no meaning here, or another than in SciPy."""
        if not isinstance(self.verbose, bool) and not (is_whole(self.verbose, 0) and self.verbose <= 2):
            raise refuse("verbose", self.verbose, "0, 1 or 2")
        if self.tr_solver is not None or self.tr_options:
            name = "tr_options" if self.tr_solver is None else "tr_solver"
            raise OptionError(
                f"{name}={shown(getattr(self, name))}: the Jacobian tells how steps are solved for here; leave it out, "
                "and for lsmr return a sparse matrix or a LinearOperator, or give jac_sparsity"
            )
        step = self.diff_step
        numbers = step if isinstance(step, np.ndarray) else np.asarray(step) if np.isscalar(step) else np.ones(1)
        if numbers.dtype.kind not in "fiu" or not np.all(np.isfinite(numbers) & (numbers != 0)):
            raise refuse("diff_step", step, "a number that is not 0, or one for each parameter, relative to it")

    def _check_sparsity(self) -> None:
        if self.jac_sparsity is not None and (
            callable(self.jac) or self.jac not in (None, False, "2-point", "3-point")
        ):
            raise OptionError(
                f"jac_sparsity= is about finite differences, and jac={shown(self.jac)}: leave one of them out"
            )

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Further arguments of the function: `args`, of which one alone need not be in a tuple."""
        return tuple(self.args) if isinstance(self.args, (tuple, list)) else (self.args,)

    @property
    def rule(self) -> LevenbergMarquardt:
        """The method."""
        method = self.method
        if isinstance(method, LevenbergMarquardt):
            return method
        if method is LevenbergMarquardt or method is None:
            return LevenbergMarquardt()
        name = method.replace("-", "").replace("_", "").lower() if isinstance(method, str) else ""
        if name in ("auto", "levenbergmarquardt", *SCIPY_METHODS):
            return LevenbergMarquardt()
        raise refuse("method", method, "descend.LevenbergMarquardt(…)", otherwise="'auto'")

    @property
    def why(self) -> str:
        """Why the method stands there, if another was named."""
        named = self.method if isinstance(self.method, str) else ""
        return f"LevenbergMarquardt, in the place of SciPy's {named!r}" if named in SCIPY_METHODS[:2] else ""

    @property
    def criteria(self) -> Criteria:
        """When to stop, beside the method's own judgement; raises `OptionError`."""
        max_evals = self.max_evals if self.max_nfev is None else self.max_nfev
        budget = {"max_steps": self.max_steps, "max_evals": max_evals, "max_seconds": self.max_seconds}
        if all(v is None for v in budget.values()):
            budget["max_steps"] = DEFAULT_MAX_STEPS
        return Criteria(target=self.target, gtol=self.gtol, **budget)  # type: ignore[arg-type]

    def scale(self, memory: Memory) -> Array | None:
        """The size of each parameter as given by `x_scale`; None where the Jacobian is to tell."""
        if self.x_scale is None or (isinstance(self.x_scale, str) and self.x_scale == "jac"):
            return None
        try:
            given, whole = self.x_scale, memory.whole
            vectors = whole.like()
            if np.ndim(given) == 0 and not isinstance(given, dict):
                vectors = [np.full(v.shape, float(given)) for v in vectors]
            else:
                whole.gather(np.asarray(given, dtype=float) if whole.spec.is_leaf() else given, vectors, "x_scale")
            found = np.concatenate(memory.restrict(vectors)).astype(np.float64)
        except Exception as error:
            raise refuse("x_scale", given, "a number for each parameter, built as x0", otherwise="'jac'") from error
        if not np.all((found > 0.0) & np.isfinite(found)):
            raise refuse("x_scale", given, "a positive number for each parameter", otherwise="'jac'")
        return found


def _lower_and_upper(bounds: Any) -> Any:
    """Bounds of which two things are (lower, upper), as in `scipy.optimize.least_squares`, and never two pairs."""
    if isinstance(bounds, Iterator):
        bounds = list(bounds)
    if not isinstance(bounds, (tuple, list, np.ndarray)) or len(bounds) != 2:
        return bounds
    # Two tuples of numbers would be read as pairs where there are two parameters.
    return tuple(
        list(end) if isinstance(end, tuple) and all(e is None or is_real(e) for e in end) else end for end in bounds
    )
