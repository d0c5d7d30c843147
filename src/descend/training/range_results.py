"""What `find_lr` found: each seed's sweep, the two learning rates, and what to know before believing them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from descend.intervals import Interval, interval
from descend.jsonable import jsonable
from descend.parameters.memory import Array
from descend.printable import preformatted, wrapped
from descend.training.options import RangeTestOptions

__all__ = ["RangeTest", "Sweep", "notes_on"]

NEAR = 4.0
"""Times `low`: a steepest learning rate below that stands where the smoothed slope has nothing to lean on."""


@dataclasses.dataclass(frozen=True, repr=False)
class Sweep:
    """One seed's sweep: the loss of each batch and the smoothed loss at each learning rate, and what they say.

    The arrays have one number for each step that the sweep made. `slope` is the derivative of the smoothed loss along
    the natural logarithm of the learning rate. `steepest` is NaN where there is too little to smooth. `fell` says
    whether the loss fell in one of the short descents; where it did not, both rates are NaN. `rose` says whether it
    rose in all of them, `narrowed` whether the largest stable rate is known to 5 %.
    """

    seed: int
    learning_rates: Array
    losses: Array
    smoothed: Array
    slope: Array
    steepest: float
    largest_stable: float
    fell: bool = True
    rose: bool = False
    narrowed: bool = True

    def __repr__(self) -> str:
        return (
            f"<Sweep from seed {self.seed}: {len(self.losses)} steps, steepest {self.steepest:.3g}, "
            f"largest stable {self.largest_stable:.3g}>"
        )


@dataclasses.dataclass(frozen=True, repr=False)
class RangeTest:
    """What `find_lr` found. Printed, it is `answer` with its notes.

    `steepest` is the learning rate at which the loss fell fastest, `largest_stable` the largest from which a short
    descent does not end above its start: medians over the seeds with their 95 % intervals. `sweeps` has each seed's
    own figures, `notes` what to know before believing them.

    >>> import descend
    >>> found = descend.find_lr("booth", descend.GD, seeds=2)
    >>> found.largest_stable.known, found.notes
    (False, ('2 seeds are too few for intervals: use 6 or more.',))
    """

    problem: str
    rule: str
    batch_size: int | None
    steepest: Interval
    largest_stable: Interval
    sweeps: tuple[Sweep, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def answer(self) -> str:
        """The outcome in one sentence."""
        batches = "" if self.batch_size is None else f" with batches of {self.batch_size}"
        start = f"On {self.problem}, {self.rule}{batches}"
        steepest, stable = _spelled(self.steepest), _spelled(self.largest_stable)
        if not steepest and not stable:
            return f"On {self.problem}, no learning rate is found for {self.rule}{batches}: the loss did not fall."
        if not steepest:
            return f"{start} is stable up to {stable}; no learning rate at which it gains most is found."
        if self.steepest.median > self.largest_stable.median:
            return (
                f"{start} gains most at a learning rate of {steepest}, but only while a sweep passes: it is stable up "
                f"to {stable}, and no further."
            )
        return f"{start} gains most at a learning rate of {steepest} and is stable up to {stable}."

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON holds it; what is not a finite number is null."""
        whole = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        found: dict[str, Any] = jsonable({"schema": 1, "answer": self.answer, **whole})
        return found

    def __str__(self) -> str:
        return "\n".join([self.answer, *(f"Note: {note}" for note in self.notes)])

    def __repr__(self) -> str:
        return f"<RangeTest of {len(self.sweeps)} seeds: {self.answer}>"

    def _repr_html_(self) -> str:
        return preformatted("\n".join(line for text in str(self).splitlines() for line in wrapped(text, 80)))


def notes_on(sweeps: Sequence[Sweep], options: RangeTestOptions) -> list[str]:
    """What to know before believing the figures."""
    total, found = len(sweeps), [s.steepest for s in sweeps if math.isfinite(s.steepest)]
    notes = []
    for holds, words in _doubts(options):
        seeds = _seeds([holds(sweep) for sweep in sweeps])
        notes += [words.format(seeds)] if seeds else []
    if found and max(found) > 10 * min(found):
        notes.append(f"The seeds disagree on the steepest learning rate: from {min(found):.2g} to {max(found):.2g}.")
    if not interval([0.0] * total).known:
        notes.append(f"{total} seeds are too few for intervals: use 6 or more.")
    return notes


def _doubts(options: RangeTestOptions) -> list[tuple[Callable[[Sweep], bool], str]]:
    """What makes the sweep of a seed doubtful, and what is said of those seeds."""
    low, high = options.low, options.high
    return [
        (
            lambda s: s.fell and s.largest_stable == high,
            f"Even the largest learning rate, {high:g}, is stable for {{}}: raise high.",
        ),
        (
            lambda s: s.rose,
            f"Even the smallest learning rate, {low:g}, is not stable for {{}}: lower low, and see that the gradient "
            "belongs to the loss.",
        ),
        (
            lambda s: not s.fell and not s.rose,
            "The loss did not fall at any learning rate for {}: see that the gradient belongs to the loss, and that "
            "the start is no minimum.",
        ),
        (
            lambda s: s.fell and math.isnan(s.steepest),
            "The sweep has too little from which to tell the steepest learning rate for {}: lower low.",
        ),
        (
            lambda s: s.steepest < NEAR * low,
            f"The steepest learning rate lies where the sweep begins, at {low:g}, for {{}}: it may be smaller; lower "
            "low.",
        ),
        (
            lambda s: s.steepest > s.largest_stable,
            "The steepest learning rate lies beyond the largest stable one for {}: a sweep passes it too quickly to be "
            "hurt. Begin below the stable one.",
        ),
        (
            lambda s: not s.narrowed,
            "The budget was spent before the largest stable learning rate was known to 5 % for {}: it may be higher.",
        ),
    ]


def _seeds(found: Sequence[bool]) -> str:
    """How many of the seeds something is true of, in words; nothing if of none."""
    n, total = sum(found), len(found)
    if n == 0:
        return ""
    return f"{n} of {total} seeds" if n < total else f"all {total} seeds" if total > 1 else "the seed"


def _spelled(found: Interval) -> str:
    """A learning rate with its interval; nothing where there is none."""
    if not math.isfinite(found.median):
        return ""
    if found.low is None or found.high is None or not (math.isfinite(found.low) and math.isfinite(found.high)):
        return f"{found.median:.2g}"
    return f"{found.median:.2g} [{found.low:.2g}, {found.high:.2g}]"
