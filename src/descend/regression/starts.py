"""`least_squares` from several starts: side by side where JAX or PyTorch evaluates residuals and Jacobians of many."""

from __future__ import annotations

import dataclasses
import hashlib
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from descend.descent.interrupts import Interrupts
from descend.errors import ObjectiveError
from descend.minimization.choice import PAIRS_BYTES
from descend.minimization.lockstep import WIDTH, Lane, Lockstep, one_by_one
from descend.minimization.multistart import alike, best_from, listed
from descend.objectives.autodiff import AUTODIFF, precision
from descend.parameters.free import FreeMemory
from descend.parameters.memory import Array, Memory
from descend.regression.options import LeastSquaresOptions
from descend.regression.result import LeastSquaresResult
from descend.regression.run import Regression

__all__ = ["least_squares_from"]

AGREE = {np.dtype(np.float32): 1e-4, np.dtype(np.float64): 1e-10}
"""How far residuals and Jacobians of many points may be from each point's own, relative to the largest entry."""

Many = Callable[[list[Array]], tuple[Array, Array]]
"""Residuals (k, m) and Jacobians (k, m, n) at k points, whose leaves are stacked."""


def least_squares_from(fun: Callable[..., Any], x0: Any, options: LeastSquaresOptions) -> LeastSquaresResult:
    """The best of the results from `x0` and from each of ``options.starts``, with all of them."""
    points = [x0, *listed(options.starts)]
    memories = alike(points)
    of_each = dataclasses.replace(options, starts=None)
    first = Regression(fun, x0, of_each)
    if isinstance(first.memory, FreeMemory):  # what is fixed is so at the same values from every start
        of_each = dataclasses.replace(of_each, fixed=first.memory.roles.held)
    regressions = [first, *(Regression(fun, point, of_each) for point in points[1:])]

    def run(interrupted: Interrupts, outcomes: list[Any]) -> KeyboardInterrupt | None:
        many = None
        if len(points) > 1 and first.objective.source in AUTODIFF and not isinstance(first.memory, FreeMemory):
            many = interrupted.call(_many, fun, first, memories, _width(regressions))
        if many is None or interrupted():
            return one_by_one(regressions, interrupted, outcomes)  # type: ignore[arg-type]
        return _SideBySide(regressions, memories, many, interrupted).run(outcomes)

    best: LeastSquaresResult = best_from(run, len(points), lambda run: run.cost)
    return best


def _width(regressions: Sequence[Regression]) -> int:
    """How many points are evaluated at once."""
    room = PAIRS_BYTES // max(regression.bytes for regression in regressions)
    return max(2, min(WIDTH, len(regressions), room))


def _filled(rows: Array, width: int) -> Array:
    """As many rows as are always evaluated: to compile for another number takes longer than to evaluate them."""
    return np.concatenate([rows, np.repeat(rows[:1], max(0, width - len(rows)), axis=0)])


def _many(fun: Callable[..., Any], first: Regression, memories: Sequence[Memory], width: int) -> Many | None:
    """What evaluates many points at once, if it gives what each of the first two starts gives alone."""
    objective = first.objective
    many = _by_jax(fun, first) if objective.source == "jax" else _by_torch(first)
    counts = objective.nfev, objective.njev
    alone = []
    here = first.memory.snapshot()
    try:
        for memory in memories[:2]:
            for vector, start in zip(first.memory.vectors, memory.vectors, strict=True):
                vector[...] = start
            grad = memory.like()
            objective.evaluate()
            objective.differentiate(grad)
            alone.append((objective.unweighted(objective.values).reshape(-1), grad, objective.values))
        pairs = zip(*(memory.leaves for memory in memories[:2]), strict=True)
        values, jacobians = many([_filled(np.stack(pair), width) for pair in pairs])
        agrees = all(
            _agree(value.reshape(-1), expected[0])
            and _agree(_gradient(first, jacobian, expected[2]), np.concatenate(expected[1]))
            for value, jacobian, expected in zip(values, jacobians, alone, strict=False)
        )
    except Exception:  # whatever mapping a function over points can raise: then each point is for itself
        agrees = False
    finally:
        for vector, start in zip(first.memory.vectors, here, strict=True):
            vector[...] = start
        objective.forget()
        objective.nfev, objective.njev = counts
    return many if agrees else None


def _gradient(first: Regression, jacobian: Array, weighted: Array) -> Array:
    objective = first.objective
    slopes = weighted * objective.loss.weights(weighted)
    return np.asarray(objective.weighted(jacobian.reshape(weighted.size, -1).T).dot(slopes))


def _agree(found: Array, expected: Array) -> bool:
    scale = float(np.max(np.abs(expected), initial=np.finfo(float).tiny))
    tolerance = AGREE.get(found.dtype, AGREE[np.dtype(np.float64)])
    return found.shape == expected.shape and bool(np.max(np.abs(found - expected), initial=0.0) <= tolerance * scale)


