"""`find_lr`: the learning rate range test, and the largest learning rate with which short descents stay stable."""

from __future__ import annotations

import dataclasses
import logging
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from descend.engines import usable_cores
from descend.engines.one_thread import one_thread
from descend.errors import OptionError
from descend.intervals import interval
from descend.problems.problem import Problem
from descend.problems.registry import named
from descend.progress import Bar
from descend.rules import Rule, resolve
from descend.training.batches import BatchSize
from descend.training.options import RangeTestOptions
from descend.training.range_results import RangeTest, Sweep, notes_on
from descend.training.range_sweeps import RangeTestRun, sweep_of
from descend.training.seed_processes import each_seed

__all__ = ["RangeTest", "Sweep", "find_lr"]

USUAL_TRIALS = 10
"""Short descents from a seed, about: what an estimate of the duration counts on."""
STARTING = 2.0
"""Seconds that a process takes to start, about."""
PAYS = 5.0
"""Seconds of work from which on processes pay."""
LONG = 10.0
"""Seconds from which on the plan is told as a warning, which a program shows unless it is told otherwise."""
PATIENCE = 0.05
"""Seconds of a short descent that is long enough to be measured."""
PILOT_SEED = 2**31
"""The seed of descents that are timed alone: no sweep has it."""

logger = logging.getLogger("descend")


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
    budget: int | None = None,
    jobs: int | None = None,
    announce: Callable[[str], Any] | None = None,
    progress: bool | None = None,
) -> RangeTest:
    """Find a range for the learning rate: the steepest one of a range test, and the largest stable one.

    The sweep is the range test of Smith (2017, https://arxiv.org/abs/1506.01186, section 3.3): one descent, in which
    the learning rate grows by the same factor at each step, until the loss explodes. Its losses are smoothed, and the
    steepest learning rate is where the smoothed loss falls fastest along the logarithm of the learning rate.

    A sweep passes through a learning rate before it can do harm, so it overstates what is stable. Short descents say
    that: each from the same start, with one learning rate, for `trial_steps` steps. A learning rate is stable if the
    loss over the training examples is then finite and no higher than at the start. Rates are tried upwards from the
    steepest one, until one is not stable, and the limit is narrowed to 5 %. Where the loss falls in none of them, no
    learning rate is found.

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
    budget
        Gradient evaluations that all seeds together may cost. Default: what the sweeps and 20 short descents from each
        seed take. With less, the largest stable rate is known less exactly.
    jobs
        Processes to use. Default: as many as there are cores if the work is long, else 1. Figures do not depend on it.
    announce
        Called with a sentence before the work: what will be done, and how long it will take. Without it that goes to
        the logger ``descend``, as a warning if it will be long.
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
        The loss raised, or is not a finite number at the start; or a process of its own died.

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
        budget=budget,
        jobs=jobs,
        announce=announce,
        progress=progress,
    )
    return _found(RangeTestRun(problem, rule, options))


def _found(run: RangeTestRun) -> RangeTest:
    """What all seeds found."""
    began = time.perf_counter()
    sweeps = _sweeps(run, _planned(run))
    return RangeTest(
        problem=run.problem.name,
        rule=type(run.rule).__name__,
        batch_size=None if run.batches is None else run.batches.batch_size,
        steepest=interval([s.steepest for s in sweeps]),
        largest_stable=interval([-math.inf if s.rose else s.largest_stable for s in sweeps]),
        sweeps=tuple(sweeps),
        notes=tuple(notes_on(sweeps, run.options)),
        seconds=time.perf_counter() - began,
    )


def _sweeps(run: RangeTestRun, jobs: int) -> list[Sweep]:
    """The sweep of every seed."""
    options, found = run.options, {}
    own = dataclasses.replace(options, announce=None)  # a process has nobody to tell
    with Bar(f"{run.problem.name}, {run.rule.name}", options.seeds, options.progress) as bar:
        for seed, sweep in each_seed(sweep_of, run.problem, (run.rule, own), range(options.seeds), jobs):
            found[seed] = sweep
            bar.to(len(found))
    return [found[seed] for seed in range(options.seeds)]


def _planned(run: RangeTestRun) -> int:
    """How many processes will work, once it is said what will be done."""
    options = run.options
    alone = options.seeds * _seconds_of_a_seed(run)
    wanted = min(options.seeds, usable_cores() if options.jobs is None else options.jobs)
    pays = options.jobs is not None or alone > PAYS
    jobs = wanted if pays and sys.executable else 1
    seconds = alone if jobs == 1 else STARTING + math.ceil(options.seeds / jobs) * alone / options.seeds
    text = f"{_plan(run)}, {_duration(seconds)} {_places(jobs)}."
    if options.announce is not None:
        options.announce(text)
    else:
        logger.log(logging.WARNING if seconds >= LONG else logging.INFO, "%s", text)
    return jobs


def _plan(run: RangeTestRun) -> str:
    """What will be done, and what it costs at most."""
    options = run.options
    most = options.seeds * (options.steps + run.trials * options.trial_steps)
    size = "" if run.batches is None else f" of {run.batches.batch_size:,} examples"
    seeds = "1 seed" if options.seeds == 1 else f"{options.seeds} seeds"
    return (
        f"Looking for a learning rate of {type(run.rule).__name__} on {run.problem.name}: {seeds}, each with a sweep "
        f"of {options.steps} steps and up to {run.trials} descents of {options.trial_steps}; {most:,} gradients{size} "
        "at most"
    )


def _seconds_of_a_seed(run: RangeTestRun) -> float:
    """About how long a seed takes, by a few short descents at a rate of next to nothing, whose results are dropped."""
    options, trials = run.options, min(USUAL_TRIALS, run.trials)
    steps, fixed = 1, 0.0
    with one_thread():  # as the work will have
        run.trial(PILOT_SEED, options.low, 1, measure_end=True)  # what is loaded or compiled on the way is no part
        fixed = _timed(run, 0)
        while (took := _timed(run, steps)) < PATIENCE and steps < options.steps:
            steps = min(4 * steps, options.steps)
    a_step = max(0.0, took - fixed) / steps
    return (1 + trials) * fixed + (options.steps + trials * options.trial_steps) * a_step


def _timed(run: RangeTestRun, steps: int) -> float:
    began = time.perf_counter()
    run.trial(PILOT_SEED, run.options.low, steps, measure_end=True)
    return time.perf_counter() - began


def _duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 1.5:
        return "about a second"
    return f"about {seconds:.0f} s" if seconds < 100 else f"about {seconds / 60:.0f} min"


def _places(jobs: int) -> str:
    return "in this process" if jobs == 1 else f"in {jobs} processes"
