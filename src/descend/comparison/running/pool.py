"""A pool of processes of our own: each is known with the bundle that it makes, and can be ended alone."""

from __future__ import annotations

import collections
import contextlib
import multiprocessing.connection
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from descend.comparison.running.bundles import Bundle
from descend.errors import ComparisonError

__all__ = ["Lost", "Outcomes", "Pool"]

Outcomes = list[dict[str, Any]]
Made = Callable[[Bundle, Outcomes], Any]
Lost = Callable[[Bundle, str], Any]
"""Told a bundle whose process died or was ended, and how."""

TICK = 0.1
"""Seconds between two looks at processes that say nothing."""
STARTS = 3
"""How many processes may die one after the other before any has begun: one may be killed by chance, three are not."""
TO_START = 600.0
"""Seconds that a process may take to start: large libraries on a slow disk take their time."""
TO_END = 4.0
"""Seconds that a process may take to end by itself."""

_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[1].split(':'); numbers = map(int, sys.argv[2:]); sys.argv[1:] = []; "
    "from descend.comparison.running.worker import serve; serve(*numbers)"
)
"""What a process runs: a fresh interpreter, since a fork after a library has started threads can hang."""


class Pool:
    """Processes that make bundles, each in a group of its own, so that Ctrl-C is for this process alone.

    The parcel lies in a file without a name, which all processes read: nothing is left of it however this one ends,
    and no process that fails to read it holds this one up.
    """

    def __init__(self, parcel: bytes) -> None:
        self._workers: list[_Worker] = []
        self._died_starting = 0
        try:
            self._parcel = tempfile.TemporaryFile()  # noqa: SIM115
            self._parcel.write(parcel)
            self._parcel.flush()
        except OSError as error:
            raise ComparisonError(
                f"the problem ({len(parcel):,} bytes) cannot be written for worker processes to read ({error}); make "
                f"room in the folder for temporary files, name another one in TMPDIR, or use jobs=1"
            ) from error

    def make(
        self,
        bundles: Iterable[Bundle],
        width: int,
        made: Made,
        died: Lost,
        overdue: Lost,
        allowed: Callable[..., float],
    ) -> None:
        """Make bundles, `width` at a time, and hand over the outcomes of each, or how its process ended.

        A process is ended when it has worked on a bundle for longer than ``allowed(bundle, seconds)``, which is asked
        again and again. Raises `ComparisonError` when no process can start, or when one cannot receive the parcel.
        """
        queue = collections.deque(bundles)
        while queue or any(worker.bundle is not None for worker in self._workers):
            self._hand_out(queue, width)
            for worker, kind, content in self._heard():
                bundle, worker.bundle = worker.bundle, None
                if kind == "ready":
                    worker.ready, self._died_starting = True, 0
                elif kind == "made" and bundle is not None:
                    made(bundle, content)
                elif kind == "raised":
                    raise _cannot_work(content)
                else:
                    self._bury(worker)
                    if bundle is not None:
                        died(bundle, content)
            self._end_overdue(overdue, allowed)

    def _hand_out(self, queue: collections.deque[Bundle], width: int) -> None:
        """Give each process that has nothing to do a bundle, and start more if that is not enough."""
        at_work = sum(worker.bundle is not None for worker in self._workers)
        for worker in self._workers:
            if queue and at_work < width and worker.ready and worker.bundle is None and worker.begin(queue[0]):
                queue.popleft()
                at_work += 1
        starting = sum(not worker.ready for worker in self._workers)
        for _ in range(min(width - at_work, len(queue)) - starting):
            self._workers.append(_Worker(self._parcel.fileno()))

    def _heard(self) -> Iterator[tuple[_Worker, str, Any]]:
        """What the processes have said since, or that they have died."""
        speaking = multiprocessing.connection.wait([worker.connection for worker in self._workers], TICK)
        for worker in [*self._workers]:
            if worker.connection in speaking or worker.process.poll() is not None:
                yield worker, *worker.said()
            elif not worker.ready and time.monotonic() - worker.since > TO_START:
                self._end(worker)
                raise ComparisonError(f"a worker process did not start in {TO_START:g} seconds; use jobs=1 to see why")

    def _bury(self, worker: _Worker) -> None:
        """Forget a process that has died; raises `ComparisonError` if one after the other does that at its start."""
        self._end(worker)
        if not worker.ready:
            self._died_starting += 1
        if self._died_starting >= STARTS:
            raise ComparisonError(
                f"a worker process died while it started, {STARTS} times over ({worker.how_it_ended()}): out of "
                "memory, or killed; finished runs are kept: run the same command to go on, with fewer jobs if memory "
                "is short"
            )

    def _end_overdue(self, overdue: Lost, allowed: Callable[..., float]) -> None:
        """End the processes that work on a bundle for too long."""
        for worker in [*self._workers]:
            bundle, took = worker.bundle, time.monotonic() - worker.since
            if bundle is not None and took > allowed(bundle, took) and not worker.connection.poll():
                self._end(worker)
                overdue(bundle, f"It was ended after {took:.0f} seconds.")

    def _end(self, worker: _Worker) -> None:
        worker.end(at_once=True)
        self._workers.remove(worker)

    def close(self, *, at_once: bool) -> None:
        """End all processes, after what they are at unless `at_once`."""
        for worker in self._workers:
            worker.connection.close()
        until = time.monotonic() + TO_END
        for worker in self._workers:
            worker.end(at_once=at_once, until=until)
        self._workers.clear()
        self._parcel.close()


