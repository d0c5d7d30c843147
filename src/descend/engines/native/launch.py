"""Spans, and the call that steps them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from descend.engines.native import runtime as native
from descend.engines.native.formats import Layout
from descend.engines.native.kernels import Kernel, kernel
from descend.engines.native.layout import COUNTER, JOB, PART, span
from descend.engines.native.scalars import Scalars
from descend.engines.native.workers import Helpers, threads
from descend.rules import Rule
from descend.rules.formula import scale_of

__all__ = ["SHARE", "WIDE", "Job", "Launch", "best_kernel", "lay_out"]

Records = np.ndarray[Any, np.dtype[Any]]

SHARE = 1 << 20
"""Bytes that a step must move before another thread's help pays, and before giving back the interpreter's lock does."""
WIDE = 32 << 20
"""Bytes from which on memory holds a step up, and wide vectors pay, which fill a line of the cache at once."""
LEAST, MOST, CHUNKS = 4_096, 16_384, 16
"""Numbers in a chunk, where several threads may work on a step: at least, at most, and how many chunks the step has in
between; whole lines of the cache."""


def best_kernel(rule: Rule, layout: Layout, numbers: int) -> Kernel:
    """The kernel for spans of so many numbers in all; raises `Unavailable`, also where nothing could launch it."""
    native.runtime()
    return kernel(rule, layout, wide=numbers * layout.bytes >= WIDE)


class Job:
    """A kernel and the spans that it steps, as machine code has them, divided into parts for threads.

    Parameters
    ----------
    kernel
        What steps the spans.
    table
        The spans' records, chunks laid out.
    rows
        The rows of scalars.

    `at` is the job's address, `moved` how many bytes it moves.
    """

    def __init__(self, kernel: Kernel, table: Records, rows: Records) -> None:
        self.kernel = kernel
        self.table = table
        self.moved = int(table["length"].sum()) * kernel.layout.bytes
        self.record = JOB.one()
        self.record["kernel"] = kernel.address
        self.record["spans"] = table.ctypes.data
        self.record["rows"] = rows.ctypes.data
        self.at = self.record.ctypes.data
        self.chunks = int(table["chunks_end"][-1]) if len(table) else 0
        self.part_count = 0
        self._held: list[Records] = []
        self._divisions: list[Records] = []
        self.divide(1)

    @property
    def parts(self) -> Records:
        """The records of the parts."""
        return self._divisions[-1]

    def divide(self, count: int) -> None:
        """Divide the chunks into parts of about as many numbers each, one for each of so many threads to begin with."""
        if count == self.part_count:
            return
        made = PART.array(count)
        made["first_chunk"], made["stop_chunk"] = self._limits(count)
        # An interrupt may come after any line: what the job points to is always held, and has as many parts as it says.
        self._divisions.append(made)
        self.part_count = 0
        self.record["part_count"] = min(int(self.record["part_count"]), count)
        self.record["parts"] = made.ctypes.data
        self.record["part_count"] = count
        self.part_count = count
        del self._divisions[:-1]

    def _limits(self, count: int) -> tuple[Any, Any]:
        """The first chunk of each of so many parts, and the one after its last."""
        if count == 1:
            return 0, self.chunks
        limits = np.zeros(count + 1, np.int64)
        lengths = self.table["length"]
        ends = np.cumsum(lengths)
        if ends.any():
            goals = int(ends[-1]) * np.arange(1, count) // count
            spans = np.searchsorted(ends, goals, side="right")
            within = goals - (ends - lengths)[spans]
            limits[1:-1] = self.table["chunks_before"][spans] + within // self.table["chunk_length"][spans]
            limits[-1] = self.chunks
        return limits[:-1], limits[1:]

    def watch(self, counters: Records) -> None:
        """Refuse to step unless these counters are right, and advance them with each step."""
        # Held before and after the job points there, whenever an interrupt comes.
        self._held.append(counters)
        self.record["counter_count"] = 0
        self.record["counters"] = counters.ctypes.data
        self.record["counter_count"] = len(counters)
        del self._held[:-1]


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

    A launch is `quick` if it is done before another thread could use the interpreter: whoever checks the tensors for it
    may step them in the same call, by `at`. `scalars` is the array of rows, in the order of `Kernel.numbers`; write to
    it before a call. `point` says where the arrays are.
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
        self.sizes = [*sizes]
        self.scalars = np.zeros((max(1, len(sizes)), len(kernel.numbers)), np.float64)
        self._rows_used = max(rows, default=0) + 1
        self.shares = sum(sizes) * kernel.layout.bytes >= SHARE
        self.table = _spans(kernel, sizes, rows, shared=self.shares)
        self._length = self.table["length"]
        self._lengths = self._length.copy()
        self.job = Job(kernel, self.table, self.scalars)
        self.at = self.job.at
        self.counting = None if counting is None else Job(counting, self.table, self.scalars)
        self.counters = COUNTER.array(0)
        self._runtime = native.runtime()
        self._helpers = threads if helpers is None else helpers
        self.quick = not self.shares and counting is None
        self._alone = self._runtime.quick if self.quick else self._runtime.alone

    def point(self, array: int, addresses: Sequence[int]) -> None:
        """Say where the spans' arrays are: `PARAM`, `GRAD`, or `STATE` and so on, the state that is kept."""
        self.column(array)[:] = addresses

    def column(self, array: int) -> Records:
        """Where the spans' addresses of one of their arrays are kept, to be written to."""
        found: Records = self.table["arrays"][:, array]
        return found

    def watch(
        self,
        addresses: Sequence[int],
        now: Sequence[float],
        after: Sequence[float],
        growth: Sequence[float],
        wide: Sequence[bool] | bool = False,
    ) -> None:
        """Let a call find the counters at `addresses` as they are `now`, and leave them as they are `after`.

        They are of float32, those that are `wide` of float64. One of float32 that counts is not let past 2**24.

        A call that finds another number in one of them steps nothing. Later calls expect what the last one left, and
        the next number is larger by `growth`, unless `expect` says otherwise.
        """
        counters = COUNTER.array(len(addresses))
        counters["address"], counters["now"], counters["next"], counters["growth"] = addresses, now, after, growth
        counters["wide"] = wide
        self.job.watch(counters)
        self.counters = counters
        self._after = counters["next"]

    def expect(self, counter: int, after: float) -> None:
        """Leave a counter at this number after the next call."""
        self._after[counter] = after

    def new_row(self, spans: Sequence[int]) -> Any:
        """Let these spans have a row of scalars of their own from now on; returns where to write it."""
        row, self._rows_used = self._rows_used, self._rows_used + 1
        self.table["row_start"][spans] = row * len(self.kernel.numbers)
        return memoryview(self.scalars[row])

    def select(self, which: Records) -> None:
        """Step from now on the spans for which `which` is true, and leave the others as they are.

        Those keep their chunks, which are empty.
        """
        np.multiply(self._lengths, which, out=self._length)

    def __call__(self) -> bool:
        """Step every span; or, if a counter is not what it should be, none."""
        if self.quick:
            return self._alone(self.at) < 0  # type: ignore[no-any-return]
        if self.counting is not None:
            self._count(self.counting)
        return self._run(self.job) < 0

    def _run(self, job: Job) -> int:
        if self.shares:
            done = self._helpers.run(self._runtime, job)
            if done is not None:
                return done
        return int(self._alone(job.at))

    def _count(self, counting: Job) -> None:
        """Let each span know by how much a cautious step lengthens the moves that it keeps."""
        self.table["count"] = 0
        self._run(counting)
        counts = self.table["count"].tolist()
        self.table["cautious_scale"] = [scale_of(count, size) for count, size in zip(counts, self.sizes, strict=True)]


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
    machine = best_kernel(rule, layout, sum(sizes))
    counting = kernel(rule, layout, counting=True) if rule.cautious else None
    launch = Launch(machine, sizes, rows, counting=counting, helpers=helpers)
    numbers = launch.kernel.numbers
    return launch, [Scalars(rule, memoryview(launch.scalars[i]), numbers) for i, rule in enumerate(rules)]


def _spans(kernel: Kernel, sizes: Sequence[int], rows: Sequence[int], *, shared: bool) -> Records:
    """The records of spans of these sizes, with chunks for threads to share, or one chunk each."""
    numbers = sum(sizes)
    chunk = max(LEAST, min(MOST, numbers // CHUNKS // 64 * 64)) if shared else max([1, *sizes])
    ends = [*itertools.accumulate(-(-size // chunk) for size in sizes)]
    table = np.zeros(len(sizes), span(len(kernel.layout.arrays)))
    table["chunks_end"] = ends
    table["chunks_before"] = [0, *ends][: len(sizes)]
    table["chunk_length"] = chunk
    table["length"] = sizes
    table["row_start"] = np.asarray(rows, np.int64) * len(kernel.numbers)
    table["cautious_scale"] = 1.0
    return table
