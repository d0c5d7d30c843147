"""The check of a gradient: its entries compared with finite differences at one point."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import optree

from descend.errors import GradientError, OptionError
from descend.objectives.autodiff import AUTODIFF, precision
from descend.objectives.calls import as_loss
from descend.objectives.differences import AUTOMATIC, DIFFERENCES
from descend.objectives.objective import Jac, Objective
from descend.parameters.memory import Array, Memory
from descend.parameters.starts import as_start

__all__ = ["GradientCheck", "check", "check_at", "require_agreement"]

WIDER = 3.0
"""By what factor steps are longer the second time: what central differences leave out is nine times as much then."""


@dataclasses.dataclass(frozen=True)
class GradientCheck:
    """A gradient compared with finite differences.

    `worst` names the entry whose `error` exceeds what is allowed of it, the `tolerance`, by the largest factor.
    """

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
    args: Any = (),
    *,
    rtol: float | None = None,
) -> GradientCheck:
    """Compare a gradient with finite differences at one point.

    Parameters
    ----------
    fun, x0, jac, args
        As `descend.minimize` takes them; the gradient may come from anywhere but finite differences.
    rtol
        Error allowed in an entry, relative to the larger of the two values or, for entries that are small beside the
        rest, to a thousandth of the largest entry. Default 1e-5 in float64, 2e-2 in float32. Where the differences' own
        error is larger, that is allowed: differences with two lengths of steps tell it, and the noise of `fun`.

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
    return check_at(memory, objective, value, args if isinstance(args, tuple) else (args,), rtol)


def check_at(
    memory: Memory, objective: Objective, value: Callable[..., Any], args: tuple[Any, ...], rtol: float | None = None
) -> GradientCheck:
    """Compare an objective's gradient at its memory's point with finite differences of `value`."""
    if objective.source in DIFFERENCES:
        raise OptionError("there is no gradient to check: jac is finite differences already; pass jac=<your gradient>")
    given, expected, apart = memory.like(), memory.like(), memory.like()
    objective(given, args)
    within = precision(memory) if objective.source == "jax" else contextlib.nullcontext()
    function = _numeric(value, memory, objective.source)
    with within:
        numeric = Objective(function, AUTOMATIC, memory)
        error = _differences(numeric, objective, args, expected)
        # With steps that are longer, what differences leave out is several times as much.
        longer = Objective(function, "3-point", memory, steps=(None, WIDER * error[1]))
        _differences(longer, objective, args, apart)
    g, d, other = (np.concatenate(vectors).astype(float) for vectors in (given, expected, apart))
    own = error[0] + np.abs(d - other)
    # A loss that has not changed at all within a usual step has a slope of zero, whatever longer ones see.
    assert numeric.differences is not None
    d = np.where(numeric.differences.still & (g == 0.0), 0.0, d)
    if objective.bounds is not None:  # what has no room is not compared
        lower, upper = objective.bounds
        d = np.where(lower == upper, g, d)
    if rtol is None:
        rtol = 1e-5 if all(v.dtype == np.float64 for v in memory.vectors) else 2e-2
    return _worst(memory, g, d, own, float(rtol))


def _differences(
    numeric: Objective, objective: Objective, args: tuple[Any, ...], out: list[Array]
) -> tuple[Array, Array]:
    """Write the gradient by differences of another objective's function; returns its error and its steps."""
    numeric.bounds = objective.bounds
    numeric(out, args)
    assert numeric.differences is not None
    assert numeric.differences.error is not None
    return numeric.differences.error, numeric.differences.steps


def _worst(memory: Memory, g: Array, d: Array, own: Array, rtol: float) -> GradientCheck:
    """The check of a gradient by differences that have an error of their own, by the entry that is furthest off."""
    scale = np.maximum(np.maximum(abs(g), abs(d)), 1e-3 * np.max(abs(d), initial=0.0))
    scale = np.where(scale > 0, scale, 1.0)
    error = np.where(g == d, 0.0, abs(g - d) / scale)
    error = np.where(np.isfinite(error), error, np.inf)
    tolerance = np.maximum(rtol, np.where(np.isfinite(d), own, 0.0) / scale)
    worst = int(np.argmax(error / tolerance))
    which = int(np.searchsorted(np.cumsum([v.size for v in memory.vectors]), worst, side="right"))
    before = sum(v.size for v in memory.vectors[:which])
    where = memory.locate(which, worst - before)
    return GradientCheck(where, float(g[worst]), float(d[worst]), float(error[worst]), float(tolerance[worst]))


def require_agreement(found: GradientCheck) -> None:
    """Raise `GradientError` when a check failed."""
    if not found.ok:
        raise GradientError(f"{found}; mend jac, or pass jac=None for finite differences")


def _numeric(value: Callable[..., Any], memory: Memory, source: str) -> Callable[..., Any]:
    """`value` as a function of the memory's container whose result as_loss can read, for torch and JAX functions."""
    kind = source if source in AUTODIFF else memory.kind

    def numeric(x: Any, *args: Any) -> float:
        return as_loss(value(_of_library(x, kind), *args), "fun")

    return value if kind == "numpy" else numeric


def _of_library(tree: Any, kind: str) -> Any:
    """A container whose leaves are arrays of that library."""
    if kind == "torch":
        torch = importlib.import_module("torch")
        return optree.tree_map(torch.as_tensor, tree, none_is_leaf=True)
    return optree.tree_map(importlib.import_module("jax.numpy").asarray, tree, none_is_leaf=True)
