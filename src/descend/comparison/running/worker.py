"""A worker process: what it receives, and how it makes the runs of a bundle."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection

from descend.comparison.planning.plan import Plan
from descend.comparison.running.bundles import Bundle
from descend.comparison.running.runs import Run, run_task, run_tasks
from descend.engines.one_thread import one_thread
from descend.errors import ProblemError, described
from descend.problems import FILE_MODULE, Problem
from descend.rules.registry import unpickling

__all__ = ["make_runs", "pack", "serve", "work"]

_RECEIVED: dict[bytes, tuple[Problem, Plan]] = {}
"""The last parcel that this worker received, with its contents."""
_RECEIVING = threading.Lock()

PATIENCE = 2.0
"""Seconds that a process waits at its end for threads and exit handlers that the user's code has left in it."""


def serve(connection_at: int, parcel_at: int, parent: int) -> None:
    """Be a process of our own pool: receive the parcel, and make the runs of each bundle that is sent.

    What is sent back are pairs: ``ready``, then for each bundle ``made`` and the outcomes of its runs; or ``raised``
    and an error in words. The process ends when its parent closes the connection, or is gone.
    """
    for descriptor in (connection_at, parcel_at):
        os.set_inheritable(descriptor, False)
    connection = Connection(connection_at)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with contextlib.suppress(OSError):  # the parent is gone: nobody is there to be told
        try:
            problem, plan = _receive(_read(parcel_at))
            connection.send(("ready", None))
            while (bundle := _next_bundle(connection)) is not None:
                with one_thread():
                    runs = make_runs(problem, plan, bundle)
                connection.send(("made", [run.outcome() for run in runs]))
        except Exception as error:
            connection.send(("raised", described(error)))
    threading.Thread(target=_end_after, args=(PATIENCE,), daemon=True).start()


def _next_bundle(connection: Connection) -> Bundle | None:
    """The next bundle; None at the end."""
    import cloudpickle

    try:
        sent = connection.recv_bytes()
    except (EOFError, OSError):
        return None
    bundle: Bundle = cloudpickle.loads(sent)
    return bundle


def _read(descriptor: int) -> bytes:
    """A file, whose position other processes share, from its beginning."""
    size, parts, read = os.fstat(descriptor).st_size, [], 0
    while read < size:
        parts.append(os.pread(descriptor, size - read, read))
        read += len(parts[-1])
    os.close(descriptor)
    return b"".join(parts)


def _end_with(parent: int) -> None:
    """End this process, and what it has started, when its parent is gone, however that ended."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.killpg(0, signal.SIGKILL)


def _end_after(seconds: float) -> None:
    """End this process, whatever is still at work in it."""
    time.sleep(seconds)
    os._exit(0)


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


def work(bundle: Bundle, parcel: bytes) -> list[Run]:
    """Make the runs of a bundle, which comes with its parcel, for an executor of the user's."""
    problem, plan = _receive(parcel)
    with one_thread():
        return make_runs(problem, plan, bundle)


def make_runs(problem: Problem, plan: Plan, bundle: Bundle) -> list[Run]:
    """The runs of a bundle."""
    return run_tasks(problem, plan, bundle.tasks) if bundle.stacked else [run_task(problem, plan, bundle.tasks[0])]


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
