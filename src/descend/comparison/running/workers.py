"""Workers make the runs: in this process, in a pool of processes, or through any `concurrent.futures.Executor`."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor
from types import TracebackType
from typing import Any

from descend.comparison.planning.plan import Plan
from descend.comparison.planning.task import Task
from descend.comparison.running.bundles import Bundle
from descend.comparison.running.dask import workers_died
from descend.comparison.running.runs import Run, failed_run
from descend.comparison.running.worker import begun_mark, make_runs, pack, start, work
from descend.engines.one_thread import one_thread
from descend.errors import ComparisonError
from descend.problems import Problem
from descend.stopping import Reason

__all__ = ["Workers"]

Done = Callable[[Task, Run], Any]


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
    """

    def __init__(self, problem: Problem, plan: Plan, jobs: int, executor: Executor | None = None) -> None:
        self.problem, self.plan, self.jobs, self.executor = problem, plan, jobs, executor
        self._folder = contextlib.ExitStack()
        self._pool: Any = None
        self._width = 0

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._folder:
            self._end_pool(at_once=kind is not None)

    def make(self, bundles: Iterable[Bundle], done: Done, *, in_turns: bool = False) -> None:
        """Make the runs of all `bundles`, and hand each run to `done`; in their order, one at a time, if `in_turns`.

        A bundle whose process dies is made again with no other beside it; if it dies of that, each of its runs alone;
        one that dies again is a miss. Raises `ComparisonError` when no process can work, or when a run cannot be sent
        or its outcome not be received; lets KeyboardInterrupt through. What was done is kept by `done`.
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
        elif self.jobs == 1:
            with one_thread():
                for bundle in pending:
                    _hand_over(bundle, make_runs(self.problem, self.plan, bundle), done)
        elif pending:
            self._in_pools(pending, done, 1 if in_turns else min(self.jobs, len(pending)))

    @functools.cached_property
    def _parcel(self) -> bytes:
        return pack(self.problem, self.plan)

    @functools.cached_property
    def _begun(self) -> str:
        """The folder where a worker leaves a mark of what it has begun."""
        return self._folder.enter_context(tempfile.TemporaryDirectory(prefix="descend-"))

    def _in_pools(self, pending: list[Bundle], done: Done, width: int) -> None:
        """Make the bundles in pools of processes: a new one whenever a process of the last one has died.

        Which run it died of is not known, only which bundles had begun.
        """
        while pending:
            finished: set[Task] = set()

            def note(task: Task, run: Run, finished: set[Task] = finished) -> None:
                finished.add(task)
                done(task, run)

            try:
                _through(self._pool_of(width), pending, note, None)
                return
            except BrokenExecutor as error:
                self._end_pool(at_once=True)
                left = [bundle for bundle in pending if bundle.tasks[0] not in finished]
                suspects = [bundle for bundle in left if begun_mark(self._begun, bundle).exists()]
                if not suspects:
                    raise _broken(error) from error
            for bundle in suspects:
                self._with_no_other(bundle, done)
            pending = [bundle for bundle in left if bundle not in suspects]

    def _with_no_other(self, bundle: Bundle, done: Done) -> None:
        """Make a bundle in a process beside no other, or else each of its runs; a miss if that dies."""
        try:
            _through(self._pool_of(1), [bundle], done, None)
        except BrokenExecutor:
            self._end_pool(at_once=True)
            if len(bundle.tasks) == 1:
                done(bundle.tasks[0], failed_run(bundle.tasks[0], Reason.KILLED, Reason.KILLED.message()))
            else:
                for one in bundle.each():
                    self._with_no_other(one, done)

    def _pool_of(self, width: int) -> Executor:
        """The pool that is there, or another one if that has too few processes, or too many for one at a time."""
        if self._width < width or width == 1 < self._width:
            self._end_pool(at_once=False)
            import loky

            first = {"initializer": start, "initargs": (self._parcel, self._begun)}
            self._pool, self._width = loky.ProcessPoolExecutor(max_workers=width, **first), width
        pool: Executor = self._pool
        return pool

    def _end_pool(self, *, at_once: bool) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, kill_workers=at_once)
        self._pool, self._width = None, 0


def _hand_over(bundle: Bundle, runs: Iterable[Run], done: Done) -> None:
    for task, run in zip(bundle.tasks, runs, strict=True):
        done(task, run)


def _broken(error: Exception) -> ComparisonError:
    return ComparisonError(
        "a worker process died (out of memory, or killed); finished runs are kept: run the same command to go on, "
        f"with fewer jobs if memory is short ({type(error).__name__})"
    )


def _through(executor: Executor, bundles: list[Bundle], done: Done, parcel: bytes | None) -> None:
    """Make the bundles through an executor; each carries the parcel if the workers have not received it already.

    A bundle that a cluster gave up, as workers died of it, is sent again run by run; a run that it gives up is a miss.
    """
    futures: dict[concurrent.futures.Future[list[Run]], Bundle] = {}
    try:
        with _ctrl_c_held() if parcel is None else contextlib.nullcontext():
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
    finally:
        if parcel is not None:  # the user's executor goes on; our own pool ends with its block
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


@contextlib.contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """Hold SIGINT back while processes are started: they inherit that, and Ctrl-C is for the parent alone.

    A Ctrl-C in the meantime is not lost; it arrives at the end of the block.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
