"""The options of a comparison, with their defaults and their checks.

They stand here once: `descend.compare` has the same names and defaults, `descend.compare_all` takes them, and the
command line reads its defaults from here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from descend.checks import count, flag, function, is_finite, one_of, optional, path, seconds
from descend.comparison.planning.plan import FROM_REFERENCE, NO_TARGET, Plan
from descend.comparison.planning.spaces import Space, checked_space
from descend.engines import usable_cores
from descend.errors import OptionError, nearest
from descend.training.batches import BatchSize

if TYPE_CHECKING:
    from descend.comparison.running.runs import Run

__all__ = ["EFFORTS", "CompareOptions", "Effort", "Leaders", "Progress", "Say"]

Say = Callable[[str], Any]
"""Told a sentence for people."""
Progress = Callable[[str, int, int], Any]
"""Told the phase, the runs done, and the runs to do in it."""
Leaders = Callable[[Plan, "Sequence[Run]"], Any]
"""Told the finished runs of a phase."""


@dataclasses.dataclass(frozen=True)
class Effort:
    """How much a comparison does: trials of each entry, seeds of a trial, seeds of the final runs, studies."""

    trials: int
    tuning_seeds: int
    final_seeds: int
    studies: int


EFFORTS = {
    "quick": Effort(trials=8, tuning_seeds=1, final_seeds=10, studies=1),
    "default": Effort(trials=16, tuning_seeds=3, final_seeds=10, studies=1),
    "thorough": Effort(trials=16, tuning_seeds=3, final_seeds=10, studies=3),
}
"""Quick makes a part of the default's runs, and the default a part of the thorough one's."""


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """What `descend.compare` may be told beside the problem and the rules; its docstring explains each option.

    Whatever needs no problem to be checked is checked here, and raises `OptionError`. Learning rates are sorted, and
    numbers of NumPy become Python's.

    >>> CompareOptions(effort="quick", final_seeds=12).effort_in_full
    Effort(trials=8, tuning_seeds=1, final_seeds=12, studies=1)
    """

    learning_rates: Sequence[float] | None = None
    space: Mapping[str, Space] | None = None
    trials: int | None = None
    batch_size: BatchSize | None = None
    budget: int | None = None
    target: float | str = FROM_REFERENCE
    tuning_seeds: int | None = None
    final_seeds: int | None = None
    studies: int | None = None
    effort: str = "default"
    untuned: bool = True
    timed: bool = False
    jobs: int | None = None
    executor: Executor | None = None
    max_run_seconds: float | None = None
    out: str | Path | None = None
    fresh: bool = False
    announce: Say | None = None
    progress: Progress | None = None
    leaders: Leaders | None = None

    def __post_init__(self) -> None:
        def settle(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        one_of("effort", self.effort, EFFORTS)
        for name in ("trials", "budget", "tuning_seeds", "final_seeds", "studies"):
            settle(name, optional(count, name, getattr(self, name)))
        settle("learning_rates", optional(_learning_rates, "learning_rates", self.learning_rates))
        settle("space", None if self.space is None else checked_space(self.space))
        settle("batch_size", optional(_batch_size, "batch_size", self.batch_size))
        settle("target", _target("target", self.target))
        for name in ("untuned", "timed", "fresh"):
            settle(name, flag(name, getattr(self, name)))
        settle("jobs", optional(count, "jobs", self.jobs, remedy=f"leave it out to use all {usable_cores()} cores"))
        if self.executor is not None and not callable(getattr(self.executor, "submit", None)):
            raise OptionError(f"executor={self.executor!r}: a concurrent.futures.Executor is needed, or None")
        settle("max_run_seconds", optional(seconds, "max_run_seconds", self.max_run_seconds))
        if self.executor is not None and self.max_run_seconds is not None:
            raise OptionError(
                f"max_run_seconds={self.max_run_seconds!r} with an executor: a run cannot be ended where that makes "
                "it; leave one of them out"
            )
        settle("out", optional(path, "out", self.out, noun="folder", otherwise="None to write nothing"))
        for name in ("announce", "progress", "leaders"):
            optional(function, name, getattr(self, name))
        if self.learning_rates is not None:
            self._check_rates_alone(len(self.learning_rates))

    def _check_rates_alone(self, rates: int) -> None:
        """Refuse other options that say which learning rates are tried."""
        if self.trials is not None and self.trials != rates:
            raise OptionError(f"trials={self.trials} with {rates} learning_rates: each rate is a trial; leave one out")
        if self.space is not None and "lr" in self.space:
            raise OptionError("learning_rates and space={'lr': …} both say what is tried; leave one of them out")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """The options of a call with keywords; raises `OptionError` for a name that is none."""
        names = [field.name for field in dataclasses.fields(cls)]
        for name in options:
            if name not in names:
                close = nearest(name, names)
                hint = "" if close is None else f"did you mean {close!r}? "
                raise OptionError(f"option {name!r} is not known; {hint}Known: {', '.join(names)}")
        return cls(**options)

    @property
    def effort_in_full(self) -> Effort:
        """Trials, seeds and studies: those that were given, else those of the effort."""
        usual = dataclasses.asdict(EFFORTS[self.effort])
        if self.learning_rates is not None:
            usual["trials"] = len(self.learning_rates)
        given = {name: getattr(self, name) for name in usual if getattr(self, name) is not None}
        return Effort(**{**usual, **given})

    @property
    def processes(self) -> int:
        """How many processes make the runs."""
        return usable_cores() if self.jobs is None else self.jobs


def _learning_rates(name: str, value: Any, /) -> tuple[float, ...]:
    """Learning rates, ascending and each once."""
    if is_finite(value):
        value = [value]
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise OptionError(f"{name}={value!r}: numbers are needed, such as [0.001, 0.01, 0.1]")
    rates = list(value)
    if not rates:
        raise OptionError(f"{name} is empty; give at least one, or leave it out")
    for rate in rates:
        if not (is_finite(rate) and rate > 0):
            raise OptionError(f"{name}: {rate!r} is not a number > 0; try 0.001,0.01,0.1")
    return tuple(sorted({float(rate) for rate in rates}))


def _batch_size(name: str, value: Any, /) -> BatchSize:
    """A whole number of examples, or all of them."""
    return "full" if value == "full" else count(name, value, otherwise="'full'", remedy="try 32")


def _target(name: str, value: Any, /) -> float | str:
    """A finite value of the metric, or one of the two words."""
    if isinstance(value, str) and value in (FROM_REFERENCE, NO_TARGET):
        return value
    if is_finite(value):
        return float(value)
    raise OptionError(
        f"{name}={value!r}: a value of the validation metric is needed, such as 0.95; or {FROM_REFERENCE!r} to have "
        f"it found by reference runs, or {NO_TARGET!r}"
    )
