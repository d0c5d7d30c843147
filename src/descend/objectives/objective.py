"""Loss and gradient of the user's function: given, by finite differences, or by automatic differentiation.

Whatever the source, a descent sees one thing: an `Objective` that evaluates the loss at a `Memory` and writes the
gradient into flat vectors.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from descend.checks import shown
from descend.errors import MissingExtra, ObjectiveError, OptionError
from descend.objectives.autodiff import AUTODIFF, precision
from descend.objectives.calls import as_loss, call, losses_of, name_of
from descend.objectives.differences import AUTOMATIC, DIFFERENCES, Differences
from descend.objectives.resolution import LossResolution
from descend.parameters.memory import Array, Memory

__all__ = ["Jac", "Objective", "gradient_source", "require"]

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
    steps
        Steps of finite differences as SciPy has them, relative and absolute, where they are given.

    Attributes
    ----------
    nfev, njev
        How often the function and its gradient were evaluated. Finite differences count every evaluation; autodiff
        counts one of each.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        jac: Jac,
        memory: Memory,
        *,
        live: bool = False,
        steps: tuple[Any, Any] = (None, None),
    ) -> None:
        if not callable(fun):
            raise OptionError(f"fun={fun!r} is not a function: pass one that takes x and returns a number")
        self.fun = fun
        self.fun_name = name_of(fun, "fun")
        self.jac_name = name_of(jac, "jac")
        self.memory = memory
        self.live = live
        self.resolution = LossResolution(max(float(np.finfo(v.dtype).eps) for v in memory.vectors))
        """How finely the loss tells points apart."""
        self.nfev = 0
        self.njev = 0
        self.source = gradient_source(jac, memory)
        self._jac = jac if callable(jac) else None
        self._live_point: Any = None
        self.bounds: tuple[Array, Array] | None = None
        """Lower and upper bounds that finite differences keep to, one number for each parameter."""
        self.max_evals: int | None = None
        """How many evaluations there may be, for finite differences that would make more than they must."""
        self.many_losses: Callable[[Array, tuple[Any, ...]], Array] | None = None
        """The losses at many points at once, each a row of a matrix, where the function gives them."""
        self.differences = Differences(self, self.source, *steps) if self.source in DIFFERENCES else None
        sources = {"given": Objective._given, "together": Objective._together, **AUTODIFF}
        self._evaluate: Callable[[Objective, tuple[Any, ...], list[Array]], Any]
        self._evaluate = sources.get(self.source, Objective._by_differences)
        if self.source in AUTODIFF:
            require(self.source)

    @property
    def cost(self) -> int:
        """How many evaluations of the function one call makes."""
        return 1 if self.differences is None else self.differences.cost

    @property
    def gradient_error(self) -> Array | None:
        """The estimated absolute error of each entry of the last gradient, as one vector; None for an exact gradient.

        Infinite where the loss has not changed within the step, so that nothing is known.
        """
        return None if self.differences is None else self.differences.error

    @property
    def description(self) -> str:
        """By which finite differences the gradients were, for people; empty if by none."""
        return "" if self.differences is None else self.differences.description

    def evaluations_left(self) -> int | None:
        """How many evaluations the budget has left; None without one."""
        return None if self.max_evals is None else self.max_evals - self.nfev

    def state(self) -> dict[str, Array]:
        """What was learned of the loss and its differences, for a descent that goes on."""
        learned = {} if self.differences is None else self.differences.state()
        kept = {f"resolution.{name}": value for name, value in self.resolution.state().items()}
        kept |= {f"differences.{name}": value for name, value in learned.items()}
        return {name: np.array(value) for name, value in kept.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Have learned what `state` says; what it does not have is learned anew.

        Raises `KeyError`, `TypeError` or `ValueError` for a state of something else.
        """
        self.resolution.restore(_part(state, "resolution."))
        if self.differences is not None:
            self.differences.restore(_part(state, "differences."))

    def refine(self) -> bool:
        """Have gradients be more exact from here on, at the price of more evaluations; False if that can't be had."""
        return self.differences is not None and self.differences.refine()

    def __call__(self, grad: list[Array], args: tuple[Any, ...] = ()) -> float:
        """The loss at the memory's point; its gradient goes into `grad`.

        Raises `ObjectiveError` when the function raises or returns something else than a number.
        """
        loss = as_loss(self._evaluate(self, args, grad), self.fun_name)
        if self.resolution.watching:
            self.resolution.see(loss)
        return loss

    def many(self, grad: list[Array], args: tuple[Any, ...] = ()) -> Array:
        """The losses at each of the memory's `Rows`; their gradients go into the rows of `grad`.

        Raises `ObjectiveError` when the function raises or does not return one number for each.
        """
        losses, name = self._evaluate(self, args, grad), self.fun_name
        return losses_of(losses, len(self.memory.vectors[0]), name, "runs")

    def apply(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call another function of the parameters at the memory's point, as the loss is called for its gradient.

        Its leaves are of the same library and in the same precision. The function must not write to them.
        """
        if self.source == "jax":
            with precision(self.memory):
                return function(self.memory.tree(kind="jax"), *args)
        return function(self.memory.tree(copy=False, kind="torch" if self.source == "torch" else None), *args)

    def _given(self, args: tuple[Any, ...], grad: list[Array]) -> Any:
        loss = self._value(args)
        self.njev += 1
        slope = call(self._jac, self.jac_name, self._point(), args)
        self.memory.gather(slope, grad, self.jac_name)
        return loss

    def _together(self, args: tuple[Any, ...], grad: list[Array]) -> Any:
        out = self._value(args)
        self.njev += 1
        pair = isinstance(out, (tuple, list)) or (isinstance(out, np.ndarray) and out.ndim == 1)
        if not pair or len(out) != 2:
            many = f"{len(out)} things" if isinstance(out, (tuple, list)) else shown(out)
            raise ObjectiveError(f"{self.fun_name} returned {many}: with jac=True it must return (value, gradient)")
        self.memory.gather(out[1], grad, self.fun_name)
        return out[0]

    def _by_differences(self, args: tuple[Any, ...], grad: list[Array]) -> Any:
        assert self.differences is not None
        return self.differences(args, grad)

    def _point(self) -> Any:
        if not self.live:
            return self.memory.tree()
        if self._live_point is None:  # it follows the memory: once is enough
            self._live_point = self.memory.tree(copy=False)
        return self._live_point

    def _value(self, args: tuple[Any, ...]) -> Any:
        self.nfev += 1
        return call(self.fun, self.fun_name, self._point(), args)


def _part(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """What the names with a prefix stand for."""
    return {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}


def gradient_source(jac: Jac, memory: Memory) -> str:
    """The name of where the gradient comes from."""
    if callable(jac):
        return "given"
    if isinstance(jac, np.bool_):
        jac = bool(jac)
    if jac is True:
        return "together"
    if jac is None or jac is False:
        return memory.kind if memory.kind in AUTODIFF else AUTOMATIC
    if isinstance(jac, str) and (jac in DIFFERENCES or jac in AUTODIFF):
        return jac
    raise OptionError(
        f"jac={jac!r}: pass a function, True (fun returns value and gradient), "
        f"{', '.join(map(repr, (*DIFFERENCES, *AUTODIFF)))}, or None"
    )


def require(package: str) -> None:
    """Raise `MissingExtra` where a library of automatic differentiation is not installed."""
    try:
        importlib.import_module(package)
    except ImportError:
        raise MissingExtra(package, package, f"jac={package!r}") from None
