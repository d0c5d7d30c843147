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
from collections.abc import Callable, Iterator
from types import FrameType

import numpy as np

from descend.containers import Array, Memory
from descend.engines import engine
from descend.errors import ObjectiveError
from descend.history import History
from descend.rules import Rule
from descend.stopping import Criteria, Reason, bound

__all__ = ["Descent", "Judge", "at_step", "cannot_step", "interrupts"]


class Descent:
    """One descent: where it stands, the best it has seen, and the loop that moves it.

    Parameters
    ----------
    memory
        The parameters; they are updated in place.
    rule
        What a step is.
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
        rule: Rule,
        evaluate: Callable[[list[Array]], float],
        criteria: Criteria,
        history: History | None,
        *,
        whole: bool,
        evaluations: Callable[[], tuple[int, int]],
        each: Callable[[Descent], Reason | None] | None = None,
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
        # A cautious step counts over each of the user's arrays; any other sees one long vector of them all.
        arrays, self._grads = (memory.leaves, memory.views(self.grad)) if rule.cautious else (memory.vectors, self.grad)
        self.engine = engine(rule, arrays, criteria.max_steps)
        self.judge = Judge(memory, rule)
        self.best_loss = math.nan
        self.best: list[Array] | None = None
        self.best_grad: list[Array] | None = None
        self._before: list[Array] | None = memory.snapshot() if criteria.xtol is not None else None
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds since the descent was made."""
        return time.perf_counter() - self._began

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

    def run(self) -> Reason:
        """Descend until there is a reason to stop. Lets `ObjectiveError` through; all that was seen is kept."""
        try:
            with interrupts() as interrupted:
                while True:
                    reason = self._step()
                    if reason is None and interrupted():
                        reason = Reason.INTERRUPTED
                    if reason is not None:
                        return reason
        except KeyboardInterrupt:
            return Reason.INTERRUPTED

    def _step(self) -> Reason | None:
        spent = self._spent()
        if spent is not None:
            return spent
        loss_before = self.loss
        try:
            self.loss = self.evaluate(self.grad)
        except ObjectiveError as error:
            raise at_step(error, self.steps) from error.__cause__
        reason = self._judge(loss_before)
        if reason is not None:
            return reason
        if self.whole and self.each is not None:
            reason = self.each(self)
            if reason is not None:
                return reason
        if self.whole and self.steps == self.criteria.max_steps:
            return Reason.MAX_STEPS
        history = self.history
        if history is not None and history.record(self.steps, self.loss, self.norm) and history.path is not None:
            history.path.append(self.memory.result())
        if self._before is not None:
            self._before = self.memory.snapshot()
        # A step that overflows is judged at the next point; NumPy need not warn of it as well.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            try:
                self.engine.step(self._grads)
            except Exception as error:  # a schedule, or the user's own rule
                raise cannot_step(self.rule, self.steps + 1, error) from error
        self.steps += 1
        return None if self.whole or self.each is None else self.each(self)

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
            self.best_loss, self.best = self.loss, self.memory.snapshot()
            self.best_grad = [g.copy() for g in self.grad]
        reason = judge.grown(self.loss, self.steps)
        if reason is not None:
            return reason
        return self._converged(judge.sign, loss_before) if self.criteria.has_tolerance and self.whole else None

    def _converged(self, sign: float, loss_before: float) -> Reason | None:
        limits = self.criteria
        if limits.target is not None and sign * self.loss <= sign * limits.target:
            self.detail = f"The loss is {self.loss:.6g}, the target {limits.target:g}."
            return Reason.TARGET
        if limits.gtol is not None:
            largest = max(float(np.max(np.abs(g))) for g in self.grad)
            if largest <= limits.gtol:
                self.detail = f"Its largest entry is {largest:.3g}, gtol {limits.gtol:g}."
                return Reason.GRADIENT
        if self.steps == 0:
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


class Judge:
    """Whether one descent has failed at a point: something is not finite, or the loss has grown beyond all bounds.

    `norm` is that of the gradient that was last looked at, `detail` says what was seen, `first` is the first loss and
    `bound` by how much it may grow, `sign` −1 for a rule that climbs.
    """

    def __init__(self, memory: Memory, rule: Rule) -> None:
        self.memory = memory
        self.sign = -1.0 if rule.maximize else 1.0
        self.norm = math.nan
        self.detail = ""
        self.first = math.nan
        self.bound = math.nan

    def finite(self, loss: float, grad: list[Array], steps: int) -> Reason | None:
        """A reason to stop if the loss, or an entry of the gradient after so many steps, is not finite."""
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


def cannot_step(rule: Rule, step: int, error: Exception) -> ObjectiveError:
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
