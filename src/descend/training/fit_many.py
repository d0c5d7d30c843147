"""`fit_many`: many runs of `fit` as one program, whose parameters are the rows of one matrix."""

from __future__ import annotations

import contextlib
import textwrap
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from descend.checks import seed
from descend.descent.health import HealthMonitor, at_step, cannot_step
from descend.descent.interrupts import Interrupts, holding, interruptible
from descend.descent.result import FitResult
from descend.engines import stack
from descend.engines.stacked import difference
from descend.errors import ObjectiveError, OptionError
from descend.objectives.agreement import disagreement
from descend.parameters.memory import Array, Memory
from descend.parameters.rows import Rows
from descend.problems.generators import STEPS, drawn, seeded
from descend.problems.problem import Problem
from descend.problems.splits import Split
from descend.rules import Rule, resolve
from descend.rules.formula import looks_at_arrays
from descend.stopping import Reason
from descend.training.batches import Batches, BatchSize, batch, batches_of, same_batches, stacked_batch
from descend.training.budget import Budget
from descend.training.options import FitManyOptions
from descend.training.run import Training

__all__ = ["fit_many", "stackable"]

BYTES = 640_000
"""Bytes of parameters in a stack, beyond which it leaves the cache; more runs wait for their turn in another one."""
MOVE = 0.05
"""How far parameters are moved for a trial, as a share of their size."""
LEAST, MOST = 4, 64
"""Runs in a stack: so many are cheaper than one at a time in any case, and more than so many make no step cheaper."""


def fit_many(
    problem: Problem,
    rules: Sequence[Rule | type[Rule] | str],
    seeds: Sequence[int],
    *,
    epochs: float | None = None,
    steps: int | None = None,
    examples: int | None = None,
    batch_size: BatchSize | None = None,
    evaluate_every: int | None = None,
    evaluate_every_examples: int | None = None,
    keep_best: bool = FitManyOptions.keep_best,
) -> list[FitResult]:
    """Make many runs at once, as `fit` makes each: other hyperparameters, other seeds, the same problem and budget.

    Parameters
    ----------
    problem
        What to minimise. Its functions must take many runs at once (``Problem(…, stacks=True)``, all built-in
        problems in NumPy), or be a `TorchProblem` that ``torch.func.vmap`` can take; see `stackable`.
    rules, seeds
        One of each for every run. The rules are of one kind with the same flags; their numbers may differ, and be
        schedules.
    epochs, steps, examples, batch_size, evaluate_every, evaluate_every_examples, keep_best
        As in `fit`, the same for all runs; but the best parameters are kept by default.

    Returns
    -------
    list of FitResult
        One for each run, in order, as ``fit(problem, rule, seed=seed, …, history=False)`` returns it, up to rounding.
        A run's `seconds` are its share. With a NumPy problem a run's figures do not depend, to the bit, on what else
        is run beside it; with PyTorch that cannot be promised, as its sums may depend on the number of runs.
        A run that fails ends, and leaves the others as they are. Ctrl-C ends all after the step at hand. Pressed again
        within a step, it raises `KeyboardInterrupt`, whose `.result` has the results of the runs that had begun.

    Raises
    ------
    OptionError
        The runs cannot be stacked; the message says why. Or an option is wrong.
    ObjectiveError
        The loss, the metric or a rule raised, which ends all runs: make them one at a time to find which it was.

    Examples
    --------
    >>> import descend
    >>> problem = descend.problems.load("digits")
    >>> rules = [descend.Adam(lr=lr) for lr in (0.001, 0.01, 0.1)]
    >>> results = descend.fit_many(problem, rules, seeds=[0, 0, 0], epochs=3, batch_size=16)
    >>> [round(result.validation_metric, 1) for result in results]
    [0.8, 1.0, 0.9]
    """
    options = FitManyOptions(
        epochs=epochs,
        steps=steps,
        examples=examples,
        batch_size=batch_size,
        evaluate_every=evaluate_every,
        evaluate_every_examples=evaluate_every_examples,
        keep_best=keep_best,
    )
    resolved, seeds = [resolve(rule) for rule in rules], [seed("seed", number) for number in seeds]
    if not resolved or len(resolved) != len(seeds):
        raise OptionError(f"{len(resolved)} rules and {len(seeds)} seeds: give one of each for every run, at least one")
    options.check_problem(problem)
    why = stackable(problem, resolved, batch_size)
    if why is not None:
        raise OptionError(f"the runs cannot be stacked: {why}; make them one at a time, by descend.fit")
    return _in_stacks(problem, resolved, seeds, options)


