"""Levenberg–Marquardt: least squares by a Gauss–Newton model in a trust region."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from descend.checks import count, real
from descend.errors import MethodError
from descend.methods.base import LineObjective, Method, MethodRun
from descend.methods.gauss_newton import Model, Step, model_of
from descend.methods.mixing import Mixing
from descend.stopping import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from descend.parameters.memory import Array

__all__ = ["LevenbergMarquardt"]

ACCEPT, POOR, GOOD = 1e-4, 0.25, 0.75
"""Shares of the predicted decrease: what a step is accepted with, and below and above which the radius changes."""
SHRINK, GROW = 0.1, 2.0
"""The radius becomes no less than a tenth, and twice the length of a step that went well."""
EXACT, FAR = 0.001, 10.0
"""It becomes ten times that length where the decrease was the predicted one but for this share."""
LEVEL = 0.5
"""A step whose decrease rounding hides must have the promise fall to this share, or the descent has ended."""
NEAR_CENTRAL = 1e-6
"""Differences are made more exact where the model promises less than this share of the loss."""

TOLD = 0.005
"""The share of the loss's rounding below which a promise is nothing: then x has twice as many digits as it takes."""
OFFSET = 1e-3
"""Where no lower point is found, what a model may still promise, as a relative offset, of a point that is the end."""
NEAR_MIXING = 1e-4
"""Steps are mixed where it promises less than this share."""


class ResidualObjective(LineObjective, Protocol):
    """What the method sees of the residuals: see `descend.descent.residual_line.ResidualLine`."""

    values: Array
    jacobian: Any
    error: float
    ftol: float | None
    xtol: float | None
    scale: Array | None

    def decrease(self, before: Array) -> float:
        """By how much the loss has fallen from other residuals."""

    def differentiate(self) -> bool:
        """Evaluate Jacobian and gradient; whether all is finite."""

    def refine(self) -> bool:
        """Have differences be more exact."""

    def model(self) -> tuple[Array, Any]:
        """Residuals and Jacobian of the Gauss–Newton model."""

    def go_back(self, x: Array, gradient: Array, loss: float, values: Array, jacobian: Any) -> None:
        """Stand again at a point that is known."""

    def kept(self, values: Array, jacobian: Any) -> dict[str, Array]:
        """What is known at a point, as arrays."""

    def hold(self, state: Mapping[str, Any]) -> None:
        """Know it again."""


@dataclasses.dataclass(frozen=True)
class LevenbergMarquardt(Method):
    """Levenberg–Marquardt, for residuals: the method of `descend.least_squares` and `descend.curve_fit`.

    A step is the least of the Gauss–Newton model within a radius of scaled parameters, with the damping and the
    updates of the radius of Moré (1978), as in MINPACK; each parameter is scaled by the largest norm that its column
    of the Jacobian has had. The model is solved by its singular values, large sparse ones by LSMR. Near the end, where
    Gauss–Newton steps of a fit with large residuals converge linearly, they are mixed with the last ones (Anderson
    1965; Walker and Ni 2011, algorithm AA). Where the least of the model lies beyond bounds, the step is its least
    within them and a box of the radius.

    Parameters
    ----------
    radius
        The first radius, relative to the length of the scaled start: MINPACK's `factor`. Default 1.
    mixing
        How many steps before it a Gauss–Newton step is mixed with; 2. With 0, none.

    Raises `MethodError` for a radius that is not positive, and a mixing that is no whole number from 0.

    >>> import descend
    >>> result = descend.least_squares(lambda x: [x[0] - 1, 10 * (x[1] - x[0] ** 2)], [-1.2, 1.0])
    >>> result.x.round(6)
    array([1., 1.])
    """

    radius: float = 1.0
    mixing: int = 2
    needs_residuals: ClassVar[bool] = True
    takes_bounds: ClassVar[bool] = True

    def __post_init__(self) -> None:
        words: Any = {"of": "LevenbergMarquardt", "error": MethodError}
        real("radius", self.radius, above=0.0, remedy="try 1.0", **words)
        count("mixing", self.mixing, 0, remedy="try 2", **words)

    def begin(self, objective: LineObjective) -> MethodRun:
        """As in `Method`."""
        if not hasattr(objective, "differentiate"):
            raise MethodError("LevenbergMarquardt needs residuals: use descend.least_squares(residuals, x0)")
        return _LevenbergMarquardt(objective, self)  # type: ignore[arg-type]


