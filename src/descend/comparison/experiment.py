"""`compare`: plan, tune, judge, report."""

from __future__ import annotations

import collections
import datetime
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

from descend.code_hash import versions
from descend.comparison.judging.notes import listed, notes, too_few
from descend.comparison.judging.statistics import choose, rows, sensitivity
from descend.comparison.planning.pilot import estimate
from descend.comparison.planning.plan import FROM_REFERENCE, Plan, Task, make_plan
from descend.comparison.planning.spaces import Space
from descend.comparison.planning.target import Target, best_of_pool, find_target
from descend.comparison.reporting.comparison import Comparison, duration, where
from descend.comparison.running.runs import Run
from descend.comparison.running.stacks import Stacks
from descend.comparison.running.store import Store
from descend.comparison.running.workers import Workers, checked_jobs, cores
from descend.engines import engine
from descend.errors import ComparisonError, DescendError, OptionError, ProblemError
from descend.parameters.memory import Memory
from descend.problems import Problem
from descend.problems.registry import named
from descend.training.batches import BatchSize

__all__ = ["REPORT", "Progress", "compare", "save", "writable"]

STORE = "runs.sqlite"
REPORT = "report.html"
TABLE = "comparison.json"

SHORT = 2.0
"""Seconds from which on it is worth saying how long a comparison will take."""
BETWEEN = 0.5
"""Seconds between two looks at who leads."""

Progress = Callable[[str, int, int], Any]
"""Told of the phase, runs done, and runs to do in it."""


def compare(
    problem: Problem | str | Path,
    rules: Iterable[Any] | None = None,
    *,
    learning_rates: Sequence[float] | None = None,
    space: Mapping[str, Space] | None = None,
    trials: int | None = None,
    batch_size: BatchSize | None = None,
    budget: int | None = None,
    target: float | str = FROM_REFERENCE,
    tuning_seeds: int | None = None,
    final_seeds: int | None = None,
    studies: int | None = None,
    effort: str = "default",
    untuned: bool = True,
    timed: bool = False,
    jobs: int | None = None,
    executor: Executor | None = None,
    out: str | Path | None = None,
    fresh: bool = False,
    announce: Callable[[str], Any] | None = None,
    progress: Progress | None = None,
    leaders: Callable[[Plan, Sequence[Run]], Any] | None = None,
) -> Comparison:
    """Compare optimizers on a problem, fairly: equal tuning, equal cost, fresh seeds, intervals.

    A target is set before the race, by reference runs that take no part in it. Every rule gets the same number of
    trials, points of its search space. Each is tried from the same few seeds, and the best on validation data is
    chosen. It then runs again from fresh seeds: how many gradient evaluations it takes to the target is the first
    figure, and the test metric the second; test data are read once, at the point that was best on validation data. The
    same seed gives every rule the same start and the same order of examples, and every run the same number of gradient
    evaluations. A run that diverges, or that does not reach the target, is a miss, and counts as the worst.

    Parameters
    ----------
    problem
        A `Problem`, a built-in name, or the path of a Python file that defines ``problem``.
    rules
        Rules, their classes or names, or `Entry` for a label, a batch size and a search space of its own. Default:
        batch gradient descent, SGD, mini-batch, Momentum, Adagrad, RMSprop, Adam.
    learning_rates
        What is tried for each rule, in place of points that fill the range from 1e-4 to 10.
    space
        What else to search for: ``{"momentum": Uniform(0.5, 0.99), "batch_size": Choice([16, 64])}``. Each rule takes
        what it has; an `Entry` with a space of its own takes that. A ``"lr"`` here sets another range.
    trials
        How many points of its space each rule tries: quasi-random ones that fill it evenly. Default 16.
    batch_size
        For every rule that does not bring its own: a number or "full". Default 32.
    budget
        Gradient evaluations a run, that is examples seen. Default: 20 passes over the training data; 500 on a
        problem without data.
    target
        The validation metric that is good enough. Default: ``"reference"``; Momentum and Adam, with twice the budget,
        say what can be reached, and the target is 98 % of the way there from the start (99.9 % on a problem without
        data). ``"none"`` for no target.
    tuning_seeds, final_seeds
        How many seeds each trial runs from (3), and how many fresh ones judge the winner (10).
    studies
        How often the tuning is done over, with other points and other seeds; the winner of each is judged on its own
        fresh seeds. Default 1. With several, the chance in tuning shows, and a verdict has to hold in each.
    effort
        What trials, seeds and studies are where they are not given: ``"default"`` as above; ``"quick"``, 8 trials from
        one seed, for a first idea; ``"thorough"``, 3 studies.
    untuned
        Also run each entry with its own learning rate, the published default unless it was set, on the seeds of the
        final runs. It says what tuning is worth, and takes no part in the verdicts.
    timed
        At the end, run each entry three more times with no other run beside it, and say how long that takes.
    jobs
        Processes to use. Default: as many as there are cores.
    executor
        Make the runs through this `concurrent.futures.Executor` instead, such as a Dask cluster's
        ``client.get_executor()``. It is left running.
    out
        A folder for ``report.html``, ``comparison.json`` and ``runs.sqlite``. A comparison of a named problem that
        was stopped goes on from there. Default: nothing is written.
    fresh
        Forget finished runs of the same plan in `out`.
    announce, progress, leaders
        Called with the plan in a sentence, and how long it will take, before the first run; with the phase
        ("reference", "tuning", "final", "timing"), the runs done and the runs to do as they end; with the finished runs
        of the phase, as they end.

    Returns
    -------
    Comparison
        The table, every run, and what to know before believing it.

    Raises
    ------
    OptionError, ProblemError, RuleError
        Something is wrong with what was asked for, before anything is run.
    ComparisonError
        Every run failed, no worker process can work, or `out` cannot be written; finished runs are kept there.

    Examples
    --------
    >>> import descend
    >>> table = descend.compare("booth", ["gd", "adam"], learning_rates=[0.01, 0.1], budget=100,
    ...                         tuning_seeds=1, final_seeds=6, jobs=1)
    >>> [(row.label, row.learning_rate, row.misses) for row in table.rows]
    [('GD', 0.1, 0), ('Adam', 0.1, 0)]
    """
    began = time.perf_counter()
    source: Path | str | None = None
    if isinstance(problem, (str, Path)):
        source = Path(problem).expanduser() if str(problem).endswith(".py") else str(problem)
    problem = named(problem)
    jobs = checked_jobs(jobs)
    plan = make_plan(
        problem,
        rules,
        learning_rates=learning_rates,
        space=space,
        trials=trials,
        batch_size=batch_size,
        budget=budget,
        target=target,
        tuning_seeds=tuning_seeds,
        final_seeds=final_seeds,
        studies=studies,
        effort=effort,
        untuned=untuned,
        timed=timed,
        source=source,
    )
    if out is not None and not isinstance(out, (str, Path)):
        raise OptionError(f"out={out!r}: the path of a folder is needed, or None to write nothing")
    folder = None if out is None else writable(Path(out))
    _try_out(problem, plan)
    with (
        Store(None if folder is None else folder / STORE, plan, announce) as store,
        Workers(problem, plan, jobs, executor) as workers,
    ):
        if fresh:
            store.forget(plan.possible())
        race = _Race(problem, plan, store, workers, progress, leaders, announce)
        if announce is not None:
            place = where(None if executor is not None else jobs)
            announce(" ".join([f"{plan.describe()}, {place}{race.about()}.", *too_few(plan)]))
        comparison = race.run(None if source is None else str(source), began)
        if folder is not None:
            save(folder, TABLE, comparison.to_dict(), comparison.save_report, f"the runs are kept in {STORE}")
    return comparison


