"""From which size on it pays to wake worker threads for a step of NumPy arrays, and how many.

    python benchmarks/worker_threads.py [--rounds 101] [--threads 2 4 8]

Workers sleep between steps. To wake one takes some tens of microseconds, and more where its core sleeps, too. Each
number of threads steps in turn, on arrays of its own: one step after the other, and with a pause of computing between.
`descend.engines.native.workers.WAKE` is where sharing begins by itself; here every step is shared.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence

import numpy as np
from machine import describe, heading, spread, table

import descend
from descend.engines.native import launch, workers

SIZES = {"100k": 100_000, "300k": 300_000, "600k": 600_000, "1M": 1_000_000, "3M": 3_000_000, "10M": 10_000_000}
PAUSE = 1e-3
"""Seconds of computing between steps that do not follow each other at once."""


def compute(seconds: float) -> None:
    """Keep this thread's core busy."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def measure(size: int, threads: Sequence[int], pause: float, rounds: int) -> dict[int, dict[str, float]]:
    """Microseconds of a step of Adam in float32, for each number of threads: median, quartiles and mean."""
    gradient = np.full(size, 1e-3, np.float32)
    engines = {most: descend.engines.Fused(descend.Adam(), [np.ones(size, np.float32)]) for most in threads}
    times: dict[int, list[float]] = {most: [] for most in threads}
    for k in range(rounds + 3):
        for most, engine in engines.items():
            with descend.engines.threads.limited(most):
                compute(pause)
                begin = time.perf_counter()
                engine.step([gradient])
                if k >= 3:
                    times[most].append(1e6 * (time.perf_counter() - begin))
    return {most: {**spread(kept), "mean": statistics.fmean(kept)} for most, kept in times.items()}


def main() -> None:
    cores = workers.usable_cores()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=101, help="steps for each number (default: %(default)s)")
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({2, min(4, cores), min(workers.MOST, cores)}))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=[*SIZES], help="(default: all)")
    given = parser.parse_args()
    workers.WAKE = launch.SHARE = 0
    print("\n".join(heading(describe(os.cpu_count() or 1))))
    threads = [1, *(most for most in given.threads if most > 1)]
    rows = []
    for said, pause in (("another step", 0.0), (f"{1000 * PAUSE:g} ms of computing", PAUSE)):
        for size in given.sizes:
            found = measure(SIZES[size], threads, pause, given.rounds)
            cells = [f"{v['median']:,.0f} ({v['low']:,.0f}–{v['high']:,.0f}; {v['mean']:,.0f})" for v in found.values()]
            best = min(threads, key=lambda most: found[most]["median"])
            rows.append([said, size, *cells, str(best)])
    print("Microseconds of a step, median (quartiles; mean):\n")
    print("\n".join(table(["after", "numbers", *(f"{most} threads" for most in threads), "fastest"], rows, left=2)))


if __name__ == "__main__":
    main()
