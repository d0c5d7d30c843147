"""What a descent went through, step by step, in bounded memory."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from descend.descent.fields import same
from descend.parameters.memory import Array

__all__ = ["Evaluation", "History"]

LIMIT = 10_000
"""Records kept at most; when they are full, every second one is dropped and the stride doubles."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One evaluation of the problem on its validation data in the course of `fit`.

    `batch_loss` is the mean loss over the batches since the last evaluation (NaN at the start); `validation_loss` and
    `validation_metric` are NaN without validation data. `examples` counts gradient evaluations: examples seen.
    """

    step: int
    epoch: float
    examples: int
    seconds: float
    batch_loss: float
    validation_loss: float
    validation_metric: float


class History:
    """Loss and gradient norm at the point from which each step was taken.

    ``loss[0]`` is the loss at the start; a descent of 100 steps has 100 entries, and the loss after the last step is
    the result's `fun`. Beyond `limit` records, every second one is dropped and only every `stride`-th step recorded
    from then on: memory stays bounded, however long the descent. `step` has the step number of each record.

    `path` holds the parameters of each record (containers, as the user gave them) if it was asked for, else it is
    None. `evaluations` holds those of `fit` on validation data, thinned in the same way.
    """

    def __init__(self, *, path: bool = False, limit: int = LIMIT) -> None:
        self.limit = limit
        self.stride = 1
        self._steps: list[int] = []
        self._losses: list[float] = []
        self._norms: list[float] = []
        self.path: list[Any] | None = [] if path else None
        self._evaluations: list[Evaluation] = []
        self._evaluation_stride = 1
        self._evaluations_seen = 0
        self._newest: Evaluation | None = None

    def record(self, step: int, loss: float, norm: float) -> bool:
        """Take note of a step, if its turn has come; says whether it did."""
        if step % self.stride:
            return False
        if len(self._steps) >= self.limit:
            self._thin()
            if step % self.stride:
                return False
        self._steps.append(step)
        self._losses.append(loss)
        self._norms.append(norm)
        return True

    def drop(self, step: int) -> None:
        """Forget the record of a step that was not made."""
        if self._steps and self._steps[-1] == step:
            for series in (self._steps, self._losses, self._norms, self.path):
                if series is not None:
                    series.pop()

    def record_evaluation(self, evaluation: Evaluation) -> None:
        """Take note of an evaluation. The newest is always kept."""
        if self._evaluations_seen % self._evaluation_stride == 0:
            if len(self._evaluations) >= self.limit:
                self._evaluation_stride *= 2
                del self._evaluations[1::2]
            if self._evaluations_seen % self._evaluation_stride == 0:
                self._evaluations.append(evaluation)
        self._evaluations_seen += 1
        self._newest = evaluation

    @property
    def evaluations(self) -> list[Evaluation]:
        """The evaluations that are kept, in order; the newest is the last."""
        if self._newest is None or self._evaluations[-1] is self._newest:
            return list(self._evaluations)
        return [*self._evaluations, self._newest]

    def _thin(self) -> None:
        self.stride *= 2
        for series in (self._steps, self._losses, self._norms, self.path):
            if series is not None:
                del series[1::2]

    @property
    def step(self) -> Array:
        """Number of steps done before each record."""
        return np.array(self._steps, dtype=np.int64)

    @property
    def loss(self) -> Array:
        """Loss of each record."""
        return np.array(self._losses, dtype=float)

    @property
    def gradient_norm(self) -> Array:
        """Euclidean norm of the gradient of each record."""
        return np.array(self._norms, dtype=float)

    def __len__(self) -> int:
        return len(self._steps)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and same(vars(self), vars(other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        span = f", loss {self._losses[0]:.6g} → {self._losses[-1]:.6g}" if self._losses else ""
        return f"<History of {len(self)} records, every {self.stride} steps{span}>"
