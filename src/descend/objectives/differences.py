"""Loss and gradient by finite differences, whose steps follow from the parameters' sizes and the noise of the loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.objectives.flat_loss import FlatLoss
from descend.objectives.noise import NOISE_POINTS, Spacing, noise_of
from descend.objectives.scales import CLEAR_BEND, LONGEST, Scales
from descend.objectives.stencil import Stencil, Taken, difference
from descend.objectives.steps import given_steps, typical_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from descend.objectives.objective import Objective
    from descend.parameters.memory import Array

__all__ = ["AUTOMATIC", "DIFFERENCES", "Differences"]

AUTOMATIC = "differences"
DIFFERENCES = (AUTOMATIC, "2-point", "3-point", "cs")
"""Differences that are chosen as the descent goes, and SciPy's names of the schemes."""

CLEAR_CHANGE = 1e6
"""A slope is known where the loss changes by so many of its errors, whether or not the loss bends."""
LENGTHEN, SHORTEN, ROUNDS = 30.0, 1e-3, 8
"""By what a step that tells nothing becomes longer, and one that is far too long shorter, so often at most."""
TOO_LONG = 0.1
"""A step is far too long where it changes the loss by this share of the largest loss where scales were learned."""
FURTHEST_SHORTER = 1e-10
"""How short a step may become, relative to a parameter's size."""
LOST = 0.1
"""A slope is lost in an error that is this share of it."""
COARSE = 1e3
"""Noise of so many units in the last place does not become less as the loss falls."""
COMPLEX_STEP = 1e-10
"""The step of complex differences, relative to a parameter's size: what they leave out is of the order of its square,
and as nothing is subtracted no step is too short."""
SPACINGS = 5
"""How many spacings are tried to measure the noise."""
OTHER_SPACING = {Spacing.FINER: 2.0**-7, Spacing.COARSER: 2.0**5}
"""By what factor the next one differs."""


