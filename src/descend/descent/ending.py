"""The end of a descent by a method: where its loss no longer falls, and what is known of the point then."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.descent.convergence import unseen
from descend.descent.curvature import Curvature, along_gradient, of_all
from descend.descent.point import largest_entry
from descend.methods.base import restore_attribute
from descend.methods.searches import rounding_error
from descend.stopping import Reason

if TYPE_CHECKING:
    from descend.descent.line import MemoryLineObjective
    from descend.descent.loop import Descent
    from descend.methods import MethodRun
    from descend.parameters.memory import Array

__all__ = ["Ending"]

STATE = ("judged", "asked", "flattest", "start", "slopes")

CHEAP = 40
"""Evaluations that the curvature around a point may always take."""
SHARE = 0.25
"""What it may take beyond that, in gradients, as a share of the steps that were made."""
LARGEST = 200
"""Parameters of which a matrix is made, at most."""
PERIOD = 100
"""After how many steps a method is given the curvature around its point, if that is cheap, should it still descend."""

SEVERAL = 8
"""How many errors of the loss the decrease that a model expects is compared with."""
NOWHERE, NOWHERE_NEAR = 1024, 16
"""A step is none that moves each parameter by so many units in its last place at most, or in the middle one."""
FALLEN = 1e-2
"""A slope that is still this share of what it was at first has not come to an end."""
FAR = 1e25
"""By how many times parameters have grown where they no longer approach a minimum."""


class Ending:
    """What decides that a descent by a method has ended, although no criterion that was asked for holds.

    Every few steps, and whenever the loss no longer falls or the method's model promises no more than rounding hides,
    the curvature around the point is measured. If it says that no lower point can be told, the descent has ended; else
    the method may go on with that curvature, once for each time that the loss has fallen.

    `judged` is the loss where the curvature was last measured, `asked` the step, `start` the point where the method
    began, `flattest` the smallest norm of a gradient so far, as far as the norm decides that there is progress.
    """

    def __init__(self, descent: Descent, line: MemoryLineObjective, run: MethodRun) -> None:
        self.descent, self.line, self.run = descent, line, run
        self.by_itself = not descent.criteria.has_tolerance
        """Whether the problem's own scale decides, as no tolerance was given."""
        self.judged, self.asked, self.flattest = math.nan, 0, math.inf
        self.start = run.x.copy() if run.x.size <= LARGEST else run.x[:0].copy()
        self.slopes = np.abs(run.g[: self.start.size])
        """The gradient there, entry by entry: rounding is relative to that, however flat the loss is at its minimum."""
        self.period = max(PERIOD, 10 * run.x.size)
        self.dear = descent.evaluations()[1] > 1
        """Whether a gradient takes many evaluations, by differences."""
        self._errors: Array | None = None
        """Those of the gradient where that was last asked."""
        line.begin_mark(run.loss)
        self._keep()

    def advance(self) -> Reason | None:
        """Have the method make a step, if the descent has not ended; why it has, or why no step was made."""
        run = self.run
        if run.judges_end:
            return run.advance()
        self._keep()
        reason = self._ask() if self._near() else None
        failed = None if reason is not None else run.advance()
        while failed is Reason.LINE_SEARCH:
            reason = self._ask(failed)
            failed = None if reason is not None else run.advance()
        return reason or failed

    def _ask(self, failed: Reason = Reason.STALLED) -> Reason | None:
        """Judge; where the descent goes on, its state knows the answer, and its counts have what that took."""
        reason = self._judge(failed)
        if reason is None:
            self.descent.counted = self.descent.counts()
        return reason

    def stationary(self) -> Reason | None:
        """What the curvature says where the gradient is zero; a step is made if a more exact one is not."""
        self._keep()
        reason = self._judge(Reason.LINE_SEARCH, learns=False)
        if reason is None and np.any(self.run.g):
            return self.advance()
        return reason or self._judge(Reason.LINE_SEARCH, learns=False) or Reason.LINE_SEARCH

    def undo(self) -> None:
        """Forget what a step that was broken off has counted: it is made again when the descent is gone on with."""
        self.line.since, self.line.mark, self.run.expected = self._kept

    def _keep(self) -> None:
        self._kept = self.line.since, self.line.mark, self.run.expected

    def state(self) -> dict[str, Any]:
        """What it takes to go on later."""
        return {name: getattr(self, name) for name in STATE} | {"since": self.line.since, "mark": self.line.mark}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        for name in STATE:
            restore_attribute(self, name, state[name])
        self.line.since, self.line.mark = int(state["since"]), float(state["mark"])

    def _near(self) -> bool:
        """Whether it is time to ask: the loss has not fallen for long, or its model promises less than rounding."""
        run, line, descent = self.run, self.line, self.descent
        if descent.steps - self.asked >= self.period:
            return True
        if self.by_itself:
            return line.since >= run.patience or self._promises_nothing()
        if line.since < run.patience:
            return False
        # Where a tolerance was given, a flatter gradient is progress too, though the loss may no longer show it.
        if descent.norm < 0.5 * self.flattest:
            self.flattest, line.since = descent.norm, 0
        return line.since >= run.patience

    def _promises_nothing(self) -> bool:
        """Whether the model of the method expects a decrease that rounding hides."""
        expected, loss = self.run.expected, self.run.loss
        if self.dear:
            return expected <= self._error(0.0)
        return expected <= max(SEVERAL * self.descent.resolution.error(loss), self._nothing())

    def _judge(self, failed: Reason = Reason.STALLED, *, learns: bool = True) -> Reason | None:
        """Why the descent ends where the run stands, if not as it should as `failed`; None where it goes on."""
        line, run, descent = self.line, self.run, self.descent
        if line.trials and not line.finite_trials:
            return failed
        line.return_to(run.x, run.g, run.loss)
        without_end = descent.health.falls_without_end(run.loss, descent.steps, endless=True, far=FAR)
        if without_end is not None:
            return without_end
        by_period = failed is Reason.STALLED and line.since < run.patience and not self._promises_nothing()
        promised = not self._promises_nothing()
        renewed = not by_period and descent.refine()
        if renewed:
            self._renew()
            if promised:
                return None
            renewed = descent.steps < 2 * run.x.size  # the method has hardly begun: it gets another chance
        self._errors = descent.gradient_error()
        curvature, whole = self._curvature(by_period=by_period)
        self.asked = descent.steps
        if curvature is None:
            return None if by_period or renewed else failed
        error = self._error(curvature.noise)
        if self._is_minimum(curvature, error):
            return self._verdict(curvature, error, failed)
        fallen = not run.loss >= self.judged - error
        self.judged = run.loss
        if learns and whole and fallen and run.learn_curvature(curvature):
            line.begin_mark(run.loss)
            self._keep()
            return None
        return None if by_period or renewed else self._verdict(curvature, error, failed)

    def _renew(self) -> None:
        """Evaluate the gradient anew, now that it is more exact, and go on."""
        line, run = self.line, self.run
        line.evaluate(run.x, np.zeros_like(run.x), 0.0)
        run.renew()
        run.expected = math.nan
        line.begin_mark(run.loss)
        self._keep()

    def _is_minimum(self, curvature: Curvature, error: float) -> bool:
        """Whether the curvature leads to no point that can be told from the one where the run stands."""
        if not curvature.positive:
            return False
        if curvature.decrease <= error:
            return True
        # Where the loss is zero at its minimum its own floats tell more than the parameters' do.
        return bool(np.all(np.abs(curvature.step(self.run.g)) <= self._shortest()))

    def _shortest(self) -> Array:
        """The steps of the parameters that gradients can't tell: those of differences know half of the digits."""
        eps = self.descent.resolution.eps
        share: float = NOWHERE_NEAR * math.sqrt(eps) if self.dear else NOWHERE * eps
        shortest: Array = share * np.abs(self.run.x)
        return shortest

    def _affordable(self) -> bool:
        """Whether the curvature of all parameters may be measured, which takes two gradients for each."""
        cost, size = self.descent.evaluations()[1], self.run.x.size
        return self.start.size > 0 and 2 * size <= max(CHEAP / cost, SHARE * self.descent.steps)

    def _untouched(self) -> bool:
        """Whether a slope is still what it was at first: that of a parameter whose scale the method has not found.

        Products along the gradient hardly see such a parameter, as it moves so little.
        """
        if not self.start.size:  # of very many parameters the slopes at first are not kept
            return False
        now = np.abs(self.run.g)
        return bool(np.any((self.slopes > 0.0) & (now > np.maximum(FALLEN * self.slopes, 10.0 * self._slope_errors()))))

    def _sizes(self) -> Array:
        """The typical size of each parameter; of very many, one for all."""
        x = self.run.x
        if not self.start.size:
            return np.full_like(x, float(np.max(np.abs(x))) or 1.0)
        sizes: Array = np.maximum(np.abs(x), np.abs(x - self.start))
        if self.dear:
            # One that began at zero and has hardly moved is as large as it takes to change the loss by itself.
            slope = np.abs(self.run.g)
            reach = np.divide(abs(self.run.loss), slope, out=np.ones_like(x), where=slope > abs(self.run.loss))
            np.maximum(sizes, reach, out=sizes, where=self.start == 0.0)
        sizes[sizes == 0.0] = 1.0
        return sizes

    def _slope_errors(self) -> Array:
        """The errors of the gradient's entries: those of differences or, by rounding, of what they were at first."""
        if self._errors is not None:
            return np.where(np.isfinite(self._errors), self._errors, 0.0)
        errors: Array = self.descent.resolution.eps * np.maximum(self.slopes, np.abs(self.run.g))
        return errors

    def _in_doubt(self, curvature: Curvature) -> bool:
        """Whether the errors of a gradient by differences leave a decrease open that losses would show."""
        errors = self._errors
        if errors is None or curvature.diagonal is None or len(curvature.diagonal) != len(errors):
            return False
        bend = np.abs(curvature.diagonal)
        if np.all(errors <= bend * self._shortest()):
            return False
        # Along each direction the errors of the entries add up by their squares, as they are of any sign.
        along, values = curvature.steps**2 @ errors**2, np.abs(curvature.values)
        left = np.divide(0.5 * along, values, out=np.where(along > 0.0, math.inf, 0.0), where=values > 0.0)
        # A loss that is zero at its minimum is no more exact than one as large as the parameters make it.
        resolution, usual = self.descent.resolution, 0.5 * float(np.sum(bend * self.run.x**2))
        told = max(SEVERAL * resolution.error(self.run.loss), resolution.eps * usual, self._nothing())
        return float(np.sum(left)) > told

    def _error(self, noise: float) -> float:
        return max(rounding_error(self.line, self.run.loss), noise, self._nothing())

    def _nothing(self) -> float:
        """What is nothing beside the first loss, though rounding would not hide it, where the lowest loss is zero."""
        eps = self.descent.resolution.eps
        return eps * eps * abs(self.descent.health.first)

    def _verdict(self, curvature: Curvature, error: float, failed: Reason) -> Reason:
        """The reason at a point whose curvature was measured; the descent's `detail` has the figures."""
        run, descent, line = self.run, self.descent, self.line
        resolved = f"losses near {run.loss:.6g} are told apart by {error:.2g}"
        if not curvature.positive:
            detail = f"The loss curves downwards there, and {resolved}."
        elif self._is_minimum(curvature, error):
            detail = f"The curvature promises a decrease of {curvature.decrease:.2g} at most, and {resolved}."
            blind = unseen(descent)
            if blind:
                detail = f"Differences see no change of the loss in {blind} of {run.x.size} parameters, and {resolved}."
            elif self._in_doubt(curvature):
                detail = f"Differences are no more exact than that, and {resolved}."
            elif self.by_itself:
                failed = Reason.RESOLUTION
        else:
            detail = f"The curvature promises a decrease of {curvature.decrease:.2g}, and {resolved}."
        if failed is Reason.STALLED and line.since >= run.patience:
            detail = f"It has not for {line.since} evaluations. {detail}"
        elif failed is Reason.LINE_SEARCH:
            detail = (
                f"The gradient's largest entry is {largest_entry([run.g]):.3g} after step {descent.steps}. {detail}"
            )
        descent.detail = detail
        return failed

    def _curvature(self, *, by_period: bool) -> tuple[Curvature | None, bool]:
        """The curvature where the run stands, and whether it is that of all free parameters."""
        run, line = self.run, self.line
        whole = self._affordable()
        if by_period and not whole:
            return None, False
        whole = whole or self._untouched()
        free = np.ones(run.x.size, bool)
        if line.bounds is not None:
            lower, upper = line.bounds
            free = (lower < upper) & ~(((run.x <= lower) & (run.g > 0.0)) | ((run.x >= upper) & (run.g < 0.0)))
        counts = line.since, line.mark, line.trials, line.finite_trials
        try:
            sizes, exact = self._sizes(), not self.dear
            if not whole:
                return along_gradient(line, run, free, sizes, exact=exact), False
            return of_all(line, run, free, sizes, self._slope_errors(), exact=exact), True
        finally:
            line.since, line.mark, line.trials, line.finite_trials = counts
            line.return_to(run.x, run.g, run.loss)
