"""What a method is: a direction, and a search for how far to go along it, chosen for a whole and exact gradient.

A rule's step is a formula of one gradient; a method may evaluate several points before it makes a step, and sees the
parameters as one long vector of float64, whatever they are.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from descend.checks import count, real
from descend.errors import MethodError
from descend.rules.registry import spelling
from descend.rules.scipy_method import SciPyMethod

if TYPE_CHECKING:
    from descend.parameters.memory import Array
    from descend.stopping import Reason

__all__ = ["LineObjective", "Method", "MethodRun", "first_step_length", "registry"]


class Resolution(Protocol):
    """What is known of the errors of a loss: `eps`, relative to its value, and `noise`, whatever its value.

    Above the `ceiling` no gradient need be had of a trial.
    """

    eps: float
    noise: float
    ceiling: float

    def error(self, loss: float) -> float:
        """The error of one value of the loss."""


class Curvature(Protocol):
    """The curvature around a point along conjugate directions, as `descend.descent.curvature` has it."""

    @property
    def steps(self) -> Array:
        """A row s for each direction."""

    @property
    def changes(self) -> Array:
        """The gradient's change y along each."""

    @property
    def values(self) -> Array:
        """The curvature sᵀy along each."""

    @property
    def decreases(self) -> Array:
        """By how much the loss falls along each."""


class LineObjective(Protocol):
    """The objective as a method sees it: loss and gradient at trial points along a line, as vectors of float64.

    `x`, `g` and `loss` belong to the point that was evaluated last, and are overwritten by the next evaluation. `norm`
    is that of the gradient where the method begins, `resolution` what is known of the errors of the loss, and `bounds`
    the lower and upper bounds, if there are any. A method that searches along the projected path, which the bounds
    bend, sets `on_projected_path`.
    """

    x: Array
    g: Array
    loss: float
    norm: float
    bounds: tuple[Array, Array] | None
    on_projected_path: bool
    endless: bool

    @property
    def resolution(self) -> Resolution:
        """What is known of the errors of the loss."""

    def evaluate(self, base: Array, direction: Array, alpha: float) -> float:
        """Evaluate the trial point base + alpha · direction, projected to the bounds; returns the loss.

        May raise what ends the descent.
        """

    def slope(self, direction: Array) -> float:
        """The directional derivative: the gradient's product with a direction.

        On the projected path it is that of the part of the direction which no bound stops.
        """

    def project(self, point: Array) -> None:
        """Move a point into the bounds."""

    def product(self, run: MethodRun, direction: Array) -> Array:
        """The product of the Hessian where a run stands with a direction. May raise what ends the descent."""


class MethodRun:
    """One run of a method: what it remembers, and the point that its last step led to.

    `x`, `g` and `loss` are those of that point; the objective may have evaluated others since. A run that `judges_end`
    says itself when the descent has converged, and in `detail` what it saw.
    """

    patience: ClassVar[int] = 30
    """After how many evaluations without a lower loss a descent has ended."""
    judges_end: ClassVar[bool] = False
    detail = ""

    def __init__(self, objective: LineObjective) -> None:
        self.objective = objective
        self.expected = math.nan
        """By how much the last step was to lower the loss, by the method's curvature; NaN where it has none."""
        self.x, self.g, self.loss = objective.x.copy(), objective.g.copy(), objective.loss

    def advance(self) -> Reason | None:
        """Make a step: leave the objective at a better point, or anywhere, and say why there is none."""
        raise NotImplementedError

    def accept(self) -> None:
        """Take the trial point that the objective evaluated last as the one that the step led to."""
        np.copyto(self.x, self.objective.x)
        np.copyto(self.g, self.objective.g)
        self.loss = self.objective.loss

    def renew(self) -> None:
        """Take the gradient that was evaluated anew at the point where the run stands."""
        self.accept()

    def learn_curvature(self, curvature: Curvature) -> bool:
        """Go on with a curvature that was measured where the run stands; whether the method can."""
        return False

    def state(self) -> dict[str, Any]:
        """What it takes to go on later, as arrays and numbers."""
        return {name: value for name, value in vars(self).items() if name not in ("objective", *self.workspace)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        for name, value in state.items():
            restore_attribute(self, name, value)

    workspace: ClassVar[tuple[str, ...]] = ()
    """Attributes that are no part of the state: constants, and what each step writes before it reads."""


def restore_attribute(owner: Any, name: str, value: Any) -> None:
    """Set an attribute to what a saved state has of it: an array in place, anything else in the type that it has."""
    held = getattr(owner, name)
    if isinstance(held, np.ndarray):
        held[...] = value
    elif isinstance(held, list):
        setattr(owner, name, [float(number) for number in value])
    else:
        setattr(owner, name, type(held)(value))


@dataclasses.dataclass(frozen=True)
class Method(SciPyMethod):
    """How to go down where the whole gradient is at hand: a direction with a search. Subclasses are the methods."""

    name: ClassVar[str] = ""
    maximize: ClassVar[bool] = False
    takes_bounds: ClassVar[bool] = False
    takes_products: ClassVar[bool] = False
    """Whether it asks for products with the Hessian."""
    needs_residuals: ClassVar[bool] = False
    """Whether it is for residuals alone, and so for `descend.least_squares`."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.name = cls.name or spelling(cls.__name__)
        _REGISTRY[cls.name] = cls

    def begin(self, objective: LineObjective) -> MethodRun:
        """A run of the method from the point where the objective was evaluated last."""
        raise NotImplementedError

    def _whole(self, name: str, least: int, usual: int) -> None:
        count(name, getattr(self, name), least, of=type(self).__name__, error=MethodError, remedy=f"try {usual}")

    def _within(self, name: str, low: float, high: float, usual: float) -> None:
        real(
            name, getattr(self, name), above=low, below=high, of=type(self).__name__, error=MethodError,
            remedy=f"try {usual:g}",
        )  # fmt: skip

    def _kind(self, name: str, kinds: tuple[type, ...]) -> None:
        value = getattr(self, name)
        if not isinstance(value, kinds):
            allowed = " or ".join(f"{kind.__name__}(…)" for kind in kinds)
            raise MethodError(f"{type(self).__name__}({name}={value!r}): {allowed} is needed")


_REGISTRY: dict[str, type[Method]] = {}


def registry(*, residuals: bool = False) -> dict[str, type[Method]]:
    """Every method of `descend.minimize` by its name; with `residuals`, those that need them, too."""
    return {name: made for name, made in _REGISTRY.items() if residuals or not made.needs_residuals}


def first_step_length(norm: float) -> float:
    """The factor of the gradient for a first trial, where no scale is known: its step has length 1 at most."""
    return 1.0 / max(1.0, norm)
