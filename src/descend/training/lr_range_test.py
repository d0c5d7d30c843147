"""`find_lr`: the learning rate range test, and the largest learning rate with which short descents stay stable."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from descend.descent.loop import Descent
from descend.errors import ObjectiveError, OptionError
from descend.intervals import Interval, interval
from descend.jsonable import jsonable
from descend.parameters.memory import Array, Memory
from descend.problems.problem import Problem, ProblemInstance
from descend.problems.registry import named
from descend.problems.splits import Split
from descend.progress import Bar
from descend.rules import Rule, resolve
from descend.stopping import Criteria, Reason
from descend.training.batches import Batches, BatchSize, batch, batches_of
from descend.training.options import RangeTestOptions
from descend.training.run import measured

__all__ = ["RangeTest", "Sweep", "find_lr"]

EXPLODED = 4.0
"""Times the loss at the start: a sweep ends where the loss exceeds that."""
MEDIAN_OF = 5
"""Batches in a row whose median loss has to have exploded: one hard batch is no divergence."""
SPAN = 1.2
"""Decades of learning rates over which the losses are smoothed."""
EXAMPLES = 1_000
"""Training examples, at most, whose mean loss says whether a trial was stable."""
BRACKET, PRECISION = 10**0.25, 1.05
"""Factor between the learning rates that are tried upwards, and the factor to which the limit is then narrowed."""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One seed's sweep: the loss of each batch and the smoothed loss at each learning rate, and what they say.

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
    low: float = RangeTestOptions.low,
    high: float = RangeTestOptions.high,
    steps: int = RangeTestOptions.steps,
    trial_steps: int = RangeTestOptions.trial_steps,
    seeds: int = RangeTestOptions.seeds,
    progress: bool | None = None,
) -> RangeTest:
    """Find a range for the learning rate: the steepest one of a range test, and the largest stable one.

    The sweep is the range test of Smith (2017, https://arxiv.org/abs/1506.01186, section 3.3): one descent, in which
    the learning rate grows by the same factor at each step, until the loss explodes. Its losses are smoothed, and the
    steepest learning rate is where the smoothed loss falls fastest along the logarithm of the learning rate.

    A sweep passes through a learning rate before it can do harm, so it overstates what is stable. Short descents say
    that: each from the same start, with one learning rate, for `trial_steps` steps. A learning rate is stable if the
    loss over the training examples is then finite and no higher than at the start. Rates are tried upwards from the
    steepest one, until one is not stable, and the limit is narrowed to 5 %.

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
    options = RangeTestOptions(
        batch_size=batch_size,
        low=low,
        high=high,
        steps=steps,
        trial_steps=trial_steps,
        seeds=seeds,
        progress=progress,
    )
    began = time.perf_counter()
    test = _RangeTestRun(problem, rule, options)
    sweeps = test.sweeps()
    return RangeTest(
        problem=problem.name,
        rule=type(rule).__name__,
        batch_size=None if test.batches is None else test.batches.batch_size,
        steepest=interval([s.steepest for s in sweeps]),
        largest_stable=interval([s.largest_stable for s in sweeps]),
        sweeps=tuple(sweeps),
        notes=tuple(_notes(sweeps, options)),
        seconds=time.perf_counter() - began,
    )


class _RangeTestRun:
    """One call of `find_lr`: what all seeds have in common, and the sweeps and trials of each."""

    def __init__(self, problem: Problem, rule: Rule, options: RangeTestOptions) -> None:
        self.problem, self.rule, self.options = problem, rule, options
        self.rates = np.geomspace(options.low, options.high, options.steps)
        self.batches = batches_of(problem, options.batch_size, 0)
        self.sample: Split = () if problem.train is None else tuple(part[:EXAMPLES] for part in problem.train)
        for rate in (options.low, options.high):  # a rule may not take every learning rate
            dataclasses.replace(rule, lr=rate)

    def sweeps(self) -> list[Sweep]:
        """The sweep of every seed."""
        found = []
        with Bar(f"{self.problem.name}, {self.rule.name}", self.options.seeds, self.options.progress) as bar:
            for seed in range(self.options.seeds):
                found.append(self.sweep(seed))
                bar.to(seed + 1)
        return found

    def sweep(self, seed: int) -> Sweep:
        """The range test of one seed, and the limit of what is stable."""
        rates, highest = self.rates, len(self.rates) - 1
        trial = self._trial(seed, lambda done: float(rates[min(done, highest)]), len(rates))
        losses, first = trial.losses, trial.first
        if not math.isfinite(first):
            raise ObjectiveError(f"{self.problem.name}: the loss is {first} at the start (seed {seed})")
        bound = first + (EXPLODED - 1.0) * max(abs(first), first - min(filter(math.isfinite, losses), default=first))
        kept = _until_exploded(losses, bound)
        rates = rates[:kept]
        # The last losses kept may lie beyond the bound; cut off there, they do not bend the parabolas before them.
        smoothed, slope = _smoothed(np.minimum(losses[:kept], bound), math.log(self.rates[1] / self.rates[0]))
        lowest = int(np.argmin(smoothed)) if kept else 0
        steepest = float(rates[int(np.argmin(slope[: lowest + 1]))]) if len(slope) and lowest else math.nan
        limit = self._largest_stable(seed, steepest)
        return Sweep(seed, rates, np.array(losses[:kept]), smoothed, slope, steepest, limit)

    def _largest_stable(self, seed: int, steepest: float) -> float:
        """The largest stable learning rate; `high` if all are, NaN if none is."""
        low, high = float(self.rates[0]), float(self.rates[-1])
        stable = steepest if math.isfinite(steepest) else low
        while not self._is_stable(seed, stable):
            if stable <= low:
                return math.nan
            stable = max(low, stable / 10)
        unstable = stable
        while unstable < high:
            unstable = min(high, unstable * BRACKET)
            if not self._is_stable(seed, unstable):
                break
            stable = unstable
        else:
            return high
        while unstable / stable > PRECISION:
            middle = math.sqrt(stable * unstable)
            if self._is_stable(seed, middle):
                stable = middle
            else:
                unstable = middle
        return stable

    def _is_stable(self, seed: int, rate: float) -> bool:
        """Whether a short descent with that learning rate ends no higher than it began."""
        trial = self._trial(seed, rate, self.options.trial_steps, measure_end=True)
        return math.isfinite(trial.last) and trial.last <= trial.first

    def _trial(self, seed: int, lr: float | Callable[[int], float], steps: int, *, measure_end: bool = False) -> _Trial:
        """A descent from the start of `seed` by the rule with that learning rate, or schedule of it."""
        rule = dataclasses.replace(self.rule, lr=lr)  # type: ignore[arg-type]
        instance = self.problem.instance(seed)
        trial = _Trial(instance, rule, batches_of(self.problem, self.options.batch_size, seed), self.sample)
        with np.errstate(all="ignore"):
            trial.run(steps, measure_end)
        return trial


class _Trial:
    """One descent of a range test: the losses of its batches, and the mean loss over a sample before and after.

    `last` is NaN if the descent failed before its end, or if that was not to be measured.
    """

    def __init__(self, instance: ProblemInstance, rule: Rule, batches: Batches | None, sample: Split) -> None:
        self.instance, self.batches, self.sample = instance, batches, sample
        self.memory = Memory(instance.params, "params")
        self.objective = instance.objective(self.memory)
        self.rule = rule
        instance.may_skip = not rule.kept_state()
        self.losses: list[float] = []
        self.first = self.last = math.nan

    def run(self, steps: int, measure_end: bool) -> None:
        """Descend for so many steps, unless the losses explode before."""
        objective = self.objective
        self.first = self._mean_loss(0)
        descent = Descent(
            self.memory,
            self.rule,
            self._loss_and_gradient,
            Criteria(max_steps=steps),
            None,
            whole=False,
            evaluations=lambda: (objective.nfev, objective.cost),
            each=self._exploded,
        )
        reason = descent.run()
        if reason is Reason.INTERRUPTED:
            raise KeyboardInterrupt
        if measure_end and reason.kind != "failed":
            self.last = self._mean_loss(descent.steps)

    def _mean_loss(self, step: int) -> float:
        return measured(self.instance.problem, self.instance, self.objective, self.sample, step)[0]

    def _loss_and_gradient(self, grad: list[Array]) -> float:
        step = len(self.losses)  # each step before this one has left its loss
        loss = self.objective(grad, batch(self.instance.problem, self.batches, step))
        self.losses.append(loss)
        return loss

    def _exploded(self, descent: Descent) -> Reason | None:
        """A reason to stop where the losses of the last batches are far beyond the loss at the start."""
        self.instance.after_step(descent.memory)
        recent, bound = self.losses[-MEDIAN_OF:], self.first + EXPLODED**2 * max(1.0, abs(self.first))
        return Reason.DIVERGED if len(recent) == MEDIAN_OF and _middle(recent) > bound else None


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


def _notes(sweeps: Sequence[Sweep], options: RangeTestOptions) -> list[str]:
    """What to know before believing the figures."""
    notes = []
    low, high, total = options.low, options.high, len(sweeps)
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
