"""`minimize` from several starts: one after the other, or side by side where the function takes many at once."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from descend.descent.interrupts import Interrupts, holding, interruptible
from descend.descent.result import Result
from descend.errors import ObjectiveError, OptionError, ParameterError
from descend.minimization.lockstep import Lockstep, one_by_one
from descend.minimization.options import MinimizeOptions
from descend.minimization.run import Minimization
from descend.minimization.vectorized import agree_on_losses, of_one, together_of
from descend.objectives.autodiff import AUTODIFF
from descend.objectives.batch import Batch
from descend.objectives.differences import DIFFERENCES
from descend.objectives.objective import Objective
from descend.parameters.free import FreeMemory, memory_of
from descend.parameters.memory import Memory
from descend.parameters.starts import as_start
from descend.stopping import Reason

__all__ = ["alike", "best_from", "listed", "minimize_from"]


def minimize_from(fun: Callable[..., Any], x0: Any, options: MinimizeOptions) -> Result:
    """The best of the results from `x0` and from each of ``options.starts``, with all of them."""
    points = [x0, *([] if options.starts is None else listed(options.starts))]
    memories = alike(points)
    first = memory_of(as_start(x0), fixed=options.fixed, tied=options.tied, names=options.names)
    if isinstance(first, FreeMemory):  # what is fixed is so at the same values from every start
        options = dataclasses.replace(options, fixed=first.roles.held)
        memories = [FreeMemory(memory, first.roles) for memory in memories]
    source = Objective(fun, options.jac, memories[0]).source
    vectorized = options.vectorized
    one = of_one(fun, options.jac, source, memories[0]) if vectorized else (fun, options.jac)
    of_each = dataclasses.replace(options, jac=one[1])
    minimizations = [Minimization(one[0], point, of_each) for point in points]
    differs = vectorized and source in DIFFERENCES
    if differs:
        batch = Batch(fun, minimizations[0].objective.fun_name, memories[0])
        for minimization in minimizations:
            minimization.objective.many_losses = batch

    def run(interrupted: Interrupts, outcomes: list[Any]) -> KeyboardInterrupt | None:
        for minimization in minimizations:
            with contextlib.suppress(ObjectiveError):  # which is raised again when it is that start's turn
                interrupted.call(minimization.check)
        together = None
        if differs:
            interrupted.call(agree_on_losses, batch, minimizations)
        elif vectorized or (vectorized is None and source in AUTODIFF and len(minimizations) > 1):
            find = functools.partial(together_of, vectorized=bool(vectorized))
            together = interrupted.call(find, (fun, options.jac), one, source, minimizations, memories)
        # Products with the Hessian are each descent's own.
        if interrupted() or not (differs or together) or minimizations[0].products is not None:
            return one_by_one(minimizations, interrupted, outcomes)
        return Lockstep(minimizations, memories, together, interrupted).run(outcomes)

    best: Result = best_from(run, len(points), lambda run: run.fun)
    return best if options.starts is not None else dataclasses.replace(best, runs=())


def best_from(
    run: Callable[[Interrupts, list[Any]], KeyboardInterrupt | None], starts: int, loss: Callable[[Any], float]
) -> Any:
    """The best result of what `run` appends to a list from so many starts; an interrupt that it returns has it, too."""

    def work(interrupted: Interrupts) -> tuple[Any, KeyboardInterrupt | None]:
        outcomes: list[Result | ObjectiveError] = []
        left = run(interrupted, outcomes)
        if left is None and interrupted.at_once:
            left = KeyboardInterrupt()
        return _best(outcomes, starts, loss), left

    result, left = interruptible(work)
    if left is not None:
        raise holding(left, result)
    return result


def listed(starts: Any) -> list[Any]:
    """The further starts; raises `OptionError`."""
    try:
        if not isinstance(starts, (str, Mapping)):
            return list(starts)
    except TypeError:
        pass
    raise OptionError(f"starts={starts!r}: a list of starts is needed, each built as x0")


def alike(points: Sequence[Any]) -> list[Memory]:
    """The memories of all starts; raises `ParameterError` if one is not built as the first."""
    names = ["x0", *(f"starts[{i}]" for i in range(len(points) - 1))]
    memories = [Memory(as_start(point, name), name) for point, name in zip(points, names, strict=True)]
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


def _best(outcomes: Sequence[Result | ObjectiveError], starts: int, loss: Callable[[Any], float]) -> Any:
    """The result of the best loss, whose `runs` are all; raises what was raised if there is no other outcome.

    It says that it was interrupted where one of the starts was, or was not begun.
    """
    alive = [outcome for outcome in outcomes if isinstance(outcome, Result)]
    if not alive:
        raised = [outcome for outcome in outcomes if isinstance(outcome, ObjectiveError)]
        raise raised[0] if raised else KeyboardInterrupt  # before any had begun
    sign = -1.0 if alive[0].method.maximize else 1.0
    best = min(alive, key=lambda run: (not math.isfinite(loss(run)), sign * loss(run)))
    runs = [outcome.result if isinstance(outcome, ObjectiveError) else outcome for outcome in outcomes]
    # A start that raised before there was a result is finished as well: its outcome is the error.
    finished = sum(run is None or run.reason is not Reason.INTERRUPTED for run in runs)
    all_runs = tuple(run for run in runs if run is not None)
    if finished == starts:
        return dataclasses.replace(best, runs=all_runs)
    message = Reason.INTERRUPTED.message(f"{finished} of {starts} starts are finished; this is the best point seen.")
    return dataclasses.replace(best, runs=all_runs, reason=Reason.INTERRUPTED, message=message)
