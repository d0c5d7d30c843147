"""A worker process: what it receives, and how it makes the runs of a bundle."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from descend.comparison.planning.plan import Plan
from descend.comparison.running.bundles import Bundle
from descend.comparison.running.runs import Run, run_task, run_tasks
from descend.engines import threads
from descend.errors import ProblemError
from descend.problems import FILE_MODULE, Problem
from descend.rules.registry import unpickling

__all__ = ["begun_mark", "make_runs", "one_thread", "pack", "start", "work"]

_RECEIVED: dict[bytes, tuple[Problem, Plan]] = {}
"""The last parcel that this worker received, with its contents."""
_RECEIVING = threading.Lock()

_BEGUN: list[str] = []
"""The folder in which a worker of our own pool marks each bundle that it begins."""


def start(parcel: bytes, begun: str) -> None:
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


def work(bundle: Bundle, parcel: bytes | None) -> list[Run]:
    """Make the runs of a bundle, which comes with its parcel unless this is a worker of our own pool."""
    if parcel is None:
        begun_mark(_BEGUN[0], bundle).touch()
        problem, plan = next(iter(_RECEIVED.values()))
    else:
        problem, plan = _receive(parcel)
    with one_thread():
        return make_runs(problem, plan, bundle)


_LIMITING = threading.Lock()
_LIMITED: list[contextlib.ExitStack] = []
"""One for each run that is being made in this process; the first one takes its limits back when the last run ends."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
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


def make_runs(problem: Problem, plan: Plan, bundle: Bundle) -> list[Run]:
    """The runs of a bundle."""
    return run_tasks(problem, plan, bundle.tasks) if bundle.stacked else [run_task(problem, plan, bundle.tasks[0])]


def begun_mark(begun: str, bundle: Bundle) -> Path:
    """The file that a worker makes when it begins a bundle."""
    return Path(begun, hashlib.sha256(repr(bundle).encode()).hexdigest())


def pack(problem: Problem, plan: Plan) -> bytes:
    """Problem and plan as bytes, for a process where the user's files may not be importable."""
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
