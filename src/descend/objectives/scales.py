"""What finite differences have learned of each parameter: its size, the curvature of the loss, and good steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from descend.objectives.steps import SCHEMES

if TYPE_CHECKING:
    from descend.objectives.stencil import Taken
    from descend.parameters.memory import Array

__all__ = ["CLEAR_BEND", "LONGEST", "Scales"]

CLEAR_BEND = 10.0
"""A curvature is known where it bends the loss by so many of the loss's errors."""
LONGEST = 0.1
"""How long a step may be, relative to the parameter's size or, if the loss is not seen to change, to max(1, |x|)."""
MOVED, FALLEN, RISEN = 30.0, 1e-4, 0.5
"""Scales are learned anew where a parameter has moved by so many of its sizes, or the loss has fallen to that share;
not where the loss has risen by that share: a search went astray there."""
LEAST = 1e-2
"""A parameter's size is at least this share of what it was when scales were learned last: it may pass through zero."""
SHORTEST = 1e-2
"""How short forward steps may be, relative to the usual ones, √eps · size."""
OTHER = 30.0
"""By what factor the next step of central differences may differ from one that was good."""
FLAT = 0.03
"""A slope is so flat that central differences are needed where a forward one has an error of this share of it."""


class Scales:
    """Scales of parameters, as vectors of a number for each. It is for the caller to have NumPy not warn of overflows.

    Attributes
    ----------
    size
        How large the parameter is; no less than `least`.
    reach
        By what factor steps are longer than usual, for a loss that a usual step does not change.
    clear
        The last step of central differences that was good; zero where there was none.
    curvature, bound
        The second derivative of the loss, zero where the loss's error hides it; a bound of its absolute value.
    ahead
        Forward steps that balance what they leave out with the error of the loss: 2 √(error / curvature) (Gill, Murray,
        Saunders and Wright 1983, equation 6); zero where none is known.
    flat
        Whether central differences are needed.
    plateau
        Whether the loss has not changed within the longest step, but does so further away.
    learned, loss
        Where these were learned, and the loss there; `last` is the loss of the last gradient, and `largest` the largest
        absolute loss where scales were learned.
    """

    saved: ClassVar[tuple[str, ...]] = (
        "size", "least", "reach", "clear", "curvature", "bound", "ahead", "flat", "plateau",
        "learned", "loss", "largest", "last",
    )  # fmt: skip

    def __init__(self, size: Array) -> None:
        self.size, self.least = size, LEAST * size
        self.reach, self.clear, self.ahead = np.ones_like(size), np.zeros_like(size), np.zeros_like(size)
        self.curvature, self.bound = np.zeros_like(size), np.zeros_like(size)
        self.flat, self.plateau = np.zeros(size.shape, bool), np.zeros(size.shape, bool)
        self.learned: Array = np.full_like(size, np.nan)
        self.loss = self.last = math.nan
        self.largest = 0.0

    @property
    def known(self) -> bool:
        """Whether anything was learned."""
        return not math.isnan(self.loss)

    @property
    def bend_over(self) -> Array:
        """Within which distance the curvature may change: the parameter's size, or less where the loss is small."""
        with np.errstate(divide="ignore", invalid="ignore"):
            within = np.sqrt(self.largest / np.abs(self.curvature))
        return np.where(within > 0.0, np.minimum(self.size, within), self.size)

    def resize(self, x: Array) -> None:
        """Have the sizes of another point; a zero has none of its own."""
        self.size = np.where(x == 0.0, self.size, np.maximum(np.abs(x), self.least))

    def outdated(self, x: Array) -> bool:
        """Whether the point is too far from where scales were learned, or the loss too far below."""
        if not self.known:
            return True
        sizes = np.maximum(np.abs(self.learned), self.least)
        return bool(np.any(np.abs(x - self.learned) > MOVED * sizes)) or abs(self.last) < FALLEN * abs(self.loss)

    def astray(self, loss: float | None) -> bool:
        """Whether a loss is well above that where scales were learned."""
        return loss is None or (self.known and not loss - self.loss <= RISEN * abs(self.loss))

    def central_steps(self, eps: Array, error: float) -> Array:
        """Steps of central differences for losses of that error: ∛(error / third derivative).

        The third derivative is about the curvature, divided by how far that bends over; as a guess it is not trusted
        far from a step that was good.
        """
        usual = eps ** SCHEMES["3-point"] * self.size * self.reach
        if not (self.known and math.isfinite(error)):
            return usual
        best = np.cbrt(error * self.bend_over / self.bound)
        best = np.where(np.isfinite(best), np.clip(best, self.clear / OTHER, self.clear * OTHER), self.clear)
        return np.where(self.clear > 0.0, np.minimum(best, np.maximum(self.clear, LONGEST * self.size)), usual)

    def forward_steps(self, eps: Array) -> Array:
        """Steps of forward differences."""
        usual = eps ** SCHEMES["2-point"] * self.size * self.reach
        return np.where(self.ahead > 0.0, self.ahead, usual)

    def learn(self, index: Array, taken: Taken, noise: Array, eps: Array) -> None:
        """Learn from central differences in the parameters at `index`, of losses with these errors."""
        known = np.isfinite(taken.curvature) & (taken.bend >= CLEAR_BEND * noise)
        self.curvature[index] = np.where(known, taken.curvature, 0.0)
        # One that is hidden by the noise is no larger than what would have shown; none at all where nothing changed.
        hidden = np.where(taken.change > 0.0, 2.0 * CLEAR_BEND * noise / taken.step**2, 0.0)
        self.bound[index] = np.where(known, np.abs(taken.curvature), hidden)
        best = 2.0 * np.sqrt(noise / self.bound[index])
        self.clear[index] = taken.step
        usual = eps ** (SCHEMES["2-point"] - SCHEMES["3-point"]) * taken.step
        self.ahead[index] = np.clip(best, SHORTEST * usual, taken.step)

    def look(self, index: Array, taken: Taken, noise: Array) -> None:
        """See which slopes are too flat for forward differences."""
        error = 2.0 * np.sqrt(noise * self.bound[index])
        self.flat[index] = error > FLAT * np.abs(taken.slope)

    def stand(self, x: Array, loss: float) -> None:
        """Take note of where the scales were learned."""
        self.learned, self.loss, self.largest = x.copy(), loss, max(self.largest, abs(loss))
        self.resize(x)
        self.least = LEAST * self.size

    def state(self) -> dict[str, Any]:
        """All that was learned, as arrays and numbers."""
        return {name: getattr(self, name) for name in self.saved}

    @classmethod
    def of_state(cls, state: Mapping[str, Any], size: int) -> Scales:
        """What was learned, from a `state`; raises `KeyError` or `ValueError` for one that is of something else."""
        scales = cls(np.zeros(size))
        for name in cls.saved:
            kept, now = np.asarray(state[name]), np.asarray(getattr(scales, name))
            if kept.shape != now.shape or kept.dtype.kind != now.dtype.kind:
                raise ValueError(f"{name} has shape {kept.shape} and dtype {kept.dtype}, not {now.shape}, {now.dtype}")
            setattr(scales, name, kept.astype(now.dtype) if kept.shape else float(kept))
        return scales
