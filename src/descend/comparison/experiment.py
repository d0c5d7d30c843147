"""`compare`: plan, tune, judge, report."""

from __future__ import annotations

import datetime
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

from descend.batches import BatchSize
from descend.comparison.outcome import Comparison, listed, where
from descend.comparison.plan import Plan, Task, counted, make_plan, versions
from descend.comparison.runs import Run
from descend.comparison.statistics import Row, choose, joint_confidence, rows, seeds_needed, sensitivity
from descend.comparison.store import Store
from descend.comparison.workers import checked_jobs, cores, execute
from descend.containers import Memory
from descend.engines import engine
from descend.errors import ComparisonError, DescendError, OptionError, ProblemError
from descend.problems import Problem
from descend.problems.registry import named

__all__ = ["Progress", "compare", "writable"]

STORE = "runs.sqlite"
REPORT = "report.html"
TABLE = "comparison.json"

Progress = Callable[[str, int, int], Any]
"""Told of the phase, runs done, and runs to do in it."""


def compare(
    problem: Problem | str | Path,
    rules: Iterable[Any] | None = None,
    *,
    learning_rates: Sequence[float] | None = None,
    batch_size: BatchSize | None = None,
    budget: int | None = None,
    tuning_seeds: int | None = None,
    final_seeds: int | None = None,
    effort: str = "default",
    untuned: bool = True,
    jobs: int | None = None,
    executor: Executor | None = None,
    out: str | Path | None = None,
    fresh: bool = False,
    announce: Callable[[str], Any] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare optimizers on a problem, fairly: equal tuning, equal cost, fresh seeds, intervals.

    Every rule gets the same number of learning rates. Each is tried from the same few seeds, and the best on
    validation data is chosen. It then runs again from fresh seeds; test data are read there, once, at the point
    that was best on validation data. The same seed gives every rule the same start and the same order of examples, and
    every run the same number of gradient evaluations. A run that diverges is a miss, and counts as the worst.

    Parameters
    ----------
    problem
        A `Problem`, a built-in name, or the path of a Python file that defines ``problem``.
    rules
        Rules, their classes or names, or `Entry` for a label and batch size of its own. Default: batch gradient
        descent, SGD, mini-batch, Momentum, Adagrad, RMSprop, Adam.
    learning_rates
        What is tried for each rule. Default: 11 values, two a decade from 1e-4 to 10.
    batch_size
        For every rule that does not bring its own: a number or "full". Default 32.
    budget
        Gradient evaluations a run, that is examples seen. Default: 20 passes over the training data; 500 on a
        problem without data.
    tuning_seeds, final_seeds
        How many seeds each learning rate is tried from (3), and how many fresh ones judge the winner (10).
    effort
        What learning rates and seeds are where they are not given: ``"default"`` as above; ``"quick"``, 6 learning
        rates from one seed, for a first idea; ``"thorough"``, 21 from 5 seeds, and 20 fresh ones.
    untuned
        Also run each entry with its own learning rate, the published default unless it was set, on the seeds of the
        final runs. It says what tuning is worth, and takes no part in the verdicts.
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
    announce, progress
        Called with the plan in a sentence before the first run; with the phase ("tuning", "final"), the runs done and
        the runs to do as they end.

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
        problem, rules, learning_rates, batch_size, budget, tuning_seeds, final_seeds, effort, untuned, source
    )
    if out is not None and not isinstance(out, (str, Path)):
        raise OptionError(f"out={out!r}: the path of a folder is needed, or None to write nothing")
    folder = None if out is None else writable(Path(out))
    _try_out(problem, plan)
    if announce is not None:
        announce(" ".join([f"{plan.describe()}, {where(None if executor is not None else jobs)}.", *_too_few(plan)]))
    with Store(None if folder is None else folder / STORE, plan, announce) as store:
        if fresh:
            store.clear()
        reused = len(store)
        runs = _make(problem, plan, list(plan.tuning()), jobs, executor, store, "tuning", progress)
        chosen = choose(plan, runs)
        if all(rate is None for rate in chosen):
            raise ComparisonError(
                f"every run failed on {problem.name}; the first one: {runs[0].message} Mend the problem, or widen "
                "learning_rates downwards"
            )
        last = [*plan.finals(chosen), *plan.defaults(chosen)]
        runs += _make(problem, plan, last, jobs, executor, store, "final", progress)
        table = rows(plan, runs, chosen)
        comparison = Comparison(
            plan=plan,
            source=None if source is None else str(source),
            rows=tuple(table),
            sensitivity=tuple(sensitivity(plan, runs)),
            runs=tuple(runs),
            notes=tuple(_notes(plan, table)),
            summary=problem.summary,
            shape=problem.examples,
            optimum=problem.optimum,
            seconds=time.perf_counter() - began,
            jobs=None if executor is not None else min(jobs, plan.runs),
            reused=reused,
            finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            versions=versions(),
            machine=f"{platform.system()} {platform.machine()}, {cores()} cores",
        )
        if folder is not None:
            _write(comparison, folder)
    return comparison


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
        start = problem.begin(plan.tuning_seeds[0])
        memory = Memory(start.params, "params")
        batch = () if problem.train is None else tuple(part[:1] for part in problem.train)
        grad = memory.like()
        objective = start.objective(memory)
        objective(grad, batch)
        objective.look(start.measure, *(problem.validation or ()))
    except DescendError as error:
        raise ProblemError(f"{problem.name}: {error}") from error
    except Exception as error:
        raise ProblemError(f"{problem.name}: its metric raised {type(error).__name__}: {error}") from error
    for entry in plan.entries:
        try:
            with np.errstate(all="ignore"):
                engine(entry.rule, memory.snapshot(), plan.steps(entry, problem)).step(grad)
        except Exception as error:
            raise OptionError(f"{entry.label} cannot make a step: {type(error).__name__}: {error}") from error


