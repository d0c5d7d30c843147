"""Products of the Hessian with a direction: given, by automatic differentiation, or by differences of gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from descend.checks import shown
from descend.errors import ObjectiveError, OptionError, described
from descend.objectives.autodiff import AUTODIFF, check_differentiable, precision
from descend.objectives.calls import call, name_of
from descend.objectives.differences import DIFFERENCES
from descend.objectives.objective import Objective
from descend.parameters.memory import Array
from descend.parameters.reals import as_reals

__all__ = ["HessianProducts", "check_hessian"]


Beside = Callable[[float], Array]
"""What evaluates the gradient so far along a direction."""


def check_hessian(hess: Any, hessp: Any) -> None:
    """Raise `OptionError` where `hess` or `hessp` is nothing that products can be made by."""
    if not (hess is None or callable(hess) or (isinstance(hess, str) and hess in DIFFERENCES)):
        raise OptionError(
            f"hess={shown(hess)}: a function hess(x, *args) that returns the matrix is needed, or '2-point' for "
            "differences of gradients; BFGS's approximation is method='bfgs'"
        )
    if not (hessp is None or callable(hessp)):
        raise OptionError(f"hessp={shown(hessp)}: a function hessp(x, p, *args) that returns H p is needed")


class HessianProducts:
    """The products of the Hessian of an `Objective`, at its memory's point, with directions.

    Parameters
    ----------
    objective, args
        The function, and its further arguments.
    hess, hessp
        As `descend.minimize` takes them. Where neither is given, the gradient's source decides.

    Attributes
    ----------
    source
        ``"hessp"``, ``"hess"``, ``"torch"``, ``"jax"`` or ``"gradients"``.
    nhev
        How many products were made, or matrices, where `hess` is given.
    """

    def __init__(self, objective: Objective, args: tuple[Any, ...], hess: Any = None, hessp: Any = None) -> None:
        self.objective, self.memory, self.args = objective, objective.memory, args
        self.function = hess if callable(hess) else hessp
        self.source = "hess" if callable(hess) else "hessp" if hessp is not None and hess is None else "gradients"
        if self.source == "gradients" and hess is None and objective.source in AUTODIFF:
            self.source = objective.source
        if self.source == "gradients" and objective.source in DIFFERENCES:
            raise OptionError(
                "a truncated Newton method needs products with the Hessian: give hessp or hess, or a gradient (jac, or "
                "'torch' or 'jax') that they can be made from; or use 'lbfgs'"
            )
        self._refuse_tied()
        self.name = name_of(self.function, self.source)
        self.nhev = 0
        self.multiply: Callable[[Array], Array] = {
            "hess": self._by_matrix,
            "hessp": self._by_product,
        }.get(self.source, self._by_autodiff)
        """H p at the memory's point for a direction p, of a Hessian that is given or by automatic differentiation."""
        self._cuts = np.cumsum([v.size for v in self.memory.vectors])[:-1]
        self._out = self.memory.like()
        self._point: Array | None = None
        self._made: Any = None

    def _refuse_tied(self) -> None:
        whole = self.memory.whole
        if self.source in ("hess", "hessp") and self.memory.size < whole.size:
            held = self.memory.held
            if held is None or self.memory.size + int(np.sum(~np.isnan(held))) < whole.size:
                raise OptionError(
                    f"{self.source} is of the whole, and says nothing of how numbers that are tied bend: leave it out; "
                    "products are made from gradients then"
                )

    @property
    def charged(self) -> int:
        """What the products count in a budget of evaluations: one each, unless gradients were evaluated for them."""
        return 0 if self.source == "gradients" else self.nhev

    def __call__(self, direction: Array, gradient: Array, beside: Beside) -> Array:
        """H p at the memory's point x, for a direction p; raises `ObjectiveError`.

        `gradient` is that at x, and `beside` evaluates the gradient at x + h p for a number h, where it is needed.
        """
        self.nhev += self.source != "hess"  # of which there is one for each point
        if self.source == "gradients":
            return self._by_gradients(direction, gradient, beside)
        return self.multiply(direction)

    def _parts(self, direction: Array) -> list[Array]:
        """A flat vector as vectors of the memory."""
        if len(self._out) == 1 and self._out[0].dtype == direction.dtype:
            return [direction]
        parts = np.split(direction, self._cuts)
        return [part.astype(v.dtype, copy=False) for part, v in zip(parts, self.memory.vectors, strict=True)]

    def _found(self) -> Array:
        """What stands in `_out`, as a flat vector of its own."""
        flat = self._out[0] if len(self._out) == 1 else np.concatenate(self._out)
        return flat.astype(float)

    def _at_point(self, make: Callable[[], Any]) -> Any:
        """What `make` returns, made once for each point."""
        point = np.concatenate(self.memory.vectors)
        if self._point is None or not np.array_equal(point, self._point):
            self._made, self._point = make(), point
        return self._made

    # ---- given ------------------------------------------------------------------------------------------------------

    def _by_product(self, direction: Array) -> Array:
        along = self.memory.gradient(self._parts(direction))
        found = call(self.function, self.name, self.memory.tree(), (along, *self.args))
        self.memory.gather(found, self._out, self.name)
        return self._found()

    def _by_matrix(self, direction: Array) -> Array:
        matrix = self._at_point(self._matrix)
        whole = self.memory.whole
        filled = whole.like()
        whole.gather(self.memory.gradient(self._parts(direction)), filled, self.name)
        along = np.concatenate(filled).astype(float)
        found = matrix.matvec(along) if hasattr(matrix, "matvec") else matrix @ along
        return self.memory.contract(np.asarray(found, dtype=float).reshape(-1))

    def _matrix(self) -> Any:
        """The Hessian that the user's function returns, as what can be multiplied with a flat vector."""
        self.nhev += 1
        found = call(self.function, self.name, self.memory.tree(), self.args)
        n = self.memory.whole.size
        if not (hasattr(found, "matvec") or (hasattr(found, "toarray") and hasattr(found, "dot"))):
            try:
                found = as_reals(found)
            except TypeError as error:
                raise ObjectiveError(f"{self.name} returned {shown(found)}: a matrix is needed ({error})") from None
            if found.size == n * n and found.shape[: found.ndim // 2] == found.shape[found.ndim // 2 :]:
                found = found.reshape(n, n)
            elif n == 1 and found.size == 1:
                found = found.reshape(1, 1)
        if tuple(found.shape) != (n, n):
            raise ObjectiveError(f"{self.name} returned shape {tuple(found.shape)}: a matrix of {n} × {n} is needed")
        return found

    # ---- made of gradients ------------------------------------------------------------------------------------------

    def _by_gradients(self, direction: Array, gradient: Array, beside: Beside) -> Array:
        """(∇f(x + h p) − ∇f(x)) / h, with h p as long as the root of the floats' spacing, in units of x."""
        reach, point = math.sqrt(float(np.dot(direction, direction))), self.memory.vectors
        if not (0.0 < reach < math.inf):
            return np.zeros_like(direction) if reach == 0.0 else np.full_like(direction, math.nan)
        size = math.sqrt(sum(float(np.dot(v, v)) for v in point)) or 1.0
        h = math.sqrt(max(float(np.finfo(v.dtype).eps) for v in point)) * size / reach
        return (beside(h) - gradient) / h

    def _by_autodiff(self, direction: Array) -> Array:
        made = self._at_point(self._linearised_by_torch if self.source == "torch" else self._linearised_by_jax)
        for view, part in zip(self.memory.views(self._out), made(self._parts(direction)), strict=True):
            view[...] = 0.0 if part is None else np.asarray(part)
        return self._found()

    def _linearised_by_torch(self) -> Callable[[list[Array]], Any]:
        """Products at the point: a second backward pass through the graph of the gradient, which is kept for them."""
        import torch

        objective, memory, name = self.objective, self.memory, self.objective.fun_name
        objective.nfev += 1
        objective.njev += 1
        leaves = [torch.from_numpy(leaf.copy()).requires_grad_() for leaf in memory.leaves]
        with torch.enable_grad():
            loss = call(objective.fun, name, memory.unflatten(leaves), self.args)
            check_differentiable(loss, name, "its argument")
            slopes = torch.autograd.grad(loss.reshape(()), leaves, create_graph=True, allow_unused=True)

        def multiply(parts: list[Array]) -> Any:
            along = [torch.from_numpy(view) for view in memory.views(parts)]
            bent = [(s, v) for s, v in zip(slopes, along, strict=True) if s is not None and s.requires_grad]
            if not bent:
                return [None] * len(leaves)
            try:
                inner = torch.stack([(s * v).sum() for s, v in bent]).sum()
                return torch.autograd.grad(inner, leaves, retain_graph=True, allow_unused=True)
            except Exception as error:
                raise ObjectiveError(f"{name}: its second derivative raised {described(error)}; give hessp") from error

        return multiply

    def _linearised_by_jax(self) -> Callable[[list[Array]], Any]:
        """Products at the point: forward through the gradient, which is traced once for all of them."""
        import jax

        objective, memory, name = self.objective, self.memory, self.objective.fun_name
        objective.nfev += 1
        objective.njev += 1

        def of_leaves(leaves: Any) -> Any:
            return objective.fun(memory.unflatten(leaves), *self.args)

        with precision(memory):
            leaves = [jax.numpy.asarray(leaf.copy()) for leaf in memory.leaves]
            _, along = call(lambda at: jax.linearize(jax.grad(of_leaves), at), name, leaves, ())

        def multiply(parts: list[Array]) -> Any:
            with precision(memory):
                return along([jax.numpy.asarray(view.copy()) for view in memory.views(parts)])

        return multiply
