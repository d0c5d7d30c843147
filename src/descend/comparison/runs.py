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
from descend.history import Evaluation
from descend.problems import Problem
from descend.stopping import Reason

__all__ = ["Run", "cores", "execute", "run_task"]


@dataclasses.dataclass(frozen=True)
class Run:
    """The outcome of one task. `curve` has ``[examples, validation loss, validation metric]`` at each look.

    A run that failed is a miss: `test` is None then, whatever it reached before.
    """

    entry: int
    learning_rate: float
    seed: int
    phase: str
    reason: str
    message: str
    examples: int
    seconds: float
    validation: float | None
    validation_loss: float | None
    test: float | None
    curve: list[list[float | None]]

    @property
    def miss(self) -> bool:
        """Whether the run failed: diverged, not finite, or an error."""
        return self.test is None


def run_task(problem: Problem, plan: Plan, task: Task) -> Run:
    """Make one run. Whatever the problem's functions do, there is a record of it."""
    entry = plan.entries[task.entry]
    rule = dataclasses.replace(entry.rule, lr=task.learning_rate)
    steps_a_look = None if problem.size is not None else plan.evaluate_every
    try:
        result = fit(
            problem,
            rule,
            examples=plan.budget,
            batch_size=entry.batch_size if problem.size is not None else None,
            seed=task.seed,
            evaluate_every=steps_a_look,
            keep_best=True,
            history=False,
            progress=False,
        )
    except ObjectiveError as error:
        seen = getattr(error.result, "examples", 0)
        return _record(task, Reason.FUNCTION_RAISED, str(error), seen, 0.0, None, None, [])
    # A problem without data is judged by its loss, which is what it was tuned on.
    test = result.test_metric if problem.size is not None else getattr(result.best, "validation_metric", math.nan)
    failed = result.reason.kind == "failed" or not math.isfinite(test)
    assert result.history is not None
    return _record(
        task,
        result.reason,
        result.message,
        result.examples,
        result.seconds,
        result.best,
        None if failed else float(test),
        result.history.evaluations,
    )


def _record(
    task: Task,
    reason: Reason,
    message: str,
    examples: int,
    seconds: float,
    best: Evaluation | None,
    test: float | None,
    looks: list[Evaluation],
) -> Run:
    return Run(
        **dataclasses.asdict(task),
        reason=str(reason),
        message=message,
        examples=examples,
        seconds=seconds,
        validation=None if best is None or test is None else _finite(best.validation_metric),
        validation_loss=None if best is None or test is None else _finite(best.validation_loss),
        test=test,
        curve=[[e.examples, _finite(e.validation_loss), _finite(e.validation_metric)] for e in looks],
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

_WORK: tuple[Problem, Plan] | None = None


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

    global _WORK
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _WORK = cloudpickle.loads(parcel)
    _one_thread_for_good()


def _work(task: Task) -> Run:
    assert _WORK is not None
    return run_task(*_WORK, task)


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
