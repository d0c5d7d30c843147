"""What a comparison costs beside its runs: planning, the pilot, the store, statistics, and writing the report.

What is no run is told from the runs by the clock. With `--jobs 1` nothing else goes on beside it.

    python benchmarks/comparing.py --problem digits --jobs 2
"""

from __future__ import annotations

import argparse
import tempfile
import time
from typing import Any

from descend.comparison import Comparison, compare
from descend.comparison import compare as experiment


def timed(owner: Any, name: str, spent: dict[str, float], key: str) -> None:
    """Have calls of a function add up their seconds."""
    function = getattr(owner, name)

    def wrapper(*args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **options)
        finally:
            spent[key] += time.perf_counter() - start

    setattr(owner, name, wrapper)


def main() -> None:
    """Compare once, and say where the time went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", default="digits")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    spent = dict.fromkeys(("loading the problem", "runs", "pilot", "report and JSON"), 0.0)
    timed(experiment, "named", spent, "loading the problem")
    timed(experiment.Workers, "make", spent, "runs")
    timed(experiment._Race, "about", spent, "pilot")
    timed(experiment, "save", spent, "report and JSON")
    inside = {"store": 0.0}
    timed(experiment.Store, "put", inside, "store")
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        found: Comparison = compare(options.problem, jobs=options.jobs, out=out, announce=lambda _: None)
        total = time.perf_counter() - start
    spent["runs"] -= inside["store"]  # what is put into the store is handed over while runs are made
    spent |= inside
    spent["planning and statistics"] = total - sum(spent.values())
    print(f"{options.problem}: {len(found.runs)} runs by {options.jobs} processes: {total:.1f} s\n")
    print("| what | seconds | share |\n|---|---|---|")
    for name, seconds in spent.items():
        print(f"| {name} | {seconds:.2f} | {100 * seconds / total:.1f} % |")


if __name__ == "__main__":
    main()
