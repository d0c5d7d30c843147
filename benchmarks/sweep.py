"""How many trainings a second a sweep of learning rates makes: `descend.fit_many` against Optuna with PyTorch.

Each trial trains a network with one hidden layer on the digits that descend ships with Adam, by a learning rate drawn
at random (log-uniform), looks at the validation data before the first step and after each epoch, and reads the test
data at the best look. Every contender makes the same number of trials, steps and looks, in two processes of one thread
each; they take turns, and figures are medians over rounds; so are ratios, of what they were within a round. Optuna's
processes each have a study of their own in memory, with its RandomSampler: its fastest way. Needs PyTorch and Optuna.
The machine should do nothing else meanwhile.

    python benchmarks/sweep.py --json sweep.json --markdown sweep.md
    python benchmarks/sweep.py --trials 16 --rounds 1
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # read when NumPy and PyTorch are imported

import argparse
import json
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import machine

SIZES = {"32/16": (32, 16), "128/64": (128, 64)}
"""Hidden units and batch size."""
LOW, HIGH = 1e-4, 1e-1
PROCESSES = 2


def main() -> None:
    """Measure, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=128, help="in all, of each contender in each round")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", help=f"of {','.join(SIZES)}; default: all")
    parser.add_argument("--contenders", help=f"of {','.join(CONTENDERS)}; default: all")
    parser.add_argument("--json", metavar="FILE", help="write every figure")
    parser.add_argument("--markdown", metavar="FILE", help="write the report that is printed")
    found = measure(parser.parse_args())
    text = markdown(found)
    print(text)
    if found["arguments"]["json"]:
        Path(found["arguments"]["json"]).write_text(json.dumps(found, indent=1), encoding="utf-8")
    if found["arguments"]["markdown"]:
        Path(found["arguments"]["markdown"]).write_text(text, encoding="utf-8")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every figure, as --json writes it."""
    about = machine.describe(PROCESSES)
    sizes = machine.chosen(arguments.sizes, SIZES) if arguments.sizes else list(SIZES)
    names = machine.chosen(arguments.contenders, CONTENDERS) if arguments.contenders else list(CONTENDERS)
    context = multiprocessing.get_context("spawn")
    pools = {name: context.Pool(PROCESSES) for name in names}
    results = []
    for size in sizes:
        taken: dict[str, list[float]] = {name: [] for name in names}
        best: dict[str, float] = {}
        for turn in range(arguments.rounds + 1):
            shift = turn % len(names)
            for name in names[shift:] + names[:shift]:
                each = arguments.trials // PROCESSES
                work = [(name, *SIZES[size], arguments.epochs, each, turn * PROCESSES + i) for i in range(PROCESSES)]
                began = time.perf_counter()
                figures = pools[name].map(run, work, chunksize=1)
                if turn:  # the first round is for imports and caches
                    taken[name].append(each * PROCESSES / (time.perf_counter() - began))
                    best[name] = statistics.median(v for part in figures for v in part)
            machine.say(f"{size} round {turn}: " + ", ".join(f"{n} {v[-1]:.1f}" for n, v in taken.items() if v))
        rates = {n: {**machine.spread(v), "rounds": v} for n, v in taken.items()}
        results.append({"size": size, "runs_per_second": rates, "median_test_accuracy": best})
    for pool in pools.values():
        pool.close()
    return {"machine": about, "arguments": vars(arguments), "results": results}


def markdown(found: dict[str, Any]) -> str:
    """The report."""
    names = list(found["results"][0]["runs_per_second"])
    others = [name for name in names if name != PEER]
    rows = []
    for result in found["results"]:
        rates = result["runs_per_second"]
        cells = [f"{r['median']:.1f} ({r['low']:.1f}–{r['high']:.1f})" for r in rates.values()]
        peer = rates.get(PEER, {"rounds": [math.nan] * len(rates[names[0]]["rounds"])})["rounds"]
        pairs = [zip(rates[name]["rounds"], peer, strict=True) for name in others]
        rows.append([result["size"], *cells, *(f"{statistics.median(a / b for a, b in pair):.2f}" for pair in pairs)])
    columns = ["hidden/batch", *names, *(f"{name} ÷ {PEER}" for name in others)]
    trials, epochs, rounds = (found["arguments"][name] for name in ("trials", "epochs", "rounds"))
    return "\n".join(
        [
            *machine.heading(found["machine"]),
            f"{trials} trials of {epochs} epochs in two processes; runs a second, median (quartiles) of {rounds} "
            "rounds, and medians of the ratios within a round:",
            "",
            *machine.table(columns, rows),
        ]
    )


# ---- the contenders, each in a process of its own ---------------------------------------------------------------


def run(work: tuple[str, int, int, int, int, int]) -> list[float]:
    """One process's share of a round: the test accuracy of each trial."""
    name, *how = work
    return CONTENDERS[name](*how)


