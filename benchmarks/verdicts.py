"""How often the verdicts of a comparison are right, where the truth is known.

Comparisons are simulated: every run's figure is drawn, and `descend.comparison.judging.standings.standings` judges it
as it judges real ones. Entries that are the same but for noise must not be told apart, in 95 % of the comparisons or
more; one that needs a fifth less should be found. Prints a table in Markdown.

    python benchmarks/verdicts.py --comparisons 1000
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from descend.comparison.judging.standings import standings

NOISES: dict[str, Callable[..., np.ndarray]] = {
    "normal": lambda rng, shape: 1 + 0.1 * rng.normal(size=shape),
    "skewed": lambda rng, shape: np.exp(0.1 * rng.normal(size=shape) ** 2),
    "in steps": lambda rng, shape: 1 + np.round(2 * rng.normal(size=shape)) / 20,
    "a tenth missed": lambda rng, shape: np.where(rng.random(shape) < 0.1, np.inf, 1 + 0.1 * rng.normal(size=shape)),
}
"""Figures around 1, as runs from different seeds might have them."""


def verdicts(rng: np.random.Generator, noise: str, entries: int, seeds: int, factor: float) -> list[str]:
    """The verdicts of a comparison whose first entry needs `factor` of what the others need."""
    costs = NOISES[noise](rng, (entries, seeds))
    costs[0] *= factor
    return [standing.verdict for standing in standings(costs.tolist(), [0] * seeds)]


def main() -> None:
    """Simulate, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=200, help="how many are simulated for each figure")
    parser.add_argument("--seeds", default="10,20", help="final seeds, separated by commas")
    parser.add_argument("--entries", default="2,7", help="numbers of entries")
    options = parser.parse_args()
    n = options.comparisons
    print("| noise of 10 % | entries | seeds | false difference | a fifth less found | by all | turned round |")
    print("|---|---|---|---|---|---|---|")
    for noise in NOISES:
        for entries in map(int, options.entries.split(",")):
            for seeds in map(int, options.seeds.split(",")):
                rng = np.random.default_rng([entries, seeds])
                same = [verdicts(rng, noise, entries, seeds, 1.0) for _ in range(n)]
                better = [verdicts(rng, noise, entries, seeds, 0.8) for _ in range(n)]
                false = sum("clearly worse" in found for found in same) / n
                # Found: named the best, with at least half of the others, or all of them, clearly worse.
                beaten = [(f[0] == "best") * f.count("clearly worse") / (entries - 1) for f in better]
                half, every = (sum(share >= least for share in beaten) / n for least in (0.5, 1.0))
                wrong = sum(found[0] == "clearly worse" for found in better) / n
                figures = " | ".join(f"{100 * share:.1f} %" for share in (false, half, every, wrong))
                print(f"| {noise} | {entries} | {seeds} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