class _Race:
    """One comparison being made: its phases, each of which decides what the next one runs."""

    def __init__(
        self,
        problem: Problem,
        plan: Plan,
        store: Store,
        workers: Workers,
        progress: Progress | None,
        leaders: Callable[[Plan, Sequence[Run]], Any] | None,
        announce: Callable[[str], Any] | None,
    ) -> None:
        self.problem, self.plan, self.store, self.workers = problem, plan, store, workers
        self.progress, self.leaders, self.announce = progress, leaders, announce
        self._said: set[str] = set()
        self.stacks = Stacks(problem, plan)
        self.runs: list[Run] = []
        self.reused = 0

    def say(self, text: str) -> None:
        """Tell whoever listens."""
        if self.announce is not None:
            self.announce(text)

    def about(self) -> str:
        """How long it is going to take, in words; nothing if it is short, or for somebody else's machines to say."""
        plan, store = self.plan, self.store
        if self.workers.executor is not None:
            return ""
        known = [*plan.pool(), *plan.tuning(), *plan.defaults()]
        missing = [task for task in known if store.get(task) is None]
        first = dict(next(plan.tuning()).hyperparameters)
        for i, entry in enumerate(plan.entries):  # which learning rates will be chosen makes no difference here
            seeds = plan.final_seeds if any(t.entry == i for t in missing) else ()
            point = first if entry.space == plan.entries[0].space else plan.points(entry, 0)[0]
            missing += [Task(i, tuple(point.items()), seed, "final") for seed in seeds]
        seconds = estimate(self.problem, plan, self.stacks.bundles(missing), min(self.workers.jobs, cores()))
        return f", about {duration(seconds)}" if seconds >= SHORT else ""

    def run(self, source: str | None, began: float) -> Comparison:
        """Make every run that is missing, and the comparison of all."""
        problem, plan = self.problem, self.plan
        target = self._target()
        tuned = self._make("tuning", list(plan.tuning()))
        chosen = choose(plan, tuned)
        if all(point is None for found in chosen for point in found):
            raise ComparisonError(
                f"every run failed on {problem.name}; the first one: {tuned[0].message} Mend the problem, or widen "
                "the learning rates downwards"
            )
        self._make("final", [*plan.finals(chosen), *plan.defaults()])
        if plan.timed:
            self._make("timing", list(plan.timings(chosen)))
        value = None if target is None else target.value
        table = rows(plan, self.runs, chosen, value)
        return Comparison(
            plan=plan,
            source=source,
            target=target,
            rows=tuple(table),
            sensitivity=tuple(sensitivity(plan, self.runs, value)),
            runs=tuple(self.runs),
            notes=tuple(notes(plan, table, target)),
            summary=problem.summary,
            shape=problem.examples,
            optimum=problem.optimum,
            seconds=time.perf_counter() - began,
            jobs=None if self.workers.executor is not None else min(self.workers.jobs, plan.runs),
            reused=self.reused,
            finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            versions=versions(),
            machine=f"{platform.system()} {platform.machine()}, {cores()} cores",
        )

    def _target(self) -> Target | None:
        """What the reference pool says is good enough."""
        trials = list(self.plan.pool())
        if not trials:
            return find_target(self.plan, [])
        best = best_of_pool(self.plan, trials, self._make("reference", trials))
        last = [] if best is None else self._make("reference", list(self.plan.pool_finals(best)))
        return find_target(self.plan, last)

    def _make(self, phase: str, tasks: list[Task]) -> list[Run]:
        """The runs of `tasks`, in their order: from the store where they are finished, else made now."""
        store = self.store
        self.reused += sum(map(store.kept, tasks))
        different = list({store.key(task): task for task in tasks}.values())
        bundles = self.stacks.bundles(different, alone=phase == "timing")
        for why in sorted({*self.stacks.reasons.values()} - self._said):
            self._said.add(why)
            labels = [label for label, reason in self.stacks.reasons.items() if reason == why]
            who = "" if len(labels) == len(self.plan.entries) + len(self.plan.reference) else f" of {listed(labels)}"
            self.say(f"Runs{who} are made one at a time: {why}.")
        missing = [bundle for bundle in bundles if any(store.get(task) is None for task in bundle.tasks)]
        finished = sum(store.get(task) is not None for task in tasks)
        told = time.perf_counter()

        def tell() -> None:
            if self.progress is not None:
                self.progress(phase, finished, len(tasks))

        def done(task: Task, run: Run) -> None:
            nonlocal finished, told
            if store.get(task) is None:  # of a bundle, some may be there
                store.put(task, run)
                finished += same[store.key(task)]
                tell()
            if self.leaders is not None and time.perf_counter() - told > BETWEEN:
                told = time.perf_counter()
                self.leaders(self.plan, [run for run in map(store.get, tasks) if run is not None])

        same = collections.Counter(map(store.key, tasks))
        tell()
        self.workers.make(missing, done, in_turns=phase == "timing")
        runs = [run for run in map(store.get, tasks) if run is not None]
        self.runs += runs
        return runs


