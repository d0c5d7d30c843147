"""Where runs are made: in this process, in a pool of its own, or through any `concurrent.futures.Executor`."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import hashlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor
from pathlib import Path
from types import TracebackType
from typing import Any

from descend.comparison.planning.plan import Plan, Task
from descend.comparison.running.runs import Run, nothing, run_task, run_tasks
from descend.comparison.running.stacks import Bundle
from descend.engines.native.workers import threads
from descend.errors import ComparisonError, MissingExtra, OptionError, ProblemError
from descend.problems import FILE_MODULE, Problem
from descend.rules.rule import unpickling
from descend.stopping import Reason

__all__ = ["Workers", "checked_jobs", "cores", "on_dask"]

Done = Callable[[Task, Run], Any]


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def checked_jobs(jobs: int | None) -> int:
    """The number of processes to use; raises `OptionError`."""
    if jobs is None:
        return cores()
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise OptionError(f"jobs={jobs!r}: a whole number ≥ 1 is needed; leave it out to use all {cores()} cores")
    return jobs


class Workers:
    """Makes the runs of a comparison: in this process, in pools of its own, or through somebody's executor.

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
                with _one_thread():  # it may make them in this process, in threads that cannot limit BLAS themselves
                    _through(self.executor, pending, done, self._parcel)
            except (BrokenExecutor, CancelledError) as error:
                raise _broken(error) from error
        elif self.jobs == 1:
            with _one_thread():
                for bundle in pending:
                    _hand_over(bundle, _made(self.problem, self.plan, bundle), done)
        elif pending:
            self._in_pools(pending, done, 1 if in_turns else min(self.jobs, len(pending)))

    @functools.cached_property
    def _parcel(self) -> bytes:
        return _pack(self.problem, self.plan)

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
                suspects = [bundle for bundle in left if _mark(self._begun, bundle).exists()]
                if not suspects:
                    raise _broken(error) from error
            for bundle in suspects:
                self._with_no_other(bundle, done)
            pending = [bundle for bundle in left if bundle not in suspects]

    def _with_no_other(self, bundle: Bundle, done: Done) -> None:
        """Make a bundle in a process of its own, or else each of its runs; a miss if that dies."""
        self._end_pool(at_once=False)
        try:
            _through(self._pool_of(1), [bundle], done, None)
        except BrokenExecutor:
            self._end_pool(at_once=True)
            if len(bundle.tasks) == 1:
                done(bundle.tasks[0], nothing(bundle.tasks[0], Reason.KILLED, Reason.KILLED.message()))
            else:
                for one in bundle.each():
                    self._with_no_other(one, done)

    def _pool_of(self, width: int) -> Executor:
        """The pool that is there, or another one if that has too few processes, or too many for one at a time."""
        if self._width < width or width == 1 < self._width:
            self._end_pool(at_once=False)
            import loky

            start = {"initializer": _start, "initargs": (self._parcel, self._begun)}
            self._pool, self._width = loky.ProcessPoolExecutor(max_workers=width, **start), width
        pool: Executor = self._pool
        return pool

    def _end_pool(self, *, at_once: bool) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, kill_workers=at_once)
        self._pool, self._width = None, 0


def _made(problem: Problem, plan: Plan, bundle: Bundle) -> list[Run]:
    """The runs of a bundle."""
    return run_tasks(problem, plan, bundle.tasks) if bundle.stacked else [run_task(problem, plan, bundle.tasks[0])]


def _hand_over(bundle: Bundle, runs: Iterable[Run], done: Done) -> None:
    for task, run in zip(bundle.tasks, runs, strict=True):
        done(task, run)


def _broken(error: Exception) -> ComparisonError:
    return ComparisonError(
        "a worker process died (out of memory, or killed); finished runs are kept: run the same command to go on, "
        f"with fewer jobs if memory is short ({type(error).__name__})"
    )


def _mark(begun: str, bundle: Bundle) -> Path:
    """The file that is there if a worker has begun a bundle."""
    return Path(begun, hashlib.sha256(repr(bundle).encode()).hexdigest())


@contextlib.contextmanager
def on_dask(address: str) -> Iterator[Executor]:
    """The executor of the Dask cluster whose scheduler is at `address`; raises `OptionError` if none answers."""
    try:
        from distributed import Client
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] not in ("dask", "distributed"):
            raise
        raise MissingExtra("distributed", "dask", "--dask") from None
    try:
        client = Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise OptionError(
            f"--dask {address}: no scheduler answers there ({type(error).__name__}); give the address that `dask "
            "scheduler` prints, such as tcp://127.0.0.1:8786"
        ) from None
    with client:
        yield client.get_executor(pure=False)


