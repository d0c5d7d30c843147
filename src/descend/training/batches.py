"""The mini-batches of a training: one seeded order of the examples for each epoch, none lost or doubled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from descend.checks import count, is_whole
from descend.errors import OptionError
from descend.parameters.memory import Array
from descend.problems.problem import Problem
from descend.problems.splits import Split

__all__ = ["BatchSize", "Batches", "batch", "batches_of", "least_batch", "same_batches", "stacked_batch"]

BatchSize = int | Literal["full"]

DEFAULT_BATCH_SIZE = 32


class Batches:
    """The row numbers of each step's mini-batch, as a function of size, batch size and seed alone.

    The order of epoch e is a permutation drawn from ``default_rng([seed, e, 1])``, a stream of its own beside
    ``default_rng(seed)``, which draws the initial parameters. The batches are consecutive runs of `batch_size` examples
    in that order; the last one is shorter where the batch size does not divide. Fewer than `least` that are left over,
    which the problem cannot take as a batch, belong to the one before. The same seed gives every rule the same order,
    and every batch size the same order of examples. ``"full"`` is all examples at once, unshuffled.

    >>> batches = Batches(size=5, batch_size=2, seed=0)
    >>> [batches.rows(step).tolist() for step in range(3)]
    [[1, 3], [4, 2], [0]]
    >>> batches = Batches(size=5, batch_size=2, seed=0, least=2)
    >>> [batches.rows(step).tolist() for step in range(2)]
    [[1, 3], [4, 2, 0]]
    """

    def __init__(self, size: int, batch_size: BatchSize, seed: int, least: int = 1) -> None:
        self.full = batch_size == "full" or (is_whole(batch_size) and batch_size == size)
        self.size = size
        self.batch_size = size if self.full else count("batch_size", batch_size, otherwise="'full'", remedy="try 32")
        if self.batch_size > size:
            raise OptionError(
                f"batch_size={batch_size} is larger than the training data, which have {size} examples; "
                f"use at most {size}, or 'full'"
            )
        if self.batch_size < least:
            raise OptionError(
                f"batch_size={batch_size!r}: the problem's loss and gradient need {least} examples at least, as with "
                f"batch normalisation; use {least} or more"
                + (f", and more training data: there are {size}" if size < least else "")
            )
        self.seed = seed
        whole, rest = divmod(size, self.batch_size)
        self.per_epoch = whole + (rest >= least)
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
        stop = self.size if place == self.per_epoch - 1 else (place + 1) * self.batch_size
        return self._order[place * self.batch_size : stop]

    def examples(self, steps: int) -> int:
        """The number of examples that `steps` steps see in all."""
        epochs, place = divmod(steps, self.per_epoch)
        return epochs * self.size + place * self.batch_size

    def steps(self, examples: int) -> int:
        """The largest number of steps that see at most `examples` examples."""
        epochs, rest = divmod(examples, self.size)
        return epochs * self.per_epoch + min(rest // self.batch_size, self.per_epoch - 1)


def batches_of(problem: Problem, batch_size: BatchSize | None, seed: int) -> Batches | None:
    """The batches of a problem's training data, by default of 32 examples; None for a problem without data."""
    if problem.size is None:
        if batch_size not in (None, "full"):
            raise OptionError(f"batch_size={batch_size!r}: {problem.name} has no data to take batches of; leave it out")
        return None
    if batch_size is None:
        batch_size = min(DEFAULT_BATCH_SIZE, problem.size)
    return Batches(problem.size, batch_size, seed, least_batch(problem, batch_size))


def least_batch(problem: Problem, batch_size: BatchSize) -> int:
    """The smallest batch that a problem takes, if batches of that size would have a single example; else 1."""
    size = problem.size
    if size is None or batch_size == "full" or not is_whole(batch_size, at_least=1) or batch_size > size:
        return 1
    return problem.least_batch if batch_size == 1 or size % batch_size == 1 else 1


def batch(problem: Problem, batches: Batches | None, step: int) -> Split:
    """The examples of a step; none for a problem without data."""
    if batches is None or problem.train is None:
        return ()
    rows = batches.rows(step)
    return tuple([part[rows] for part in problem.train])


def same_batches(batches: Sequence[Batches | None]) -> bool:
    """Whether all runs of a stack see the same examples in each step."""
    first = batches[0]
    return first is None or first.full or all(one is first for one in batches)


def stacked_batch(problem: Problem, batches: Sequence[Batches | None], step: int, *, shared: bool) -> Split:
    """The examples of a step of a stack: one batch for all runs, or the runs' own batches along a leading axis."""
    if problem.train is None:
        return ()
    rows: Any = [one.rows(step) for one in (batches[:1] if shared else batches) if one is not None]
    rows = rows[0] if shared else np.stack(rows)
    if isinstance(rows, slice):
        return tuple([part[rows] for part in problem.train])
    # `take` copies rows in less than half of an index's time; only NumPy's own arrays surely have it.
    return tuple([part.take(rows, axis=0) if type(part) is np.ndarray else part[rows] for part in problem.train])