def _in_stacks(
    problem: Problem, rules: Sequence[Rule], seeds: Sequence[int], options: FitManyOptions
) -> list[FitResult]:
    """Make the runs, as many at a time as the cache holds."""
    batches = {number: batches_of(problem, options.batch_size, number) for number in seeds}
    budget = Budget.of(options, batches[seeds[0]])
    # Runs from one seed see the same batches, which are taken once if the runs are neighbours.
    order = sorted(range(len(seeds)), key=lambda i: seeds[i])
    width = _width(Memory(problem.instance(seeds[0]).params, "params"))
    results: dict[int, FitResult] = {}

    def run(interrupted: Interrupts) -> Interrupts:
        for first in range(0, len(order), width):
            chunk = order[first : first + width]
            trainings = [
                Training(problem, seeds[i], batches[seeds[i]], budget, options.keep_best, maximize=rules[i].maximize)
                for i in chunk
            ]
            stacked = _StackedRun(problem, [rules[i] for i in chunk], trainings, interrupted)
            results.update(zip(chunk, stacked.run(), strict=True))
            for training in trainings:
                if training.left_by is not None:
                    raise holding(training.left_by, [results[i] for i in sorted(results)])
        return interrupted

    interrupted = interruptible(run)
    for result in results.values():
        result.interrupted = result.interrupted or interrupted()
    found = [results[i] for i in range(len(seeds))]
    if interrupted.leaves_loop:
        raise holding(KeyboardInterrupt(), found)
    return found


def stackable(problem: Problem, rules: Sequence[Rule], batch_size: BatchSize | None = None) -> str | None:
    """Why runs of a problem by these rules cannot be stacked, in a sentence; None if they can.

    It is tried: losses and gradients of two runs, stacked, must be those of each run alone, to 1e-10 of the largest
    entry in float64 and 1e-4 in float32, at their starts on the first batch of an epoch, and at parameters moved from
    there on the last one. A PyTorch module must be a function of its parameters and its input alone. It is refused if
    its buffers or attributes change in training, if it draws random numbers there or writes to its parameters, if it
    or its parameters have hooks, if it holds tensors or modules that are not registered, if a parameter has no
    gradient, if the loss passes through an autograd function that is not PyTorch's own (as checkpoints and compiled
    modules are), if a second call gives other numbers, or if ``torch.func.vmap`` cannot take it, or only one run after
    the other.

    >>> import descend
    >>> digits = descend.problems.load("digits")
    >>> stackable(digits, [descend.Momentum(lr=0.1), descend.Nesterov(lr=0.1)])
    'the rules differ in kind: Momentum and Nesterov'
    >>> stackable(digits, [descend.Adam(lr=0.1), descend.Adam(lr=0.01)])
    """
    why = difference(rules)
    if why is not None:
        return why
    batches = [batches_of(problem, batch_size, number) for number in (0, 1)]
    last = 0 if batches[0] is None else batches[0].per_epoch - 1
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*performance drop")  # vmap goes on one run after the other
            first = batch(problem, batches[0], 0)
            return (
                problem.unstackable(first)
                or _draws(problem, first)
                or _disagreement(problem, batches, 0, moved=False)
                or _disagreement(problem, batches, last, moved=True)
            )
    except Exception as error:  # whatever vmap or the problem's functions raise
        what = str(error).partition(". ")[0]  # vmap's advice to its own users is none here
        return textwrap.shorten(f"stacked, the problem raised {type(error).__name__}: {what}", 240, placeholder=" …")