def _through(executor: Executor, bundles: list[Bundle], done: Done, parcel: bytes | None) -> None:
    """Make the bundles through an executor; each carries the parcel if the workers have not received it already.

    A bundle that a cluster gave up, as workers died of it, is taken apart; a run that it gives up is a miss.
    """
    futures: dict[concurrent.futures.Future[list[Run]], Bundle] = {}
    try:
        with _ctrl_c_held() if parcel is None else contextlib.nullcontext():
            for bundle in bundles:
                futures[executor.submit(_work, bundle, parcel)] = bundle
        apart: list[Bundle] = []
        for future in concurrent.futures.as_completed(futures):
            bundle = futures[future]
            try:
                runs = future.result()
            except (BrokenExecutor, CancelledError):
                raise
            except Exception as error:
                if not _workers_died(error):
                    raise ComparisonError(
                        f"runs could not be made where they were sent ({type(error).__name__}: {error}); finished runs "
                        "are kept: see that descend, the problem and its modules are the same there, and run the same "
                        "command to go on"
                    ) from error
                if len(bundle.tasks) > 1:
                    apart += bundle.each()
                    continue
                runs = [nothing(bundle.tasks[0], Reason.KILLED, f"{Reason.KILLED.message()} {error}")]
            _hand_over(bundle, runs, done)
    finally:
        if parcel is not None:  # somebody else's executor goes on; our own pool ends with its block
            for future in futures:
                future.cancel()
    if apart:
        _through(executor, apart, done, parcel)


def _workers_died(error: Exception) -> bool:
    """Whether this is how a cluster says that it tried a run again and again, and each time the worker died."""
    distributed = sys.modules.get("distributed")
    return distributed is not None and isinstance(error, distributed.KilledWorker)


def _steps(plan: Plan, bundle: Bundle) -> int:
    """The steps of all runs in a bundle: about how long it takes, beside others."""
    task = bundle.tasks[0]
    return plan.steps(plan.entry(task), plan.budget_of(task)) * len(bundle.tasks)


def _pack(problem: Problem, plan: Plan) -> bytes:
    """Everything a worker needs, for a process where the user's files may not be importable."""
    import cloudpickle

    for name, module in list(sys.modules.items()):
        if name.startswith(FILE_MODULE):
            cloudpickle.register_pickle_by_value(module)
    try:
        parcel: bytes = cloudpickle.dumps((sys.path, cloudpickle.dumps((problem, plan))))
    except Exception as error:
        raise ProblemError(
            f"{problem.name} cannot be sent to worker processes ({type(error).__name__}: {error}); use jobs=1"
        ) from error
    return parcel


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


# ---- in a worker ------------------------------------------------------------------------------------------------

_RECEIVED: dict[bytes, tuple[Problem, Plan]] = {}
"""What this worker works on: the last parcel and what was in it."""
_RECEIVING = threading.Lock()


_BEGUN: list[str] = []
"""Where a worker of our own pool says what it has begun."""


def _start(parcel: bytes, begun: str) -> None:
    """Prepare a process of our own pool."""
    _BEGUN[:] = [begun]
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    _receive(parcel)


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, however that ended: no worker is left behind."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _receive(parcel: bytes) -> tuple[Problem, Plan]:
    with _RECEIVING:
        if parcel not in _RECEIVED:
            import cloudpickle

            path, contents = cloudpickle.loads(parcel)
            sys.path.extend(p for p in path if p not in sys.path)
            with unpickling():
                received = cloudpickle.loads(contents)
            _RECEIVED.clear()
            _RECEIVED[parcel] = received
        return _RECEIVED[parcel]


def _work(bundle: Bundle, parcel: bytes | None) -> list[Run]:
    if parcel is None:  # a worker of our own pool
        _mark(_BEGUN[0], bundle).touch()
        problem, plan = next(iter(_RECEIVED.values()))
    else:
        problem, plan = _receive(parcel)
    with _one_thread():
        return _made(problem, plan, bundle)


_LIMITING = threading.Lock()
_LIMITED: list[contextlib.ExitStack] = []
"""One for each run that is being made in this process; the first one takes its limits back when the last run ends."""


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for BLAS, OpenMP, torch and steps in machine code, however many runs this process makes at a time."""
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    with _LIMITING:
        back = contextlib.ExitStack()
        back.callback(threadpool_limits(limits=1).restore_original_limits)  # OpenMP has one for each thread
        if torch is not None:
            back.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
        if not _LIMITED:
            back.enter_context(threads.limited(1))
        _LIMITED.append(back)
    try:
        yield
    finally:
        with _LIMITING:
            if len(_LIMITED) > 1:
                del _LIMITED[-1]
            else:
                _LIMITED.pop().close()