def _make(
    problem: Problem,
    plan: Plan,
    tasks: list[Task],
    jobs: int,
    executor: Executor | None,
    store: Store,
    phase: str,
    progress: Progress | None,
) -> list[Run]:
    """The runs of `tasks`, in their order: from the store where they are finished, else made now."""
    missing = [t for t in tasks if store.get(t) is None]
    finished = len(tasks) - len(missing)

    def tell() -> None:
        if progress is not None:
            progress(phase, finished, len(tasks))

    def done(task: Task, run: Run) -> None:
        nonlocal finished
        store.put(task, run)
        finished += 1
        tell()

    tell()

    execute(problem, plan, missing, done, jobs, executor)
    return [run for run in map(store.get, tasks) if run is not None]


def _too_few(plan: Plan) -> list[str]:
    """Whether there are too few final seeds to say anything; known before the first run."""
    needed = seeds_needed(joint_confidence(len(plan.entries)))
    if len(plan.final_seeds) >= needed:
        return []
    return [
        f"{counted(len(plan.final_seeds), 'final seed')} are too few for a verdict on "
        f"{counted(len(plan.entries), 'technique')}: use at least {needed}."
    ]


def _notes(plan: Plan, table: Sequence[Row]) -> list[str]:
    """What a reader should know before believing the table."""
    notes = []
    at_edge = [row.label for row in table if row.at_edge]
    if at_edge:
        low, high = plan.learning_rates[0], plan.learning_rates[-1]
        notes.append(
            f"The best learning rate of {listed(at_edge)} lies at the edge of the range {low:g} … {high:g}: "
            "a wider range may serve better (learning_rates)."
        )
    missed = [f"{row.label} ({row.misses} of {row.runs})" for row in table if row.misses]
    if missed:
        notes.append(f"Runs that failed and count as the worst: {listed(missed)}.")
    notes += _too_few(plan)
    starved = [row.label for row in table if row.batch_size == "full" and plan.budget // plan.evaluate_every <= 100]
    if starved and any(row.batch_size != "full" for row in table):
        notes.append(
            f"{listed(starved)} makes one step for each pass over the data, so only "
            f"{plan.budget // plan.evaluate_every} steps at this budget: that is what equal cost means."
        )
    return notes


def _write(comparison: Comparison, folder: Path) -> None:
    try:
        # Each is written whole under another name first: a reader, or a full disk, never meets half a file.
        text = json.dumps(comparison.to_dict(), indent=1, allow_nan=False)
        (folder / f".{TABLE}").write_text(text + "\n", encoding="utf-8")
        os.replace(folder / f".{TABLE}", folder / TABLE)
        comparison.save_report(folder / f".{REPORT}")
        os.replace(folder / f".{REPORT}", folder / REPORT)
    except OSError as error:
        raise ComparisonError(
            f"the report cannot be written to {str(folder)!r} ({error.strerror or error}); the runs are kept in "
            f"{STORE}: run the same command again once that is mended"
        ) from error