class Differences:
    """The gradient of an `Objective` by finite differences.

    Parameters
    ----------
    objective
        The function, its memory and bounds; `nfev` and `njev` are counted there.
    scheme
        ``"2-point"``, ``"3-point"``, ``"cs"`` as in SciPy, with steps for the parameters' sizes. ``"differences"``:
        central ones where the descent begins, which tell the curvature in each parameter; then forward ones, whose
        steps balance the curvature with the noise of the loss, less what the curvature explains; and central ones
        again in each parameter whose slope a forward one would lose in its error.
    relative, absolute
        Steps as the user gives them, for `descend.objectives.steps.given_steps`. They are kept to.

    Attributes
    ----------
    error
        The estimated error of each entry of the last gradient: by the error of the losses, and by what the scheme
        leaves out. Infinite where the loss has not changed within a step, so that nothing is known of the slope.
    steps, still
        How long the steps of the last gradient were; where the loss had not changed at all within a usual one.
    scales
        What was learned of the parameters, once there was a gradient.
    central
        Whether all differences are central ones from here on.
    kinds
        Which were taken: ``"forward"``, ``"central"`` or ``"complex"``.
    """

    def __init__(self, objective: Objective, scheme: str, relative: Any = None, absolute: Any = None) -> None:
        self.objective, self.scheme = objective, scheme
        self.given = None if relative is None and absolute is None else (relative, absolute)
        self.central = scheme == "3-point"
        self.error: Array | None = None
        self.steps: Array = np.ones(objective.memory.size)
        self.still: Array = np.zeros(objective.memory.size, bool)
        self.scales: Scales | None = None
        self.kinds: set[str] = set()
        self._slope: Array = np.zeros(0)
        self._whole = False
        """Whether the last gradient was by central differences in every parameter."""
        if self.given is not None and scheme != "cs":  # so that bad ones are refused at once
            given_steps(np.concatenate(objective.memory.vectors), "2-point", relative, absolute)

    @property
    def cost(self) -> int:
        """How many evaluations one gradient takes at least."""
        return 1 + (2 if self.central else 1) * self.objective.memory.size

    @property
    def adapts(self) -> bool:
        """Whether it may choose more than the lengths of steps."""
        return self.scheme == AUTOMATIC and self.given is None

    @property
    def description(self) -> str:
        """What the gradients were by, for people."""
        return f"gradients by {' and '.join(sorted(self.kinds, reverse=True))} differences" if self.kinds else ""

    def refine(self) -> bool:
        """Have central differences from here on, for the noise as it is there; False if they are central already."""
        if not self.adapts or self.central or self._whole:
            return False
        self.central = True
        if self.scales is not None:
            self.scales.loss = math.nan
        return True

    def state(self) -> dict[str, Any]:
        """What was learned, as arrays and numbers."""
        scales = {} if self.scales is None else self.scales.state()
        return {"central": self.central, "whole": self._whole} | scales

    def restore(self, state: Mapping[str, Any]) -> None:
        """Have learned what `state` says; nothing where it is of no differences. Raises as `Scales.of_state` does."""
        if "size" in state:
            self.scales = Scales.of_state(state, self.objective.memory.size)
            self._whole = bool(state["whole"])
            self.central = self.central or (self.adapts and bool(state["central"]))

    def __call__(self, args: tuple[Any, ...], grad: list[Array]) -> float:
        """The loss at the memory's point; its gradient goes into `grad`."""
        flat = FlatLoss(self.objective, args)
        lower, upper = (np.broadcast_to(end, flat.x.shape) for end in self.objective.bounds or (-np.inf, np.inf))
        stencil, free = Stencil(flat, lower, upper), np.flatnonzero(lower < upper)
        # What has no room within the bounds keeps a slope of zero.
        self._slope, self.error = np.zeros_like(flat.x), np.zeros_like(flat.x)
        if self._is_given_up(stencil):
            for vector in grad:
                vector[...] = np.nan
            assert stencil.loss is not None
            return stencil.loss
        self.objective.njev += 1
        with np.errstate(all="ignore"):  # what overflows is judged later; the user's function warns as it does
            if self.scheme == "cs":
                self._by_complex_steps(stencil, free)
            elif not free.size:
                stencil.losses(free, np.zeros(0))
            elif self.given is not None:
                self._by_given_steps(stencil, free, *self.given)
            else:
                self._by_own_steps(stencil, free)
        for vector, part in zip(grad, flat.split(self._slope), strict=True):
            vector[...] = part
        assert stencil.loss is not None
        return stencil.loss

    def _is_given_up(self, stencil: Stencil) -> bool:
        """Whether the loss alone tells that a trial is given up; not asked where all points are one call."""
        ceiling = self.objective.resolution.ceiling
        if ceiling == np.inf or stencil.flat.at_once:
            return False
        stencil.losses(np.zeros(0, int), np.zeros(0))
        return stencil.loss is not None and stencil.loss > ceiling

    # ---- steps that do not depend on the loss -------------------------------------------------------------------

    def _by_complex_steps(self, stencil: Stencil, free: Array) -> None:
        from scipy.optimize._numdiff import approx_derivative

        flat = stencil.flat
        stencil.losses(free[:0], np.zeros(0))
        assert stencil.loss is not None

        def of_free(part: Array) -> Any:
            point = flat.x.astype(part.dtype)
            point[free] = part
            return flat(point)

        if free.size and math.isfinite(stencil.loss):
            steps = COMPLEX_STEP * typical_sizes(flat.x, self.objective.bounds)[free]
            self.kinds.add("complex")
            self._slope[free] = approx_derivative(of_free, flat.x[free], method="cs", f0=stencil.loss, abs_step=steps)

    def _by_given_steps(self, stencil: Stencil, free: Array, relative: Any, absolute: Any) -> None:
        scheme = "3-point" if self.central else "2-point"
        self.kinds.add("central" if self.central else "forward")
        steps = given_steps(stencil.flat.x, scheme, relative, absolute)[free]
        taken = difference(stencil, free, np.abs(steps) if self.central else steps, np.full(free.shape, self.central))
        self._take(free, taken, 2.0 * self._noise(taken) / taken.step)
        blind = np.flatnonzero(taken.change == 0.0)
        if blind.size:  # has the loss not changed because it does not depend on the parameter?
            self.error[free[blind]] = np.inf  # type: ignore[index]
            far_away = np.maximum(1.0, np.abs(stencil.flat.x[free]))[blind]
            if self._may(blind.size):
                far = difference(stencil, free[blind], far_away, np.zeros(blind.shape, bool))
                flat = far.change == 0.0
                self.error[free[blind[flat]]] = 0.0  # type: ignore[index]

    # ---- steps of its own ---------------------------------------------------------------------------------------

    def _by_own_steps(self, stencil: Stencil, free: Array) -> None:
        x = stencil.flat.x
        if self.scales is None:
            self.scales = Scales(typical_sizes(x, self.objective.bounds))
        scales = self.scales
        scales.resize(x)
        learn = self.central
        if scales.outdated(x) and (self.adapts or not scales.known):
            stencil.losses(free[:0], np.zeros(0))  # the loss at the point itself: scales are not learned astray
            if not self.central:
                learn = self.adapts and not scales.astray(stencil.loss) and self._may(2 * free.size)
            first = math.isnan(scales.last)
            if first or ((self.central or learn) and (not scales.known or self.objective.resolution.noise > 0.0)):
                self._measure_noise(stencil, free, scales)
        if learn:
            self._by_central(stencil, free, scales)
        else:
            self._by_forward(stencil, free, scales)
        self._whole = learn or bool(np.all(scales.flat[free]))
        self.kinds |= {"central"} if learn else {"forward"} if not scales.flat[free].any() else {"forward", "central"}
        assert stencil.loss is not None
        scales.last = stencil.loss

    def _by_central(self, stencil: Stencil, free: Array, scales: Scales) -> None:
        """Central differences in all parameters, which tell their scales."""
        steps = scales.central_steps(self._eps(stencil), self.objective.resolution.error(scales.last))[free]
        taken = difference(stencil, free, steps, np.ones(free.shape, bool))
        if stencil.loss is None or not math.isfinite(stencil.loss):
            self._take(free, taken, np.full(free.shape, np.inf))
            return
        self._clarify(stencil, free, taken, scales)
        noise = self._noise(taken)
        scales.learn(free, taken, noise, self._eps(stencil, free))
        scales.look(free, taken, noise)
        scales.stand(stencil.flat.x, stencil.loss)
        self._take(free, taken, self._central_error(free, taken, noise, scales))

    def _clarify(self, stencil: Stencil, index: Array, taken: Taken, scales: Scales) -> None:
        """Have longer steps where the loss is not seen to change, and shorter ones where it changes wildly."""
        assert stencil.loss is not None
        steps, shortest = taken.step, FURTHEST_SHORTER * scales.size[index]
        self.still[index] = taken.change == 0.0
        grown = np.zeros(index.shape, bool)
        wild = TOO_LONG * max(abs(stencil.loss), scales.largest) or np.inf
        for _ in range(ROUNDS):
            noise, lost = self._noise(taken), ~np.isfinite(taken.slope)
            longest = self._longest(stencil, index)
            hidden = (taken.bend < CLEAR_BEND * noise) & (taken.change < CLEAR_CHANGE * noise)
            short = ~lost & hidden & (steps < longest)
            long = (lost | (taken.change > wild)) & (steps > shortest) & ~grown
            grown |= short
            again = np.flatnonzero(short | long)
            if not again.size or not self._may(2 * again.size):
                break
            other = np.clip(steps * np.where(short, LENGTHEN, SHORTEN), shortest, longest)
            scales.reach[index[again]] *= (other / steps)[again]
            steps[again] = other[again]
            taken.put(again, difference(stencil, index[again], steps[again], np.ones(again.shape, bool)))
        self._look_far(stencil, index, taken, scales)

    def _look_far(self, stencil: Stencil, index: Array, taken: Taken, scales: Scales) -> None:
        """See whether a loss that has not changed at all does so far away: then the point lies on a plateau."""
        still = np.flatnonzero(taken.change == 0.0)
        scales.plateau[index] = False
        if still.size and self._may(2 * still.size):
            far = np.maximum(1.0, np.abs(stencil.flat.x[index[still]]))
            found = difference(stencil, index[still], far, np.ones(still.shape, bool))
            scales.plateau[index[still]] = found.change != 0.0  # NaN as well
        elif still.size:
            scales.plateau[index[still]] = True

    def _by_forward(self, stencil: Stencil, free: Array, scales: Scales) -> None:
        """Forward differences, and central ones in parameters whose slope would be lost in the forward one's error."""
        eps = self._eps(stencil, free)
        central = scales.central_steps(self._eps(stencil), self.objective.resolution.error(scales.last))[free]
        both = scales.flat[free] & (self.adapts and self._may(1 + 2 * free.size))
        taken = difference(stencil, free, np.where(both, central, scales.forward_steps(self._eps(stencil))[free]), both)
        if self.adapts:
            astray = scales.astray(stencil.loss)
            if not astray:  # the curvature is not that of a point astray
                taken.slope = taken.slope - np.where(both, 0.0, 0.5 * taken.offset * scales.curvature[free])
        noise = self._noise(taken)
        error = 2.0 * noise / taken.step + 0.5 * scales.bound[free] * taken.step
        if not self.adapts:
            self._lengthen(stencil, free, taken, scales)
            if math.isnan(scales.last):  # the first time
                self._look_far(stencil, free, taken, scales)
            noise = self._noise(taken)
            error = np.where(taken.change > noise, 2.0 * noise / taken.step, error)
        elif not astray:
            unseen = (taken.change == 0.0) & (taken.step < 0.99 * self._longest(stencil, free))
            lost = ~both & (error > LOST * np.abs(taken.slope)) & (scales.bound[free] > 0.0)
            again = np.flatnonzero(lost | unseen)
            if again.size and self._may(2 * again.size):
                second = difference(stencil, free[again], central[again], np.ones(again.shape, bool))
                if unseen.any():
                    self._clarify(stencil, free[again], second, scales)
                taken.put(again, second)
                both[again] = True
                noise = self._noise(taken)
            if both.any():
                scales.learn(free[both], taken.of(both), noise[both], eps[both])
                error = np.where(both, self._central_error(free, taken, noise, scales), error)
            scales.look(free, taken, noise)
        self._take(free, taken, error)

    def _lengthen(self, stencil: Stencil, free: Array, taken: Taken, scales: Scales) -> None:
        """Have longer steps where the loss has not changed beyond its error within one, as far as the budget goes.

        The first that does change it may do so by one jump of a loss in coarse numbers: the next one is taken.
        """
        steps, more = taken.step, np.zeros(free.shape, bool)
        for _ in range(ROUNDS):
            longest = self._longest(stencil, free)
            hidden = taken.change <= CLEAR_BEND * self._noise(taken)
            again = np.flatnonzero((hidden | more) & (steps < longest))
            if not again.size or not self._may(again.size):
                return
            more = taken.change == 0.0
            longer = np.minimum(steps * LENGTHEN, longest)[again]
            scales.reach[free[again]] *= longer / steps[again]
            steps[again] = longer
            taken.put(again, difference(stencil, free[again], longer, np.zeros(again.shape, bool)))

    def _measure_noise(self, stencil: Stencil, free: Array, scales: Scales) -> None:
        """Measure the noise of the loss along a line on which every parameter moves."""
        flat, resolution = stencil.flat, self.objective.resolution
        loss = stencil.loss
        if loss is None or not math.isfinite(loss):
            return
        sign = np.zeros_like(flat.x)
        sign[free] = np.where(np.arange(len(free)) % 2, -1.0, 1.0)
        # By powers of two, so that the points are equally spaced in floats, too.
        unit = np.exp2(np.round(np.log2(np.sqrt(flat.spacing) * scales.size * scales.reach)))
        jumps = False
        for _ in range(SPACINGS):
            up, down = stencil.upper - flat.x >= NOISE_POINTS * unit, flat.x - stencil.lower >= NOISE_POINTS * unit
            direction = np.where((sign > 0.0) & ~up, -1.0 * down, np.where((sign < 0.0) & ~down, 1.0 * up, sign))
            if not self._may(NOISE_POINTS - 1 + 2 * len(free)):
                return
            points = flat.x + np.arange(1, NOISE_POINTS)[:, None] * (direction * unit)
            found = noise_of(np.append(loss, flat.rows(points)), jumps=jumps)
            if isinstance(found, float):
                noise = 2.0 * found  # from the standard deviation to about the largest error
                if resolution.noise > COARSE * resolution.eps * scales.largest:  # of rounding, whatever the loss
                    noise = max(noise, 0.5 * resolution.noise)
                resolution.noise = noise if noise > 4.0 * resolution.eps * abs(loss) else 0.0
                return
            unit, jumps = unit * OTHER_SPACING[found], found is Spacing.COARSER

    # ---- parts --------------------------------------------------------------------------------------------------

    def _eps(self, stencil: Stencil, index: Array | slice = slice(None)) -> Array:
        """The relative error of a loss, for each parameter: that of the coarsest floats on the way."""
        return np.maximum(self.objective.resolution.eps, stencil.flat.spacing)[index]

    def _longest(self, stencil: Stencil, free: Array) -> Array:
        """How long steps may become."""
        return np.asarray(LONGEST * np.maximum(1.0, np.abs(stencil.flat.x[free])))

    def _noise(self, taken: Taken) -> Array:
        """The error of the losses of each difference."""
        resolution = self.objective.resolution
        return np.maximum(resolution.eps * taken.largest, max(resolution.noise, np.finfo(float).tiny))

    def _central_error(self, free: Array, taken: Taken, noise: Array, scales: Scales) -> Array:
        """The error of each central difference; of one-sided ones as well, where the other side was not to be had."""
        one_sided = np.isnan(taken.curvature)
        left_out = np.where(one_sided, 0.5 * taken.step, taken.step**2 / (6.0 * scales.bend_over[free]))
        return np.asarray(noise / taken.step + scales.bound[free] * left_out)

    def _may(self, evaluations: int) -> bool:
        """Whether the budget allows so many evaluations from here."""
        left = self.objective.evaluations_left()
        return left is None or left >= evaluations

    def _take(self, free: Array, taken: Taken, error: Array) -> None:
        assert self.error is not None
        if self.scales is not None:
            # Where the loss has not changed, it does not depend on the parameter, or the point is on a plateau.
            error = np.where(taken.change == 0.0, np.where(self.scales.plateau[free], np.inf, 0.0), error)
        self._slope[free], self.steps[free] = taken.slope, taken.step
        self.error[free] = error
