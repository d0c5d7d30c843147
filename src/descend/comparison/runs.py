"""Making the runs of a comparison: one descent a task, on as many processes as there are cores."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import math
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from descend.comparison.plan import Plan, Task
from descend.errors import ComparisonError, ObjectiveError, OptionError, ProblemError
from descend.fitting import fit
from descend.problems import Problem
from descend.result import FitResult

__all__ = ["Run", "cores", "execute", "run_task"]


@dataclasses.dataclass(frozen=True)
class Run:
    """The outcome of one task. `curve` has ``[examples, validation loss, validation metric]`` at each look.

    A run that failed (diverged, not finite, an error) is a miss: it has no `validation` and no `test`, whatever it
    reached before. Test data are read in final runs alone; `test` is None in tuning runs.
    """

    entry: int
    learning_rate: float
    seed: int
    phase: str
    reason: str
    message: str
    miss: bool
    examples: int
    seconds: float
    validation: float | None
    validation_loss: float | None
    test: float | None
    curve: list[list[float | None]]


def run_task(problem: Problem, plan: Plan, task: Task) -> Run:
    """Make one run. Whatever the problem's functions do, there is a record of it."""
    entry = plan.entries[task.entry]
    final = task.phase == "final"
    if not final:
        problem = problem.without_test()
    try:
        result = fit(
            problem,
            dataclasses.replace(entry.rule, lr=task.learning_rate),
            examples=plan.budget,
            batch_size=entry.batch_size if problem.size is not None else None,
            seed=task.seed,
            evaluate_every=None if problem.size is not None else plan.evaluate_every,
            keep_best=True,
            history=False,
            progress=False,
        )
    except ObjectiveError as error:
        if not isinstance(error.result, FitResult):
            raise
        result = error.result
    best, history = result.best, result.history
    assert history is not None
    validation, loss = (math.nan, math.nan) if best is None else (best.validation_metric, best.validation_loss)
    # A problem without data is judged by its loss, which is what it was tuned on.
    test = result.test_metric if problem.size is not None else validation
    figures = [validation, loss, *([test] if final else [])]
    miss = result.reason.kind == "failed" or not all(map(math.isfinite, figures))
    return Run(
        **dataclasses.asdict(task),
        reason=str(result.reason),
        message=result.message,
        miss=miss,
        examples=result.examples,
        seconds=result.seconds,
        validation=None if miss else validation,
        validation_loss=None if miss else loss,
        test=test if final and not miss else None,
        curve=[[e.examples, _finite(e.validation_loss), _finite(e.validation_metric)] for e in history.evaluations],
    )


def _finite(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return float(value) if math.isfinite(value) else None


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def execute(problem: Problem, plan: Plan, tasks: Iterable[Task], jobs: int, done: Callable[[Task, Run], Any]) -> None:
    """Make all `tasks`, at most `jobs` at a time, and hand each outcome to `done` as it ends.

    BLAS runs on one thread in each run, whatever `jobs` is, so that the figures do not depend on it. Raises
    `ComparisonError` when a worker process dies, and lets KeyboardInterrupt through; what was done is kept by `done`.
    """
    pending = sorted(tasks, key=lambda t: -_steps(problem, plan, t))  # the longest first: no core idles at the end
    if jobs == 1 or len(pending) <= 1:
        with _one_thread():
            for task in pending:
                done(task, run_task(problem, plan, task))
        return
    with _pool(problem, plan, min(jobs, len(pending))) as pool:
        futures = {pool.submit(_work, task): task for task in pending}
        try:
            for future in concurrent.futures.as_completed(futures):
                done(futures[future], future.result())
        except BrokenProcessPool as error:
            raise ComparisonError(
                "a worker process died (out of memory, or killed); finished runs are kept: run the same command to go "
                f"on, with fewer jobs if memory is short ({type(error).__name__})"
            ) from error


def _steps(problem: Problem, plan: Plan, task: Task) -> int:
    size = plan.entries[task.entry].batch_size
    return 1 if problem.size is None else plan.budget // (problem.size if size == "full" else size)


# ---- worker processes -------------------------------------------------------------------------------------------

_WORK: list[tuple[Problem, Plan]] = []
"""In a worker process: what it works on, received once."""


@contextlib.contextmanager
def _pool(problem: Problem, plan: Plan, jobs: int) -> Iterator[concurrent.futures.Executor]:
    import cloudpickle
    import loky

    module = sys.modules.get(problem.start.__module__) if hasattr(problem.start, "__module__") else None
    for found in {module, *(sys.modules.get(type(e.rule).__module__) for e in plan.entries)}:
        # A problem file is not importable in another process: what it defines must travel with the problem.
        if found is not None and found.__name__.startswith("descend_problem_"):
            cloudpickle.register_pickle_by_value(found)
    try:
        parcel = cloudpickle.dumps((problem, plan))
    except Exception as error:
        raise ProblemError(
            f"{problem.name} cannot be sent to worker processes ({type(error).__name__}: {error}); use jobs=1"
        ) from error
    pool = loky.ProcessPoolExecutor(max_workers=jobs, initializer=_receive, initargs=(parcel,))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=True, kill_workers=True)
        raise
    pool.shutdown(wait=True)


def _receive(parcel: bytes) -> None:
    import cloudpickle

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _WORK[:] = [cloudpickle.loads(parcel)]
    _one_thread_for_good()


def _work(task: Task) -> Run:
    return run_task(*_WORK[0], task)


def _one_thread_for_good() -> None:
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch is not None else 1
    with threadpool_limits(limits=1):
        if torch is not None:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if torch is not None:
                torch.set_num_threads(before)


def checked_jobs(jobs: int | None) -> int:
    """The number of processes to use; raises `OptionError`."""
    if jobs is None:
        return cores()
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise OptionError(f"jobs={jobs!r}: a whole number ≥ 1 is needed; leave it out to use all {cores()} cores")
    return jobs
