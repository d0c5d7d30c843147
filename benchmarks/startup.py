"""How long a first contact takes: importing descend, and `descend --help`.

Each is a process of its own, alternated with an empty interpreter and with importing NumPy, so that what descend itself
adds can be read off. Prints medians as a Markdown table.

    python benchmarks/startup.py [--repeats 15]
"""

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python, nothing": [sys.executable, "-c", "pass"],
    "import numpy": [sys.executable, "-c", "import numpy"],
    "import descend": [sys.executable, "-c", "import descend"],
    "descend --help": [sys.executable, "-m", "descend.cli.app", "--help"],
    "import scipy.optimize": [sys.executable, "-c", "import scipy.optimize"],
}


def seconds(command: list[str]) -> float:
    """Wall time of one process."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Measure in turns, after one warm-up of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    found: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(repeats + 1):
        for name, command in COMMANDS.items():
            taken = seconds(command)
            if turn:
                found[name].append(taken)
    print("| process | median s | min | max |\n|---|---|---|---|")
    for name, times in found.items():
        print(f"| {name} | {statistics.median(times):.3f} | {min(times):.3f} | {max(times):.3f} |")


if __name__ == "__main__":
    main()
