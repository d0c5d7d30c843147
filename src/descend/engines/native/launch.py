"""Spans, and the call that steps them."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from descend.engines.native import runtime as native
from descend.engines.native.formats import Layout
from descend.engines.native.kernels import Kernel, kernel
from descend.engines.native.trace import HEADER
from descend.rules import Rule, cautious_scale

__all__ = ["SHARE", "WIDE", "Helpers", "Launch", "Scalars", "best_kernel", "lay_out", "threads"]

SHARE = 1 << 20
"""Bytes that a step must move before another thread's help pays, and before giving back the interpreter's lock does."""
WIDE = 32 << 20
"""Bytes from which on memory holds a step up, and wide vectors pay, which fill a line of the cache at once."""
LEAST, MOST, CHUNKS = 4_096, 16_384, 16
"""Entries of a chunk, where several threads may work on a step: at least, at most, and how many chunks the step has in
between; whole lines of the cache."""


def best_kernel(rule: Rule, layout: Layout, numbers: int) -> Kernel:
    """The kernel for spans of so many numbers in all; raises `Unavailable`."""
    return kernel(rule, layout, wide=numbers * layout.bytes >= WIDE)


class Launch:
    """Spans that one kernel steps in one call.

    Parameters
    ----------
    kernel
        What steps them.
    sizes
        Numbers in each span.
    rows
        For each span, which row of scalars is its own.
    counting
        The kernel that counts what a cautious step moves, if the rule is cautious.
    helpers
        The threads that help with a large step; `threads` unless said otherwise.

    A launch is `quick` if it is done before another thread could use the interpreter: whoever looks at the tensors for
    it may step them in the same call, by `at`. `scalars` is the array of rows, in the order of `Kernel.numbers`; write
    to it before a call. `point` says where the arrays are.
    """

    def __init__(
        self,
        kernel: Kernel,
        sizes: Sequence[int],
        rows: Sequence[int],
        *,
        counting: Kernel | None = None,
        helpers: Helpers | None = None,
    ) -> None:
        self.kernel = kernel
        self.counting = counting
        self.sizes = np.asarray(sizes, np.int64)
        self.table = np.zeros((len(sizes), kernel.width), np.int64)
        moves = int(self.sizes.sum()) * kernel.layout.bytes
        self.shares = moves >= SHARE
        chunk = _chunk(int(self.sizes.sum())) if self.shares else max([1, *sizes])
        self.table[:, 0] = np.cumsum(-(-self.sizes // chunk))
        self.table[1:, 4] = self.table[:-1, 0]
        self.table[:, 5] = chunk
        self.table[:, 1] = self.sizes
        self.table[:, 2] = np.asarray(rows, np.int64) * len(kernel.numbers)
        self.table[:, 3] = np.float64(1.0).view(np.int64)
        self.scalars = np.zeros((max(rows, default=0) + 1, len(kernel.numbers)), np.float64)
        self.job = np.zeros(native.JOB, np.int64)
        self.job[:3] = kernel.address, self.table.ctypes.data, self.scalars.ctypes.data
        self.at = self.job.ctypes.data
        self.chunks = int(self.table[-1, 0]) if len(sizes) else 0
        self.parts = 0
        self._parts: list[Any] = []
        self.divide(1)
        self._runtime = native.runtime()
        self._helpers = threads if helpers is None else helpers
        self.quick = not self.shares and counting is None
        self._alone = self._runtime.quick if self.quick else self._runtime.alone

    def divide(self, parts: int) -> None:
        """Divide the chunks into parts of about as many numbers each, one for each of so many threads to begin with."""
        if parts == self.parts:
            return
        limits = np.zeros(parts + 1, np.int64)
        ends = np.cumsum(self.sizes)
        if ends.any():
            goals = int(ends[-1]) * np.arange(1, parts) // parts
            spans = np.searchsorted(ends, goals, side="right")
            within = goals - (ends - self.sizes)[spans]
            limits[1:-1] = self.table[spans, 4] + within // self.table[spans, 5]
            limits[-1] = self.chunks
        made = _rows(parts, native.PART)
        made[:, 1], made[:, 2] = limits[:-1], limits[1:]
        # An interrupt may come after any line: what the job points to is always held.
        self._parts.append(made)
        self.parts = 0
        self.job[3:5] = made.ctypes.data, parts
        self.parts = parts
        del self._parts[:-1]

    def point(self, array: int, addresses: Sequence[int]) -> None:
        """Say where the spans' arrays are: 0 the parameter, 1 the gradient, from 2 on the state that is kept."""
        self.column(array)[:] = addresses

    def column(self, array: int) -> Any:
        """Where the spans' addresses of one of their arrays are kept, to be written to."""
        return self.table[:, HEADER + array]

    def count(self, addresses: Sequence[int], now: Sequence[float], then: Sequence[float], grows: float) -> None:
        """Let a call find the counters at `addresses` (float32) as they are `now`, and leave them as they are `then`.

        The next call expects that, and adds `grows`.
        """
        self.counters = np.asarray(addresses, np.int64)
        self.counts = np.empty((len(addresses), 3), np.float32)
        self.counts[:, 0], self.counts[:, 1], self.counts[:, 2] = now, then, grows
        self.job[5:8] = self.counters.ctypes.data, self.counts.ctypes.data, len(addresses)

    def __call__(self) -> bool:
        """Step every span; or, if a counter is not what it should be, none."""
        if self.quick:
            return self._alone(self.at) < 0  # type: ignore[no-any-return]
        if self.counting is not None:
            self._count()
        return self._run() < 0

    def _run(self) -> int:
        if self.shares:
            done = self._helpers.run(self._runtime, self)
            if done is not None:
                return done
        return int(self._alone(self.at))

    def _count(self) -> None:
        """Let each cautious span know how much to lengthen the moves that are kept."""
        assert self.counting is not None
        self.table[:, 3] = 0
        counters, self.job[7] = self.job[7], 0
        self.job[0] = self.counting.address
        self._run()
        self.job[0], self.job[7] = self.kernel.address, counters
        counts = self.table[:, 3].copy()
        self.table[:, 3] = np.array(
            [cautious_scale(c / n) if n else 1.0 for c, n in zip(counts.tolist(), self.sizes.tolist(), strict=True)]
        ).view(np.int64)