class _LevenbergMarquardt(MethodRun):
    """A run of Levenberg–Marquardt."""

    objective: ResidualObjective
    judges_end = True
    workspace = ("method", "model", "values", "jacobian", "detail", "mix", "promise", "inside", "rounding", "noise")

    def __init__(self, objective: ResidualObjective, method: LevenbergMarquardt) -> None:
        super().__init__(objective)
        self.method = method
        self.mix = Mixing(self.x.size, method.mixing)
        self.scale = np.zeros_like(self.x)
        self.radius = self.promise_before = self.level = math.nan
        self.first = True
        """Whether no step was made yet."""
        self.ended = ""
        """The code of a tolerance that the last step was found to meet."""
        if objective.jacobian is not None:  # otherwise the run is one to be restored
            self._learn()
            self.radius = self._first_radius()

    def _first_radius(self) -> float:
        length = float(np.linalg.norm(self._units() * self.x))
        return self.method.radius * (length if length > 0.0 else 1.0)

    def _learn(self) -> None:
        """Make the model of the point at hand, with more exact differences if that is due."""
        objective = self.objective
        self._model()
        if self.promise <= NEAR_CENTRAL * self.loss and objective.refine():
            np.copyto(self.g, objective.g)
            self._model()
            self.mix.forget()
            self.promise_before = math.nan
        norms = self.model.norms
        given = objective.scale
        self.scale = np.maximum(self.scale, np.where(norms > 0.0, norms, 0.0)) if given is None else 1.0 / given

    def _model(self) -> None:
        objective = self.objective
        self.values, self.jacobian = objective.values, objective.jacobian
        residuals, jacobian = objective.model()
        self.model: Model = model_of(jacobian, residuals, objective.error, objective.scale)
        self.promise = self._promise()
        """By how much the model lets the loss fall at most, within the bounds."""
        size, eps = math.sqrt(2.0 * self.loss), objective.resolution.eps
        self.rounding = eps * self.model.rounding(self.x)
        """By how much the residuals change where each parameter is rounded."""
        self.noise = size * self.rounding + self.rounding**2 + (eps * size) ** 2
        """What a decrease of the loss may be off by, as the floats of parameters and residuals are apart."""

    def _promise(self) -> float:
        bounds = self.objective.bounds
        self.inside = bounds is None or _inside(self.x + self.model.newton(), bounds)
        if bounds is None or self.inside:
            return self.model.promised
        return self.model.within_box(bounds[0] - self.x, bounds[1] - self.x, self._units()).predicted

    def _units(self) -> Array:
        """What parameters are multiplied by to be of one size; ones for those that have never changed a residual."""
        return np.where(self.scale > 0.0, self.scale, 1.0)

    # ---- steps ------------------------------------------------------------------------------------------------------

    def advance(self) -> Reason | None:
        reason = self._converged()
        if reason is not None:
            return reason
        objective, first = self.objective, True
        while True:
            step = self._mixed(self._step()) if first else self._step()
            first = False
            if not step.predicted > 0.0:
                return self._cannot_fall(step)
            objective.evaluate(self.x, step.p, 1.0)
            decrease = objective.decrease(self.values)
            level = self.promise <= self.noise and decrease >= -self.noise
            accepted = decrease >= ACCEPT * step.predicted or level
            ended = self._tolerance_met(step, decrease, objective.x)
            if not level:
                self._change_radius(step, decrease)
            if accepted and self._accept(level):
                self.ended = "" if ended is None else ended.code
                return None
            if ended is not None:
                return ended
            reason = self._no_lower(step)
            if reason is not None:
                return reason

    def _accept(self, level: bool) -> bool:
        """Take the trial point, if its Jacobian is finite; otherwise it is as if its residuals were not."""
        objective = self.objective
        x, g, loss, values, jacobian = self.x.copy(), self.g.copy(), self.loss, self.values, self.jacobian
        finite = objective.differentiate()
        if not finite:
            objective.go_back(x, g, loss, values, jacobian)
            self.radius *= SHRINK
            return False
        self.promise_before = self.promise
        self.level = self.promise_before if level else math.nan
        self.accept()
        self._learn()
        self.first = False
        return True

    def _step(self) -> Step:
        """The step within the radius and the bounds."""
        units = self._units()
        step = self.model.within(self.radius, units)
        bounds = self.objective.bounds
        if bounds is not None and not _inside(self.x + step.p, bounds):
            reach = self.radius / units
            step = self.model.within_box(
                np.maximum(bounds[0] - self.x, -reach), np.minimum(bounds[1] - self.x, reach), units
            )
        if self.first:
            self.radius = min(self.radius, max(step.length, np.finfo(float).tiny))
        return step

    def _mixed(self, step: Step) -> Step:
        """A Gauss–Newton step near the end, mixed with those before it; any other step as it is."""
        near = self.promise <= NEAR_MIXING * self.loss and self.model.determined
        if not near or step.length > 0.9 * self.radius:
            self.mix.forget()
            return step
        # Within bounds, too, a step that the radius does not shorten is one of a fixed-point iteration.
        p = self.mix.step(self.x, self.model.newton() if self.inside else step.p, self.model)
        length = float(np.linalg.norm(self._units() * p))
        bounds = self.objective.bounds
        if length > self.radius or (bounds is not None and not _inside(self.x + p, bounds)):
            return step
        return dataclasses.replace(step, p=p, length=length)

    def _change_radius(self, step: Step, decrease: float) -> None:
        """Moré 1978, algorithm 7.1 (c), with the quadratic interpolation of section 4."""
        if not decrease > POOR * step.predicted:
            share = SHRINK
            if decrease >= 0.0:
                share = 0.5
            elif math.isfinite(decrease) and self.loss - decrease < 100.0 * self.loss:
                share = max(SHRINK, 0.5 * step.slope / (step.slope + decrease))
            self.radius = share * min(self.radius, step.length / SHRINK)
        elif decrease >= GOOD * step.predicted:
            # A model that is as good as exact is that of a linear function, whose answer may be far away.
            exact = abs(decrease - step.predicted) <= EXACT * step.predicted
            self.radius = (FAR if exact else GROW) * step.length

    # ---- ends -------------------------------------------------------------------------------------------------------

    def _converged(self) -> Reason | None:
        """Whether the point at hand is the end, by the model there."""
        if self.ended:
            return next(reason for reason in Reason if reason.code == self.ended)
        promise, eps = self.promise, self.objective.resolution.eps
        if not self.model.norms.any() and self.loss > 0.0:
            self.detail = "No parameter changes any residual: the Jacobian is zero."
            return Reason.STALLED
        levelled = self.level * LEVEL <= promise  # False for NaN, where the last step was seen to lower the loss
        if levelled or promise <= max(TOLD * eps * self.loss, 0.5 * self.rounding**2):
            return self._hidden()
        return Reason.RESOLUTION if self._steps_end(promise) else None

    def _steps_end(self, promise: float) -> bool:
        """Whether all further steps together move no parameter by more than half of its digits, as the last shows."""
        root = math.sqrt(self.objective.resolution.eps)
        if not (promise <= root * self.loss and self.inside):
            return False
        shrinks = math.sqrt(promise / self.promise_before) if self.promise_before > promise else 1.0
        step = self.model.newton()
        self.detail = "The steps that are left change no parameter by more than half of its digits."
        return bool(np.all(np.abs(step) <= root * (1.0 - shrinks) * np.abs(self.x)))

    def _tolerance_met(self, step: Step, decrease: float, x: Array) -> Reason | None:
        """SciPy's criteria of ftol and xtol, where they are given."""
        ftol, xtol = self.objective.ftol, self.objective.xtol
        if ftol is not None and decrease < ftol * self.loss and decrease > POOR * step.predicted:
            self.detail = f"The last step lowered it by {decrease:.3g}, ftol {ftol:g}."
            return Reason.VALUE
        moved = float(np.linalg.norm(step.p))
        if xtol is not None and moved < xtol * (xtol + float(np.linalg.norm(self.x))):
            self.detail = f"The last step has length {moved:.3g}, xtol {xtol:g}."
            return Reason.STEP
        return None

    def _no_lower(self, step: Step) -> Reason | None:
        """Whether to give up after a trial that was not accepted."""
        eps = self.objective.resolution.eps
        hidden = self.promise <= self.noise
        short = step.length <= eps * float(np.linalg.norm(self._units() * self.x))
        if not (hidden or short or self.radius < np.finfo(float).tiny):
            return None
        self._return()
        if self.objective.refine():
            np.copyto(self.g, self.objective.g)
            self._model()
            self.radius = max(self.radius, math.sqrt(eps) * self._first_radius())
            return None
        return self._cannot_fall(step)

    def _cannot_fall(self, step: Step) -> Reason:
        if self.promise <= self.noise:
            return self._hidden()
        self.detail = (
            f"The model promises to lower the loss, {self.loss:.6g}, by {self.promise:.2g}, and no step down to length "
            f"{step.length:.2g} did"
        )
        # The relative offset of Bates and Watts (1981): how far the point is beside what data leave open.
        size, rows = self.x.size, self.values.size
        if rows > size and self.promise / size <= OFFSET**2 * self.loss / (rows - size):
            self.detail += ", as the residuals are not smooth; that is within a thousandth of the standard errors."
            return Reason.RESOLUTION
        self.detail += ": the Jacobian does not fit the residuals."
        return Reason.STALLED

    def _hidden(self) -> Reason:
        """Nothing beyond rounding is promised."""
        of = f"The model promises to lower the loss, {self.loss:.6g}, by {self.promise:.2g}, which rounding hides."
        self.detail = of if self.loss > 0.0 else "All residuals are zero."
        return Reason.RESOLUTION

    def _return(self) -> None:
        """Stand again where the run stands."""
        self.objective.go_back(self.x, self.g, self.loss, self.values, self.jacobian)

    # ---- going on ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        kept = self.objective.kept(self.values, self.jacobian)
        known = {f"known.{name}": value for name, value in kept.items()}
        return super().state() | {f"mix.{k}": v for k, v in self.mix.state().items()} | known

    def restore(self, state: dict[str, Any]) -> None:
        """As in `MethodRun`."""
        parts: dict[str, dict[str, Any]] = {"known": {}, "mix": {}}
        own: dict[str, Any] = {}
        for name, value in state.items():
            which, dot, rest = name.partition(".")
            (parts[which] if dot else own)[rest if dot else name] = value
        super().restore(own)
        self.ended = str(own["ended"])
        self.mix.restore(parts["mix"])
        self.objective.hold(parts["known"])
        self._model()


def _inside(x: Array, bounds: tuple[Array, Array]) -> bool:
    return bool(np.all((bounds[0] <= x) & (x <= bounds[1])))
