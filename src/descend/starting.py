"""`minimize` from several starts: one after the other, or side by side where the function takes many at once."""

from __future__ import annotations

import contextvars
import dataclasses
import functools
import math
import queue
import threading
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optree

from descend.containers import Array, Memory, Rows
from descend.descent import interrupts
from descend.errors import ObjectiveError, OptionError, ParameterError
from descend.gradients import AUTODIFF, Jac, Objective, disagreement, precision
from descend.result import Result
from descend.stopping import Reason
from descend.task import Task, as_scipy

__all__ = ["from_starts"]

WIDTH = 64
"""Descents that go on side by side at most; others begin when one of them has ended."""


def from_starts(starts: Any, vectorized: bool | None, options: dict[str, Any]) -> Result:
    """The best of the results from several starts, with all of them; `options` are those of `Task`."""
    if isinstance(starts, (str, Mapping)) or not hasattr(starts, "__iter__"):
        raise OptionError(f"starts={starts!r}: a list of starts is needed, each built as x0")
    if vectorized not in (None, True, False):
        raise OptionError(f"vectorized={vectorized!r}: True, False, or None to find out")
    if options["state"] is not None:
        raise OptionError("state= goes on with one descent: leave starts out")
    points = [options["x0"], *starts]
    memories = [Memory(as_scipy(point), f"starts[{i - 1}]" if i else "x0") for i, point in enumerate(points)]
    layouts = [", ".join(memory.layout) for memory in memories]
    for i, layout in enumerate(layouts):
        if layout != layouts[0]:
            raise ParameterError(f"starts[{i - 1}] has {layout}, x0 has {layouts[0]}: all starts are built alike")
    together, options = _together(vectorized, options, memories)
    runs = _one_by_one(points, options) if together is None else _Lockstep(points, options, together).run()
    ended = [run for run in runs if isinstance(run, Result)]
    alive = [run for run in ended if run.reason is not Reason.FUNCTION_RAISED]
    if not alive:
        raise next(run for run in runs if isinstance(run, ObjectiveError))
    results = [run.result if isinstance(run, ObjectiveError) else run for run in runs]
    sign = -1.0 if alive[0].method.maximize else 1.0
    best = min(alive, key=lambda run: (not math.isfinite(run.fun), sign * run.fun))
    return dataclasses.replace(best, runs=tuple(run for run in results if run is not None))


def _run(task: Task, interrupted: Callable[[], bool] | None = None) -> Result | ObjectiveError:
    """A descent's result, or what its function raised, with the result so far."""
    try:
        return task.run(interrupted)
    except ObjectiveError as error:
        if error.result is None:
            raise
        return error


def _one_by_one(points: Sequence[Any], options: dict[str, Any]) -> list[Result | ObjectiveError]:
    runs = []
    for point in points:
        runs.append(_run(Task(**options | {"x0": point})))
        if getattr(runs[-1], "reason", None) is Reason.INTERRUPTED:
            break
    return runs


# ---- many points at once ----------------------------------------------------------------------------------------

Together = tuple[Callable[..., Any], Jac]
"""A function and a gradient that take many points at once, as `Objective.many` asks for them."""


def _together(
    vectorized: bool | None, options: dict[str, Any], memories: Sequence[Memory]
) -> tuple[Together | None, dict[str, Any]]:
    """The function of many points at once, if it is to be asked so; and the options of a descent by itself."""
    fun, jac, memory = options["fun"], options["jac"], memories[0]
    source = Objective(fun, jac, memory).source
    if vectorized:
        if source not in ("given", "together", *AUTODIFF):
            raise OptionError(
                f"vectorized=True with finite differences ({source}): give jac, which returns a row for each start"
            )
        options = options | _of_one(fun, jac, source)
    elif vectorized is False or source not in AUTODIFF or len(memories) == 1:
        return None, options
    made = {"torch": _by_torch, "jax": _by_jax}.get(source)
    together: Together = (fun, jac) if made is None else (made(fun, memory, stacked=bool(vectorized)), True)
    extra = options["args"]
    args = tuple(extra) if isinstance(extra, (tuple, list)) else (extra,)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*performance drop")  # vmap goes on one point after the other
            why = _differs(together, options, memories[:2], args)
    except ObjectiveError as error:
        if vectorized and isinstance(error, _Misshapen):
            raise
        return (together if vectorized else None), options
    if why is None:
        return together, options
    if vectorized:
        raise OptionError(f"vectorized=True, but {why}; give a row for each start, or leave it out")
    return None, options


