"""What a method is: a direction, and a search for how far to go along it, chosen for a whole and exact gradient.

A rule's step is a formula of one gradient; a method may look at several points before it makes a step, and sees the
parameters as one long vector of float64, whatever they are.
"""

from __future__ import annotations

import dataclasses
import numbers
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from descend.errors import MethodError
from descend.rules.rule import spelling

if TYPE_CHECKING:
    from collections.abc import Callable

    from descend.parameters.memory import Array
    from descend.stopping import Reason

__all__ = ["Ground", "Method", "Walk", "cautious", "registry"]


class Ground(Protocol):
    """The objective as a method sees it: where it stands, as vectors of float64, with the loss and the gradient there.

    `x` and `g` are overwritten at each look; `norm` is that of the gradient where the method begins, `eps` the spacing
    of the coarsest floats among the parameters, and `ends` the lower and upper bounds, if there are any. A method that
    follows a direction beyond them, as they bend it, sets `bends`.
    """

    x: Array
    g: Array
    loss: float
    norm: float
    eps: float
    ends: tuple[Array, Array] | None
    bends: bool

    def compiled(self, move: Callable[[Array, Array, float, Array], Any], dot: Callable[[Array, Array], Any]) -> None:
        """Take machine code for what writes base + alpha · direction, and for the product of two vectors."""

    def step(self, base: Array, direction: Array, alpha: float) -> float:
        """Look at base + alpha · direction, projected to the bounds; returns the loss.

        May raise what ends the descent.
        """

    def slope(self, direction: Array) -> float:
        """The gradient's product with a direction; where it `bends`, with what of it the bounds leave to go."""

    def project(self, point: Array) -> None:
        """Move a point into the bounds."""


class Walk:
    """A method on its way: what it remembers, and where it stood before the step at hand.

    `x`, `g` and `loss` are those of the point that the last step led to; the ground may have gone elsewhere since.
    """

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.x, self.g, self.loss = ground.x.copy(), ground.g.copy(), ground.loss

    def advance(self) -> Reason | None:
        """Make a step: leave the ground at a better point, or anywhere, and say why there is none."""
        raise NotImplementedError

    def arrive(self) -> None:
        """Take the ground's point for the one that the step led to."""
        np.copyto(self.x, self.ground.x)
        np.copyto(self.g, self.ground.g)
        self.loss = self.ground.loss

    def state(self) -> dict[str, Any]:
        """What it takes to go on later, as arrays and numbers."""
        return {name: value for name, value in vars(self).items() if name not in ("ground", *self.scratch)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        for name, value in state.items():
            held = getattr(self, name)
            if isinstance(held, np.ndarray):
                held[...] = value
            elif isinstance(held, list):
                setattr(self, name, [float(number) for number in value])
            else:
                setattr(self, name, type(held)(value))

    loud: ClassVar[bool] = True
    """Whether NumPy would warn of what overflows in it; it is judged by looking."""
    scratch: ClassVar[tuple[str, ...]] = ()
    """Attributes that are no part of the state."""


@dataclasses.dataclass(frozen=True)
class Method:
    """How to go down where the whole gradient is at hand: a direction with a search. Subclasses are the methods."""

    name: ClassVar[str] = ""
    maximize: ClassVar[bool] = False
    takes_bounds: ClassVar[bool] = False
    cautious: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.name = cls.name or spelling(cls.__name__)
        _REGISTRY[cls.name] = cls

    def walk(self, ground: Ground) -> Walk:
        """The method at the point where the ground stands, which has been looked at."""
        raise NotImplementedError

    def __call__(self, fun: Callable[..., Any], x0: Any, args: Any = (), **options: Any) -> Any:
        """``scipy.optimize.minimize(fun, x0, method=self)``, which calls it so."""
        return import_module("descend.minimization.minimize").as_scipy_method(self, fun, x0, args, **options)

    def _whole(self, name: str, least: int, usual: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
            raise MethodError(
                f"{type(self).__name__}({name}={value!r}): a whole number ≥ {least} is needed; try {usual}"
            )

    def _kind(self, name: str, kinds: tuple[type, ...]) -> None:
        value = getattr(self, name)
        if not isinstance(value, kinds):
            allowed = " or ".join(f"{kind.__name__}(…)" for kind in kinds)
            raise MethodError(f"{type(self).__name__}({name}={value!r}): {allowed} is needed")


_REGISTRY: dict[str, type[Method]] = {}


def registry() -> dict[str, type[Method]]:
    """Every method by its name."""
    return dict(_REGISTRY)


def cautious(norm: float) -> float:
    """The first step where nothing is known of the scale: as long as the gradient, but no longer than 1."""
    return 1.0 / max(1.0, norm)
