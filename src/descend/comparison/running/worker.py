"""A worker process: what it receives, and how it makes the runs of a bundle."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from pathlib import Path

from descend.comparison.planning.plan import Plan
from descend.comparison.running.bundles import Bundle
from descend.comparison.running.runs import Run, run_task, run_tasks
from descend.engines.one_thread import one_thread
from descend.errors import ProblemError
from descend.problems import FILE_MODULE, Problem
from descend.rules.registry import unpickling

__all__ = ["begun_mark", "make_runs", "pack", "start", "work"]

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
