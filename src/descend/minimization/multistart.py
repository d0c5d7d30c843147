"""`minimize` from several starts: one after the other, or side by side where the function takes many at once."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import math
import queue
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import optree

from descend.descent.loop import Descent, interrupts
from descend.descent.result import Result
from descend.errors import ObjectiveError, OptionError, ParameterError
from descend.minimization.run import PAIRS_BYTES, Minimization, as_scipy
from descend.objectives.objective import AUTODIFF, Jac, Objective, disagreement, precision
from descend.parameters.memory import Array, Memory, Rows
from descend.stopping import Reason

__all__ = ["from_starts"]

WIDTH = 64
"""Descents that go on side by side at most, where memory allows; others begin when one of them has ended."""

Outcome = Result | ObjectiveError
"""What a descent has come to: a result, or what its function raised, with the result so far."""


def from_starts(starts: Any, vectorized: bool | None, options: dict[str, Any]) -> Result:
    """The best of the results from several starts, with all of them; `options` are those of `Minimization`."""
    if not (vectorized is None or isinstance(vectorized, (bool, np.bool_))):
        raise OptionError(f"vectorized={vectorized!r}: True, False, or None to find out")
    if options["state"] is not None:
        raise OptionError("state= goes on with one descent: leave starts out")
    points = [options["x0"], *_listed(starts)]
    memories = _alike(points)
    fun, jac = options["fun"], options["jac"]
    source = Objective(fun, jac, memories[0]).source
    if vectorized:
        options = options | _of_one(fun, jac, source, memories[0])
    minimizations = [Minimization(**options | {"x0": point}) for point in points]
    with interrupts() as interrupted:
        for minimization in minimizations:
            with contextlib.suppress(ObjectiveError):  # which is raised again when it is that start's turn
                minimization.check()
        together = None
        if vectorized or (vectorized is None and source in AUTODIFF and len(minimizations) > 1):
            one = options["fun"], options["jac"]
            together = _together((fun, jac), one, source, minimizations, memories, vectorized=bool(vectorized))
        if together is None or interrupted():
            outcomes = _one_by_one(minimizations, interrupted)
        else:
            outcomes = _Lockstep(minimizations, memories, together, interrupted).run()
    return _best(outcomes)


def _listed(starts: Any) -> list[Any]:
    """The further starts; raises `OptionError`."""
    try:
        if not isinstance(starts, (str, Mapping)):
            return list(starts)
    except TypeError:
        pass
    raise OptionError(f"starts={starts!r}: a list of starts is needed, each built as x0")


def _alike(points: Sequence[Any]) -> list[Memory]:
    """The memories of all starts; raises `ParameterError` if one is not built as the first."""
    memories = [Memory(as_scipy(point), f"starts[{i - 1}]" if i else "x0") for i, point in enumerate(points)]
    first, *others = memories
    for i, memory in enumerate(others):
        if (memory.spec, memory.layout, memory.kind) != (first.spec, first.layout, first.kind):
            raise ParameterError(
                f"starts[{i}] has {_build(memory)}, x0 has {_build(first)}: all starts are built alike"
            )
    return memories


def _build(memory: Memory) -> str:
    """What a start is made of, for messages."""
    names = [path.codify("") for path in memory.spec.accessors()]
    leaves = [f"{layout}{f' at {name}' if name else ''}" for layout, name in zip(memory.layout, names, strict=True)]
    return f"{', '.join(leaves)} ({memory.kind})"


def _best(outcomes: Sequence[Outcome]) -> Result:
    """The best result, whose `runs` are all; raises what was raised if there is no other outcome."""
    alive = [outcome for outcome in outcomes if isinstance(outcome, Result)]
    if not alive:
        raised = [outcome for outcome in outcomes if isinstance(outcome, ObjectiveError)]
        raise raised[0] if raised else KeyboardInterrupt  # before any had begun
    sign = -1.0 if alive[0].method.maximize else 1.0
    best = min(alive, key=lambda run: (not math.isfinite(run.fun), sign * run.fun))
    runs = [outcome.result if isinstance(outcome, ObjectiveError) else outcome for outcome in outcomes]
    return dataclasses.replace(best, runs=tuple(run for run in runs if run is not None))


def _one_by_one(minimizations: Iterable[Minimization], interrupted: Callable[[], bool]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for minimization in minimizations:
        try:
            outcomes.append(minimization.run(interrupted))
        except ObjectiveError as error:
            outcomes.append(error)
        if _was_interrupted(outcomes[-1]):
            break
    return outcomes


def _was_interrupted(outcome: Outcome) -> bool:
    return isinstance(outcome, Result) and outcome.reason is Reason.INTERRUPTED


# ---- many points at once ----------------------------------------------------------------------------------------

Together = tuple[Callable[..., Any], Jac]
"""A function and a gradient that take many points at once, as `Objective.many` asks for them."""


def _together(
    many: Together,
    one: Together,
    source: str,
    minimizations: Sequence[Minimization],
    memories: Sequence[Memory],
    *,
    vectorized: bool,
) -> Together | None:
    """The function of many points at once, if that of the first two starts is what each of them gives alone.

    If it is not, that is an error where the user has said that it takes rows, and else there is none.
    """
    made = {"torch": _by_torch, "jax": _by_jax}.get(source)
    together: Together = many if made is None else (made(many[0], memories[0], stacked=vectorized), True)
    args, tried = minimizations[0].args, memories[:2]
    for memory, minimization in zip(tried, minimizations, strict=False):
        for vector, within in zip(memory.vectors, minimization.memory.vectors, strict=True):
            vector[...] = within  # the bounds
    slopes = [memory.like() for memory in tried]
    try:
        losses = [Objective(*one, memory)(grad, args) for memory, grad in zip(tried, slopes, strict=True)]
    except _Misshapen:
        raise
    except ObjectiveError:  # of a start, which says nothing of the function of many
        return together if vectorized else None
    rows = Rows(tried)
    grad = rows.like()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*performance drop")  # vmap goes on one point after the other
            why = disagreement(Objective(*together, rows).many(grad, args), grad, losses, slopes)
    except ObjectiveError as error:
        why = str(error)
    if why is None:
        return together
    if vectorized:
        raise OptionError(f"vectorized=True, but {why}; give a row for each start, or leave it out")
    return None


class _Misshapen(ObjectiveError):
    """A function that is said to take many points does not return a row for each."""


def _of_one(fun: Callable[..., Any], jac: Jac, source: str, memory: Memory) -> dict[str, Any]:
    """A function and a gradient of many points as those of one; raises `OptionError` for finite differences."""
    if source not in ("given", "together", *AUTODIFF):
        raise OptionError(
            f"vectorized=True with finite differences ({source}): give jac, which returns a row for each start"
        )

    gradient: Any = jac

    def many(x: Any) -> Any:
        return optree.tree_map(lambda leaf: leaf[None], x)

    def first(rows: Any, what: str) -> Any:
        rows = rows if hasattr(rows, "shape") else np.asarray(rows)
        if rows.shape[:1] != (1,):
            raise _Misshapen(
                f"{what} returned shape {tuple(rows.shape)} for 1 start: with vectorized=True it returns a row for "
                "each start"
            )
        return rows[0]

    def slope_of(tree: Any, what: str) -> Any:
        try:
            leaves = memory.spec.flatten_up_to(tree)
        except (ValueError, TypeError) as error:
            raise _Misshapen(f"{what} gave a gradient that is not built like x0: {error}") from None
        return memory.spec.unflatten([first(leaf, what) for leaf in leaves])

    @functools.wraps(fun)
    def value(x: Any, *args: Any) -> Any:
        found = fun(many(x), *args)
        if source != "together" or not (isinstance(found, (tuple, list)) and len(found) == 2):
            return first(found, "fun")
        return first(found[0], "fun"), slope_of(found[1], "fun")

    @functools.wraps(gradient)
    def slope(x: Any, *args: Any) -> Any:
        return slope_of(gradient(many(x), *args), "jac")

    return {"fun": value, "jac": slope if callable(jac) else True if source == "together" else source}


def _by_autodiff(fun: Callable[..., Any], memory: Memory, evaluate: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """Losses and gradients of many points, by what evaluates a function of leaves at rows of them."""
    spec = memory.spec

    @functools.wraps(fun)
    def both(x: Any, *args: Any) -> Any:
        losses, slopes = evaluate(
            lambda leaves: fun(spec.unflatten(leaves), *args), optree.tree_leaves(x, none_is_leaf=True)
        )
        return losses, spec.unflatten(slopes)

    return both


def _by_torch(fun: Callable[..., Any], memory: Memory, *, stacked: bool) -> Callable[..., Any]:
    """Losses and gradients of many points by PyTorch, of a function of many points or, mapped, of one."""
    import torch

    def evaluate(loss: Callable[[Any], Any], rows: Any) -> Any:
        leaves = [torch.as_tensor(leaf) for leaf in rows]
        if not stacked:
            slopes, losses = torch.func.vmap(torch.func.grad_and_value(lambda one: loss(one).reshape(())))(leaves)
        else:
            leaves = [leaf.requires_grad_() for leaf in leaves]
            with torch.enable_grad():
                losses = loss(leaves)
                found = torch.autograd.grad(losses.sum(), leaves, allow_unused=True)
            slopes = [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, found, strict=True)]
        return losses.detach().numpy(), [slope.detach().numpy() for slope in slopes]

    return _by_autodiff(fun, memory, evaluate)


def _by_jax(fun: Callable[..., Any], memory: Memory, *, stacked: bool) -> Callable[..., Any]:
    """The same by JAX."""
    import jax

    def evaluate(loss: Callable[[Any], Any], rows: Any) -> Any:
        def total(leaves: Any) -> Any:
            losses = loss(leaves)
            return losses.sum(), losses

        with precision(memory):
            leaves = [jax.numpy.asarray(leaf) for leaf in rows]
            if stacked:
                (_, losses), slopes = jax.value_and_grad(total, has_aux=True)(leaves)
            else:
                losses, slopes = jax.vmap(jax.value_and_grad(loss))(leaves)
            return np.asarray(losses), [np.asarray(slope) for slope in slopes]

    return _by_autodiff(fun, memory, evaluate)


# ---- side by side -----------------------------------------------------------------------------------------------


class _Lockstep:
    """Descents that wait for each other at every look, so that one call of the function is for all of them.

    Each has a thread, of which one at a time runs: a descent goes on until it wants to look, and the next one's turn
    comes. Whatever is the user's, the function and the callback, is called by the thread that called `minimize`.
    """

    def __init__(
        self,
        minimizations: Sequence[Minimization],
        memories: Sequence[Memory],
        together: Together,
        interrupted: Callable[[], bool],
    ) -> None:
        self.together, self.interrupted = together, interrupted
        began = time.perf_counter()
        for minimization in minimizations:
            minimization.descent.began = began
        self.waiting = deque(zip(minimizations, memories, strict=True))
        self.lanes: list[_Lane] = []
        self.begun: list[_Lane] = []
        self.width = max(2, min(WIDTH, PAIRS_BYTES // max(minimization.bytes for minimization in minimizations)))
        self._rows_of: list[_Lane] = []
        """Whose points the rows are."""

    def run(self) -> list[Outcome]:
        """All outcomes, in order; only of those that had begun if Ctrl-C ends them."""
        try:
            while self.lanes or (self.waiting and self.width):
                self._begin()
                self._look()
        except KeyboardInterrupt:
            self.waiting.clear()
        finally:
            for lane in {*self.begun, *self.lanes}:
                lane.stop()
        outcomes = [lane.outcome() for lane in self.begun]
        if self.waiting:  # there is no thread to be had
            outcomes += _one_by_one([minimization for minimization, _ in self.waiting], self.interrupted)
        return outcomes

    def _begin(self) -> None:
        """Have others begin, as long as there is room."""
        if self.interrupted():
            self.waiting.clear()
        while self.waiting and len(self.lanes) < self.width:
            lane = _Lane(*self.waiting[0], self.interrupted)
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

    def _look(self) -> None:
        """Evaluate the points of all that still descend, and let each go on."""
        lanes = self.lanes
        answers = self._at_once(lanes) if len(lanes) > 1 else []
        for lane, answer in zip(lanes, answers or [lane.alone() for lane in lanes], strict=True):
            lane.go(answer)
        self._drop_ended()

    def _at_once(self, lanes: list[_Lane]) -> list[float | ObjectiveError]:
        """The losses at all points, by one call; none if it raises."""
        if lanes != self._rows_of:
            self._rows_of = list(lanes)
            self.rows = Rows([lane.shadow for lane in lanes if lane.shadow is not None])
            self.grad = self.rows.like()
            self.objective = Objective(*self.together, self.rows)
        for row, lane in enumerate(lanes):
            for matrix, vector in zip(self.rows.vectors, lane.minimization.memory.vectors, strict=True):
                matrix[row] = vector
        try:
            losses = self.objective.many(self.grad, lanes[0].minimization.args)
        except ObjectiveError:  # one of them may be at fault: each is asked by itself
            return []
        for row, lane in enumerate(lanes):
            assert lane.asked is not None
            for matrix, vector in zip(self.grad, lane.asked, strict=True):
                vector[...] = matrix[row]
            lane.minimization.objective.nfev += 1
            lane.minimization.objective.njev += 1
        return [float(loss) for loss in losses]


class _Lane:
    """A descent in a thread of its own, which runs while `wait` waits: until it has ended, or asks for its next look.

    The thread leaves what it asks for in `_message`, says so by `_turns`, and takes it away when it has the answer. So
    `stop` can tell at any time what it waits for, wherever Ctrl-C came in between.
    """

    def __init__(self, minimization: Minimization, shadow: Memory, interrupted: Callable[[], bool]) -> None:
        self.minimization, self.shadow = minimization, cast("Memory | None", shadow)
        self._evaluate, self._each = minimization.descent.evaluate, minimization.descent.each
        self._end: Reason | BaseException = Reason.INTERRUPTED
        self._outcome: Outcome | None = None
        self._message: tuple[str, Any] | None = None
        self._begun = self._over = False
        self._turns: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        work = functools.partial(contextvars.copy_context().run, self._work, interrupted)
        self._thread = threading.Thread(target=work, daemon=True)

    @property
    def asked(self) -> list[Array] | None:
        """Where the gradient of the look that it asks for belongs; None when the descent has ended."""
        return None if self._message is None else self._message[1]

    def begin(self) -> bool:
        """Begin; False if there is no thread to be had. To be waited for."""
        descent = self.minimization.descent
        descent.evaluate = self._look_up
        descent.each = None if self._each is None else self._tell
        self._begun = True
        try:
            self._thread.start()
        except RuntimeError:
            self._begun = False
            descent.evaluate, descent.each = self._evaluate, self._each
            return False
        return True

    def wait(self) -> None:
        """Wait for what it asks next; do what it wants to be done by this thread."""
        self._turns.get()
        while self._message is not None and self._message[0] == "call":
            answer: tuple[Any, BaseException | None]
            try:
                answer = self._message[1](), None
            except BaseException as error:  # which is the descent's to deal with
                answer = None, error
            self._answers.put(answer)
            if isinstance(answer[1], KeyboardInterrupt):
                raise answer[1]
            self._turns.get()

    def go(self, answer: float | ObjectiveError) -> None:
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

    def alone(self) -> float | ObjectiveError:
        """The loss that was asked for, of this one alone, or what the function raised."""
        assert self.asked is not None
        try:
            return self._evaluate(self.asked)
        except ObjectiveError as error:
            return error

    def end(self) -> None:
        """Let go of what only a descent that goes on needs."""
        self._thread.join()
        self.shadow = None
        self.minimization.descent.evaluate, self.minimization.descent.each = self._evaluate, self._each

    def outcome(self) -> Outcome:
        """What it came to, once it has ended; raises what is no outcome."""
        if self._outcome is None:
            if isinstance(self._end, ObjectiveError):
                self._outcome = self.minimization.failed(self._end)
            elif isinstance(self._end, Reason):
                self._outcome = self.minimization.result(self._end)
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

    def _look_up(self, grad: list[Array]) -> float:
        return float(self._ask("look", grad))

    def _tell(self, descent: Descent) -> Reason | None:
        assert self._each is not None
        return cast("Reason | None", self._ask("call", functools.partial(self._each, descent)))

    def _work(self, interrupted: Callable[[], bool]) -> None:
        try:
            self._end = self.minimization.descent.run(interrupted)
        except BaseException as error:  # whatever it is, it is raised where the outcome is asked for
            self._end = error
        self._over = True
        self._turns.put(None)
