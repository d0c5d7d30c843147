"""A step as it comes in a training: right after work of PyTorch's own, or after a pause.

    python benchmarks/step_after_work.py [--rounds 101] [--threads 2] [--always]

After a matrix product, as after a backward pass, OpenMP's threads wait for more work awake, and after a pause they
sleep. So a step among other steps, which `step.py` times, says little of one that stands alone. Here each contender
steps once at a time, in turn, on parameters of its own. A mean stands beside each median, as a few steps may wait for a
thread by far longer than most.

descend leaves OpenMP's threads out of a few steps after one to which they came too late. With ``--always`` it does not,
which shows whether that pays.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from machine import describe, heading, spread, table

import descend
from descend.engines.torch.openmp import openmp_threads

SIZES = {"100k": 100_000, "300k": 300_000, "1M": 1_000_000, "10M": 10_000_000}
RULES = {"Adam": ("Adam", {}), "Momentum": ("SGD", {"lr": 1e-3, "momentum": 0.9}), "SGD": ("SGD", {"lr": 1e-3})}
PAUSE = 0.02
"""Seconds."""


def contenders(name: str, settings: dict[str, float]) -> dict[str, Callable[..., torch.optim.Optimizer]]:
    """Who steps, by name."""
    theirs = getattr(torch.optim, name)
    return {
        "descend": lambda params: getattr(descend.optim, name)(params, **settings),
        "torch": lambda params: theirs(params, **settings),
        "torch foreach": lambda params: theirs(params, foreach=True, **settings),
        "torch fused": lambda params: theirs(params, fused=True, **settings),
    }


def work() -> None:
    """What a layer does, forth and back: a matrix product and an elementwise function, both by several threads."""
    (torch.ones(256, 512) @ torch.ones(512, 512)).exp_()


def pause() -> None:
    """Long enough for all threads to fall asleep."""
    time.sleep(PAUSE)


def measure(
    makers: dict[str, Callable[..., torch.optim.Optimizer]], number: int, before: Callable[[], None], rounds: int
) -> dict[str, dict[str, float]]:
    """Microseconds of a step after `before`: median, quartiles and mean, for each contender."""
    optimizers = {}
    for name, make in makers.items():
        p = torch.nn.Parameter(torch.randn(number))
        p.grad = 1e-3 * torch.randn(number)
        optimizers[name] = make([p])
        for _ in range(3):
            optimizers[name].step()
    times: dict[str, list[float]] = {name: [] for name in optimizers}
    names = list(optimizers)
    for k in range(rounds):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            before()
            begin = time.perf_counter()
            optimizers[name].step()
            times[name].append(1e6 * (time.perf_counter() - begin))
    return {name: {**spread(kept), "mean": statistics.fmean(kept)} for name, kept in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=101, help="steps of each contender (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="of PyTorch's (default: as many as it chooses)")
    parser.add_argument("--always", action="store_true", help="let OpenMP's threads help with each step of descend's")
    given = parser.parse_args()
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    if given.always:
        openmp_threads.longest = 0
    print("\n".join(heading(describe(torch.get_num_threads()))))
    rows = []
    for said, before in (("work of PyTorch's", work), (f"{1000 * PAUSE:.0f} ms of sleep", pause)):
        for rule, (name, settings) in RULES.items():
            for size, number in SIZES.items():
                found = measure(contenders(name, settings), number, before, given.rounds)
                cells = [
                    f"{v['median']:,.0f} ({v['low']:,.0f}–{v['high']:,.0f}; {v['mean']:,.0f})" for v in found.values()
                ]
                fastest = min(v["median"] for other, v in found.items() if other != "descend")
                ratio = fastest / found["descend"]["median"]
                rows.append([said, rule, size, *cells, f"{ratio:.2f}"])
    columns = ["after", "rule", "numbers", *contenders("SGD", {}), "fastest torch ÷ descend"]
    print("Microseconds of a step, median (quartiles; mean):\n")
    print("\n".join(table(columns, rows, left=3)))


if __name__ == "__main__":
    main()
