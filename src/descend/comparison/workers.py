"""Where runs are made: in this process, in a pool of its own, or through any `concurrent.futures.Executor`."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor
from typing import Any

from descend.comparison.plan import Plan, Task
from descend.comparison.runs import Run, run_task
from descend.engines.fused.launching import threads
from descend.errors import ComparisonError, OptionError, ProblemError
from descend.problems import FILE_MODULE, Problem
from descend.rules.base import unpickling

__all__ = ["checked_jobs", "cores", "execute"]

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


def execute(
    problem: Problem, plan: Plan, tasks: Iterable[Task], done: Done, jobs: int, executor: Executor | None = None
) -> None:
    """Make all `tasks` and hand each outcome to `done` as it ends: at most `jobs` at a time, or by `executor`.

    BLAS runs on one thread in each run, wherever it is made, so that the figures do not depend on it. Raises
    `ComparisonError` when a worker process dies, and lets KeyboardInterrupt through; what was done is kept by `done`.
    """
    pending = sorted(tasks, key=lambda t: -_steps(problem, plan, t))  # the longest first: no core idles at the end
    if executor is not None:
        _through(executor, pending, done, _pack(problem, plan))
    elif jobs == 1 or len(pending) <= 1:
        with _one_thread():
            for task in pending:
                done(task, run_task(problem, plan, task))
    else:
        with _pool(_pack(problem, plan), min(jobs, len(pending))) as pool:
            _through(pool, pending, done, None)


def _through(executor: Executor, tasks: list[Task], done: Done, parcel: bytes | None) -> None:
    """Make the tasks through an executor; each carries the parcel if the workers have not received it already."""
    futures: dict[concurrent.futures.Future[Run], Task] = {}
    try:
        with _ctrl_c_held() if parcel is None else contextlib.nullcontext():
            for task in tasks:
                futures[executor.submit(_work, task, parcel)] = task
        for future in concurrent.futures.as_completed(futures):
            done(futures[future], future.result())
    except BrokenExecutor as error:
        raise ComparisonError(
            "a worker process died (out of memory, or killed); finished runs are kept: run the same command to go on, "
            f"with fewer jobs if memory is short ({type(error).__name__})"
        ) from error
    finally:
        if parcel is not None:  # somebody else's executor goes on; our own pool ends with its block
            for future in futures:
                future.cancel()


def _steps(problem: Problem, plan: Plan, task: Task) -> int:
    size = plan.entries[task.entry].batch_size
    return 1 if problem.size is None else plan.budget // (problem.size if size == "full" else size)


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


@contextlib.contextmanager
def _pool(parcel: bytes, jobs: int) -> Iterator[Executor]:
    """A pool of processes that have received the parcel. They are ended with the block, at once if it fails."""
    import loky

    pool: Executor = loky.ProcessPoolExecutor(max_workers=jobs, initializer=_start, initargs=(parcel,))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=True, kill_workers=True)  # type: ignore[call-arg]
        raise
    pool.shutdown(wait=True)


# ---- in a worker ------------------------------------------------------------------------------------------------

_RECEIVED: dict[bytes, tuple[Problem, Plan]] = {}
"""What this worker works on: the last parcel and what was in it."""
_RECEIVING = threading.Lock()


def _start(parcel: bytes) -> None:
    """Prepare a process of our own pool."""
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


def _work(task: Task, parcel: bytes | None) -> Run:
    problem, plan = next(iter(_RECEIVED.values())) if parcel is None else _receive(parcel)
    with _one_thread():
        return run_task(problem, plan, task)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for BLAS, OpenMP, torch and steps in machine code."""
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch is not None else 1
    with threadpool_limits(limits=1), threads.limited(1):
        if torch is not None:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if torch is not None:
                torch.set_num_threads(before)
