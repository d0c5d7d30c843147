"""Workers make the runs: in this process, in a pool of processes, or through any `concurrent.futures.Executor`."""

from __future__ import annotations

import concurrent.futures
import functools
import math
import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, CancelledError, Executor
from types import TracebackType
from typing import Any

from descend.comparison.planning.plan import Plan
from descend.comparison.planning.task import Task
from descend.comparison.running.bundles import Bundle
from descend.comparison.running.dask import workers_died
from descend.comparison.running.pilot import Pilot
from descend.comparison.running.pool import Outcomes, Pool
from descend.comparison.running.runs import Run, failed_run
from descend.comparison.running.worker import make_runs, pack, work
from descend.engines.one_thread import one_thread
from descend.errors import ComparisonError
from descend.problems import Problem
from descend.stopping import Reason

__all__ = ["Workers", "daemonic"]

Done = Callable[[Task, Run], Any]

LEAST, FACTOR, LONGER = 60.0, 30.0, 10.0
"""A bundle is ended after so many seconds at the least: so many times as long as the pilot foretells, and so many times
as long as the longest one before. What hangs is to be ended, and never what is only slow on a machine that is busy."""


class Workers:
    """Makes the runs of a comparison: in this process, in pools of its own, or through an executor of the user's.

    BLAS runs on one thread in each, wherever it is made, so that the figures do not depend on it. Processes are started
    when they are first needed, stay for the next runs, and end with the block.

    Parameters
    ----------
    problem, plan
        What the runs are of.
    jobs
        How many bundles are made at a time; 1 makes them in this process.
    executor
        Makes them instead, but for those that have to be made in turns.
    max_run_seconds
        How long a run may take in a process. Default: what the pilot and the runs before leave no doubt about, and a
        minute at the least; nothing in this process, which cannot be ended.
    """

    def __init__(
        self,
        problem: Problem,
        plan: Plan,
        jobs: int,
        executor: Executor | None = None,
        max_run_seconds: float | None = None,
    ) -> None:
        self.problem, self.plan, self.jobs, self.executor = problem, plan, jobs, executor
        self.max_run_seconds = max_run_seconds
        self.pilot = Pilot(problem, plan)
        self._pool: Pool | None = None
        self._longest = 0.0

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.close(at_once=kind is not None)
            self._pool = None

    def make(self, bundles: Iterable[Bundle], done: Done, *, in_turns: bool = False) -> None:
        """Make the runs of all `bundles`, and hand each run to `done`; in their order, one at a time, if `in_turns`.

        A bundle whose process dies is made again with no other beside it; if it dies of that, each of its runs alone;
        one that dies again is a miss. So is a run that takes longer than it may; of a bundle that does, each run is
        made by itself. Raises `ComparisonError` when no process can work, or when a run cannot be sent or its outcome
        not be received; lets KeyboardInterrupt through. What was done is kept by `done`.
        """
        pending = list(bundles)
        if not in_turns:
            pending.sort(key=lambda b: -_steps(self.plan, b))  # the longest first: no core idles at the end
        if self.executor is not None and not in_turns:
            try:
                with one_thread():  # it may make them in this process, in threads that cannot limit BLAS themselves
                    _through(self.executor, pending, done, self._parcel)
            except (BrokenExecutor, CancelledError) as error:
                raise _broken(error) from error
        elif self.jobs == 1 and self.max_run_seconds is None:
            with one_thread():
                for bundle in pending:
                    _hand_over(bundle, make_runs(self.problem, self.plan, bundle), done)
        elif pending:
            self._in_processes(pending, done, 1 if in_turns else self.jobs)

    @functools.cached_property
    def _parcel(self) -> bytes:
        return pack(self.problem, self.plan)

    def _in_processes(self, bundles: list[Bundle], done: Done, width: int) -> None:
        """Make bundles in processes of our own; what a process died of once more with no other beside it."""
        if self._pool is None:
            self._pool = Pool(self._parcel)
        again: list[Bundle] = []

        def made(bundle: Bundle, outcomes: Outcomes) -> None:
            runs = [Run.of(task, outcome) for task, outcome in zip(bundle.tasks, outcomes, strict=True)]
            self._longest = max(self._longest, sum(run.seconds for run in runs))
            _hand_over(bundle, runs, done)

        def died(bundle: Bundle, _: str) -> None:
            again.append(bundle)

        def died_again(bundle: Bundle, how: str) -> None:
            self._apart(bundle, Reason.KILLED, how, done, again)

        def overdue(bundle: Bundle, how: str) -> None:
            self._apart(bundle, Reason.OVERDUE, how, done, slow)

        slow: list[Bundle] = []
        self._pool.make(bundles, width, made, died, overdue, self._allowed)
        while slow or again:
            parts, slow = slow, []
            self._pool.make(parts, width, made, died, overdue, self._allowed)
            parts, again = again, []
            self._pool.make(parts, 1, made, died_again, overdue, self._allowed)

    def _apart(self, bundle: Bundle, reason: Reason, how: str, done: Done, pending: list[Bundle]) -> None:
        """Leave each run of a bundle to be made by itself; a run that was by itself is a miss."""
        if len(bundle.tasks) > 1:
            pending.extend(bundle.each())
        else:
            done(bundle.tasks[0], failed_run(bundle.tasks[0], reason, reason.message(how)))

    def _allowed(self, bundle: Bundle, took: float) -> float:
        """The seconds that a bundle may take, which has taken so many."""
        if self.max_run_seconds is not None:
            return self.max_run_seconds * len(bundle.tasks)
        if took <= max(LEAST, LONGER * self._longest):
            return math.inf
        foretold = self.pilot.seconds(bundle)
        return math.inf if math.isnan(foretold) else max(LEAST, FACTOR * foretold, LONGER * self._longest)


