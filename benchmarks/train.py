"""How long whole trainings take with torch.optim and with descend.optim, and whether they learn the same.

A network is trained several times by each contender, from the same start, on the same batches. Contenders take turns,
and figures are medians over their runs. The loss of every batch is kept: two optimizers that differ by rounding have
curves that differ by rounding, at first; a training magnifies it. How far torch.optim's own ways of stepping (default,
foreach, fused) come apart is therefore reported beside how far descend.optim is from the default.

    python benchmarks/train.py --json train.json --markdown train.md
    python benchmarks/train.py --networks mlp --optimizers Adam --quick
    python benchmarks/train.py --from train.json --markdown train.md

Data are the digits that descend ships, and Python's own source code for the transformer. Needs PyTorch.
"""

from __future__ import annotations

import argparse
import inspect
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine

OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Adam": ("Adam", {"lr": 1e-3}),
    "AdamW": ("AdamW", {"lr": 1e-3, "weight_decay": 0.01}),
    "SGD": ("SGD", {"lr": 0.05, "momentum": 0.9}),
    "RMSprop": ("RMSprop", {"lr": 1e-3}),
}
"""What is trained with: a class of both libraries, and its options."""
WAYS = {
    "torch": ("torch", {}),
    "torch foreach": ("torch", {"foreach": True}),
    "torch fused": ("torch", {"fused": True}),
    "descend": ("descend", {}),
}


def _mlp(torch: Any) -> Any:
    nn = torch.nn
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def _cnn(torch: Any) -> Any:
    nn = torch.nn
    first = [nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
    second = [nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(512, 10))


def _transformer(torch: Any, characters: int = 128, width: int = 64, length: int = 64) -> Any:
    nn = torch.nn

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Embedding(characters, width)
            self.place = nn.Parameter(0.02 * torch.randn(length, width))
            layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, batch_first=True, norm_first=True)
            self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.out = nn.Linear(width, characters)
            self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length))

        def forward(self, x: Any) -> Any:
            y = self.layers(self.token(x) + self.place, mask=self.mask, is_causal=True)
            return self.out(y).transpose(1, 2)

    return Transformer()


def _digits(torch: Any) -> tuple[Any, Any]:
    from descend.problems import load_arrays

    X, y = load_arrays("digits")
    return torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)


def _source(torch: Any, length: int = 64, lines: int = 512) -> tuple[Any, Any]:
    """Pieces of the source of a module, each with itself one character on; what is not ASCII is a question mark."""
    text = inspect.getsource(argparse).encode("ascii", "replace")[: lines * length + 1]
    codes = torch.tensor(list(text))
    whole = (len(codes) - 1) // length * length
    return codes[:whole].view(-1, length), codes[1 : whole + 1].view(-1, length)


NETWORKS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], int]] = {
    "mlp": (_mlp, _digits, 32),
    "cnn": (_cnn, _digits, 64),
    "transformer": (_transformer, _source, 16),
}
"""Network, data, size of a batch."""