def _differs(
    together: Together, options: dict[str, Any], memories: Sequence[Memory], args: tuple[Any, ...]
) -> str | None:
    """How losses and gradients of the first starts together differ from those of each alone; None if they do not."""
    slopes = [memory.like() for memory in memories]
    losses = [
        Objective(options["fun"], options["jac"], memory)(grad, args)
        for memory, grad in zip(memories, slopes, strict=True)
    ]
    rows = Rows(memories)
    grad = rows.like()
    return disagreement(Objective(*together, rows).many(grad, args), grad, losses, slopes)


class _Misshapen(ObjectiveError):
    """A function that is said to take many points does not return a row for each."""


def _of_one(fun: Callable[..., Any], jac: Jac, source: str) -> dict[str, Any]:
    """A function and a gradient of many points as those of one."""

    def many(x: Any) -> Any:
        return optree.tree_map(lambda leaf: leaf[None], x)

    def one(tree: Any, what: str) -> Any:
        def first(leaf: Any) -> Any:
            if np.shape(leaf)[:1] != (1,):
                raise _Misshapen(
                    f"{what} returned shape {np.shape(leaf)} for 1 start: with vectorized=True it returns a row for "
                    "each start"
                )
            return leaf[0]

        return optree.tree_map(first, tree)

    @functools.wraps(fun)
    def value(x: Any, *args: Any) -> Any:
        return one(fun(many(x), *args), "fun")

    if not callable(jac):
        return {"fun": value, "jac": jac if source == "together" else source}

    @functools.wraps(jac)
    def slope(x: Any, *args: Any) -> Any:
        return one(jac(many(x), *args), "jac")

    return {"fun": value, "jac": slope}


def _by_torch(fun: Callable[..., Any], memory: Memory, *, stacked: bool) -> Callable[..., Any]:
    """Losses and gradients of many points by PyTorch, of a function of many points or, mapped, of one."""
    import torch

    spec = memory.spec

    @functools.wraps(fun)
    def both(x: Any, *args: Any) -> Any:
        def loss(leaves: Any) -> Any:
            return fun(spec.unflatten(leaves), *args)

        leaves = [torch.as_tensor(leaf) for leaf in optree.tree_leaves(x, none_is_leaf=True)]
        if not stacked:
            slopes, losses = torch.func.vmap(torch.func.grad_and_value(lambda one: loss(one).reshape(())))(leaves)
        else:
            leaves = [leaf.requires_grad_() for leaf in leaves]
            with torch.enable_grad():
                losses = loss(leaves)
                found = torch.autograd.grad(losses.sum(), leaves, allow_unused=True)
            slopes = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)]
        return losses.detach().numpy(), spec.unflatten([slope.detach().numpy() for slope in slopes])

    return both


def _by_jax(fun: Callable[..., Any], memory: Memory, *, stacked: bool) -> Callable[..., Any]:
    """The same by JAX."""
    import jax

    spec = memory.spec

    @functools.wraps(fun)
    def both(x: Any, *args: Any) -> Any:
        def loss(leaves: Any) -> Any:
            return fun(spec.unflatten(leaves), *args)

        def total(leaves: Any) -> Any:
            losses = loss(leaves)
            return losses.sum(), losses

        with precision(memory):
            leaves = [jax.numpy.asarray(leaf) for leaf in optree.tree_leaves(x, none_is_leaf=True)]
            if stacked:
                (_, losses), slopes = jax.value_and_grad(total, has_aux=True)(leaves)
            else:
                losses, slopes = jax.vmap(jax.value_and_grad(loss))(leaves)
            return np.asarray(losses), spec.unflatten([np.asarray(slope) for slope in slopes])

    return both


# ---- side by side -----------------------------------------------------------------------------------------------


