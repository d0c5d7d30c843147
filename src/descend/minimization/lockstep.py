"""Many descents side by side: each waits for the others, so that one call of the function is for all of them."""

from __future__ import annotations

import contextvars
import functools
import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np

from descend.descent.interrupts import Interrupts
from descend.descent.loop import Descent
from descend.descent.result import Result
from descend.errors import ObjectiveError
from descend.minimization.choice import PAIRS_BYTES
from descend.minimization.run import Minimization
from descend.minimization.vectorized import Together
from descend.objectives.objective import Objective
from descend.parameters.memory import Array, Memory
from descend.parameters.rows import Rows
from descend.stopping import Reason

__all__ = ["Lockstep", "one_by_one"]

WIDTH = 64
"""Descents that go on side by side at most, where memory allows; others begin when one of them has ended."""


def one_by_one(
    minimizations: Iterable[Minimization], interrupted: Interrupts, outcomes: list[Result | ObjectiveError]
) -> KeyboardInterrupt | None:
    """Make descents one after the other, until Ctrl-C ends one, and append their outcomes; the interrupt to pass on."""
    for minimization in minimizations:
        outcome = minimization.outcome(interrupted)
        if isinstance(outcome, KeyboardInterrupt):
            outcomes += [outcome.result] if hasattr(outcome, "result") else []
            return outcome
        outcomes.append(outcome)
        if interrupted():
            break
    return None


