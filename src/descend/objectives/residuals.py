"""Residuals of the user's function and their Jacobian: given, by finite differences, or by automatic differentiation.

A descent on half a sum of squares sees one thing, whatever the source: a `ResidualObjective` that evaluates residuals
at a `Memory`, and their Jacobian where it is asked for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from descend.checks import shown
from descend.errors import ObjectiveError, OptionError
from descend.objectives.autodiff import AUTODIFF, precision
from descend.objectives.calls import call, name_of
from descend.objectives.differences import AUTOMATIC
from descend.objectives.jacobians import as_matrix, by_jax, by_torch, is_operator, is_sparse, of_structure, scale_rows
from descend.objectives.objective import Jac, gradient_source, require
from descend.objectives.residual_differences import SCHEMES, Differences
from descend.objectives.resolution import LossResolution
from descend.objectives.robust import ResidualLoss
from descend.parameters.memory import Array, Memory

__all__ = ["ResidualObjective", "as_residuals"]

EPS32, DISTINCT = float(np.finfo(np.float32).eps), 6
"""The spacing of float32, and of how many different residuals all must be one if they are computed in it."""


class ResidualObjective:
    """The residuals of ``fun(x, *args)`` at the point that a `Memory` holds, their Jacobian, and their loss.

    Parameters
    ----------
    fun, jac, args
        As `descend.least_squares` takes them.
    memory
        Holds the point; it may change between calls.
    loss
        What is minimised of the residuals.
    weights
        What the squared residuals are multiplied by: one number for each, or None.
    relative_step, structure
        Of finite differences: steps relative to the parameters, and where the Jacobian may have entries.

    Attributes
    ----------
    nfev, njev
        How often the residuals and their Jacobian were evaluated. Finite differences count every evaluation of the
        residuals; autodiff counts a Jacobian alone.
    values, jacobian
        Weighted residuals and Jacobian at the last point where each was evaluated.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        jac: Jac,
        memory: Memory,
        args: tuple[Any, ...] = (),
        *,
        loss: ResidualLoss | None = None,
        weights: Any = None,
        relative_step: Any = None,
        structure: Any = None,
    ) -> None:
        if not callable(fun):
            raise OptionError(f"fun={fun!r} is not a function: pass one that takes x and returns the residuals")
        self.fun, self.args, self.memory = fun, args, memory
        self.fun_name, self.jac_name = name_of(fun, "fun"), name_of(jac, "jac")
        self.loss = loss or ResidualLoss()
        self.resolution = LossResolution(max(float(np.finfo(v.dtype).eps) for v in memory.vectors))
        self.source = _source(jac, memory)
        self._jac, self._relative, self._structure = jac, relative_step, structure
        self._eps = self.resolution.eps
        self._coarse: bool | None = None
        """Whether all residuals were float32 so far; None before any could tell."""
        self._weights = weights
        self._roots: Array | None = None
        self.shape: tuple[int, ...] | None = None
        """The shape of what the function returns, once it was called."""
        self.bounds: tuple[Array, Array] | None = None
        self.limit = np.inf
        """How many evaluations may be made in all."""
        self.nfev = self.njev = 0
        self.values: Array = np.empty(0)
        self.jacobian: Any = None
        self.trials = False
        """Whether points are tried: then their Jacobians are left out until they are asked for."""
        self._together: Any = None
        self._known: Any = None
        self.differences: Differences | None = None
        self.many_losses: Any = None
        """None: losses of many points are not asked for."""

    # ---- what a descent asks ----------------------------------------------------------------------------------------

    @property
    def rows(self) -> int:
        """How many residuals there are."""
        return self.values.size

    @property
    def counted(self) -> int:
        """How many of them have a weight that is not zero."""
        return self.values.size if self._roots is None else int(np.count_nonzero(self._roots))

    @property
    def cost(self) -> int:
        """How many evaluations the residuals and their Jacobian take."""
        if self.differences is not None:
            return 1 + self.differences.cost
        return 1 + SCHEMES.get(self.source, 0) * self.memory.size if self._structure is None else 1

    @property
    def error(self) -> float:
        """The error of an entry of the Jacobian, relative to its column."""
        return 0.0 if self.differences is None else self.differences.error

    def __call__(self, grad: list[Array]) -> float:
        """The loss at the memory's point; its gradient goes into `grad`, but not at points that are tried."""
        return self._told(self.evaluate(), grad)

    def take(self, values: Any, jacobian: Any, grad: list[Array]) -> float:
        """The same, where residuals and Jacobian come from elsewhere: what evaluates many points at once."""
        self.nfev += 1
        self.values = self.weighted(self._residuals(values))
        self._known = self._scaled(as_matrix(jacobian, self.memory.whole, self.shape or (), self.fun_name))
        return self._told(self.loss(self.values), grad)

    def know(self) -> None:
        """Evaluate the Jacobian at the last point already, for whoever asks for it next."""
        if self._known is None:
            self._known = self._scaled(self._matrix())

    def _told(self, loss: float, grad: list[Array]) -> float:
        if not self.trials:
            self._require_finite(self.values, "residual")
            self.differentiate(grad)
            if isinstance(self.jacobian, np.ndarray):
                self._require_finite(self.jacobian, "the Jacobian's entry")
        return loss

    def evaluate(self) -> float:
        """Evaluate the residuals at the memory's point; returns their loss."""
        self.values = self.weighted(self._value())
        self._known = None
        return self.loss(self.values)

    def differentiate(self, grad: list[Array]) -> None:
        """Evaluate the Jacobian where the residuals were evaluated last; the gradient goes into `grad`."""
        self.know()
        self.njev += 1
        self._take(self._known, grad)

    def refine(self, grad: list[Array]) -> bool:
        """Make the last Jacobian by differences more exact, and those that follow; False if that can't be had."""
        differences = self.differences
        if differences is None or not differences.can_refine or self.nfev + differences.count > self.limit:
            return False
        with np.errstate(all="ignore"):
            found = self._scaled(differences.complete())
            finite = bool(np.isfinite(found.sum()))  # steps may be as short as the least floats
        if finite:
            self._take(found, grad)
        return finite

    def model(self) -> tuple[Array, Any]:
        """Residuals and Jacobian of a sum of squares that is like the loss near the last point."""
        values, rows = self.loss.model(self.values)
        return values, scale_rows(self.jacobian, rows)

    def _take(self, jacobian: Any, grad: list[Array]) -> None:
        self.jacobian = jacobian
        slopes = self.values * self.loss.weights(self.values)
        with np.errstate(over="ignore", invalid="ignore"):  # a gradient that is not finite is judged by the descent
            flat = jacobian.rmatvec(slopes) if is_operator(jacobian) else jacobian.T @ slopes
        start = 0
        for vector in grad:
            vector[...] = np.ravel(flat)[start : start + vector.size]
            start += vector.size

    # ---- residuals --------------------------------------------------------------------------------------------------

    def _value(self) -> Array:
        """The residuals at the memory's point, as they are returned."""
        if self.source == "torch":
            return self._torch_value()
        out = self._called(self.memory.tree) if self.source != "jax" else self._by_jax()
        if self.source == "together":
            if not isinstance(out, (tuple, list)) or len(out) != 2:
                raise ObjectiveError(
                    f"{self.fun_name} returned {shown(out)}: with jac=True it must return (residuals, Jacobian)"
                )
            out, self._together = out
        return self._residuals(out)

    def _torch_value(self) -> Array:
        import torch

        leaves = [torch.from_numpy(leaf.copy()).requires_grad_() for leaf in self.memory.leaves]
        with torch.enable_grad():
            out = self._called(lambda: self.memory.unflatten(leaves))
        if isinstance(out, torch.Tensor) and out.requires_grad:
            return self._residuals(out.detach().numpy())
        raise ObjectiveError(
            f"{self.fun_name} returned {shown(out)}: with jac='torch' a tensor of residuals computed from its argument "
            "is needed, without .item(), .detach() or .numpy() on the way"
        )

    def _by_jax(self) -> Any:
        with precision(self.memory):
            return np.asarray(self._called(lambda: self.memory.tree(kind="jax")))

    def _called(self, point: Callable[[], Any]) -> Any:
        self.nfev += 1
        return call(self.fun, self.fun_name, point(), self.args)

    def at(self, flat: Array) -> Array:
        """The weighted residuals at another point, in one long vector, real or complex."""
        parts = np.split(flat, np.cumsum([v.size for v in self.memory.vectors])[:-1])
        if not np.iscomplexobj(flat):
            parts = [p.astype(v.dtype, copy=False) for p, v in zip(parts, self.memory.vectors, strict=True)]
        out = self._called(lambda: self.memory.tree(parts))
        return self.weighted(self._residuals(out, is_complex=np.iscomplexobj(flat)))

    def _residuals(self, out: Any, *, is_complex: bool = False) -> Array:
        array = as_residuals(out, self.fun_name, is_complex=is_complex)
        if array.ndim == 0 and self.memory.size > 1:
            raise ObjectiveError(
                f"{self.fun_name} returned one number, {array}: it must return the residuals, an array of one for each "
                "observation, without their squares or sum; to minimise a number, use descend.minimize"
            )
        if self.shape is None:
            self.shape = array.shape
            self._begin(array)
        elif array.shape != self.shape:
            raise ObjectiveError(
                f"{self.fun_name} returned shape {array.shape}, and shape {self.shape} before: the number of residuals "
                "must stay the same; give a residual that does not count the value 0"
            )
        if self._coarse is not False and not is_complex:
            self._see(array)
        return array.reshape(-1).astype(complex if is_complex else np.float64, copy=False)

    def _see(self, array: Array) -> None:
        """Take note of whether residuals are computed in float32: then each is one, in whatever it is returned."""
        with np.errstate(over="ignore"):  # what is beyond float32 is not computed in it
            coarse = bool(np.all(array == array.astype(np.float32)))
        if not coarse or np.unique(array).size >= DISTINCT:  # fewer may be round by themselves
            self._coarse = coarse
            self.resolution.eps = max(self._eps, EPS32) if coarse else self._eps

    def _begin(self, first: Array) -> None:
        """Prepare for residuals of this shape."""
        self._roots = _roots(self._weights, first.shape)
        if self.source in SCHEMES:
            structure = None if self._structure is None else of_structure(self._structure, self.memory, first.size)
            self.differences = Differences(
                self.at, self.source, self.resolution, self.memory.size, self._relative, structure, self._held
            )
            self.differences.bounds = self.bounds

    def _held(self, flat: Array) -> Array:
        parts = np.split(flat, np.cumsum([v.size for v in self.memory.vectors])[:-1])
        rounded = [p.astype(v.dtype) for p, v in zip(parts, self.memory.vectors, strict=True)]
        return np.concatenate(rounded).astype(np.float64)

    def forget(self) -> None:
        """Know nothing of any point."""
        self.values, self.jacobian, self._known = np.empty(0), None, None

    def weighted(self, values: Array) -> Array:
        """Residuals, or columns of a Jacobian in rows, times the roots of their weights."""
        return values if self._roots is None else np.where(self._roots > 0.0, values * self._roots, 0.0)

    def unweighted(self, values: Array) -> Array:
        """Residuals as the function returns them, of weighted ones; zero where the weight is."""
        if self._roots is not None:
            values = np.divide(values, self._roots, out=np.zeros_like(values), where=self._roots > 0.0)
        return values.reshape(self.shape or ())

    def _require_finite(self, array: Array, what: str) -> None:
        """Raise `ObjectiveError` where an array is not finite at the start."""
        bad = np.argwhere(~np.isfinite(array))
        if bad.size:
            at = tuple(int(i) for i in bad[0])
            raise ObjectiveError(
                f"{self.fun_name}: {what} {', '.join(map(str, at))} of {' × '.join(map(str, array.shape))} is "
                f"{array[at]} at x0, and must be finite there; are there NaNs in the data, or is x0 outside the domain "
                "of the model?"
            )

    # ---- the Jacobian -----------------------------------------------------------------------------------------------

    def _matrix(self) -> Any:
        """The Jacobian at the memory's point; its weights are in it only where it is of weighted differences."""
        if self.differences is not None:
            x = np.concatenate(self.memory.vectors).astype(np.float64)
            return self.differences.jacobian(x, self.values, self.limit - self.nfev)
        shape, name = self.shape or (), self.jac_name
        if self.source in AUTODIFF:
            return (by_torch if self.source == "torch" else by_jax)(self)
        if self.source == "together":
            value, name = self._together, self.fun_name
        else:
            value = call(self._jac, name, self.memory.tree(), self.args)
        return as_matrix(value, self.memory, shape, name)

    def _scaled(self, matrix: Any) -> Any:
        """A Jacobian with its weights."""
        return matrix if self.differences is not None else scale_rows(matrix, self._roots)

    # ---- going on ---------------------------------------------------------------------------------------------------

    def state(self, values: Array, jacobian: Any) -> dict[str, Array]:
        """What is known where these are values and Jacobian, as arrays; an operator is not kept."""
        found: dict[str, Any] = {"values": values, "shape": np.array(self.shape, dtype=np.int64)}
        found["coarse"] = -1 if self._coarse is None else int(self._coarse)
        if is_sparse(jacobian):
            kept = jacobian.tocsr()
            found |= {"data": kept.data, "indices": kept.indices, "indptr": kept.indptr}
        elif not is_operator(jacobian):
            found["jacobian"] = jacobian
        if self.differences is not None and self.differences.second is not None:
            found["second"] = self.differences.second
        return found

    def restore(self, state: Mapping[str, Any], grad: list[Array]) -> None:
        """Know again what `state` was taken of."""
        from scipy.sparse import csr_array

        self.shape = tuple(int(n) for n in state["shape"])
        values = np.array(state["values"], dtype=np.float64)
        self._begin(np.empty(self.shape))
        coarse = int(state["coarse"])
        self._coarse = None if coarse < 0 else bool(coarse)
        self.resolution.eps = max(self._eps, EPS32) if self._coarse else self._eps
        if self.differences is not None and "second" in state:
            self.differences.second = np.array(state["second"])
        if "jacobian" in state:
            self._known = np.array(state["jacobian"])
        elif "data" in state:
            parts = [np.array(state[name]) for name in ("data", "indices", "indptr")]
            self._known = csr_array(tuple(parts), shape=(values.size, self.memory.size))
        self.values = values
        self.differentiate(grad)


