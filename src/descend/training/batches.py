"""Which examples each step sees: one seeded shuffling order an epoch, no example lost or doubled."""

from __future__ import annotations

import numbers
from typing import Any, Literal

import numpy as np

from descend.errors import OptionError
from descend.parameters.memory import Array

__all__ = ["BatchSize", "Batches"]

BatchSize = int | Literal["full"]


class Batches:
    """The batch of every step, as a function of size, batch size and seed alone.

    The order of epoch e is a permutation drawn from ``default_rng([seed, e, 1])``, a stream of its own beside that of
    the start, ``default_rng(seed)``; its batches are consecutive runs of
    `batch_size` examples, the last one shorter where it does not divide. The same seed gives every rule the same
    order, and every batch size the same order of examples. ``"full"`` is all examples at once, unshuffled.

    >>> batches = Batches(size=5, batch_size=2, seed=0)
    >>> [batches.rows(step).tolist() for step in range(3)]
    [[1, 3], [4, 2], [0]]
    """

    def __init__(self, size: int, batch_size: BatchSize, seed: int) -> None:
        self.full = batch_size in ("full", size)
        if not self.full and (
            not isinstance(batch_size, numbers.Integral) or isinstance(batch_size, bool) or batch_size < 1
        ):
            raise OptionError(f"batch_size={batch_size!r}: a whole number ≥ 1, or 'full', is needed; try 32")
        if not self.full and int(batch_size) > size:
            raise OptionError(
                f"batch_size={batch_size} is larger than the training data, which have {size} examples; "
                f"use at most {size}, or 'full'"
            )
        self.size = size
        self.batch_size = size if self.full else int(batch_size)
        self.seed = seed
        self.per_epoch = -(-size // self.batch_size)
        self._epoch = -1
        self._order: Array = np.arange(0)

    def rows(self, step: int) -> Any:
        """Row numbers of the batch of `step` (from 0); a slice of everything for a full batch."""
        if self.full:
            return slice(None)
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._order = np.random.default_rng([self.seed, epoch, 1]).permutation(self.size)
            self._epoch = epoch
        return self._order[place * self.batch_size : (place + 1) * self.batch_size]

    def examples(self, steps: int) -> int:
        """How many examples `steps` steps see in all."""
        epochs, place = divmod(steps, self.per_epoch)
        return epochs * self.size + min(place * self.batch_size, self.size)

    def steps(self, examples: int) -> int:
        """The largest number of steps that see at most `examples` examples."""
        epochs, rest = divmod(examples, self.size)
        return epochs * self.per_epoch + rest // self.batch_size
