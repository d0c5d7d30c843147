"""The threads that PyTorch computes with, as helpers of a step."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import numpy as np
import torch

from descend.engines.native import runtime as native
from descend.engines.native.launch import Launch, threads

__all__ = ["Team", "team"]

LONGEST = 256
"""Launches at most for which our own workers help, after one to which OpenMP's threads came too late."""


class _Rest(threading.local):
    """For how many launches OpenMP's threads are left out; for how many they were, or will be the next time."""

    def __init__(self) -> None:
        self.left, self.next = 0, 1


class Team:
    """Lets OpenMP's threads help with a step, as many as ``torch.get_num_threads()`` says.

    After a backward pass they wait awake for more, for milliseconds: another thread would have to share a core with one
    that does nothing. When they sleep it is the other way round, since OpenMP goes on only when all have been there,
    which takes as long as a turn of the system's scheduler if they find no core. So after a launch to which they came
    too late our own workers help with the next; with twice as many each time that it happens again.

    Our own workers help, too, where PyTorch computes with other threads than OpenMP's, and in a forked child, in which
    OpenMP would wait for threads that stayed behind. It is not known of a child whose parent had not loaded this
    package; there large operations of PyTorch's wait for ever as well.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._words = np.zeros(4, np.int64)  # as stepping.ll has a team
        self._at = self._words.ctypes.data
        self._rest = _Rest()  # each thread of Python has threads of OpenMP's of its own
        found = _openmp()
        self._there = found is not None
        if found is not None:
            self._words[:2] = found

    def run(self, runtime: native.Runtime, launch: Launch) -> int | None:
        """Run a launch's job together; None, and nothing done, if nobody may help or can."""
        present = torch.get_num_threads()
        number = min(threads.allowed(present), launch.chunks)
        if number < 2:
            return None
        rest = self._rest
        there = self._there and not threads.forked
        if rest.left or not there:
            rest.left = max(rest.left - 1, 0)
            done = threads.run(runtime, launch, number)
            if done is not None or not there:
                return done
        if not self._lock.acquire(blocking=False):
            return None
        try:
            launch.divide(number)
            done = int(runtime.together(launch.at, self._at, present))
            if done < 0 and self._words[3]:
                rest.next = 1
            elif done < 0:
                rest.left, rest.next = rest.next, min(2 * rest.next, LONGEST)
            return done
        finally:
            self._lock.release()


def _openmp() -> tuple[int, int] | None:
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


team = Team()
"""The team of this process."""