class _Lockstep:
    """Descents that wait for each other at every look, so that one call of the function is for all of them.

    Each has a thread, of which one at a time runs: a descent goes on until it wants to look, and the next one's turn
    comes. The function is called by the thread that called `minimize`.
    """

    def __init__(self, points: Sequence[Any], options: dict[str, Any], together: Together) -> None:
        self.points, self.options, self.together = points, options, together
        self.lanes: list[_Lane] = []
        self._rows_of: list[_Lane] = []
        """Whose points the rows are."""

    def run(self) -> list[Result | ObjectiveError]:
        """All results, in order; only of those that had begun if Ctrl-C ends them."""
        begun: list[_Lane] = []
        waiting = deque(self.points)
        try:
            with interrupts() as interrupted:
                while self.lanes or waiting:
                    while waiting and len(self.lanes) < WIDTH and not interrupted():
                        lane = _Lane(Task(**self.options | {"x0": waiting.popleft()}), interrupted)
                        begun.append(lane)
                        self.lanes.append(lane)
                        lane.go()
                    if interrupted():
                        waiting.clear()
                    self._drop_ended()
                    self._look()
        except KeyboardInterrupt:
            pass
        finally:
            for lane in self.lanes:
                lane.stop()
        return [lane.outcome() for lane in begun]

    def _drop_ended(self) -> None:
        ended = [lane for lane in self.lanes if lane.asked is None]
        self.lanes = [lane for lane in self.lanes if lane.asked is not None]
        for lane in ended:
            if lane.outcome_is(Reason.INTERRUPTED):
                raise KeyboardInterrupt

    def _look(self) -> None:
        """Evaluate the points of all that still descend, and let each go on."""
        lanes = self.lanes
        answers: list[float | ObjectiveError] = []
        if len(lanes) > 1:
            answers = self._at_once(lanes)
        for lane, answer in zip(lanes, answers or [lane.alone() for lane in lanes], strict=True):
            lane.go(answer)
        self._drop_ended()

    def _at_once(self, lanes: list[_Lane]) -> list[float | ObjectiveError]:
        """The losses at all points, by one call; none if it raises."""
        if lanes != self._rows_of:
            self._rows_of = list(lanes)
            self.rows = Rows([lane.shadow for lane in lanes])
            self.grad = self.rows.like()
            self.objective = Objective(*self.together, self.rows)
        for row, lane in enumerate(lanes):
            for matrix, vector in zip(self.rows.vectors, lane.task.memory.vectors, strict=True):
                matrix[row] = vector
        try:
            losses = self.objective.many(self.grad, lanes[0].task.args)
        except ObjectiveError:  # one of them may be at fault: each is asked by itself
            return []
        for row, lane in enumerate(lanes):
            assert lane.asked is not None
            for matrix, vector in zip(self.grad, lane.asked, strict=True):
                vector[...] = matrix[row]
            lane.task.objective.nfev += 1
            lane.task.objective.njev += 1
        return [float(loss) for loss in losses]


class _Lane:
    """A descent in a thread of its own, which runs while `go` waits: until it has ended, or asks for its next look.

    `asked` is where that look's gradient belongs; None when the descent has ended.
    """

    def __init__(self, task: Task, interrupted: Callable[[], bool]) -> None:
        self.task = task
        self.shadow = Memory(task.memory.result())
        self.alone_at = task.descent.evaluate
        task.descent.evaluate = self._ask
        self.asked: list[Array] | None = None
        self.found: Result | ObjectiveError | BaseException | None = None
        self._asks: queue.SimpleQueue[list[Array] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[float | BaseException] = queue.SimpleQueue()
        self._runs = False
        work = functools.partial(contextvars.copy_context().run, self._work, interrupted)
        self._thread = threading.Thread(target=work, daemon=True)

    def go(self, answer: float | BaseException | None = None) -> None:
        """Begin, or go on with the loss that was asked for; an error is raised where it was."""
        self._runs = True
        if answer is None:
            self._thread.start()
        else:
            self._answers.put(answer)
        self._wait()

    def stop(self) -> None:
        """End what still runs, as Ctrl-C does."""
        if self._runs:
            self._wait()
        while self.asked is not None:
            self.go(KeyboardInterrupt())

    def alone(self) -> float | ObjectiveError:
        """The loss that was asked for, of this one alone, or what the function raised."""
        assert self.asked is not None
        try:
            return self.alone_at(self.asked)
        except ObjectiveError as error:
            return error

    def outcome_is(self, reason: Reason) -> bool:
        """Whether it ended for a reason; raises what is no outcome."""
        return getattr(self.outcome(), "reason", None) is reason

    def outcome(self) -> Result | ObjectiveError:
        """What it came to, once it has ended."""
        if isinstance(self.found, (Result, ObjectiveError)):
            return self.found
        assert self.found is not None
        raise self.found

    def _wait(self) -> None:
        self.asked = self._asks.get()
        self._runs = False

    def _ask(self, grad: list[Array]) -> float:
        self._asks.put(grad)
        answer = self._answers.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _work(self, interrupted: Callable[[], bool]) -> None:
        try:
            self.found = _run(self.task, interrupted)
        except BaseException as error:  # whatever it is, it is raised where the result is asked for
            self.found = error
        self._asks.put(None)
