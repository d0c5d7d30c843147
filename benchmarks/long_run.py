"""What a long training does to a step: a million steps, and gradients that are dead.

    python benchmarks/long_run.py [--steps 1000000]

Prints the resident memory and the median step time in each tenth of the steps, and how much longer a step takes once
gradients have been zero for thousands of steps: an average that decays leaves the range of normal numbers, where a
processor that is not told to flush them works many times as long. PyTorch's own optimizers stand beside, alternated.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from pathlib import Path

import torch

import descend

SHAPES = [(100, 64), (100,), (20, 100), (20,), (10, 20), (10,)]


def resident() -> float:
    """Resident memory in MB."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20


def parameters(shapes: list[tuple[int, ...]], gradient: float) -> list[torch.nn.Parameter]:
    """Parameters with gradients of a given size."""
    made = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    for p in made:
        p.grad = gradient * torch.randn_like(p)
    return made


def million(steps: int) -> None:
    """Steps of a small network, and nothing else."""
    optimizer = descend.optim.Adam(parameters(SHAPES, 1.0))
    optimizer.step()
    print(f"\n{steps:,} steps of Adam, 6 tensors\n\n| steps | resident MB | µs a step, median |\n|---|---|---|")
    for tenth in range(10):
        times = []
        for _ in range(100):
            begin = time.perf_counter()
            for _ in range(steps // 1000):
                optimizer.step()
            times.append((time.perf_counter() - begin) / (steps // 1000))
        print(
            f"| {(tenth + 1) * steps // 10:,} | {resident():.1f} | {1e6 * statistics.median(times):.2f} |", flush=True
        )


def dead(rounds: int) -> None:
    """A step of a million numbers, alive and after thousands of zero gradients, alternated."""
    makers = {
        "descend.optim.Adam": descend.optim.Adam,
        "torch.optim.Adam(fused=True)": lambda params: torch.optim.Adam(params, fused=True),
        "torch.optim.Adam": torch.optim.Adam,
    }
    print(
        "\nA step of Adam on 1,000,000 numbers, alive and dead\n\n| | alive µs | dead µs | ratio |\n|---|---|---|---|"
    )
    for name, make in makers.items():
        alive, gone = parameters([(1_000_000,)], 1.0), parameters([(1_000_000,)], 1.0)
        pair = make(alive), make(gone)
        for optimizer in pair:
            optimizer.step()
        gone[0].grad.zero_()
        for _ in range(1000):  # 0.9 ** 1000 is 1e-46
            pair[1].step()
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            for optimizer, kept in zip(pair, times, strict=True):
                begin = time.perf_counter()
                for _ in range(20):
                    optimizer.step()
                kept.append((time.perf_counter() - begin) / 20)
        a, b = (1e6 * statistics.median(kept) for kept in times)
        print(f"| {name} | {a:.0f} | {b:.0f} | {b / a:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000, help="a multiple of 1,000 (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=31, help="of the dead gradients (default: %(default)s)")
    given = parser.parse_args()
    dead(given.rounds)
    million(given.steps)


if __name__ == "__main__":
    main()
