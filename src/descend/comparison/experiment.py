"""`compare`: plan, tune, judge, report."""

from __future__ import annotations

import datetime
import json
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from descend.batches import BatchSize
from descend.comparison.outcome import Comparison, listed
from descend.comparison.plan import Plan, Task, counted, make_plan, versions
from descend.comparison.runs import Run
from descend.comparison.statistics import CONFIDENCE, Row, choose, rows, sensitivity
from descend.comparison.store import Store
from descend.comparison.workers import checked_jobs, cores, execute
from descend.containers import Memory
from descend.errors import ComparisonError, ObjectiveError, OptionError, ProblemError
from descend.problems import Problem, load

__all__ = ["Progress", "compare"]

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
    tuning_seeds: int = 3,
    final_seeds: int = 10,
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
        Every run failed, a worker process died, or `out` cannot be written; finished runs are kept there.

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
        source = Path(problem) if str(problem).endswith(".py") else str(problem)
        problem = load(str(problem))
    if not isinstance(problem, Problem):
        raise ProblemError(f"{problem!r} is not a Problem, a name, or the path of a Python file")
    jobs = checked_jobs(jobs)
    plan = make_plan(problem, rules, learning_rates, batch_size, budget, tuning_seeds, final_seeds, source)
    folder = None if out is None else _folder(Path(out))
    _try_out(problem, plan)
    if announce is not None:
        announce(f"{plan.describe()}, on {counted(jobs, 'core')}.")
    with Store(None if folder is None else folder / STORE, plan) as store:
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
        runs += _make(problem, plan, list(plan.finals(chosen)), jobs, executor, store, "final", progress)
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
        jobs=jobs,
        reused=reused,
        finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=versions(),
        machine=f"{platform.system()} {platform.machine()}, {cores()} cores",
    )
    if folder is not None:
        _write(comparison, folder)
    return comparison


def _folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OptionError(
            f"out={str(out)!r} cannot be written ({error.strerror or error}); choose another folder"
        ) from None
    return out


def _try_out(problem: Problem, plan: Plan) -> None:
    """One gradient on one batch, so that a broken problem says so at once and not from a worker."""
    start = problem.begin(plan.tuning_seeds[0])
    memory = Memory(start.params, "params")
    batch = () if problem.train is None else tuple(part[:1] for part in problem.train)
    try:
        start.objective(memory)(memory.like(), batch)
        start.measure(memory.tree(copy=False), *(problem.validation or ()))
    except ObjectiveError as error:
        raise ProblemError(f"{problem.name}: {error}") from error
    except Exception as error:
        raise ProblemError(f"{problem.name}: its metric raised {type(error).__name__}: {error}") from error


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
    if any(row.verdict == "too few seeds" or not row.test.known for row in table if row.verdict != "failed"):
        notes.append(
            f"{len(plan.final_seeds)} final seeds are too few for a {CONFIDENCE:.0%} interval or a verdict: use at "
            "least 6 for intervals, and 10 to compare seven rules."
        )
    starved = [row.label for row in table if row.batch_size == "full" and plan.budget // plan.evaluate_every <= 100]
    if starved and any(row.batch_size != "full" for row in table):
        notes.append(
            f"{listed(starved)} makes one step for each pass over the data, so only "
            f"{plan.budget // plan.evaluate_every} steps at this budget: that is what equal cost means."
        )
    return notes


def _write(comparison: Comparison, folder: Path) -> None:
    try:
        comparison.save_report(folder / REPORT)
        text = json.dumps(comparison.to_dict(), indent=1, allow_nan=False)
        (folder / TABLE).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ComparisonError(
            f"the report cannot be written to {str(folder)!r} ({error.strerror or error}); the runs are kept in "
            f"{STORE}: run the same command again once there is room"
        ) from error