def _source(jac: Jac, memory: Memory) -> str:
    """The name of where the Jacobian comes from."""
    source = gradient_source(jac, memory)
    if source in AUTODIFF:
        require(source)
    return "2-point" if source == AUTOMATIC else source


def as_residuals(value: Any, name: str, *, is_complex: bool = False) -> Array:
    """What a function returned, as an array of real (or complex) numbers; raises `ObjectiveError` for anything else."""
    if value is None:
        raise ObjectiveError(f"{name} returned None: it must return the residuals; does it end without 'return'?")
    try:
        array = np.asarray(value.detach() if hasattr(value, "detach") else value)
    except (TypeError, ValueError):
        array = np.asarray(None)
    if array.dtype == object:
        with contextlib.suppress(TypeError, ValueError):
            array = array.astype(np.float64)
    if array.dtype.kind == "c" and not is_complex:
        raise ObjectiveError(
            f"{name} returned complex residuals: give real and imaginary parts as residuals of their own, "
            "np.concatenate([r.real, r.imag])"
        )
    if array.dtype.kind not in ("c" if is_complex else "fiub"):
        needs = "complex numbers for a complex x (jac='cs')" if is_complex else "an array of real numbers"
        raise ObjectiveError(f"{name} returned {shown(value)}: {needs} is needed, one for each residual")
    if array.size == 0:
        raise ObjectiveError(f"{name} returned no residual (shape {array.shape}): give at least one observation")
    return array if array.dtype == np.float32 else array.astype(complex if is_complex else np.float64)


def _roots(weights: Any, shape: tuple[int, ...]) -> Array | None:
    """The square roots of weights, one for each residual."""
    if weights is None:
        return None
    try:
        given = np.asarray(weights, dtype=np.float64)
        found = np.broadcast_to(given, shape).reshape(-1)
    except (TypeError, ValueError):
        raise OptionError(
            f"weights={shown(weights)}: a number for each residual is needed, shape {shape}; 1 / sigma² for known "
            "errors"
        ) from None
    if not np.all(np.isfinite(found) & (found >= 0.0)):
        at = int(np.flatnonzero(~(np.isfinite(found) & (found >= 0.0)))[0])
        raise OptionError(f"weights[{at}]={found[at]}: weights must be finite and ≥ 0; 0 leaves a residual out")
    return np.asarray(np.sqrt(found))