def _draws(problem: Problem, examples: Split) -> str | None:
    """Whether the functions of a problem draw from a global generator, of which stacked runs would have one in all."""
    with contextlib.suppress(Exception), seeded(0, STEPS):  # whatever they raise, they will raise again
        instance = problem.instance(0)
        memory, before = Memory(instance.params, "params"), drawn()
        objective = instance.objective(memory)
        objective(memory.like(), examples)
        objective.apply(instance.measure, *examples)
        if drawn() != before:
            return "the problem's functions draw from a global generator of random numbers"
    return None


def _disagreement(problem: Problem, batches: Sequence[Batches | None], step: int, *, moved: bool) -> str | None:
    """How the losses and gradients of two instances, stacked, differ from those of each; None if they do not.

    What computes with the parameters that a module was made with, and not with those it is given, is right at the start
    and shows only where they have moved.
    """
    instances = [problem.instance(number) for number in (0, 1)]
    memories = [Memory(instance.params, "params") for instance in instances]
    if moved:
        _move(memories)
    slopes = [memory.like() for memory in memories]
    losses = [
        instance.objective(memory)(grad, batch(problem, one, step))
        for instance, memory, grad, one in zip(instances, memories, slopes, batches, strict=True)
    ]
    rows = Rows(memories)
    grad, shared = rows.like(), same_batches(batches)
    found = problem.stacked(instances, rows, shared).many(grad, stacked_batch(problem, batches, step, shared=shared))
    return disagreement(found, grad, losses, slopes)


def _move(memories: Sequence[Memory]) -> None:
    """Move the parameters a little, each memory's otherwise."""
    rng = np.random.default_rng(0)
    for memory in memories:
        for leaf in memory.leaves:
            size = float(np.sqrt(np.mean(np.square(leaf)))) or 0.01
            leaf[...] += MOVE * size * rng.standard_normal(leaf.shape)