def main() -> None:
    """Measure or read, and report."""
    arguments = _arguments()
    read = arguments.read and Path(arguments.read).read_text(encoding="utf-8")
    found = json.loads(read) if read else measure(arguments)
    text = markdown(found)
    print(text)
    if arguments.markdown:
        Path(arguments.markdown).write_text(text, encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS), help="default: %(default)s")
    parser.add_argument("--optimizers", default=",".join(OPTIMIZERS), help="default: %(default)s")
    parser.add_argument("--runs", type=int, help="of each contender; default: 7; with --quick: 2")
    parser.add_argument("--epochs", type=int, help="of each run; default: 5; with --quick: 1")
    parser.add_argument("--threads", type=int, help="cores to keep to; default: all")
    parser.add_argument("--quick", action="store_true", help="few short runs")
    parser.add_argument("--json", metavar="FILE", help="write every figure, also while measuring")
    parser.add_argument("--markdown", metavar="FILE", help="write the report that is printed")
    parser.add_argument("--from", dest="read", metavar="FILE", help="measure nothing: report what --json wrote")
    arguments = parser.parse_args()
    arguments.networks = machine.chosen(arguments.networks, NETWORKS)
    arguments.optimizers = machine.chosen(arguments.optimizers, OPTIMIZERS)
    return arguments


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every figure, as --json writes it."""
    threads = machine.use_threads(arguments.threads)
    about = machine.describe(threads)
    import torch

    torch.set_num_threads(threads)
    runs = arguments.runs or (2 if arguments.quick else 7)
    epochs = arguments.epochs or (1 if arguments.quick else 5)
    found: dict[str, Any] = {"machine": about, "runs": runs, "epochs": epochs, "results": []}
    for network in arguments.networks:
        for optimizer in arguments.optimizers:
            result = _measure_one(network, optimizer, runs, epochs)
            found["results"].append({"network": network, "optimizer": optimizer, **result})
            machine.say(f"{network} {optimizer}")
            if arguments.json:
                Path(arguments.json).write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


def _measure_one(network: str, optimizer: str, runs: int, epochs: int) -> dict[str, Any]:
    import torch

    kind, options = OPTIMIZERS[optimizer]
    ways = {
        name: more
        for name, (library, more) in WAYS.items()
        if library == "descend" or set(more) <= set(inspect.signature(getattr(torch.optim, kind).__init__).parameters)
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    shares: dict[str, list[float]] = {name: [] for name in ways}
    curves: dict[str, list[float]] = {}
    repeatable = True
    for run in range(runs + 1):
        names = list(ways)
        shift = run % len(names)
        for name in names[shift:] + names[:shift]:
            losses, times, stepping = _train(network, name, kind, {**options, **ways[name]}, epochs if run else 1)
            if not run:  # a warm-up
                continue
            seconds[name] += times
            shares[name].append(stepping / sum(times))
            repeatable &= curves.setdefault(name, losses) == losses
    reference = curves["torch"]
    return {
        "parameters": sum(p.numel() for p in NETWORKS[network][0](torch).parameters()),
        "steps": len(reference),
        "seconds_per_epoch": {n: {**machine.spread(v), "epochs": v} for n, v in seconds.items()},
        "share_of_step": {n: machine.spread(v)["median"] for n, v in shares.items()},
        "difference": {n: _differences(reference, c) for n, c in curves.items() if n != "torch"},
        "same_curve_in_each_run": repeatable,
        "loss": {n: c for n, c in curves.items() if n in ("torch", "descend")},
    }


def _differences(reference: list[float], other: list[float]) -> dict[str, float]:
    """The largest differences of the loss of a batch: in the first 20 steps, and in all."""
    apart = [abs(a - b) for a, b in zip(reference, other, strict=True)]
    return {"first": max(apart[:20]), "all": max(apart)}


def _train(
    network: str, way: str, kind: str, options: dict[str, Any], epochs: int
) -> tuple[list[float], list[float], float]:
    """One training: the loss of every batch, the seconds of every epoch, the seconds inside `step`."""
    import torch

    import descend

    make, load, batch = NETWORKS[network]
    torch.manual_seed(0)
    model = make(torch)
    X, y = load(torch)
    library = descend.optim if WAYS[way][0] == "descend" else torch.optim
    optimizer = getattr(library, kind)(model.parameters(), **options)
    loss_of = torch.nn.CrossEntropyLoss()
    order = torch.Generator().manual_seed(1)
    clock = time.perf_counter
    losses, times, stepping = [], [], 0.0
    for _ in range(epochs):
        began = clock()
        for which in torch.randperm(len(X), generator=order).split(batch):
            optimizer.zero_grad()
            loss = loss_of(model(X[which]), y[which])
            loss.backward()
            before = clock()
            optimizer.step()
            stepping += clock() - before
            losses.append(loss.detach())
        times.append(clock() - began)
    return [x.item() for x in losses], times, stepping


# ---- the report -------------------------------------------------------------------------------------------------


def markdown(found: dict[str, Any]) -> str:
    """The report."""
    lines = ["## Whole trainings", "", *machine.heading(found["machine"])]
    lines += [
        f"Milliseconds an epoch, median (quartiles) over {found['runs']} runs of {found['epochs']} epochs; in brackets "
        "after them, the share of it that the optimizer's steps take.",
        "",
    ]
    rows = []
    for r in found["results"]:
        row = [r["network"], r["optimizer"], f"{r['parameters']:,}"]
        for way in WAYS:
            t = r["seconds_per_epoch"].get(way)
            if t is None:
                row.append("")
                continue
            median, low, high = (1e3 * t[k] for k in ("median", "low", "high"))
            row.append(f"{median:.1f} ({low:.1f}–{high:.1f}) [{100 * r['share_of_step'][way]:.0f} %]")
        ours = r["seconds_per_epoch"]["descend"]["median"]
        theirs = {n: t["median"] for n, t in r["seconds_per_epoch"].items() if n != "descend"}
        row += [f"{theirs['torch'] / ours:.2f}", f"{min(theirs.values()) / ours:.2f}"]
        rows.append(row)
    columns = ["network", "optimizer", "parameters", *WAYS, "torch ÷ descend", "fastest torch ÷ descend"]
    lines += machine.table(columns, rows, left=2)
    lines += [
        "How far the losses of single batches come apart from those of torch.optim's default: at most in the first 20 "
        "steps, and at most in all.",
        "",
    ]
    others = [way for way in WAYS if way != "torch"]
    rows = []
    for r in found["results"]:
        apart = [r["difference"].get(way) for way in others]
        shown = ["" if d is None else f"{d['first']:.1e}, {d['all']:.1e}" for d in apart]
        rows.append([r["network"], r["optimizer"], str(r["steps"]), *shown, _verdict(r)])
    lines += machine.table(["network", "optimizer", "steps", *others, "descend's"], rows, left=2)
    return "\n".join(lines).rstrip() + "\n"


def _verdict(r: dict[str, Any]) -> str:
    """Whether the first steps differ by rounding, and the later ones no more than torch's own ways do."""
    ours = r["difference"]["descend"]
    theirs = max(d["all"] for n, d in r["difference"].items() if n != "descend")
    loss = max(r["loss"]["torch"][:20])
    if ours["first"] > 1e-4 * loss:
        return "differs"
    if ours["all"] <= max(10 * theirs, 1e-4 * loss):
        return "rounding" if r["same_curve_in_each_run"] else "rounding; runs differ"
    return "rounding at first; comes apart more than torch's own ways"


if __name__ == "__main__":
    main()
