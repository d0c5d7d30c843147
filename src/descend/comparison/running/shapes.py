"""Shapes that meet by mistake: a column of N numbers and a row of N, which arithmetic makes a square of N × N.

Outputs of shape (N, 1) and targets of shape (N,) raise no error. Each example is set beside every other one, and the
loss is a number like any. So loss, gradient and metric are watched on a few examples before the first run.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from descend.errors import ProblemError
from descend.parameters.memory import Memory
from descend.problems import Problem
from descend.problems.generators import STEPS, seeded

__all__ = ["check_shapes"]

COUNTS = (7, 11, 13, 5, 3)
"""Examples to watch, the first of these that is no other size in the problem: else a square would tell nothing."""


def check_shapes(problem: Problem, seed: int) -> None:
    """Refuse, by `ProblemError`, a problem in whose loss or metric a column meets a row; `seed` makes the start."""
    if problem.train is None:
        return
    instance = problem.instance(seed)
    memory = Memory(instance.params, "params")
    sizes = {n for part in problem.train for n in part.shape[1:]} | {n for shape in memory.shapes for n in shape}
    count = next((n for n in COUNTS if n not in sizes and n <= (problem.size or 0)), None)
    if count is None:
        return
    examples = tuple(part[:count] for part in problem.train)
    objective, grad = instance.objective(memory), memory.like()
    parts: dict[str, Callable[..., Any]] = {
        "loss": lambda *data: objective(grad, data),
        "metric": lambda *data: objective.apply(instance.measure, *data),
    }
    for name, part in parts.items():
        met: list[bool] = []
        watched = [_seen(array, count, met) if type(array) is np.ndarray else array for array in examples]
        # A class of arrays of one's own may be too much for compiled code; that says nothing of shapes.
        with contextlib.suppress(Exception), seeded(seed, STEPS), np.errstate(all="ignore"), _torch(count, met):
            part(*watched)
        if met:
            raise ProblemError(
                f"{problem.name}: in its {name}, arrays of shapes (N, 1) and (N,) meet for N examples and make one of "
                "(N, N): each output is set beside the targets of all examples; give both the same shape, such as "
                "y[:, None], or output[:, 0]"
            )


class _Watched(np.ndarray):
    """An array that notes in `met` when a column and a row of `count` make a square.

    `meant` is true where an axis was added on purpose, and of what comes of that.
    """

    count = 0
    met: list[bool]
    meant = False

    def __array_finalize__(self, other: Any) -> None:
        self.count, self.met = getattr(other, "count", 0), getattr(other, "met", [])
        self.meant = getattr(other, "meant", False)

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        if isinstance(part, _Watched) and (key is None or (isinstance(key, tuple) and any(k is None for k in key))):
            part.meant = True
        return part

    def reshape(self, *shape: Any, **options: Any) -> Any:
        part: Any = super().reshape(*shape, **options)
        part.meant = True
        return part

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if "out" in options:
            options["out"] = tuple(map(_plain, options["out"]))
        result = getattr(ufunc, method)(*map(_plain, inputs), **options)
        meant = any(isinstance(value, _Watched) and value.meant for value in inputs)
        elementwise = method == "__call__" and ufunc.signature is None
        shapes = [np.shape(value) for value in inputs]
        if elementwise and not meant and sorted(shapes) == [(self.count,), (self.count, 1)]:
            self.met.append(True)
        return _seen(result, self.count, self.met, meant=meant) if isinstance(result, np.ndarray) else result


def _seen(array: Any, count: int, met: list[bool], *, meant: bool = False) -> Any:
    """An array that is watched."""
    watched = array.view(_Watched)
    watched.count, watched.met, watched.meant = count, met, meant
    return watched


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, _Watched) else value


def _torch(count: int, met: list[bool]) -> Any:
    """Watch what PyTorch computes, where it is there."""
    if "torch" not in sys.modules:
        return contextlib.nullcontext()
    from descend.comparison.running.torch_shapes import Watch

    return Watch(count, met)
