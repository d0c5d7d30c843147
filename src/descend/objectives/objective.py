"""Loss and gradient of the user's function: given, by finite differences, or by autodiff; and a check of them.

Whatever the source, a descent sees one thing: an `Objective` that evaluates the loss at a `Memory` and writes the
gradient into flat vectors.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from descend.errors import GradientError, MissingExtra, ObjectiveError, OptionError
from descend.parameters.memory import Array, Memory

__all__ = ["DIFFERENCES", "GradientCheck", "Objective", "as_loss", "check"]

DIFFERENCES = ("2-point", "3-point", "cs")
"""SciPy's finite-difference schemes: forward, central, complex step."""

AUTODIFF = ("torch", "jax")

AGREE = {np.dtype(np.float32): 1e-4, np.dtype(np.float64): 1e-10}
"""How far a gradient of many points at once may be from each point's own, relative to its largest entry."""

Jac = Callable[..., Any] | bool | str | None


class Objective:
    """The loss and gradient of ``fun(x, *args)`` at the point that a `Memory` holds.

    Parameters
    ----------
    fun, jac
        As `descend.minimize` takes them.
    memory
        Holds the point; it may change between calls.
    live
        Hand the function the memory itself instead of a copy: faster, and the function must not write to it.

    Attributes
    ----------
    nfev, njev
        How often the function and its gradient were evaluated. Finite differences count every evaluation; autodiff
        counts one of each.
    """

    def __init__(self, fun: Callable[..., Any], jac: Jac, memory: Memory, *, live: bool = False) -> None:
        if not callable(fun):
            raise OptionError(f"fun={fun!r} is not a function: pass one that takes x and returns a number")
        self.fun = fun
        self.fun_name = _name(fun, "fun")
        self.jac_name = _name(jac, "jac")
        self.memory = memory
        self.live = live
        self.nfev = 0
        self.njev = 0
        self.source = _source(jac, memory)
        self._jac = jac if callable(jac) else None
        self._live_point: Any = None
        self.bounds: tuple[Array, Array] | None = None
        """Lower and upper ends that finite differences keep to, one number for each parameter."""
        self._evaluate: Callable[[tuple[Any, ...], list[Array]], Any] = {
            "given": self._given,
            "together": self._together,
            "torch": self._torch,
            "jax": self._jax,
        }.get(self.source, self._differences)
        if self.source in AUTODIFF:
            _require(self.source)

    @property
    def cost(self) -> int:
        """How many evaluations of the function one call makes."""
        per_entry = {"2-point": 1, "cs": 1, "3-point": 2}.get(self.source, 0)
        return 1 + per_entry * self.memory.size

    def __call__(self, grad: list[Array], args: tuple[Any, ...] = ()) -> float:
        """The loss at the memory's point; its gradient goes into `grad`.

        Raises `ObjectiveError` when the function raises or returns something else than a number.
        """
        return as_loss(self._evaluate(args, grad), self.fun_name)

    def many(self, grad: list[Array], args: tuple[Any, ...] = ()) -> Array:
        """The losses at each of the memory's `Rows`; their gradients go into the rows of `grad`.

        Raises `ObjectiveError` when the function raises or does not return one number for each.
        """
        losses, name = self._evaluate(args, grad), self.fun_name
        losses = np.asarray(losses.detach() if hasattr(losses, "detach") else losses)
        if losses.dtype.kind not in "fiu" or losses.shape != self.memory.vectors[0].shape[:1]:
            raise ObjectiveError(
                f"{name} returned an array of type {losses.dtype} and shape {losses.shape} for "
                f"{len(self.memory.vectors[0])} runs: one real number for each is needed"
            )
        return losses.astype(float)

    def look(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call another function of the parameters at the memory's point, as the loss is called for its gradient.

        That is with leaves of the same library and in the same precision. The function must not write to them.
        """
        if self.source == "jax":
            with precision(self.memory):
                return function(self.memory.tree(kind="jax"), *args)
        return function(self.memory.tree(copy=False, kind="torch" if self.source == "torch" else None), *args)

    # ---- the five sources -----------------------------------------------------------------------------------

    def _given(self, args: tuple[Any, ...], grad: list[Array]) -> Any:
        loss = self._value(args)
        self.njev += 1
        slope = _called(self._jac, self.jac_name, self._point(), args)
        self.memory.gather(slope, grad, self.jac_name)
        return loss

    def _together(self, args: tuple[Any, ...], grad: list[Array]) -> Any:
        out = self._value(args)
        self.njev += 1
        if not isinstance(out, (tuple, list)) or len(out) != 2:
            raise ObjectiveError(f"{self.fun_name} returned {out!r}: with jac=True it must return (value, gradient)")
        self.memory.gather(out[1], grad, self.fun_name)
        return out[0]

    def _differences(self, args: tuple[Any, ...], grad: list[Array]) -> Any:
        from scipy.optimize._numdiff import approx_derivative

        memory = self.memory
        x = np.concatenate(memory.vectors)
        cuts = np.cumsum([v.size for v in memory.vectors])[:-1]
        name = self.fun_name
        complex_step = self.source == "cs"

        coarsest = min((v.dtype for v in memory.vectors), key=lambda d: d.itemsize)

        def value(point: Array) -> Any:
            nonlocal coarsest
            parts = np.split(point, cuts)
            shifted = np.iscomplexobj(point)
            if not shifted:
                parts = [p.astype(v.dtype, copy=False) for p, v in zip(parts, memory.vectors, strict=True)]
            self.nfev += 1
            out = _called(self.fun, name, memory.tree(parts), args)
            if shifted:
                return _complex(out, name)
            found = getattr(out, "dtype", None)
            if isinstance(found, np.dtype) and found.kind == "f" and found.itemsize < coarsest.itemsize:
                coarsest = found
            return as_loss(out, name)

        loss = value(x)
        self.njev += 1
        # The step must show in the coarsest number on the way, be it a parameter or what the function returns.
        relative = np.finfo(coarsest).eps ** (1 / 2 if self.source == "2-point" else 1 / 3)
        step = None if complex_step else relative * np.maximum(1.0, np.abs(x))
        method: Any = self.source
        # Within bounds, what has no room keeps a slope of zero.
        ends = [np.broadcast_to(end, x.shape) for end in self.bounds or (-np.inf, np.inf)]
        free, slope = ends[0] < ends[1], np.zeros_like(x)

        def of_free(part: Array) -> Any:
            point = x.astype(part.dtype)
            point[free] = part
            return value(point)

        if free.any():
            with np.errstate(over="ignore", invalid="ignore"):  # beside a loss that is not finite; it is judged later
                slope[free] = approx_derivative(
                    of_free, x[free], method=method, f0=loss, abs_step=None if step is None else step[free],
                    bounds=(ends[0][free], ends[1][free]),
                )  # fmt: skip
        for vector, part in zip(grad, np.split(slope, cuts), strict=True):
            vector[...] = part
        return loss

    def _torch(self, args: tuple[Any, ...], grad: list[Array]) -> Any:
        import torch

        # Fresh tensors on the same memory (or a copy): nothing of the user's graph outlives the call.
        leaves = [torch.from_numpy(leaf if self.live else leaf.copy()).requires_grad_() for leaf in self.memory.leaves]
        name = self.fun_name
        self.nfev += 1
        self.njev += 1
        with torch.enable_grad():
            loss = _called(self.fun, name, self.memory.spec.unflatten(leaves), args)
            if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
                raise ObjectiveError(
                    f"{name} returned {loss!r}: a scalar tensor computed from its argument is needed, "
                    "without .item(), .detach() or .numpy() on the way"
                )
            try:
                slopes = torch.autograd.grad(loss.reshape(()), leaves, allow_unused=True)
            except Exception as error:
                raise ObjectiveError(f"{name}: its gradient raised {_described(error)}") from error
        for view, slope in zip(self.memory.views(grad), slopes, strict=True):
            view[...] = 0.0 if slope is None else slope.numpy()
        return loss.item()

    def _jax(self, args: tuple[Any, ...], grad: list[Array]) -> Any:
        import jax

        name = self.fun_name
        self.nfev += 1
        self.njev += 1
        with precision(self.memory):
            point = self.memory.tree(kind="jax")
            loss, slope = _called(jax.value_and_grad(self.fun), name, point, args)
            self.memory.gather(jax.tree.map(np.asarray, slope), grad, f"the gradient of {name}")
            return float(loss)

    # ---- helpers --------------------------------------------------------------------------------------------

    def _point(self) -> Any:
        if not self.live:
            return self.memory.tree()
        if self._live_point is None:  # it follows the memory: once is enough
            self._live_point = self.memory.tree(copy=False)
        return self._live_point

    def _value(self, args: tuple[Any, ...]) -> Any:
        self.nfev += 1
        return _called(self.fun, self.fun_name, self._point(), args)


def precision(memory: Memory) -> contextlib.AbstractContextManager[Any]:
    """JAX in float64 for float64 parameters, which it would round to float32 by default."""
    import jax

    wide = any(v.dtype == np.float64 for v in memory.vectors)
    return jax.enable_x64(wide)  # type: ignore[no-any-return]


def disagreement(
    losses: Array, grads: Sequence[Array], single_losses: Sequence[float], single_grads: Sequence[Sequence[Array]]
) -> str | None:
    """How losses and gradients of many points at once differ from those of each alone; None if they do not."""
    tolerance = max(AGREE[vector.dtype] for vector in grads)
    expected = [np.stack(vectors) for vectors in zip(*single_grads, strict=True)]
    pairs = [
        ("loss", losses, np.array(single_losses)),
        *(("gradient", g, e) for g, e in zip(grads, expected, strict=True)),
    ]
    for what, together, alone in pairs:
        known = np.isfinite(alone)
        if not np.array_equal(together[~known], alone[~known], equal_nan=True):
            return f"the stacked {what} is not that of each alone: one is not finite where the other is"
        # Each row by its own scale; near zero, by 1 or, where all are small, by that of the largest row.
        size = np.max(np.abs(np.where(known, alone, 0.0)).reshape(len(alone), -1), axis=1)
        scale = np.maximum(size, max(min(1.0, float(np.max(size))), float(np.finfo(alone.dtype).tiny)))
        gap = np.abs(np.where(known, together, 0.0) - np.where(known, alone, 0.0)).reshape(len(alone), -1)
        apart = float(np.max(gap / scale[:, None]))
        if not apart <= tolerance:
            return f"the stacked {what} is not that of each alone: they differ by {apart:.2g} of its largest entry"
    return None


def _name(function: Any, role: str) -> str:
    """What to call the user's function in messages."""
    name = getattr(function, "__name__", role)
    return role if name in ("<lambda>", role) else f"{role} {name!r}"


def _called(function: Any, name: str, point: Any, args: tuple[Any, ...]) -> Any:
    try:
        return function(point, *args)
    except ObjectiveError:
        raise
    except (Exception, SystemExit) as error:
        raise ObjectiveError(f"{name} raised {_described(error)}") from error


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _complex(value: Any, name: str) -> Any:
    """What a function returned at a complex point; raises `ObjectiveError` if it is not one complex number."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind != "c":
        raise ObjectiveError(
            f"{name} returned {value!r} for a complex x: with jac='cs' it must compute with complex numbers; "
            "use jac='3-point'"
        )
    return array.reshape(())


def _source(jac: Jac, memory: Memory) -> str:
    if callable(jac):
        return "given"
    if jac is True:
        return "together"
    if jac is None or jac is False:
        return memory.kind if memory.kind in AUTODIFF else "2-point"
    if jac in DIFFERENCES or jac in AUTODIFF:
        return str(jac)
    raise OptionError(
        f"jac={jac!r}: pass a function, True (fun returns value and gradient), "
        f"{', '.join(map(repr, (*DIFFERENCES, *AUTODIFF)))}, or None"
    )


def _require(package: str) -> None:
    try:
        importlib.import_module(package)
    except ImportError:
        raise MissingExtra(package, package, f"jac={package!r}") from None


def as_loss(value: Any, name: str) -> float:
    """What a loss function returned, as a float; NaN and infinities pass. Raises `ObjectiveError` for anything else."""
    if isinstance(value, float):  # NumPy's float64 is one, too
        return float(value)
    if value is None:
        raise ObjectiveError(f"{name} returned None: it must return a number; does it end without 'return'?")
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:  # an integer beyond all floats
            return math.inf if bool(value > 0) else -math.inf  # type: ignore[operator]
    if hasattr(value, "detach"):
        value = value.detach()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        array = np.asarray(None)
    if array.dtype.kind not in "fiu":
        raise ObjectiveError(f"{name} returned {value!r}: it must return one real number")
    if array.size != 1:
        raise ObjectiveError(
            f"{name} returned an array of shape {array.shape}: it must return one number; take its sum or mean"
        )
    return float(array.reshape(()))


# ---- the check --------------------------------------------------------------------------------------------------


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
    >>> print(objectives.check(lambda x: (x ** 3).sum(), [1.0, 2.0], lambda x: [3.0, 6.0]))
    Traceback (most recent call last):
    descend.errors.ObjectiveError: fun raised TypeError: unsupported operand type(s) for ** or pow(): 'list' and 'int'
    >>> import numpy as np
    >>> objectives.check(lambda x: (x ** 3).sum(), np.array([1.0, 2.0]), lambda x: np.array([3.0, 6.0])).worst
    'x0[1]'
    """
    memory = Memory(x0)
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
    plain = Objective(_detached(value, memory), "3-point", memory)
    plain.bounds = objective.bounds
    plain(expected, args)
    if plain.bounds is not None:  # what has no room is not compared
        fixed = np.split(plain.bounds[0] == plain.bounds[1], np.cumsum([v.size for v in given])[:-1])
        for theirs, ours, held in zip(given, expected, fixed, strict=True):
            np.copyto(ours, theirs, where=held)
    g, d = np.concatenate(given).astype(float), np.concatenate(expected).astype(float)
    scale = np.maximum(np.maximum(abs(g), abs(d)), 1e-3 * np.max(abs(d), initial=0.0))
    error = np.where(g == d, 0.0, abs(g - d) / np.where(scale > 0, scale, 1.0))
    error = np.where(np.isfinite(error), error, np.inf)
    worst = int(np.argmax(error))
    if rtol is None:
        rtol = 1e-5 if all(v.dtype == np.float64 for v in memory.vectors) else 2e-2
    which = int(np.searchsorted(np.cumsum([v.size for v in memory.vectors]), worst, side="right"))
    before = sum(v.size for v in memory.vectors[:which])
    return GradientCheck(
        memory.locate(which, worst - before), float(g[worst]), float(d[worst]), float(error[worst]), float(rtol)
    )


def require_agreement(found: GradientCheck) -> None:
    """Raise `GradientError` when a check failed."""
    if not found.ok:
        raise GradientError(f"{found}; mend jac, or pass jac=None for finite differences")


def _detached(value: Callable[..., Any], memory: Memory) -> Callable[..., Any]:
    """`value` as a function whose result as_loss can read, for torch and JAX functions too."""
    if memory.kind == "numpy":
        return value
    return lambda x, *args: as_loss(value(x, *args), "fun")
