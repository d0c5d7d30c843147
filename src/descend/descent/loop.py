"""The one loop: gradient → record → stop? → update, until there is a reason to stop.

`descend.minimize` (the whole objective at each step) and `descend.fit` (mini-batches) are two doors to it.
"""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

import numpy as np

from descend.descent.history import History
from descend.engines import engine
from descend.errors import ObjectiveError, StateError
from descend.methods import Method, Walk
from descend.parameters.memory import Array, Bounds, Memory
from descend.rules import Rule
from descend.stopping import Criteria, Reason, bound

__all__ = ["Descent", "Judge", "at_step", "cannot_step", "interrupts"]


FEW = 16
"""Numbers up to which Python's own arithmetic is faster than NumPy's."""


class Descent:
    """One descent: where it stands, the best it has seen, and the loop that moves it.

    Parameters
    ----------
    memory
        The parameters; they are updated in place.
    rule
        What a step is: a rule, or a method that searches for where to go.
    evaluate
        Writes the gradient at the memory's point into the vectors it is given and returns the loss.
    evaluations
        ``(nfev so far, nfev of one more gradient)``, for the budget.
    criteria, history
        When to stop; what to keep.
    whole
        The loss is the whole objective: the point after the last step is evaluated too, points can be compared, and
        the best is kept. Otherwise a loss belongs to a batch.
    each
        Called at each point (`whole`) or after each step (otherwise); a reason it returns ends the descent.
    """

    def __init__(
        self,
        memory: Memory,
        rule: Rule | Method,
        evaluate: Callable[[list[Array]], float],
        criteria: Criteria,
        history: History | None,
        *,
        whole: bool,
        evaluations: Callable[[], tuple[int, int]],
        each: Callable[[Descent], Reason | None] | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self.memory = memory
        self.rule = rule
        self.evaluate = evaluate
        self.evaluations = evaluations
        self.criteria = criteria
        self.history = history
        self.whole = whole
        self.each = each
        self.steps = 0
        self.loss = math.nan
        self.grad = memory.like()
        self.bounds = bounds
        self.engine: Any = None
        self.walk: Walk | None = None
        self.ground: Ground | None = None
        if isinstance(rule, Rule):
            # A cautious step counts over each of the user's arrays; any other sees one long vector of them all.
            cautious = rule.cautious
            arrays, self._grads = (memory.leaves, memory.views(self.grad)) if cautious else (memory.vectors, self.grad)
            self.engine = engine(rule, arrays, criteria.max_steps)
        self.judge = Judge(memory, rule)
        self.best_loss = math.nan
        self.best: list[Array] | None = None
        self.best_grad: list[Array] | None = None
        self._before: list[Array] | None = memory.snapshot() if criteria.xtol is not None else None
        self._loss_before = math.nan
        self._known = self._told = False
        """Whether the point at hand has been looked at, and whether `each` has been told of it."""
        self._root = math.sqrt(memory.size)
        self.began = math.nan
        """When its clock was started; by `run`, if not before."""

    @property
    def seconds(self) -> float:
        """Seconds since its clock was started."""
        return time.perf_counter() - self.began

    @property
    def norm(self) -> float:
        """Euclidean norm of the gradient at the point that was last evaluated."""
        return self.judge.norm

    @property
    def detail(self) -> str:
        """What was seen of the reason to stop, for its message."""
        return self.judge.detail

    @detail.setter
    def detail(self, text: str) -> None:
        self.judge.detail = text

    def run(self, interrupted: Callable[[], bool] | None = None) -> Reason:
        """Descend until there is a reason to stop. Lets `ObjectiveError` through; all that was seen is kept.

        `interrupted` is asked after each step whether to stop; by default that is what Ctrl-C does.
        """
        if math.isnan(self.began):
            self.began = time.perf_counter()
        try:
            with interrupts() if interrupted is None else contextlib.nullcontext(interrupted) as asked:
                while True:
                    reason = self._step()
                    if reason is None and asked():
                        reason = Reason.INTERRUPTED
                    if reason is not None:
                        return reason
        except KeyboardInterrupt:
            return Reason.INTERRUPTED

    def _step(self) -> Reason | None:
        loss_before = self._loss_before
        if not self._known:
            spent = self._spent()
            if spent is not None:
                return spent
            loss_before = self.loss
            try:
                self.loss = self.evaluate(self.grad)
            except ObjectiveError as error:
                raise at_step(error, self.steps) from error.__cause__
            self._known, self._told, self._loss_before = self.whole, False, loss_before
        reason = self._judge(loss_before)
        if reason is not None and reason.kind == "failed":
            return reason
        if self.whole and self.each is not None and not self._told:
            self._told = True
            asked = self.each(self)
            reason = asked if reason is None else reason
        if reason is not None:
            return reason
        if self.whole and self.steps == self.criteria.max_steps:
            return Reason.MAX_STEPS
        history = self.history
        if history is not None and history.record(self.steps, self.loss, self.norm) and history.path is not None:
            history.path.append(self.memory.result())
        before = self.memory.snapshot() if self.criteria.xtol is not None else None
        if self.engine is None:
            reason = self._advance()
            if reason is None:
                self._before = before
            return reason
        self._before = before
        # A step that overflows is judged at the next point; NumPy need not warn of it as well.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            try:
                self.engine.step(self._grads)
            except Exception as error:  # a schedule, or the user's own rule
                raise cannot_step(self.rule, self.steps + 1, error) from error
        self.steps += 1
        self._known = False
        if self.bounds is not None:
            self.bounds.apply(self.memory.vectors)
        return None if self.whole or self.each is None else self.each(self)

    def state(self) -> dict[str, Array]:
        """What it takes to go on exactly here: arrays by name, which ``numpy.savez`` keeps and reads without pickle."""
        found: dict[str, Any] = {
            "format": 1,
            "method": repr(self.rule),
            "steps": self.steps,
            "loss": self.loss,
            "loss_before": self._loss_before,
            "first": self.judge.first,
            "known": self._known,
            "told": self._told,
            "best_loss": self.best_loss,
        }
        lists = {
            "x": self.memory.vectors,
            "grad": self.grad,
            "best": self.best or [],
            "best_grad": self.best_grad or [],
        }
        if self._before is not None:
            lists["before"] = self._before
        if self.bounds is not None:
            lists |= {"lower": self.bounds.lower, "upper": self.bounds.upper}
        found |= {f"{name}.{i}": v for name, vectors in lists.items() for i, v in enumerate(vectors)}
        if self.walk is not None:
            found |= {f"walk.{name}": value for name, value in self.walk.state().items()}
        elif self.engine is not None:
            found |= {f"carried.{name}": value for name, value in self.engine.carried.items()}
            found |= {f"{name}.{i}": v for i, kept in enumerate(self.engine.state) for name, v in kept.items()}
        return {name: np.array(value) for name, value in found.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; raises `StateError` where it was taken of something else."""
        try:
            self._restore(state)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise StateError(
                f"state= does not fit {type(self.rule).__name__} and {self.memory.size} parameters "
                f"({type(error).__name__}: {error}): give that of a descent with the same method and container"
            ) from error

    def _restore(self, state: Mapping[str, Any]) -> None:
        if str(state["method"]) != repr(self.rule):
            raise ValueError(f"it was taken of {state['method']}, this is {self.rule!r}")
        self.steps, self.loss, self._loss_before = (
            int(state["steps"]),
            float(state["loss"]),
            float(state["loss_before"]),
        )
        self._known, self._told, self.best_loss = bool(state["known"]), bool(state["told"]), float(state["best_loss"])
        self.judge.first = float(state["first"])
        self.judge.bound = bound(self.judge.first)
        _copy(state, "x", self.memory.vectors)
        _copy(state, "grad", self.grad)
        if "best.0" in state:
            self.best, self.best_grad = self.memory.snapshot(), [g.copy() for g in self.grad]
            _copy(state, "best", self.best)
            _copy(state, "best_grad", self.best_grad)
        self._before = None
        if "before.0" in state:
            self._before = self.memory.snapshot()
            _copy(state, "before", self._before)
        self._same_bounds(state)
        walked = {name[5:]: state[name] for name in state if name.startswith("walk.")}
        if walked:
            assert isinstance(self.rule, Method)
            self._begin_walk(self.rule).restore(walked)
        if self.engine is not None:
            self.engine.steps = self.steps
            self.engine.carried = {name: float(state[f"carried.{name}"]) for name in self.engine.carried}
            for i, kept in enumerate(self.engine.state):
                for name, held in kept.items():
                    held[...] = state[f"{name}.{i}"]

    def _same_bounds(self, state: Mapping[str, Any]) -> None:
        bounds = [] if self.bounds is None else [*self.bounds.lower, *self.bounds.upper]
        names = [f"{end}.{i}" for end in ("lower", "upper") for i in range(len(bounds) // 2)]
        if ("lower.0" in state) != bool(bounds) or any(
            not np.array_equal(state[name], end) for name, end in zip(names, bounds, strict=True)
        ):
            raise ValueError("its bounds were others")

    def _begin_walk(self, method: Method) -> Walk:
        self.ground = Ground(self)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            self.walk = method.walk(self.ground)
        return self.walk

    def _advance(self) -> Reason | None:
        """Let the method make a step."""
        walk = self.walk
        if walk is None:
            assert isinstance(self.rule, Method)
            walk = self._begin_walk(self.rule)
        ground, loss = self.ground, self.loss
        assert ground is not None
        ground.finite = ground.looks = 0
        if (self.norm == 0.0 or self.bounds is not None) and not any(np.any(g) for g in self._residual()):
            return self._nowhere()
        try:
            reason = self._searched(walk, ground)
        except BaseException as error:  # whatever it was, the descent stands where it stood before the search
            ground.back(walk.x, walk.g, walk.loss)
            if isinstance(error, ObjectiveError):
                raise at_step(error, self.steps + 1) from error.__cause__
            raise
        if reason is None:
            self.steps += 1
            self._told, self._loss_before = False, loss
            return None
        ground.back(walk.x, walk.g, walk.loss)
        if reason.kind == "spent":
            return reason
        largest = max(float(np.max(np.abs(g))) for g in self.grad)
        self.detail = f"The gradient's largest entry is {largest:.3g} after step {self.steps}."
        if ground.looks and not ground.finite:
            self.detail = f"Ahead of step {self.steps + 1} the loss is not finite at any point tried."
            return Reason.NON_FINITE
        return reason

    def _searched(self, walk: Walk, ground: Ground) -> Reason | None:
        """Let a method look for its next point; NumPy need not warn of trials that overflow, but of the user's code."""
        try:
            if not walk.loud:
                return walk.advance()
            ground.heard = np.geterr()
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                return walk.advance()
        except _Spent as spent:
            return spent.reason

    def _residual(self) -> list[Array]:
        """The gradient or, with bounds, how far a step along it would lead within them."""
        if self.bounds is None:
            return self.grad
        return self.bounds.residual(self.memory.vectors, self.grad, self.judge.sign)

    def _nowhere(self) -> Reason:
        """Why a method that is not told where to go ends: a step of nothing is as small as anybody asks for."""
        within = "" if self.bounds is None else " within the bounds"
        self.detail = f"The gradient after step {self.steps} is zero{within}: nothing says where to go."
        if self.criteria.ftol is not None:
            return Reason.VALUE
        return Reason.STEP if self.criteria.xtol is not None else Reason.LINE_SEARCH

    def _spent(self) -> Reason | None:
        limits = self.criteria
        if not self.whole and limits.max_steps is not None and self.steps >= limits.max_steps:
            return Reason.MAX_STEPS
        if limits.max_evals is not None and sum(self.evaluations()) > limits.max_evals:
            return Reason.MAX_EVALS
        if limits.max_seconds is not None and self.seconds >= limits.max_seconds:
            return Reason.MAX_SECONDS
        return None

    def _judge(self, loss_before: float) -> Reason | None:
        """Look at the point that was just evaluated."""
        judge = self.judge
        reason = judge.finite(self.loss, self.grad, self.steps)
        if reason is not None:
            return reason
        if self.whole and not judge.sign * self.loss > judge.sign * self.best_loss:
            self.keep_best()
            if self.ground is not None:
                self.ground.better = False
        reason = judge.grown(self.loss, self.steps)
        if reason is not None:
            return reason
        return self._converged(judge.sign, loss_before) if self.criteria.has_tolerance and self.whole else None

    def keep_best(self) -> None:
        """Remember the memory's point as the best."""
        self.best_loss = self.loss
        if self.best is None or self.best_grad is None:
            self.best, self.best_grad = self.memory.snapshot(), [g.copy() for g in self.grad]
            return
        for kept, now in zip((*self.best, *self.best_grad), (*self.memory.vectors, *self.grad), strict=True):
            np.copyto(kept, now)

    def _converged(self, sign: float, loss_before: float) -> Reason | None:
        limits = self.criteria
        if limits.target is not None and sign * self.loss <= sign * limits.target:
            self.detail = f"The loss is {self.loss:.6g}, the target {limits.target:g}."
            return Reason.TARGET
        if limits.gtol is not None:
            grads = self._residual()
            # The largest entry is no less than the norm shared among all.
            near = self.bounds is not None or self.norm <= 1.001 * limits.gtol * self._root
            largest = max([float(np.max(np.abs(g))) for g in grads]) if near else math.inf
            if largest <= limits.gtol:
                entry = "Its largest entry" if self.bounds is None else "Within the bounds, its largest entry"
                self.detail = f"{entry} is {largest:.3g}, gtol {limits.gtol:g}."
                return Reason.GRADIENT
        # The first step of a method, which does not know the scale, says nothing.
        if self.steps == 0 or (self.engine is None and self.steps == 1):
            return None
        if limits.ftol is not None:
            change = abs(self.loss - loss_before)
            if change <= limits.ftol * max(1.0, abs(self.loss)):
                self.detail = f"The last change is {change:.3g}, ftol {limits.ftol:g}."
                return Reason.VALUE
        if limits.xtol is not None and self._before is not None:
            now = self.memory.vectors
            moved = max(float(np.max(np.abs(a - b))) for a, b in zip(now, self._before, strict=True))
            if moved <= limits.xtol * max(1.0, *(float(np.max(np.abs(a))) for a in now)):
                self.detail = f"The last step moved no parameter by more than {moved:.3g}, xtol {limits.xtol:g}."
                return Reason.STEP
        return None


class Ground:
    """The objective as a method sees it (`descend.methods.Ground`): one long vector of float64 over a descent's memory.

    `looks` counts those of the step at hand, `finite` those of them whose loss was finite.
    """

    def __init__(self, descent: Descent) -> None:
        self.descent, self.memory = descent, descent.memory
        vectors, grads = self.memory.vectors, descent.grad
        self._direct = len(vectors) == 1 and vectors[0].dtype == np.float64
        self.x: Array = vectors[0] if self._direct else np.concatenate(vectors).astype(np.float64)
        self.g: Array = grads[0] if self._direct else np.concatenate(grads).astype(np.float64)
        self.loss, self.norm = descent.loss, descent.norm
        self.eps = max(float(np.finfo(v.dtype).eps) for v in vectors)
        self.finite = self.looks = 0
        self.ends = None if descent.bounds is None else descent.bounds.ends
        self.bends = False
        self.heard: Any = None
        """How NumPy warns of what the user's function does, where a method has it hold its peace."""
        self.move: Callable[[Array, Array, float, Array], Any] = _move
        self.dot: Callable[[Array, Array], Any] = np.dot
        self.better = False
        """Whether the point at hand is better than the best that is kept."""
        limits = descent.criteria
        self._limited = limits.max_evals is not None or limits.max_seconds is not None

    def step(self, base: Array, direction: Array, alpha: float) -> float:
        """Look at base + alpha · direction; returns the loss. Raises `_Spent` where no look is left."""
        descent, x = self.descent, self.x
        if self.better:
            self._keep()
        if self._limited:
            spent = descent._spent()
            if spent is not None:
                raise _Spent(spent)
        self.move(base, direction, alpha, x)
        if not self._direct:
            self._write(x, self.memory.vectors)
        if descent.bounds is not None:  # by rounding, or where the direction leads beyond them
            descent.bounds.apply(self.memory.vectors)
        if not self._direct:
            self._read(self.memory.vectors, x)  # rounded to what the parameters can hold
        self.looks += 1
        if self.heard is None:
            self.loss = descent.loss = loss = descent.evaluate(descent.grad)
        else:
            with np.errstate(**self.heard):
                self.loss = descent.loss = loss = descent.evaluate(descent.grad)
        if not self._direct:
            self._read(descent.grad, self.g)
        if math.isfinite(loss):
            self.finite += 1
            self.better = loss < descent.best_loss
        return loss

    def _keep(self) -> None:
        """Remember the point at hand, which a method does not stay at, if it is a good one."""
        self.better = False
        if np.all(np.isfinite(self.g)):
            self.descent.keep_best()

    def compiled(self, move: Callable[[Array, Array, float, Array], Any], dot: Callable[[Array, Array], Any]) -> None:
        """As in `descend.methods.Ground`; the descent's own look at each gradient takes the product as well."""
        self.move, self.dot = move, dot
        if self._direct:
            self.descent.judge.dot = dot

    def slope(self, direction: Array) -> float:
        """As in `descend.methods.Ground`."""
        if self.bends and self.ends is not None:
            lower, upper = self.ends
            direction = np.where(np.where(direction < 0.0, self.x > lower, self.x < upper), direction, 0.0)
        return float(self.dot(self.g, direction))

    def back(self, base: Array, gradient: Array, loss: float) -> None:
        """Stand again where the method has stood before."""
        if self.better:
            self._keep()
        np.copyto(self.x, base)
        np.copyto(self.g, gradient)
        if not self._direct:
            self._write(base, self.memory.vectors)
            self._write(gradient, self.descent.grad)
        self.loss = self.descent.loss = loss

    def project(self, point: Array) -> None:
        """Move a point into the bounds."""
        assert self.ends is not None
        np.clip(point, *self.ends, out=point)

    def _write(self, flat: Array, vectors: list[Array]) -> None:
        start = 0
        for vector in vectors:
            vector[...] = flat[start : start + vector.size]
            start += vector.size

    def _read(self, vectors: list[Array], flat: Array) -> None:
        np.concatenate(vectors, out=flat, casting="same_kind")


def _copy(state: Mapping[str, Any], name: str, vectors: list[Array]) -> None:
    """Write the arrays of that name into vectors."""
    for i, vector in enumerate(vectors):
        if np.shape(state[f"{name}.{i}"]) != vector.shape:
            raise ValueError(f"{name}.{i} has shape {np.shape(state[f'{name}.{i}'])}, {vector.shape} is needed")
        vector[...] = state[f"{name}.{i}"]


def _move(base: Array, direction: Array, alpha: float, out: Array) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        np.multiply(direction, alpha, out=out)
        np.add(out, base, out=out)


class _Spent(Exception):
    """No look is left within a step."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Judge:
    """Whether one descent has failed at a point: something is not finite, or the loss has grown beyond all bounds.

    `norm` is that of the gradient that was last looked at, `detail` says what was seen, `first` is the first loss and
    `bound` by how much it may grow, `sign` −1 for a rule that climbs.
    """

    def __init__(self, memory: Memory, rule: Rule | Method) -> None:
        self.memory = memory
        self.sign = -1.0 if rule.maximize else 1.0
        self.norm = math.nan
        self.detail = ""
        self.first = math.nan
        self.bound = math.nan
        self.dot: Callable[[Array, Array], float] | None = None
        """What multiplies two vectors without a warning, where all gradients are one vector and it is known."""

    def finite(self, loss: float, grad: list[Array], steps: int) -> Reason | None:
        """A reason to stop if the loss, or an entry of the gradient after so many steps, is not finite."""
        if len(grad) == 1 and grad[0].size <= FEW:
            self.norm = math.hypot(*grad[0].tolist())  # of few numbers, in a fraction of NumPy's time
        elif self.dot is not None:
            self.norm = math.sqrt(self.dot(grad[0], grad[0]))
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                self.norm = math.sqrt(sum([float(np.dot(g, g)) for g in grad]))
        if not (math.isfinite(loss) and math.isfinite(self.norm)):
            if self._not_finite(loss, grad, steps):
                return Reason.NON_FINITE
            # Every entry is finite and only their squares overflow.
            largest = max(float(np.max(np.abs(g))) for g in grad)
            self.norm = largest * math.sqrt(sum(float(np.sum((g / largest) ** 2)) for g in grad))
        return None

    def grown(self, loss: float, steps: int) -> Reason | None:
        """A reason to stop if the loss has grown beyond all bounds since it was first asked about."""
        if math.isnan(self.first):
            self.first, self.bound = loss, bound(loss)
        if self.sign * (loss - self.first) > self.bound:
            self.detail = f"It was {self.first:.6g} at first and is {loss:.6g} at step {steps}."
            return Reason.DIVERGED
        return None

    def _not_finite(self, loss: float, grad: list[Array], steps: int) -> bool:
        """Whether the loss or an entry of the gradient is not finite; says which in `detail`."""
        if not math.isfinite(loss):
            lost = self.memory.first_non_finite(self.memory.vectors)
            if lost is not None:
                self.detail = f"{lost[0]} is {lost[1]} after step {steps}."
            else:
                self.detail = f"The loss is {loss} at step {steps}."
            return True
        worst = self.memory.first_non_finite(grad)
        if worst is not None:
            self.detail = f"The gradient's entry for {worst[0]} is {worst[1]} at step {steps}."
        return worst is not None


def at_step(error: ObjectiveError, steps: int) -> ObjectiveError:
    """The error that a loss or a gradient raised after so many steps."""
    return ObjectiveError(f"{error} (at step {steps})", error.result)


def cannot_step(rule: Rule | Method, step: int, error: Exception) -> ObjectiveError:
    """What to raise when a rule has raised."""
    return ObjectiveError(f"{type(rule).__name__} cannot make step {step}: {type(error).__name__}: {error}")


@contextlib.contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a question to be asked between steps; the second one interrupts at once.

    Only in the main thread, and only where nobody else handles SIGINT; elsewhere Ctrl-C does what it always does.
    """
    asked = False

    def take_note(_signal: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print("descend: stopping after this step; press Ctrl-C again to stop at once", file=sys.stderr)

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    signal.signal(signal.SIGINT, take_note)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