class _StackedRun:
    """Some runs that are made together: a training and a health monitor for each, and one loop that steps them all."""

    def __init__(
        self, problem: Problem, rules: Sequence[Rule], trainings: Sequence[Training], interrupted: Interrupts
    ) -> None:
        self.problem, self.interrupted = problem, interrupted
        self.trainings = list(trainings)
        for training in self.trainings:
            training.interrupts = interrupted
        self.total = trainings[0].budget.steps
        self.monitors = [HealthMonitor(t.memory, rule) for t, rule in zip(trainings, rules, strict=True)]
        self.live = list(range(len(rules)))
        """The run that each row of the stack belongs to."""
        self.results: dict[int, FitResult] = {}
        self.steps = self.evaluated = 0
        self._within_step = False
        self.rows = Rows([t.memory for t in trainings])
        self.grad = self.rows.like()
        self.by_arrays = looks_at_arrays(rules[0])
        self.sign = self.monitors[0].sign
        self.rule = rules[0]
        self.engine = stack(rules, *self._arrays(), self.total)
        self.losses = np.zeros(len(rules))
        """The sum of each run's losses since the last evaluation."""
        self._seconds, self._since = 0.0, time.perf_counter()
        self._prepare()

    def run(self) -> list[FitResult]:
        """Make the runs, to the end of each; Ctrl-C may come at any time."""
        try:
            if self.interrupted.at_once:
                raise KeyboardInterrupt
            self._run()
        except KeyboardInterrupt as error:
            for run, training in enumerate(self.trainings):
                if run not in self.results:
                    detail = self.monitors[run].detail
                    self.results[run] = training.result(
                        Reason.INTERRUPTED, detail, self.steps, self._share(), measured=False
                    )
            again = self._within_step and not self.interrupted.is_first(error)
            if again or not self.interrupted.answers(error):
                self.trainings[0].left_by = error
        return [self.results[run] for run in range(len(self.trainings))]

    def _run(self) -> None:
        self._evaluate()
        while self.live:
            if self.steps >= self.total:
                self._end(dict.fromkeys(self.live, Reason.MAX_STEPS))
                break
            self._within_step = True
            self._losses_and_gradients()
            self._within_step = False
            if self.live:
                self._step()
            if self.interrupted():
                self._end(dict.fromkeys(self.live, Reason.INTERRUPTED))

    def _share(self) -> float:
        """Seconds so far: each live run's share of the time."""
        now = time.perf_counter()
        self._seconds += (now - self._since) / max(1, len(self.live))
        self._since = now
        return self._seconds

    def _losses_and_gradients(self) -> None:
        """Compute losses and gradients of all runs, and end those that fail."""
        batch = stacked_batch(self.problem, self.batches, self.steps, shared=self.shared)
        try:
            losses = self.interrupted.call(self.objective.many, self.grad, batch)
        except ObjectiveError as error:
            raise at_step(error, self.steps) from error.__cause__
        self.losses += losses
        for run in self.live:
            objective = self.trainings[run].objective
            objective.nfev += 1
            objective.njev += 1
        failed = {}
        for row in self._suspects(losses):
            run = self.live[row]
            monitor, loss, grad = self.monitors[run], float(losses[row]), [g[row] for g in self.grad]
            with np.errstate(over="ignore", invalid="ignore"):
                reason = monitor.finite(loss, grad, self.steps) or monitor.diverged(loss, self.steps)
            if reason is not None:
                failed[run] = reason
        if self.steps == 0:
            self.first = np.array([self.monitors[run].first for run in self.live])
            self.bounds = np.array([self.monitors[run].bound for run in self.live])
        if failed:
            self._end(failed)

    def _suspects(self, losses: Array) -> Any:
        """The rows to check one by one: all at first, then those whose numbers are not plainly in order."""
        if self.steps == 0:
            return range(len(losses))
        with np.errstate(over="ignore", invalid="ignore"):
            squares = sum(np.vecdot(g, g) for g in self.grad)
            well = np.isfinite(squares) & np.isfinite(losses) & (self.sign * (losses - self.first) <= self.bounds)
        return () if well.all() else np.flatnonzero(~well)

    def _step(self) -> None:
        # A step that overflows is judged at the next point; NumPy need not warn of it as well.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            try:
                self.engine.step()
            except Exception as error:  # a schedule, or the user's own rule
                raise cannot_step(self.rule, self.steps + 1, error) from error
        self.steps += 1
        if self.trainings[0].evaluation_due(self.steps):
            self._evaluate()

    def _evaluate(self) -> None:
        """Evaluate each live run on the validation data."""
        since, self.evaluated = self.steps - self.evaluated, self.steps
        seconds = self._share()
        for row, run in enumerate(self.live):
            training = self.trainings[run]
            training.add_losses(float(self.losses[row]), since)
            training.evaluate(self.steps, seconds)
        self.losses[:] = 0.0

    def _end(self, reasons: dict[int, Reason]) -> None:
        """End some runs, and go on with the others."""
        since, seconds = self.steps - self.evaluated, self._share()
        for row, run in enumerate(self.live):
            if run in reasons:
                training = self.trainings[run]
                training.add_losses(float(self.losses[row]), since)
                reason, detail = training.evaluate_end(reasons[run], self.monitors[run].detail, self.steps, seconds)
                self.results[run] = training.result(reason, detail, self.steps, seconds)
        rows = [row for row, run in enumerate(self.live) if run not in reasons]
        self.live = [self.live[row] for row in rows]
        if rows:
            self.rows.keep(rows)
            self.grad = [g[rows] for g in self.grad]
            self.losses, self.first, self.bounds = self.losses[rows], self.first[rows], self.bounds[rows]
            self.engine.keep(rows, *self._arrays())
            self._prepare()

    def _arrays(self) -> tuple[list[Array], list[Array]]:
        """Parameters and gradients as an engine takes them; a cautious step counts over each of the user's arrays."""
        if self.by_arrays:
            return self.rows.leaves, self.rows.views(self.grad)
        return self.rows.vectors, self.grad

    def _prepare(self) -> None:
        live = [self.trainings[run] for run in self.live]
        self.batches = [training.batches for training in live]
        self.shared = same_batches(self.batches)
        self.objective = self.problem.stacked([training.instance for training in live], self.rows, self.shared)


def _width(memory: Memory) -> int:
    """How many runs a stack holds."""
    return max(LEAST, min(MOST, BYTES // sum(vector.nbytes for vector in memory.vectors)))
