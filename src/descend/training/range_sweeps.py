"""The sweep of a range test, the short descents that say what is stable, and what both say of the learning rate."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from descend.descent.loop import Descent
from descend.errors import ObjectiveError, OptionError
from descend.parameters.memory import Array, Memory
from descend.problems.generators import STEPS, seeded
from descend.problems.problem import Problem, ProblemInstance
from descend.problems.splits import Split
from descend.rules import Rule
from descend.stopping import Criteria, Reason
from descend.training.batches import Batches, batch, batches_of
from descend.training.options import RangeTestOptions
from descend.training.range_results import Sweep
from descend.training.run import measured

__all__ = ["MOST_TRIALS", "RangeTestRun", "sweep_of"]

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
EVEN = 4
"""Trials upwards by the same factor; from there on it is squared each time, so that few reach any rate."""
MOST_TRIALS = 20
"""Short descents from a seed, at most."""
LEAST_TRIALS = 2
"""What a budget has to pay for beside the sweep."""
ROUNDING = 16.0
"""Units in the last place by which a loss may come out lower without having fallen."""


def sweep_of(problem: Problem, rule: Rule, options: RangeTestOptions, seed: int) -> Sweep:
    """The range test of one seed, for a process that is sent the rest."""
    return RangeTestRun(problem, rule, options).sweep(seed)


class RangeTestRun:
    """One call of `find_lr`: what all seeds have in common, and the sweep and the trials of each."""

    def __init__(self, problem: Problem, rule: Rule, options: RangeTestOptions) -> None:
        self.problem, self.rule, self.options = problem, rule, options
        self.rates = np.geomspace(options.low, options.high, options.steps)
        self.batches = batches_of(problem, options.batch_size, 0)
        self.sample: Split = () if problem.train is None else tuple(part[:EXAMPLES] for part in problem.train)
        for rate in (options.low, options.high):  # a rule may not take every learning rate
            dataclasses.replace(rule, lr=rate)
        self._check_budget()

    def sweep(self, seed: int) -> Sweep:
        """The range test of one seed, and the limit of what is stable."""
        rates, highest = self.rates, len(self.rates) - 1
        trial = self.trial(seed, lambda done: float(rates[min(done, highest)]), len(rates))
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
        search = _Search(self, seed, steepest)
        limit = search.limit()
        if not search.fell:  # the steepest of a loss that never falls is noise
            steepest = limit = math.nan
        return Sweep(
            seed, rates, np.array(losses[:kept]), smoothed, slope, steepest, limit,
            fell=search.fell, rose=search.highest_stable is None, narrowed=search.narrowed,
        )  # fmt: skip

    @property
    def trials(self) -> int:
        """How many short descents there may be from each seed."""
        options = self.options
        if options.budget is None:
            return MOST_TRIALS
        size = 1 if self.batches is None else self.batches.batch_size
        steps = options.budget // (options.seeds * size)
        return min(MOST_TRIALS, (steps - options.steps) // options.trial_steps)

    def _check_budget(self) -> None:
        """Refuse a budget that does not pay for a sweep and the least number of trials of each seed."""
        options, size = self.options, 1 if self.batches is None else self.batches.batch_size
        least = options.seeds * size * (options.steps + LEAST_TRIALS * options.trial_steps)
        if options.budget is not None and options.budget < least:
            raise OptionError(
                f"budget={options.budget}: {options.seeds} seeds, each with a sweep of {options.steps} steps and "
                f"{LEAST_TRIALS} descents of {options.trial_steps}, cost {least:,} gradient evaluations; raise it, or "
                "take fewer seeds or steps"
            )

    def trial(self, seed: int, lr: float | Callable[[int], float], steps: int, *, measure_end: bool = False) -> Trial:
        """A descent from the start of `seed` by the rule with that learning rate, or schedule of it."""
        rule = dataclasses.replace(self.rule, lr=lr)  # type: ignore[arg-type]
        instance = self.problem.instance(seed)
        trial = Trial(instance, rule, batches_of(self.problem, self.options.batch_size, seed), self.sample)
        with np.errstate(all="ignore"), seeded(seed, STEPS):
            trial.run(steps, measure_end)
        return trial


class _Search:
    """The search for the largest stable learning rate from one seed, by short descents from its start.

    `fell` says whether the loss fell in one of them, `highest_stable` the largest rate at which it did not rise, and
    `narrowed` whether the limit was found as exactly as it should be.
    """

    def __init__(self, run: RangeTestRun, seed: int, steepest: float) -> None:
        self.run, self.seed = run, seed
        self.low, self.high = float(run.rates[0]), float(run.rates[-1])
        self._begin = steepest if math.isfinite(steepest) else self.low
        self._left = run.trials
        self._firsts: list[float] = []
        self._drops: list[float] = []
        self._resolution = 0.0
        self.highest_stable: float | None = None
        self.narrowed = True

    @property
    def fell(self) -> bool:
        """Whether a trial ended lower than it began, by more than rounding, or a loss that is random, can do."""
        noise = max(self._firsts) - min(self._firsts)  # the start is the same each time
        return max(self._drops, default=0.0) > max(2 * noise, ROUNDING * self._resolution)

    def limit(self) -> float:
        """The largest stable learning rate; `high` if all are, NaN if none is."""
        stable = self._downwards()
        if stable is None:
            return math.nan
        unstable, factor, tried = stable, BRACKET, 0
        while unstable < self.high:
            unstable, tried = min(self.high, unstable * factor), tried + 1
            factor = factor**2 if tried >= EVEN else factor
            verdict = self._is_stable(unstable)
            if verdict is None:
                return stable
            if not verdict:
                return self._between(stable, unstable)
            stable = unstable
        return self.high

    def _downwards(self) -> float | None:
        """The first rate that is stable, from the steepest one downwards."""
        rate = self._begin
        while True:
            verdict = self._is_stable(rate)
            if verdict is None or (not verdict and rate <= self.low):
                return None
            if verdict:
                return rate
            rate = max(self.low, rate / 10)

    def _between(self, stable: float, unstable: float) -> float:
        """The limit between a rate that is stable and one that is not."""
        while unstable / stable > PRECISION:
            middle = math.sqrt(stable * unstable)
            verdict = self._is_stable(middle)
            if verdict is None:
                break
            stable, unstable = (middle, unstable) if verdict else (stable, middle)
        return stable

    def _is_stable(self, rate: float) -> bool | None:
        """Whether a short descent with that rate ends no higher than it began; None if there may be no more."""
        if self._left == 0:
            self.narrowed = False
            return None
        self._left -= 1
        trial = self.run.trial(self.seed, rate, self.run.options.trial_steps, measure_end=True)
        self._firsts.append(trial.first)
        self._resolution = max(self._resolution, trial.resolution)
        stable = math.isfinite(trial.last) and trial.last <= trial.first
        if stable:
            self._drops.append(trial.first - trial.last)
            self.highest_stable = max(rate, self.highest_stable or 0.0)
        return stable


class Trial:
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

    @property
    def resolution(self) -> float:
        """How far apart numbers as large as the loss are, in the arithmetic of the parameters."""
        eps = max(float(np.finfo(vector.dtype).eps) for vector in self.memory.vectors)
        return eps * abs(self.first)

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
