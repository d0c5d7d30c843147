"""The threads that PyTorch computes with, as helpers of a step."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import torch

from descend.engines.native import runtime as native
from descend.engines.native.launch import Job
from descend.engines.native.layout import OPENMP
from descend.engines.native.workers import threads

__all__ = ["OpenMPThreads", "openmp_threads"]


class _BackOff(threading.local):
    """For how many more launches OpenMP's threads are left out, and for how many after the next late one."""

    def __init__(self) -> None:
        self.left, self.next = 0, 1


class OpenMPThreads:
    """Lets OpenMP's threads help with a step, as many as ``torch.get_num_threads()`` says.

    After a backward pass these threads wait awake for more work, for milliseconds: another thread would have to share a
    core with one that does nothing. When they sleep it is the other way round. OpenMP returns only when all its threads
    have been there, and to wake one may take as long as a turn of the system's scheduler. So after a launch to which
    they came too late our own workers help with the next one; with twice as many each time that it happens again.

    `longest` is how many launches in a row they are left out of at most; 0 lets them help with each.
    ``benchmarks/step_after_work.py`` compares that with 256, which it takes by default.

    Our own workers help, too, where PyTorch computes with other threads than OpenMP's, and in a forked child, in which
    OpenMP would wait for threads that stayed behind. It is not known of a child whose parent had not loaded this
    package; there large operations of PyTorch's wait for ever as well.
    """

    def __init__(self) -> None:
        self.longest = 256
        self._lock = threading.Lock()
        self._record = OPENMP.one()
        self._at = self._record.ctypes.data
        self._back_off = _BackOff()  # each thread of Python's has threads of OpenMP's of its own
        found = _functions()
        self.available = found is not None
        """Whether PyTorch computes with OpenMP here."""
        if found is not None:
            self._record["parallel"], self._record["thread_number"] = found

    @property
    def timely(self) -> int:
        """How many threads but the first came to the last launch before others had begun their part."""
        return int(self._record["timely"])

    def run(self, runtime: native.Runtime, job: Job) -> int | None:
        """Run a job together; None, and nothing done, if nobody may help or can."""
        present = torch.get_num_threads()
        number = min(threads.allowed(present), job.chunks)
        if number < 2:
            return None
        back_off = self._back_off
        usable = self.available and not threads.forked
        if back_off.left or not usable:
            back_off.left = max(back_off.left - 1, 0)
            return threads.run(runtime, job, number)
        if not self._lock.acquire(blocking=False):
            return None
        try:
            job.divide(number)
            done = int(runtime.with_openmp(job.at, self._at, present))
            if done < 0:
                self._judge()
            return done
        finally:
            self._lock.release()

    def _judge(self) -> None:
        """Leave the threads out of the next launches if they came too late to this one."""
        back_off = self._back_off
        if self.timely:
            back_off.next = 1
        else:
            back_off.left, back_off.next = min(back_off.next, self.longest), min(2 * back_off.next, self.longest)


def _functions() -> tuple[int, int] | None:
    """Where OpenMP's functions are that PyTorch calls; None if it calls none.

    They are looked for as PyTorch's libraries do: among what is loaded for all, and then in what they need.
    """
    if "OpenMP" not in torch.__config__.parallel_info().partition("ATen parallel backend:")[2]:
        return None
    for where in (None, torch._C.__file__):
        try:
            library: Any = ctypes.CDLL(where)
            found = (library.GOMP_parallel, library.omp_get_thread_num)
        except (OSError, AttributeError):
            continue
        parallel, number = (ctypes.cast(function, ctypes.c_void_p).value for function in found)
        return (parallel, number) if parallel and number else None
    return None


openmp_threads = OpenMPThreads()
"""The threads that PyTorch computes with in this process."""