def lay_out(
    rules: Sequence[Rule],
    layout: Layout,
    sizes: Sequence[int],
    rows: Sequence[int],
    helpers: Helpers | None = None,
) -> tuple[Launch, list[Scalars]]:
    """Spans of these sizes, and what writes each row of their scalars; raises `Unavailable`.

    There is a rule for each row, all with the same flags and the same kept state; `rows` says which row is each span's.
    `Launch.point` says where the arrays are.
    """
    rule = rules[0]
    counting = kernel(rule, layout, counting=True) if rule.cautious else None
    launch = Launch(best_kernel(rule, layout, sum(sizes)), sizes, rows, counting=counting, helpers=helpers)
    numbers = launch.kernel.numbers
    return launch, [Scalars(rule, memoryview(launch.scalars[i]), numbers) for i, rule in enumerate(rules)]


def _chunk(numbers: int) -> int:
    return max(LEAST, min(MOST, numbers // CHUNKS // 64 * 64))


def _rows(count: int, width: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Rows of so many words for threads to share, the first of which begins with a pair of lines of the cache."""
    words = np.zeros(count * width + 16, np.int64)
    skip = (-words.ctypes.data % 128) // 8
    return words[skip : skip + count * width].reshape(count, width)


class Scalars:
    """Writes the row of a rule, step by step, to where a kernel reads it: `target`, in the order of `numbers`.

    What stays the same from step to step is written once.
    """

    def __init__(self, rule: Rule, target: Any, numbers: Sequence[str]) -> None:
        self.target = target
        self.numbers = numbers
        self.change(rule)

    def change(self, rule: Rule) -> None:
        """Go on with other hyperparameters."""
        self.rule = rule
        self.scheduled = rule.is_scheduled
        self.constant_from = math.inf if self.scheduled else rule.constant_from()
        # Most rules carry nothing from step to step, and need not be asked for it.
        self.scalars = rule.scalars if type(rule).carry is Rule.carry else None
        self.places: list[int] | None = None
        self.constant = False

    def fill(self, t: int, carried: Mapping[str, float]) -> Mapping[str, float]:
        """Write the row of step `t`, before which the rule carried these numbers; what it carries after it."""
        if self.constant and t >= self.constant_from:
            return carried
        self.constant = t >= self.constant_from
        places = self.places
        if places is None:
            values, after = self.rule.numbers(t, carried)
            for place, name in enumerate(self.numbers):
                self.target[place] = values[name]
            if not self.scheduled:
                self.places = [self.numbers.index(name) for name in self.rule.carry(t, carried)[0]]
            return after
        if self.scalars is not None:
            extra, after = self.scalars(t), carried
        else:
            extra, after = self.rule.carry(t, carried)
        target = self.target
        for place, value in zip(places, extra.values()):  # noqa: B905  # strict costs as much as the rest
            target[place] = value
        return after


class Helpers(Protocol):
    """Threads that help with a step."""

    def run(self, runtime: native.Runtime, launch: Launch) -> int | None:
        """Run a launch's job together; what `Runtime.alone` returns, or None, and nothing done, if nobody can help."""


class Threads:
    """The workers that help with large steps: one for each core but the caller's, made when first needed.

    They are threads of the system, not of Python: they never hold the interpreter's lock, sleep in a system call, and
    end with the process. One step at a time has their help; others that are made meanwhile go on alone. A forked child
    has workers of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._boxes: np.ndarray[Any, np.dtype[np.int64]] | None = None
        self._limit: int | None = None
        self.forked = False
        """Whether this process is the fork of one that had loaded this."""
        os.register_at_fork(after_in_child=self._forget)

    def limit(self, number: int | None) -> None:
        """Let at most `number` threads, the caller's included, work on a step; None for as many as there may be.

        Those are one a core; for PyTorch's tensors as many as ``torch.get_num_threads()``.
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

    def run(self, runtime: native.Runtime, launch: Launch, most: int | None = None) -> int | None:
        """Run a launch's job with the workers' help; None, and nothing done, if they are busy or there are none.

        At most `most` threads work on it, the caller's included.
        """
        if not self._lock.acquire(blocking=False):
            return None
        try:
            if self._boxes is None:
                self._boxes = self._begin(runtime)
            here = len(self._boxes) + 1 if most is None else min(len(self._boxes) + 1, most)
            workers = min(self.allowed(here), launch.chunks) - 1
            if workers < 1:
                return None
            launch.divide(workers + 1)
            return int(runtime.shared(launch.at, self._boxes.ctypes.data, workers))
        finally:
            self._lock.release()

    def _begin(self, runtime: native.Runtime) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Start the workers; as many as the system lets us."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        boxes = _rows(cores - 1, native.BOX)
        begin = ctypes.CDLL(None).pthread_create
        begin.argtypes = [ctypes.c_void_p] * 4
        begun = 0
        # A signal is Python's to handle, in a thread that Python knows.
        old = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            for box in boxes:
                box[2], box[3] = os.pipe()
                box[5] = begun + 1
                thread = ctypes.c_void_p()
                if begin(ctypes.addressof(thread), None, runtime.worker, box.ctypes.data) != 0:
                    os.close(box[2])
                    os.close(box[3])
                    break
                begun += 1
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)
        return boxes[:begun]

    def _forget(self) -> None:
        """In a forked child: the workers stayed behind."""
        self._lock = threading.Lock()
        self.forked = True
        if self._boxes is not None:
            for box in self._boxes:
                os.close(box[2])
                os.close(box[3])
        self._boxes = None


threads = Threads()
"""The workers of this process."""
