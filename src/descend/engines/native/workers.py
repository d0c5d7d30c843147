"""Threads of the system's that help with large steps, and how many of them there may be."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

from descend.engines.native import runtime as native
from descend.engines.native.layout import MAILBOX

if TYPE_CHECKING:
    from descend.engines.native.launch import Job

__all__ = ["MOST", "Helpers", "WorkerPool", "threads", "usable_cores"]

MOST = 8
"""Threads at most that work on a step, the caller's included. Memory feeds few cores at a time, and a large machine has
other work to do."""
WAKE = 16 << 20
"""Bytes that a step must move before it pays to wake a worker for it, which takes some tenth of a millisecond."""


class Helpers(Protocol):
    """Threads that help with a step."""

    def run(self, runtime: native.Runtime, job: Job) -> int | None:
        """Run a job together; what `Runtime.alone` returns, or None, and nothing done, if nobody can help."""


class WorkerPool:
    """Workers: threads that sleep until a large step needs their help, started when first needed.

    They are threads of the system, not of Python: they never hold the interpreter's lock, and end with the process.
    One step at a time has their help; others that are made meanwhile go on alone. Where the system lets no more of them
    start, those that did help. A forked child, in which there are no threads but the one that forked, starts its own.
    """

    started: int
    """How many workers there are."""
    _most: int

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limit: int | None = None
        self._reset()
        self.forked = False
        """Whether this process is the fork of one that had loaded this."""
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def limit(self, number: int | None) -> None:
        """Let at most `number` threads, the caller's included, work on a step; None for as many as there may be.

        Those are one a core that this process may use, and 8 at most; for PyTorch's tensors as many as
        ``torch.get_num_threads()``.
        """
        self._limit = number

    @contextlib.contextmanager
    def limited(self, number: int | None) -> Iterator[None]:
        """The same, for a while."""
        before, self._limit = self._limit, number
        try:
            yield
        finally:
            self._limit = before

    def allowed(self, number: int) -> int:
        """How many threads may work on a step, of so many that could."""
        return number if self._limit is None else min(number, self._limit)

    def run(self, runtime: native.Runtime, job: Job, most: int = MOST) -> int | None:
        """Run a job with the workers' help; None, and nothing done, if they are busy, there are none, or it is small.

        At most `most` threads work on it, the caller's included.
        """
        if job.moved < WAKE or not self._lock.acquire(blocking=False):
            return None
        try:
            wanted = min(self.allowed(min(most, usable_cores())), job.chunks) - 1
            workers = min(wanted, self._most)
            if workers > self.started:
                self._start(runtime.worker_at, workers)
                workers = self.started
            if workers < 1:
                return None
            job.divide(workers + 1)
            return int(runtime.with_workers(job.at, self._mailboxes.ctypes.data, workers))
        finally:
            self._lock.release()

    def _start(self, worker: int, wanted: int) -> None:
        """Start workers until there are so many; fewer if the system lets no more start, and then none later."""
        if not self.started:
            self._mailboxes = MAILBOX.array(self._most)
            self._mailboxes["part"] = range(1, self._most + 1)
            # Workers sleep there even while Python ends and frees all that it knows.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._mailboxes))
        with _signals_blocked():
            while self.started < wanted:
                mailbox = self._mailboxes.ctypes.data + self.started * MAILBOX.bytes
                self.started += 1  # before, as an interrupt must not leave a worker that is not counted
                if not _start_thread(worker, mailbox):
                    wanted = self.started = self._most = self.started - 1

    def _reset(self) -> None:
        self.started = 0
        self._most = MOST - 1
        self._mailboxes = MAILBOX.array(0)

    def _forget(self) -> None:
        """In a forked child: the workers stayed behind."""
        self._lock = threading.Lock()
        self.forked = True
        self._reset()


def _start_thread(worker: int, mailbox: int) -> bool:
    """Start a thread of the system's that runs `worker` on a mailbox; False if that cannot be."""
    system = ctypes.CDLL(None)
    mutex, offer = (ctypes.c_void_p(mailbox + MAILBOX.offset(name)) for name in ("mutex", "offer"))
    thread = ctypes.c_void_p()
    return not (
        system.pthread_mutex_init(mutex, None)
        or system.pthread_cond_init(offer, None)
        or system.pthread_create(ctypes.byref(thread), None, ctypes.c_void_p(worker), ctypes.c_void_p(mailbox))
    )


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Let threads that start meanwhile get no signals: those are Python's to handle, in a thread that Python knows."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def usable_cores() -> int:
    """How many cores this process may use: those of its affinity mask, as many as its control group has a quota for."""
    if hasattr(os, "process_cpu_count"):
        cores = os.process_cpu_count() or 1
    elif hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return min(cores, quota() or cores)


@functools.cache
def quota(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """How many cores Linux lets this process keep busy, rounded up; None for as many as there are.

    The quota of a control group holds for all groups within it, so the smallest of those around this process counts.
    """
    found = []
    for path in _own_groups(own):
        for root, files in ((groups, ["cpu.max"]), (groups / "cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"])):
            try:
                share, period = " ".join((root / path / file).read_text() for file in files).split()
                if int(share) > 0:
                    found.append(-(-int(share) // int(period)))
            except (OSError, ValueError):  # there is no such file, or it says "max"
                continue
    return min(found, default=None)


def _own_groups(own: Path) -> set[PurePosixPath]:
    """The control groups around this process, as paths below their root; a container may see its own as the root."""
    try:
        lines = own.read_text().splitlines()
    except (OSError, ValueError):
        lines = []
    named = [PurePosixPath(line.rpartition(":")[2].lstrip("/")) for line in lines]
    return {PurePosixPath(), *named, *(around for group in named for around in group.parents)}


threads = WorkerPool()
"""The workers of this process."""