_KEPT: weakref.WeakKeyDictionary[Any, tuple[bytes, Any]] = weakref.WeakKeyDictionary()
"""For a user's function, as long as it lives: the digest of the program that was compiled of it last, and that."""


def _compiled(fun: Callable[..., Any], lowered: Any) -> Any:
    """A program of JAX's, compiled, or that which was compiled of the same function before if it is the same.

    Data that a function closes over are constants of its program. So the programs are compared, and not the functions:
    a function whose data have changed is compiled anew.
    """
    import jax

    text = lowered.as_text()
    # Constants that are handed over beside a program are not in its text, and callbacks may refer to the function.
    if getattr(jax.config, "jax_use_simplified_jaxpr_constants", False) or "callback" in text:
        return lowered.compile()
    digest = hashlib.sha256(text.encode()).digest()
    try:
        kept = _KEPT.get(fun)
        if kept is None or kept[0] != digest:
            kept = _KEPT[fun] = digest, lowered.compile()
    except TypeError:  # a callable that cannot be referred to weakly, or hashed
        return lowered.compile()
    return kept[1]


def _by_jax(fun: Callable[..., Any], first: Regression) -> Many:
    """Residuals and Jacobians of many points by JAX, compiled for their number."""
    import jax

    objective, memory = first.objective, first.memory

    def residuals(leaves: Any) -> Any:
        found = jax.numpy.asarray(objective.fun(memory.unflatten(leaves), *objective.args))
        return found, found

    def one(leaves: Any) -> Any:
        parts, found = jax.jacfwd(residuals, has_aux=True)(leaves)
        columns = [part.reshape(found.size, -1) for part in parts]
        return found, jax.numpy.concatenate(columns, axis=1)

    together: Any = None

    def many(stacked: list[Array]) -> tuple[Array, Array]:
        nonlocal together
        with precision(memory):
            leaves = [jax.numpy.asarray(leaf) for leaf in stacked]
            if together is None:
                together = _compiled(fun, jax.jit(jax.vmap(one)).lower(leaves))
            values, jacobians = together(leaves)
            return np.asarray(values), np.asarray(jacobians)

    return many


def _by_torch(first: Regression) -> Many:
    """The same by PyTorch."""
    import torch

    objective, memory = first.objective, first.memory

    def residuals(leaves: Any) -> Any:
        found = objective.fun(memory.unflatten(leaves), *objective.args)
        return found, found

    def one(leaves: Any) -> Any:
        parts, found = torch.func.jacfwd(residuals, has_aux=True)(leaves)
        return found, torch.cat([part.reshape(found.numel(), -1) for part in parts], dim=1)

    def many(stacked: list[Array]) -> tuple[Array, Array]:
        values, jacobians = torch.func.vmap(one)([torch.from_numpy(leaf) for leaf in stacked])
        return values.detach().numpy(), jacobians.detach().numpy()

    return many


class _SideBySide(Lockstep):
    """Descents that wait for each other at every evaluation: of residuals and Jacobians, of all points at once."""

    def __init__(
        self,
        regressions: Sequence[Regression],
        memories: Sequence[Memory],
        many: Many,
        interrupted: Interrupts,
    ) -> None:
        self.many, self.interrupted = many, interrupted
        began = time.perf_counter()
        for regression in regressions:
            regression.descent.began = began
        self.waiting = deque(zip(regressions, memories, strict=True))  # type: ignore[arg-type]
        self.lanes, self.begun = [], []
        self.width = _width(regressions)

    def at_once(self, lanes: list[Lane]) -> list[Any]:
        """The losses at all points; residuals and Jacobians are left with each one's objective."""
        leaves = zip(*(lane.minimization.memory.leaves for lane in lanes), strict=True)
        stacked = [np.stack(parts) for parts in leaves]
        filled = [_filled(rows, self.width) for rows in stacked]
        try:
            values, jacobians = self.interrupted.call(self.many, filled)
        except Exception:  # one of them may be at fault: each is asked by itself
            return [self._alone(lane) for lane in lanes]
        answers: list[Any] = []
        for lane, value, jacobian in zip(lanes, values, jacobians, strict=False):
            objective: Any = lane.minimization.objective
            try:
                answers.append(objective.take(value, jacobian, lane.asked))
            except ObjectiveError as error:
                answers.append(error)
        return answers

    @staticmethod
    def _alone(lane: Lane) -> Any:
        objective: Any = lane.minimization.objective
        try:
            answer = lane.alone()
            if not isinstance(answer, ObjectiveError):
                objective.know()
            return answer
        except ObjectiveError as error:
            return error