class Lockstep:
    """Descents that wait for each other at every evaluation, so that one call of the function is for all of them.

    `together` gives losses and gradients of many points; None: gradients are by differences, and losses are by the
    `many_losses` of the first one's objective.

    Each has a thread, of which one at a time runs: a descent goes on until it asks for an evaluation, and the next
    one's turn comes. Whatever is the user's, the function and the callback, is called by the thread that called
    `minimize`.
    """

    def __init__(
        self,
        minimizations: Sequence[Minimization],
        memories: Sequence[Memory],
        together: Together | None,
        interrupted: Interrupts,
    ) -> None:
        self.together, self.interrupted = together, interrupted
        self.many_losses = minimizations[0].objective.many_losses if together is None else None
        began = time.perf_counter()
        for minimization in minimizations:
            minimization.descent.began = began
        self.waiting = deque(zip(minimizations, memories, strict=True))
        self.lanes: list[Lane] = []
        self.begun: list[Lane] = []
        self.width = max(2, min(WIDTH, PAIRS_BYTES // max(minimization.bytes for minimization in minimizations)))
        self._rows_of: list[Lane] = []
        """Whose points the rows are."""

    def run(self, outcomes: list[Result | ObjectiveError]) -> KeyboardInterrupt | None:
        """Make the descents, and append their outcomes in order; the interrupt to pass on.

        If Ctrl-C ends them, there are those of the descents that had begun.
        """
        left: KeyboardInterrupt | None = None
        try:
            while self.lanes or (self.waiting and self.width):
                self._begin()
                self._evaluate()
        except KeyboardInterrupt as error:
            self.waiting.clear()
            left = None if self.interrupted.is_first(error) else error
        finally:
            for lane in {*self.begun, *self.lanes}:
                lane.stop()
        outcomes += [lane.outcome() for lane in self.begun]
        if self.waiting:  # there is no thread to be had
            return one_by_one([minimization for minimization, _ in self.waiting], self.interrupted, outcomes)
        return left

    def _begin(self) -> None:
        """Have others begin, as long as there is room."""
        if self.interrupted():
            self.waiting.clear()
        while self.waiting and len(self.lanes) < self.width:
            lane = Lane(*self.waiting[0], self.interrupted)
            self.lanes.append(lane)
            if not lane.begin():
                self.lanes.pop()
                self.width = len(self.lanes)
                break
            self.waiting.popleft()
            self.begun.append(lane)
            lane.wait()
        self._drop_ended()

    def _drop_ended(self) -> None:
        ended = [lane for lane in self.lanes if lane.asked is None]
        self.lanes = [lane for lane in self.lanes if lane.asked is not None]
        for lane in ended:
            lane.end()
            lane.outcome()

    def _evaluate(self) -> None:
        """Evaluate the points of all that still descend, and let each go on."""
        lanes = self.lanes
        answers = self.at_once(lanes) if lanes else []
        for lane, answer in zip(lanes, answers or [lane.alone() for lane in lanes], strict=True):
            lane.go(answer)
        self._drop_ended()

    def _losses_at_once(self, lanes: list[Lane]) -> list[Any]:
        """The losses at all points of all descents, by one call; none if it raises."""
        assert self.many_losses is not None
        points: list[Any] = [lane.asked for lane in lanes]
        try:
            losses = self.interrupted.call(self.many_losses, np.concatenate(points), lanes[0].minimization.args)
        except ObjectiveError:  # one of them may be at fault: each is asked by itself
            return []
        return np.split(losses, np.cumsum([len(rows) for rows in points])[:-1])

    def at_once(self, lanes: list[Lane]) -> list[Any]:
        """The losses at all points, by one call; none if it raises, or for one point alone."""
        if len(lanes) < 2:
            return []
        if self.together is None:
            return self._losses_at_once(lanes)
        if lanes != self._rows_of:
            self._rows_of = list(lanes)
            self.rows = Rows([lane.shadow for lane in lanes if lane.shadow is not None])
            self.grad = self.rows.like()
            self.objective = Objective(*self.together, self.rows)
        for row, lane in enumerate(lanes):
            for matrix, vector in zip(self.rows.vectors, lane.minimization.memory.vectors, strict=True):
                matrix[row] = vector
        try:
            losses = self.interrupted.call(self.objective.many, self.grad, lanes[0].minimization.args)
        except ObjectiveError:  # one of them may be at fault: each is asked by itself
            return []
        for row, lane in enumerate(lanes):
            assert lane.asked is not None
            for matrix, vector in zip(self.grad, lane.asked, strict=True):
                vector[...] = matrix[row]
            lane.minimization.objective.nfev += 1
            lane.minimization.objective.njev += 1
        return [float(loss) for loss in losses]


class Lane:
    """A descent in a thread of its own, which runs while `wait` waits: until it ends, or asks for an evaluation.

    The thread leaves what it asks for in `_message`, says so by `_turns`, and takes it away when it has the answer. So
    `stop` can tell at any time what it waits for, wherever Ctrl-C came in between.
    """

    def __init__(self, minimization: Minimization, shadow: Memory, interrupted: Interrupts) -> None:
        self.interrupted = interrupted
        self.minimization, self.shadow = minimization, cast("Memory | None", shadow)
        self._losses, self._each = minimization.objective.many_losses, minimization.descent.each
        self._alone = minimization.descent.evaluate
        self._end: Reason | BaseException = Reason.INTERRUPTED
        self._outcome: Result | ObjectiveError | None = None
        self._message: tuple[str, Any] | None = None
        self._begun = self._over = False
        self._turns: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        work = functools.partial(contextvars.copy_context().run, self._work, interrupted.in_thread())
        self._thread = threading.Thread(target=work, daemon=True)

    @property
    def asked(self) -> Any:
        """Where the gradient that it asks for belongs, or points whose losses it asks for; None when it has ended."""
        return None if self._message is None else self._message[1]

    def begin(self) -> bool:
        """Begin; False if there is no thread to be had. To be waited for."""
        descent = self.minimization.descent
        if self._losses is None:
            descent.evaluate = self._ask_for_loss
        else:
            self.minimization.objective.many_losses = self._ask_for_losses
        descent.each = None if self._each is None else self._tell
        self._begun = True
        try:
            self._thread.start()
        except RuntimeError:
            self._begun = False
            self._give_back()
            return False
        return True

    def wait(self) -> None:
        """Wait for what it asks next; do what it wants to be done by this thread."""
        self._turns.get()
        while self._message is not None and self._message[0] == "call":
            answer: tuple[Any, BaseException | None]
            try:
                answer = self.interrupted.call(self._message[1]), None
            except BaseException as error:  # which is the descent's to deal with
                answer = None, error
            self._answers.put(answer)
            if isinstance(answer[1], KeyboardInterrupt):
                raise answer[1]
            self._turns.get()

    def _give_back(self) -> None:
        """Have the descent evaluate by itself again."""
        self.minimization.descent.evaluate, self.minimization.descent.each = self._alone, self._each
        self.minimization.objective.many_losses = self._losses

    def go(self, answer: Any) -> None:
        """Go on with the loss that was asked for; an error is raised where it was."""
        self._answers.put((None, answer) if isinstance(answer, ObjectiveError) else (answer, None))
        self.wait()

    def stop(self) -> None:
        """End what still runs, as Ctrl-C does, however often that is pressed."""
        patience = 50 if self._begun else 0
        while self._thread.is_alive() or (not self._over and patience > 0):
            try:
                if not self._thread.is_alive():  # interrupted in its very beginning, it shows only later
                    patience -= 1
                    time.sleep(0.002)
                    continue
                if self._message is not None:
                    self._answers.put((None, KeyboardInterrupt()))
                self._thread.join(0.01)
            except KeyboardInterrupt:
                continue

    def alone(self) -> Any:
        """What was asked for, of this one alone, or what the function raised."""
        assert self.asked is not None
        try:
            if self._losses is not None:
                return self.interrupted.call(self._losses, self.asked, self.minimization.args)
            return self.interrupted.call(self._alone, self.asked)
        except ObjectiveError as error:
            return error

    def end(self) -> None:
        """Let go of what only a descent that goes on needs."""
        self._thread.join()
        self.shadow = None
        self._give_back()

    def outcome(self) -> Result | ObjectiveError:
        """What it came to, once it has ended; raises what is no outcome."""
        if self._outcome is None:
            if isinstance(self._end, ObjectiveError):
                self._outcome = self.minimization.failed(self._end)
            elif isinstance(self._end, (Reason, KeyboardInterrupt)):
                reason = self._end if isinstance(self._end, Reason) else Reason.INTERRUPTED
                self._outcome = self.minimization.result(reason)
            else:
                raise self._end
        return self._outcome

    # ---- in the thread ------------------------------------------------------------------------------------------

    def _ask(self, kind: str, what: Any) -> Any:
        self._message = kind, what
        self._turns.put(None)
        answer, raised = self._answers.get()
        self._message = None
        if raised is not None:
            raise raised
        return answer

    def _ask_for_loss(self, grad: list[Array]) -> float:
        return float(self._ask("evaluate", grad))

    def _ask_for_losses(self, points: Array, args: tuple[Any, ...]) -> Array:
        return np.asarray(self._ask("losses", points))

    def _tell(self, descent: Descent) -> Reason | None:
        assert self._each is not None
        return cast("Reason | None", self._ask("call", functools.partial(self._each, descent)))

    def _work(self, interrupted: Interrupts) -> None:
        try:
            self._end = self.minimization.descent.run(interrupted)
        except BaseException as error:  # whatever it is, it is raised where the outcome is asked for
            self._end = error
        self._over = True
        self._turns.put(None)
