"""`find_lr`: the range test, that is one descent whose learning rate grows, and then short ones that do not diverge."""

from __future__ import annotations

import dataclasses
import math
import numbers
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from descend.checks import count
from descend.descent.loop import Descent
from descend.errors import ObjectiveError, OptionError
from descend.intervals import Interval, interval
from descend.jsonable import jsonable
from descend.parameters.memory import Array, Memory
from descend.problems import Problem
from descend.problems.registry import named
from descend.progress import Bar
from descend.rules import Rule, resolve
from descend.stopping import Criteria, Reason
from descend.training.batches import BatchSize
from descend.training.run import batch, batches_of, measured

__all__ = ["RangeTest", "find_lr"]

LOW, HIGH = 1e-6, 100.0
"""Where the sweep begins and where it ends at the latest."""
STEPS = 160
"""Steps of a sweep: twenty for each decade of learning rates."""
TRIAL_STEPS = 50
"""Steps for which a learning rate has to stay stable."""
SEEDS = 7
EXPLODED = 4.0
"""A sweep ends where the loss is so many times what it was at the start."""
MEDIAN_OF = 5
"""Batches in a row whose middle loss has to have exploded: one hard batch is no divergence."""
SPAN = 1.2
"""Decades of learning rates over which the losses are smoothed."""
EXAMPLES = 1_000
"""Training examples, at most, by which a trial is judged."""
BRACKET, PRECISION = 10**0.25, 1.05
"""Factor between learning rates that are tried, from the steepest upwards; and to which the limit is then narrowed."""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One seed's sweep: loss of each batch and the smoothed loss at each learning rate, and what was found.

    The arrays have one number for each step that the sweep made. `slope` is the derivative of the smoothed loss along
    the natural logarithm of the learning rate. `steepest` is NaN where there is too little to smooth.
    """

    seed: int
    learning_rates: Array
    losses: Array
    smoothed: Array
    slope: Array
    steepest: float
    largest_stable: float


@dataclasses.dataclass(frozen=True)
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
        return (
            f"On {self.problem}, {self.rule}{batches} gains most at a learning rate of {_spelled(self.steepest)} and "
            f"is stable up to {_spelled(self.largest_stable)}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON holds it; what is not a finite number is null."""
        whole = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        found: dict[str, Any] = jsonable({"schema": 1, "answer": self.answer, **whole})
        return found

    def __str__(self) -> str:
        return "\n".join([self.answer, *(f"Note: {note}" for note in self.notes)])


def find_lr(
    problem: Problem | str | Path,
    rule: Rule | type[Rule] | str = "adam",
    *,
    batch_size: BatchSize | None = None,
    low: float = LOW,
    high: float = HIGH,
    steps: int = STEPS,
    trial_steps: int = TRIAL_STEPS,
    seeds: int = SEEDS,
    progress: bool | None = None,
) -> RangeTest:
    """Find where to look for a learning rate: the steepest of a range test, and the largest that is stable.

    The sweep is the range test of Smith (2017, https://arxiv.org/abs/1506.01186, section 3.3): one descent, in which
    the learning rate grows by the same factor at each step, until the loss explodes. Its losses are smoothed, and the
    steepest learning rate is where the smoothed loss falls fastest along the logarithm of the learning rate.

    A sweep runs through a learning rate before it can do harm, so it says little of what is stable. That is asked of
    short descents: from the same start, with one learning rate, for `trial_steps` steps. A learning rate is stable if
    the loss over the training examples is then finite and no higher than at the start. Rates are tried upwards from the
    steepest, until one is not stable, and the limit is narrowed to 5 %.

    Every seed has its own start and order of examples. Nothing of the problem's is changed.

    Parameters
    ----------
    problem
        A `Problem`, a built-in name, or the path of a Python file that defines ``problem``.
    rule
        A rule, its class, or its name; its own learning rate is not used.
    batch_size
        As in `fit`: a number or ``"full"``. Default 32, or all examples where there are fewer.
    low, high
        Where the sweep begins, and where it ends at the latest. Default 1e-6 and 100.
    steps
        Steps of a sweep. Default 160, twenty a decade.
    trial_steps
        Steps for which a learning rate has to be stable. Default 50.
    seeds
        How many seeds. Default 7; below 6 there are no intervals.
    progress
        Show a progress bar on standard error, if that is a terminal. None: only when the work is long.

    Returns
    -------
    RangeTest
        Both learning rates with their intervals, and every sweep.

    Raises
    ------
    OptionError, ProblemError, RuleError
        Something is wrong with what was given, before anything is run.
    ObjectiveError
        The loss raised, or is not a finite number at the start.

    Examples
    --------
    >>> import descend
    >>> bowl = descend.problems.load("quadratic:condition=10,dimension=5")
    >>> found = descend.find_lr(bowl, descend.GD)
    >>> 0.19 < found.largest_stable.median < 0.22  # in theory 2 / 10, from where the steepest direction grows
    True
    """
    problem = named(problem)
    rule = resolve(rule)
    if rule.maximize:
        raise OptionError(f"{type(rule).__name__}(maximize=True): find_lr looks for where a loss falls; leave it out")
    for name, value, least in (("steps", steps, 20), ("trial_steps", trial_steps, 1), ("seeds", seeds, 1)):
        if value is None:
            raise OptionError(f"{name}=None: a whole number ≥ {least} is needed")
        count(name, value, at_least=least)
    low, high = _bounds(low, high)
    test = _Test(problem, rule, batch_size, low, high, int(steps), int(trial_steps))
    began = time.perf_counter()
    with Bar(f"{problem.name}, {rule.name}", int(seeds), progress) as bar:
        sweeps = []
        for seed in range(int(seeds)):
            sweeps.append(test.sweep(seed))
            bar.to(seed + 1)
    return RangeTest(
        problem=problem.name,
        rule=type(rule).__name__,
        batch_size=None if test.batches is None else test.batches.batch_size,
        steepest=interval([s.steepest for s in sweeps]),
        largest_stable=interval([s.largest_stable for s in sweeps]),
        sweeps=tuple(sweeps),
        notes=tuple(_notes(sweeps, low, high)),
        seconds=time.perf_counter() - began,
    )