def _hand_over(bundle: Bundle, runs: Iterable[Run], done: Done) -> None:
    for task, run in zip(bundle.tasks, runs, strict=True):
        done(task, run)


def _broken(error: Exception) -> ComparisonError:
    return ComparisonError(
        "a worker process died (out of memory, or killed); finished runs are kept: run the same command to go on, "
        f"with fewer jobs if memory is short ({type(error).__name__})"
    )


def _through(executor: Executor, bundles: list[Bundle], done: Done, parcel: bytes) -> None:
    """Make the bundles through an executor; each carries the parcel.

    A bundle that a cluster gave up, as workers died of it, is sent again run by run; a run that it gives up is a miss.
    """
    futures: dict[concurrent.futures.Future[list[Run]], Bundle] = {}
    try:
        for bundle in bundles:
            futures[executor.submit(work, bundle, parcel)] = bundle
        apart: list[Bundle] = []
        for future in concurrent.futures.as_completed(futures):
            bundle = futures[future]
            runs = _result(future, bundle)
            if runs is None:
                apart += bundle.each()
            else:
                _hand_over(bundle, runs, done)
    finally:  # the user's executor goes on
        for future in futures:
            future.cancel()
    if apart:
        _through(executor, apart, done, parcel)


def _result(future: concurrent.futures.Future[list[Run]], bundle: Bundle) -> list[Run] | None:
    """The runs of a bundle, or a miss where a cluster gave up a single run; None where it gave up several."""
    try:
        return future.result()
    except (BrokenExecutor, CancelledError):
        raise
    except Exception as error:
        if not workers_died(error):
            raise ComparisonError(
                f"runs could not be made where they were sent ({type(error).__name__}: {error}); finished runs "
                "are kept: see that descend, the problem and its modules are the same there, and run the same "
                "command to go on"
            ) from error
        if len(bundle.tasks) > 1:
            return None
        return [failed_run(bundle.tasks[0], Reason.KILLED, f"{Reason.KILLED.message()} {error}")]


def _steps(plan: Plan, bundle: Bundle) -> int:
    """The steps of all runs in a bundle, a measure of how long it takes."""
    task = bundle.tasks[0]
    return plan.steps(plan.entry(task), plan.budget_of(task)) * len(bundle.tasks)


def daemonic() -> bool:
    """Whether this process may have no children: its own parent ends it without a word, and them not at all."""
    return multiprocessing.current_process().daemon
