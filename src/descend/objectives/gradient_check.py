"""The check of a gradient: its entries compared with finite differences at one point."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from descend.errors import GradientError, OptionError
from descend.objectives.calls import as_loss
from descend.objectives.differences import DIFFERENCES
from descend.objectives.objective import Jac, Objective
from descend.parameters.memory import Array, Memory
from descend.parameters.starts import as_start

__all__ = ["GradientCheck", "check", "check_at", "require_agreement"]


@dataclasses.dataclass(frozen=True)
class GradientCheck:
    """A gradient compared with finite differences. `worst` names the entry with the largest `error`."""

    worst: str
    given: float
    expected: float
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether every entry agrees within the tolerance."""
        return self.error <= self.tolerance

    def __str__(self) -> str:
        verdict = "agrees" if self.ok else "disagrees"
        return (
            f"the gradient {verdict} with finite differences: worst entry {self.worst}, given {self.given:.10g}, "
            f"finite differences {self.expected:.10g}, relative error {self.error:.2g} (tolerance {self.tolerance:g})"
        )


def check(
    fun: Callable[..., Any],
    x0: Any,
    jac: Jac = None,
    args: Sequence[Any] = (),
    *,
    rtol: float | None = None,
) -> GradientCheck:
    """Compare a gradient with central finite differences at one point.

    Parameters
    ----------
    fun, x0, jac, args
        As `descend.minimize` takes them; the gradient may come from anywhere but finite differences.
    rtol
        Error allowed in an entry, relative to the larger of the two values or, for entries that are small beside the
        rest, to a thousandth of the largest entry. Default 1e-5 in float64, 2e-2 in float32.

    Returns
    -------
    GradientCheck
        Its `ok` is the verdict; printed, it names the worst entry.

    Examples
    --------
    >>> from descend import objectives
    >>> objectives.check(lambda x: (x ** 3).sum(), [1.0, 2.0], lambda x: [3.0, 6.0]).worst
    'x0[1]'
    """
    memory = Memory(as_start(x0))
    objective = Objective(fun, jac, memory)
    value = (lambda x, *a: fun(x, *a)[0]) if objective.source == "together" else fun
    return check_at(memory, objective, value, tuple(args), rtol)


def check_at(
    memory: Memory, objective: Objective, value: Callable[..., Any], args: tuple[Any, ...], rtol: float | None = None
) -> GradientCheck:
    """Compare an objective's gradient at its memory's point with central differences of `value`."""
    if objective.source in DIFFERENCES:
        raise OptionError("there is no gradient to check: jac is finite differences already; pass jac=<your gradient>")
    given, expected = memory.like(), memory.like()
    objective(given, args)
    by_differences = Objective(_numeric(value, memory), "3-point", memory)
    by_differences.bounds = objective.bounds
    by_differences(expected, args)
    if objective.bounds is not None:  # what has no room is not compared
        lower, upper = objective.bounds
        fixed = np.split(lower == upper, np.cumsum([v.size for v in given])[:-1])
        for theirs, ours, held in zip(given, expected, fixed, strict=True):
            np.copyto(ours, theirs, where=held)
    if rtol is None:
        rtol = 1e-5 if all(v.dtype == np.float64 for v in memory.vectors) else 2e-2
    return _worst(memory, given, expected, float(rtol))


def _worst(memory: Memory, given: Sequence[Array], expected: Sequence[Array], rtol: float) -> GradientCheck:
    """The check, by the entry with the largest relative error."""
    g, d = np.concatenate(given).astype(float), np.concatenate(expected).astype(float)
    scale = np.maximum(np.maximum(abs(g), abs(d)), 1e-3 * np.max(abs(d), initial=0.0))
    error = np.where(g == d, 0.0, abs(g - d) / np.where(scale > 0, scale, 1.0))
    error = np.where(np.isfinite(error), error, np.inf)
    worst = int(np.argmax(error))
    which = int(np.searchsorted(np.cumsum([v.size for v in memory.vectors]), worst, side="right"))
    before = sum(v.size for v in memory.vectors[:which])
    return GradientCheck(
        memory.locate(which, worst - before), float(g[worst]), float(d[worst]), float(error[worst]), rtol
    )


def require_agreement(found: GradientCheck) -> None:
    """Raise `GradientError` when a check failed."""
    if not found.ok:
        raise GradientError(f"{found}; mend jac, or pass jac=None for finite differences")


def _numeric(value: Callable[..., Any], memory: Memory) -> Callable[..., Any]:
    """`value` as a function whose result as_loss can read, for torch and JAX functions too."""
    if memory.kind == "numpy":
        return value
    return lambda x, *args: as_loss(value(x, *args), "fun")