def writable(out: Path) -> Path:
    """The folder, made if it is not there; raises `OptionError` if nothing can be written to it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise OptionError(
            f"out={str(out)!r} cannot be written ({error.strerror or error}); choose another folder"
        ) from None
    return out


def _try_out(problem: Problem, plan: Plan) -> None:
    """One step of every rule on one batch, so that what is broken says so at once and not from a worker."""
    try:
        instance = problem.instance(plan.tuning_seeds[0])
        memory = Memory(instance.params, "params")
        batch = () if problem.train is None else tuple(part[:1] for part in problem.train)
        grad = memory.like()
        objective = instance.objective(memory)
        objective(grad, batch)
        objective.apply(instance.measure, *(problem.validation or ()))
    except DescendError as error:
        raise ProblemError(f"{problem.name}: {error}") from error
    except Exception as error:
        raise ProblemError(f"{problem.name}: its metric raised {type(error).__name__}: {error}") from error
    for entry in plan.entries:
        try:
            with np.errstate(all="ignore"):
                engine(entry.rule, memory.snapshot(), plan.steps(entry, plan.budget)).step(grad)
        except Exception as error:
            raise OptionError(f"{entry.label} cannot make a step: {type(error).__name__}: {error}") from error


def save(folder: Path, table: str, whole: dict[str, Any], report: Callable[[Path], Any], kept: str) -> None:
    """Write what was found as JSON and as a report; raises `ComparisonError` that says what is `kept` if that fails.

    Each is written whole under another name first: a reader, or a full disk, never meets half a file.
    """
    try:
        text = json.dumps(whole, indent=1, allow_nan=False)
        (folder / f".{table}").write_text(text + "\n", encoding="utf-8")
        os.replace(folder / f".{table}", folder / table)
        report(folder / f".{REPORT}")
        os.replace(folder / f".{REPORT}", folder / REPORT)
    except OSError as error:
        raise ComparisonError(
            f"the report cannot be written to {str(folder)!r} ({error.strerror or error}); {kept}: run the same "
            "command again once that is mended"
        ) from error