def _problem(hidden: int, dtype: str) -> Any:
    """The digits network; in float32, the same with data and parameters of that type."""
    import numpy as np

    import descend

    whole = descend.problems.load(f"digits:hidden={hidden}")
    if dtype == "float64":
        return whole
    parts = [(X.astype(np.float32), y) for X, y in (whole.train, whole.validation, whole.test)]
    return descend.Problem(
        start=lambda rng: {name: leaf.astype(np.float32) for name, leaf in whole.start(rng).items()},
        loss=whole.loss,
        loss_and_grad=whole.loss_and_grad,
        metric=whole.metric,
        higher_is_better=True,
        stacks=True,
        **dict(zip(("train", "validation", "test"), parts, strict=True)),
    )


def _rates(trials: int, seed: int) -> list[float]:
    import numpy as np

    return [float(lr) for lr in np.exp(np.random.default_rng(seed).uniform(math.log(LOW), math.log(HIGH), trials))]


def _stacked(dtype: str) -> Callable[..., list[float]]:
    def contender(hidden: int, batch: int, epochs: int, trials: int, seed: int) -> list[float]:
        import descend

        rules = [descend.Adam(lr=lr) for lr in _rates(trials, seed)]
        seeds = range(seed * trials, (seed + 1) * trials)
        with descend.engines.threads.limited(1):
            results = descend.fit_many(_problem(hidden, dtype), rules, seeds, epochs=epochs, batch_size=batch)
        return [r.test_metric for r in results]

    return contender


def _one_at_a_time(hidden: int, batch: int, epochs: int, trials: int, seed: int) -> list[float]:
    import descend

    problem, options = _problem(hidden, "float64"), {"keep_best": True, "history": False, "progress": False}
    results = [
        descend.fit(problem, descend.Adam(lr=lr), epochs=epochs, batch_size=batch, seed=seed * trials + i, **options)
        for i, lr in enumerate(_rates(trials, seed))
    ]
    return [r.test_metric for r in results]


def _optuna(hidden: int, batch: int, epochs: int, trials: int, seed: int) -> list[float]:
    import optuna
    import torch

    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    whole = _problem(hidden, "float32")
    data = [tuple(map(torch.from_numpy, part)) for part in (whole.train, whole.validation, whole.test)]
    tests: list[float] = []

    def objective(trial: Any) -> float:
        validation, test = _trained(data, trial.suggest_float("lr", LOW, HIGH, log=True), hidden, batch, epochs)
        tests.append(test)
        return validation

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=seed))
    study.optimize(objective, n_trials=trials)
    return tests


def _trained(data: Sequence[Any], lr: float, hidden: int, batch: int, epochs: int) -> tuple[float, float]:
    """An ordinary training loop in PyTorch: the best validation accuracy, and the test accuracy there."""
    import torch
    from torch.nn.functional import cross_entropy

    (X, y), validation, test = data
    model = torch.nn.Sequential(torch.nn.Linear(64, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    def look(data: Any) -> tuple[float, float]:
        with torch.no_grad():
            scores = model(data[0])
            loss = cross_entropy(scores, data[1]).item()
            return (scores.argmax(1) == data[1]).float().mean().item(), -loss

    def kept() -> dict[str, Any]:
        return {name: tensor.clone() for name, tensor in model.state_dict().items()}

    best, state = look(validation), kept()
    for _ in range(epochs):
        for rows in torch.randperm(len(y)).split(batch):
            optimizer.zero_grad()
            cross_entropy(model(X[rows]), y[rows]).backward()
            optimizer.step()
        found = look(validation)
        if found > best:
            best, state = found, kept()
    model.load_state_dict(state)
    return best[0], look(test)[0]


PEER = "Optuna + PyTorch (float32)"
CONTENDERS: dict[str, Callable[..., list[float]]] = {
    "fit_many (float64)": _stacked("float64"),
    "fit_many (float32)": _stacked("float32"),
    "fit (float64)": _one_at_a_time,
    PEER: _optuna,
}


if __name__ == "__main__":
    main()
