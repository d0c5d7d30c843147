"""Schedules: pure functions of the step, for the learning rate or any other hyperparameter.

A schedule is called with the number of steps done before (0 for the first step) and returns a number. Any function
will do; these are the usual ones, as small frozen dataclasses that print, compare and pickle. They agree with
`torch.optim.lr_scheduler` step by step.

>>> import descend
>>> from descend import schedules
>>> rule = descend.Adam(lr=schedules.Cosine(0.1, steps=100), betas=(schedules.OneCycle(0.95, steps=100), 0.999))
>>> rule.at(1).lr, round(rule.at(101).lr, 6)
(0.1, 0.0)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from descend.checks import count, fraction, real
from descend.errors import ScheduleError

__all__ = ["Constant", "Cosine", "Exponential", "LinearWarmup", "OneCycle", "Schedule", "StepDecay"]

Schedule = Callable[[int], float]


@dataclasses.dataclass(frozen=True)
class _Checked:
    """Checks numbers when a schedule is made, so that a wrong one never reaches a descent."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, words = getattr(self, field.name), self._words()
            if field.name in ("steps", "every"):
                count(field.name, value, noun="whole number of steps", remedy="", **words)
            elif not (field.name == "then" and callable(value)):
                real(field.name, value, **words)

    def _words(self) -> dict[str, Any]:
        """What an error says of every number: of which schedule it is."""
        return {"of": type(self).__name__, "error": ScheduleError}

    def __call__(self, step: int) -> float:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Constant(_Checked):
    """The same number at every step."""

    value: float

    def __call__(self, step: int) -> float:
        return self.value


@dataclasses.dataclass(frozen=True)
class StepDecay(_Checked):
    """`value`, multiplied by `gamma` after every `every` steps: ``value · gamma^⌊step / every⌋``."""

    value: float
    every: int
    gamma: float = 0.1

    def __call__(self, step: int) -> float:
        return self.value * self.gamma ** (step // self.every)


@dataclasses.dataclass(frozen=True)
class Exponential(_Checked):
    """`value`, multiplied by `gamma` after each step: ``value · gamma^step``."""

    value: float
    gamma: float

    def __call__(self, step: int) -> float:
        return self.value * self.gamma**step


@dataclasses.dataclass(frozen=True)
class Cosine(_Checked):
    """From `value` down to `final` along half a cosine in `steps` steps, then `final`.

    Loshchilov & Hutter 2017, eq. 5, without restarts.
    """

    value: float
    steps: int
    final: float = 0.0

    def __call__(self, step: int) -> float:
        return _cosine(self.value, self.final, step / self.steps)


@dataclasses.dataclass(frozen=True)
class LinearWarmup(_Checked):
    """Up along a line for `steps` steps, then `then`: a number, or a schedule that starts counting there.

    The line runs from ``start`` times the first value of `then` (reached at step 0) to that value (at step `steps`).
    """

    then: float | Schedule
    steps: int
    start: float = 0.0

    def __call__(self, step: int) -> float:
        if step >= self.steps:
            return self.then(step - self.steps) if callable(self.then) else self.then
        top = self.then(0) if callable(self.then) else self.then
        return top * (self.start + (1.0 - self.start) * step / self.steps)


@dataclasses.dataclass(frozen=True)
class OneCycle(_Checked):
    """Up to `peak` along half a cosine, then down to almost nothing, in `steps` steps in all (Smith & Topin 2019).

    Starts at ``peak / start_div``, reaches `peak` after the share `rise` of the steps, and ends at
    ``peak / start_div / final_div``.
    """

    peak: float
    steps: int
    rise: float = 0.3
    start_div: float = 25.0
    final_div: float = 1e4

    def __post_init__(self) -> None:
        super().__post_init__()
        fraction("rise", self.rise, **self._words())
        for name in ("start_div", "final_div"):
            real(name, getattr(self, name), above=0.0, **self._words())

    def __call__(self, step: int) -> float:
        start = self.peak / self.start_div
        top, end = self.rise * self.steps - 1.0, self.steps - 1.0
        if step < top:
            return _cosine(start, self.peak, step / top)
        return _cosine(self.peak, start / self.final_div, (step - top) / (end - top) if end > top else 0.0)


def _cosine(first: float, last: float, share: float) -> float:
    """Half a cosine from `first` at share 0 to `last` at share 1, and `last` after that."""
    return last + (first - last) * (1.0 + math.cos(math.pi * min(max(share, 0.0), 1.0))) / 2.0
