"""The threads that PyTorch computes with, as helpers of a step."""

from __future__ import annotations

import ctypes
import os
import threading
from typing import Any

import numpy as np
import torch

from descend.engines.fused import native
from descend.engines.fused.launching import Launch, threads

__all__ = ["Team", "team"]

REST = 16
"""Steps for which our own workers help, after one to which OpenMP's threads came too late."""


class Team:
    """Lets OpenMP's threads help with a step, as many as ``torch.get_num_threads()`` says.

    After a backward pass they wait awake for more, for milliseconds: another thread would have to share a core with one
    that does nothing. When they sleep it is the other way round, since OpenMP goes on only when all have been woken. So
    whether they came in time decides who helps with the next steps. Our own workers help, too, where PyTorch computes
    with other threads than OpenMP's, and in a forked child, in which those are gone.
    """

    def __init__(self) -> None:
        self._begin()
        os.register_at_fork(after_in_child=self._forget)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._words = np.zeros(4, np.int64)  # as stepping.ll has a team
        self._at = self._words.ctypes.data
        self._rest = 0
        found = _openmp()
        self._there = found is not None
        if found is not None:
            self._words[:2] = found

    def _forget(self) -> None:
        """In a forked child: OpenMP would wait for threads that stayed behind."""
        self._lock = threading.Lock()
        self._there = False

    def run(self, runtime: native.Runtime, launch: Launch) -> int | None:
        """Run a launch's job together; None, and nothing done, if one thread is all that may work on it."""
        number = threads.allowed(torch.get_num_threads())
        if number < 2:
            return None
        if self._rest or not self._there:
            self._rest = max(self._rest - 1, 0)
            return threads.run(runtime, launch, number)
        if not self._lock.acquire(blocking=False):
            return None
        try:
            if launch.parts != number:
                launch.divide(number)
            done = int(runtime.together(launch.at, self._at, number))
            if not self._words[3]:
                self._rest = REST
            return done
        finally:
            self._lock.release()


def _openmp() -> tuple[int, int] | None:
    """Where OpenMP's functions are that PyTorch calls; None if it calls none."""
    if "OpenMP" not in torch.__config__.parallel_info().partition("ATen parallel backend:")[2]:
        return None
    try:
        library: Any = ctypes.CDLL(torch._C.__file__)  # it is loaded: this finds what it, and what it needs, has
        found = (library.GOMP_parallel, library.omp_get_thread_num)
    except (OSError, AttributeError):
        return None
    parallel, number = (ctypes.cast(function, ctypes.c_void_p).value for function in found)
    return (parallel, number) if parallel and number else None


team = Team()
"""The team of this process."""
