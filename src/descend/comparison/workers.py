"""Where runs are made: in this process, in a pool of its own, or through any `concurrent.futures.Executor`."""

from __future__ import annotations

import concurrent.futures
import contextlib
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
from typing import Any

from descend.comparison.plan import Plan, Task
from descend.comparison.runs import Run, nothing, run_task, run_tasks
from descend.comparison.stacks import Bundle
from descend.engines.fused.launching import threads
from descend.errors import ComparisonError, MissingExtra, OptionError, ProblemError
from descend.problems import FILE_MODULE, Problem
from descend.rules.base import unpickling
from descend.stopping import Reason

__all__ = ["checked_jobs", "cores", "execute", "on_dask"]

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
    problem: Problem, plan: Plan, bundles: Iterable[Bundle], done: Done, jobs: int, executor: Executor | None = None
) -> None:
    """Make the runs of all `bundles`, at most `jobs` bundles at a time or by `executor`, and hand each run to `done`.

    BLAS runs on one thread in each, wherever it is made, so that the figures do not depend on it. The runs of a bundle
    whose process dies are made again, each alone; one that dies again is a miss. Raises `ComparisonError` when no
    process can work, and lets KeyboardInterrupt through; what was done is kept by `done`.
    """
    pending = sorted(bundles, key=lambda b: -_steps(plan, b))  # the longest first: no core idles at the end
    if executor is not None:
        try:
            _through(executor, pending, done, _pack(problem, plan))
        except (BrokenExecutor, CancelledError) as error:
            raise _broken(error) from error
    elif jobs == 1 or len(pending) <= 1:
        with _one_thread():
            for bundle in pending:
                _hand_over(bundle, _made(problem, plan, bundle), done)
    else:
        _in_pools(_pack(problem, plan), pending, done, jobs)


def _made(problem: Problem, plan: Plan, bundle: Bundle) -> list[Run]:
    """The runs of a bundle."""
    return run_tasks(problem, plan, bundle.tasks) if bundle.stacked else [run_task(problem, plan, bundle.tasks[0])]


def _hand_over(bundle: Bundle, runs: Iterable[Run], done: Done) -> None:
    for task, run in zip(bundle.tasks, runs, strict=True):
        done(task, run)


def _in_pools(parcel: bytes, pending: list[Bundle], done: Done, jobs: int) -> None:
    """Make the bundles in pools of processes: a new one whenever a process of the last one has died.

    Which run it died of is not known, only which had begun. Each of these is then made in a process of its own.
    """
    with tempfile.TemporaryDirectory(prefix="descend-") as begun:
        while pending:
            finished: set[Task] = set()

            def note(task: Task, run: Run, finished: set[Task] = finished) -> None:
                finished.add(task)
                done(task, run)

            try:
                with _pool(parcel, begun, min(jobs, len(pending))) as pool:
                    _through(pool, pending, note, None)
                return
            except BrokenExecutor as error:
                left = [bundle for bundle in pending if bundle.tasks[0] not in finished]
                suspects = [bundle for bundle in left if _mark(begun, bundle).exists()]
                if not suspects:
                    raise _broken(error) from error
            for bundle in suspects:
                for one in bundle.each():
                    _alone(parcel, begun, one, done)
            pending = [bundle for bundle in left if bundle not in suspects]


def _alone(parcel: bytes, begun: str, bundle: Bundle, done: Done) -> None:
    """Make one run in a process of its own; a miss if that dies."""
    try:
        with _pool(parcel, begun, 1) as pool:
            _through(pool, [bundle], done, None)
    except BrokenExecutor:
        done(bundle.tasks[0], nothing(bundle.tasks[0], Reason.KILLED, Reason.KILLED.message()))


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
    """Make the bundles through an executor; each carries the parcel if the workers have not received it already."""
    futures: dict[concurrent.futures.Future[list[Run]], Bundle] = {}
    try:
        with _ctrl_c_held() if parcel is None else contextlib.nullcontext():
            for bundle in bundles:
                futures[executor.submit(_work, bundle, parcel)] = bundle
        for future in concurrent.futures.as_completed(futures):
            bundle = futures[future]
            try:
                runs = future.result()
            except (BrokenExecutor, CancelledError):
                raise
            except Exception as error:  # a cluster gives up what its workers die of
                message = f"{Reason.KILLED.message()} {type(error).__name__}: {error}"
                runs = [nothing(task, Reason.KILLED, message) for task in bundle.tasks]
            _hand_over(bundle, runs, done)
    finally:
        if parcel is not None:  # somebody else's executor goes on; our own pool ends with its block
            for future in futures:
                future.cancel()


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


@contextlib.contextmanager
def _pool(parcel: bytes, begun: str, jobs: int) -> Iterator[Executor]:
    """A pool of processes that have received the parcel. They are ended with the block, at once if it fails."""
    import loky

    pool: Executor = loky.ProcessPoolExecutor(max_workers=jobs, initializer=_start, initargs=(parcel, begun))
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
