"""The user's function of one flat vector, or of many at once, whose evaluations are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from descend.objectives.calls import as_complex, as_loss, call

if TYPE_CHECKING:
    from descend.objectives.objective import Objective
    from descend.parameters.memory import Array

__all__ = ["FlatLoss"]

CHUNK = 2**22
"""Numbers that the points of one call of a function of many may have."""


class FlatLoss:
    """The function of an `Objective` and further arguments as one of flat vectors of float64.

    `x` is the point where the objective's memory stands. Points are rounded to what the parameters can hold.
    """

    def __init__(self, objective: Objective, args: tuple[Any, ...]) -> None:
        self.objective, self.args = objective, args
        self._users_errstate = np.geterr()
        """Of which floating-point errors NumPy warns in the user's function."""
        vectors = objective.memory.vectors
        self.cuts = np.cumsum([v.size for v in vectors])[:-1]
        self.x: Array = np.concatenate(vectors).astype(np.float64)
        self.spacing: Array = np.concatenate([np.full(v.size, float(np.finfo(v.dtype).eps)) for v in vectors])
        """The spacing of the floats of each parameter, relative to its size."""

    @property
    def at_once(self) -> bool:
        """Whether many points are evaluated by one call."""
        return self.objective.many_losses is not None

    def __call__(self, point: Array) -> Any:
        """The loss at a point, real or complex."""
        objective, memory = self.objective, self.objective.memory
        parts = self.split(point)
        is_complex = np.iscomplexobj(point)
        if not is_complex:
            parts = [p.astype(v.dtype, copy=False) for p, v in zip(parts, memory.vectors, strict=True)]
        objective.nfev += 1
        point = memory.tree(parts)
        with np.errstate(**self._users_errstate):
            out = call(objective.fun, objective.fun_name, point, self.args)
        if is_complex:
            return as_complex(out, objective.fun_name)
        dtype = getattr(out, "dtype", None)
        if isinstance(dtype, np.dtype) and dtype.kind == "f" and dtype.itemsize < 8:
            objective.resolution.coarsen(float(np.finfo(dtype).eps))
        loss = as_loss(out, objective.fun_name)
        if objective.resolution.watching:
            objective.resolution.see(loss)
        return loss

    def split(self, flat: Array) -> list[Array]:
        """What a flat vector has for each of the memory's vectors."""
        return np.split(flat, self.cuts) if self.cuts.size else [flat]

    def rounded(self, index: Array, values: Array) -> Array:
        """Values for the parameters at `index` as these can hold them."""
        single = self.spacing[index] > np.finfo(np.float64).eps
        return np.where(single, values.astype(np.float32), values) if single.any() else values

    def moved(self, index: Array, values: Array) -> Array:
        """The losses where one parameter at a time, that at `index`, has another value; at x itself for an index −1."""
        if not self.at_once or not index.size:
            point, losses = self.x.copy(), np.empty(len(index))
            for k, (i, value) in enumerate(zip(index, values, strict=True)):
                if i >= 0:
                    point[i] = value
                losses[k] = self(point)
                if i >= 0:
                    point[i] = self.x[i]
            return losses
        most = max(1, CHUNK // self.x.size)
        parts = []
        for start in range(0, len(index), most):
            chunk = slice(start, start + most)
            points = np.tile(self.x, (len(index[chunk]), 1))
            rows = np.flatnonzero(index[chunk] >= 0)
            points[rows, index[chunk][rows]] = values[chunk][rows]
            parts.append(self.rows(points))
        return np.concatenate(parts)

    def rows(self, points: Array) -> Array:
        """The losses at points, each a row."""
        objective = self.objective
        if objective.many_losses is None:
            return np.array([self(point) for point in points])
        objective.nfev += len(points)
        with np.errstate(**self._users_errstate):
            losses = objective.many_losses(points, self.args)
        if objective.resolution.watching:
            for loss in losses:
                objective.resolution.see(float(loss))
        return losses