class _Worker:
    """One process: the connection to it, and the bundle that it makes since a point in time."""

    def __init__(self, parcel_at: int) -> None:
        self.ready, self.since = False, time.monotonic()
        self.bundle: Bundle | None = None
        self.connection, theirs = multiprocessing.Pipe()
        path = ":".join(p for p in sys.path if isinstance(p, str))
        numbers = [str(number) for number in (theirs.fileno(), parcel_at, os.getpid())]
        with theirs:
            try:
                self.process = subprocess.Popen(
                    [sys.executable, "-P", *["-O"] * sys.flags.optimize, "-c", _PROGRAM, path, *numbers],
                    stdin=subprocess.DEVNULL,
                    stdout=_standard_error(),  # what a problem prints is no part of this process's answer
                    pass_fds=(theirs.fileno(), parcel_at),
                    process_group=0,
                )
            except (OSError, ValueError) as error:
                raise ComparisonError(f"no worker process can be started ({error}); use jobs=1") from error

    def begin(self, bundle: Bundle) -> bool:
        """Send a bundle; False if the process is gone."""
        import cloudpickle

        try:
            self.connection.send_bytes(cloudpickle.dumps(bundle))
        except OSError:
            return False
        self.bundle, self.since = bundle, time.monotonic()
        return True

    def said(self) -> tuple[str, Any]:
        """The next pair that was sent, or else how the process died."""
        try:
            if self.connection.poll():
                kind, content = self.connection.recv()
                return kind, content
        except (EOFError, OSError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(TO_END)
        return "died", self.how_it_ended()

    def how_it_ended(self) -> str:
        """The signal or the status that ended the process, in a sentence."""
        status = self.process.poll()
        if status is None:
            return "It went silent."
        if status >= 0:
            return f"Its exit status was {status}."
        with contextlib.suppress(ValueError):
            return f"It was ended by {signal.Signals(-status).name}."
        return f"It was ended by signal {-status}."

    def end(self, *, at_once: bool, until: float = 0.0) -> None:
        """Wait for the process until a point in time, unless `at_once`; then end it, and whatever it has started."""
        self.connection.close()
        if not at_once:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(max(0.0, until - time.monotonic()))
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _standard_error() -> int | None:
    """The descriptor of standard error; None where there is none."""
    try:
        os.fstat(2)
    except OSError:
        return None
    return 2


def _cannot_work(reason: str) -> ComparisonError:
    return ComparisonError(
        f"a worker process cannot make the runs ({reason}); finished runs are kept: see that what the problem needs is "
        "there in a new process, or use jobs=1"
    )
