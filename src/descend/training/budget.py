"""The budget of a training: how many steps it makes, and after which of them the validation data are evaluated."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from descend.errors import OptionError
from descend.training.batches import Batches
from descend.training.options import DEFAULT_EPOCHS, TrainingOptions

__all__ = ["Budget"]

DEFAULT_STEPS = 1_000
"""Steps for a problem without data, where there are no epochs."""
DEFAULT_EVALUATIONS = 100
"""Evaluations in all for a problem without data; with data there is one an epoch."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """How many steps a training makes at most, and when it evaluates.

    ``next_evaluation(steps)`` is the number of steps after which the next evaluation is due, when so many are done.
    """

    steps: int
    next_evaluation: Callable[[int], int]

    @classmethod
    def of(cls, options: TrainingOptions, batches: Batches | None) -> Budget:
        """The budget that options ask for, with these batches, or None without data."""
        steps = _steps(options, batches)
        return cls(steps, _evaluations(options, batches, steps))


def _steps(options: TrainingOptions, batches: Batches | None) -> int:
    """The number of steps that epochs, steps or examples pay for."""
    if options.steps is not None:
        return options.steps
    if batches is None:
        if options.epochs is not None:
            raise OptionError(f"epochs={options.epochs!r}: a problem without data has no epochs; give steps")
        return DEFAULT_STEPS if options.examples is None else options.examples
    if options.examples is not None:
        total = batches.steps(options.examples)
        if total == 0:
            raise OptionError(
                f"examples={options.examples} does not pay for one batch of {batches.batch_size}; "
                f"give at least {batches.batch_size}, or a smaller batch_size"
            )
        return total
    epochs = DEFAULT_EPOCHS if options.epochs is None else options.epochs
    return max(1, round(epochs * batches.per_epoch))


def _evaluations(options: TrainingOptions, batches: Batches | None, steps: int) -> Callable[[int], int]:
    """The step of the next evaluation after a step."""
    examples = options.evaluate_every_examples
    if examples is None or batches is None:
        default = batches.per_epoch if batches else max(1, steps // DEFAULT_EVALUATIONS)
        every = examples or options.evaluate_every or default  # without data a step is one gradient evaluation
        return lambda done: (done // every + 1) * every

    def first_at_or_beyond_the_next_multiple(done: int) -> int:
        enough = (batches.examples(done) // examples + 1) * examples
        found = batches.steps(enough)
        return found if batches.examples(found) == enough else found + 1

    return first_at_or_beyond_the_next_multiple