class _Test:
    """What all seeds have in common."""

    def __init__(
        self,
        problem: Problem,
        rule: Rule,
        batch_size: BatchSize | None,
        low: float,
        high: float,
        steps: int,
        trial_steps: int,
    ) -> None:
        self.problem, self.rule, self.batch_size = problem, rule, batch_size
        self.rates = np.geomspace(low, high, steps)
        self.trial_steps = trial_steps
        self.batches = batches_of(problem, batch_size, 0)
        self.sample = () if problem.train is None else tuple(part[:EXAMPLES] for part in problem.train)
        for rate in (low, high):  # a rule may not take every learning rate
            dataclasses.replace(rule, lr=rate)

    def sweep(self, seed: int) -> Sweep:
        """The range test of one seed, and the limit of what is stable."""
        losses: list[float] = []
        first = self._descend(
            seed, lambda done: float(self.rates[min(done, len(self.rates) - 1)]), len(self.rates), losses
        )
        if not math.isfinite(first):
            raise ObjectiveError(f"{self.problem.name}: the loss is {first} at the start (seed {seed})")
        bound = first + (EXPLODED - 1.0) * max(abs(first), first - min(filter(math.isfinite, losses), default=first))
        kept = _until_exploded(losses, bound)
        made, rates = np.minimum(losses[:kept], bound), self.rates[:kept]
        smoothed, slope = _smoothed(made, math.log(self.rates[1] / self.rates[0]))
        lowest = int(np.argmin(smoothed)) if kept else 0
        steepest = float(rates[int(np.argmin(slope[: lowest + 1]))]) if len(slope) and lowest else math.nan
        return Sweep(seed, rates, np.array(losses[:kept]), smoothed, slope, steepest, self._limit(seed, steepest))

    def _limit(self, seed: int, steepest: float) -> float:
        """The largest stable learning rate; `high` if all are, NaN if none is."""
        low, high = float(self.rates[0]), float(self.rates[-1])
        stable = steepest if math.isfinite(steepest) else low
        while not self._stable(seed, stable):
            if stable <= low:
                return math.nan
            stable = max(low, stable / 10)
        unstable = stable
        while unstable < high:
            unstable = min(high, unstable * BRACKET)
            if not self._stable(seed, unstable):
                break
            stable = unstable
        else:
            return high
        while unstable / stable > PRECISION:
            middle = math.sqrt(stable * unstable)
            if self._stable(seed, middle):
                stable = middle
            else:
                unstable = middle
        return stable

    def _stable(self, seed: int, rate: float) -> bool:
        """Whether a short descent with that learning rate ends no higher than it began."""
        ends: list[float] = []
        first = self._descend(seed, rate, self.trial_steps, [], ends)
        return bool(ends) and ends[0] <= first

    def _descend(
        self,
        seed: int,
        lr: float | Callable[[int], float],
        steps: int,
        losses: list[float],
        ends: list[float] | None = None,
    ) -> float:
        """A descent from the start of `seed`; the loss there.

        `losses` gets the loss of each batch, until they explode. `ends` gets the loss at the end, if the descent comes
        there.
        """
        instance = self.problem.instance(seed)
        before = instance.snapshot()
        memory = Memory(instance.params, "params")
        objective = instance.objective(memory)
        batches = batches_of(self.problem, self.batch_size, seed)

        def mean(step: int) -> float:
            return measured(self.problem, instance, objective, self.sample, step)[0]

        def evaluate(grad: list[Array]) -> float:
            losses.append(objective(grad, batch(self.problem, batches, descent.steps)))
            return losses[-1]

        def look(_: Descent) -> Reason | None:
            recent = losses[-MEDIAN_OF:]
            exploded = len(recent) == MEDIAN_OF and _middle(recent) > first + EXPLODED**2 * max(1.0, abs(first))
            return Reason.DIVERGED if exploded else None

        try:
            with np.errstate(all="ignore"):
                first = mean(0)
                descent = Descent(
                    memory,
                    dataclasses.replace(self.rule, lr=lr),  # type: ignore[arg-type]
                    evaluate,
                    Criteria(max_steps=steps),
                    None,
                    whole=False,
                    evaluations=lambda: (objective.nfev, objective.cost),
                    each=look,
                )
                reason = descent.run()
                if reason is Reason.INTERRUPTED:
                    raise KeyboardInterrupt
                if ends is not None and reason.kind != "failed":
                    last = mean(descent.steps)
                    ends += [last] if math.isfinite(last) else []
        finally:
            instance.restore(before)
        return first


def _middle(losses: Sequence[float]) -> float:
    """The median of an odd number of losses, none of which is NaN."""
    return sorted(losses)[len(losses) // 2]


def _until_exploded(losses: Sequence[float], bound: float) -> int:
    """How many losses there are before the loss explodes."""
    for i, loss in enumerate(losses):
        if not math.isfinite(loss):
            return i
        if i + 1 >= MEDIAN_OF and _middle(losses[i + 1 - MEDIAN_OF : i + 1]) > bound:
            return i + 1 - MEDIAN_OF // 2
    return len(losses)


def _smoothed(losses: Array, step: float) -> tuple[Array, Array]:
    """Losses at equal steps of ln(lr), smoothed by local parabolas (Savitzky & Golay 1964), and their slope."""
    from scipy.signal import savgol_filter

    window = min(len(losses), max(MEDIAN_OF, round(SPAN * math.log(10) / step)))
    window -= 1 - window % 2
    if window < MEDIAN_OF:
        return losses, np.empty(0)
    smooth = {"window_length": window, "polyorder": 2, "mode": "interp"}
    return savgol_filter(losses, **smooth), savgol_filter(losses, deriv=1, delta=step, **smooth)


def _bounds(low: Any, high: Any) -> tuple[float, float]:
    for name, value in (("low", low), ("high", high)):
        number = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value <= 0:
            raise OptionError(
                f"{name}={value!r}: a learning rate > 0 is needed; try {LOW if name == 'low' else HIGH:g}"
            )
    if not low * 10 <= high:
        raise OptionError(f"low={low!r}, high={high!r}: high must be ten times low at least; try low={high / 1e4:g}")
    return float(low), float(high)


def _notes(sweeps: Sequence[Sweep], low: float, high: float) -> list[str]:
    """What to know before believing the figures."""
    notes = []
    total = len(sweeps)
    if any(s.largest_stable == high for s in sweeps):
        notes.append(f"Even the largest learning rate, {high:g}, is stable for some of the seeds: raise high.")
    if any(math.isnan(s.largest_stable) for s in sweeps):
        notes.append(f"Even the smallest learning rate, {low:g}, is not stable for some of the seeds: lower low.")
    lost = sum(math.isnan(s.steepest) for s in sweeps)
    if lost:
        notes.append(f"The loss never fell in {lost} of {total} sweeps, so they have no steepest learning rate.")
    found = [s.steepest for s in sweeps if math.isfinite(s.steepest)]
    if found and max(found) > 10 * min(found):
        notes.append(f"The seeds disagree on the steepest learning rate: from {min(found):.2g} to {max(found):.2g}.")
    if not interval([0.0] * total).known:
        notes.append(f"{total} seeds are too few for intervals: use 6 or more.")
    return notes


def _spelled(found: Interval) -> str:
    if not math.isfinite(found.median):
        return "– (none)"
    if found.low is None or found.high is None or not (math.isfinite(found.low) and math.isfinite(found.high)):
        return f"{found.median:.2g}"
    return f"{found.median:.2g} [{found.low:.2g}, {found.high:.2g}]"
