"""Whether two versions of descend compute the same bits: a table of hashes of every rule, setting and format.

    python benchmarks/bits.py table.json                     # with one version installed
    python benchmarks/bits.py other.json --before table.json # with the other: what differs

Every rule steps numbers of all sizes, with zeros, and with infinities and NaN among them, on NumPy by both engines and
on PyTorch's tensors with and without machine code. Each hash is of the parameter and its state; a second one beside it
takes all NaN for the same, since nothing says what sign a NaN has. The exit status is 1 if a second hash differs.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import itertools
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import descend

STEPS = 6
SHARED = ("maximize", "cautious", "decoupled_weight_decay")
DTYPES = {name: getattr(torch, name) for name in ("float32", "float64", "bfloat16", "float16")}
LAYOUTS = [
    ("float32", "float32", None),
    ("float64", "float64", None),
    ("bfloat16", "bfloat16", None),
    ("float16", "float16", None),
    ("float32", "float32", "bfloat16"),
    ("bfloat16", "bfloat16", "float32"),
    ("float32", "bfloat16", None),
    ("float64", "float32", None),
    ("float16", "float16", "float32"),
]
"""Formats of parameter, gradient and state; None: what an optimizer makes by itself."""


def settings(rule: type[descend.Rule]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Settings of a rule, each with a name: each flag on, both ways of weight decay, a schedule, everything on."""
    fields = {field.name: field.default for field in dataclasses.fields(rule)}
    own = {name for name, default in fields.items() if isinstance(default, bool) and name not in SHARED}
    momentum: dict[str, Any] = {"momentum": 0.9} if "momentum" in fields else {}
    undamped: dict[str, Any] = {"dampening": 0.0} if "dampening" in fields else {}
    yield "base", {}
    for name in sorted(own):
        yield name, {name: not fields[name], **momentum, **undamped}
    if momentum:
        yield "momentum", momentum
    if undamped:
        yield "dampening", {"momentum": 0.9, "dampening": 0.3, "nesterov": False}
    yield "coupled", {"weight_decay": 0.1, "decoupled_weight_decay": False}
    yield "decoupled", {"weight_decay": 0.1, "decoupled_weight_decay": True}
    yield "maximize", {"maximize": True, "weight_decay": 0.1}
    yield "cautious", {"cautious": True}
    yield "cautious-all", {"cautious": True, "maximize": True, "weight_decay": 0.1, **momentum}
    yield "schedule", {"lr": lambda done: 0.01 / (1 + done), "weight_decay": lambda done: 0.1 * (done % 2)}
    yield "all", {**dict.fromkeys(own, True), **momentum, **undamped, "weight_decay": 0.1, "maximize": True}


def numbers(size: int, wild: bool, largest: float) -> tuple[Any, list[Any]]:
    """A parameter and its gradients, in float64; wild ones have infinities, NaN and `largest` among them."""
    rng = np.random.default_rng(0)
    p, grads = rng.normal(size=size), []
    for _ in range(STEPS):
        g = rng.normal(size=size)
        g[::3] = 0
        g[1::7] *= 1e6
        g[2::11] *= 1e-6
        if wild:
            for k, value in enumerate((np.nan, np.inf, -np.inf, -0.0, largest)):
                g[3 + 2 * k :: 101 + 2 * k] = value
        grads.append(g)
    if wild:
        p[13::211], p[17::223] = np.inf, np.nan
    return p, grads


def digest(arrays: list[Any]) -> str:
    """A hash of the bits as they are, and one that takes all NaN for the same."""
    exact, lenient = hashlib.sha256(), hashlib.sha256()
    for array in arrays:
        exact.update(array.tobytes())
        same = array.copy()
        if same.dtype.kind == "f":
            same[np.isnan(same)] = np.nan
        lenient.update(same.tobytes())
    return f"{exact.hexdigest()[:16]} {lenient.hexdigest()[:16]}"


def on_numpy(kind: Any, rule: type[descend.Rule], chosen: dict[str, Any], dtype: str, *, wild: bool, size: int) -> str:
    """The hash of a rule's steps by an engine over NumPy's arrays."""
    start, grads = numbers(size, wild, 1e30)
    p = start.astype(dtype)
    with np.errstate(all="ignore"):
        engine = kind(rule(**chosen), [p])
        for g in grads:
            engine.step([g.astype(dtype)])
    return digest([p, *(array for state in engine.state for array in state.values())])


def on_torch(rule: type[descend.Rule], chosen: dict[str, Any], layout: Any, *, fused: bool | None, wild: bool) -> str:
    """The hash of a rule's steps by its optimizer over a tensor."""
    param, grad, state = layout
    start, grads = numbers(5003, wild, 6e4 if param == "float16" else 1e30)
    p = torch.tensor(start).to(DTYPES[param]).requires_grad_()
    more = {} if state is None else {"state_dtype": DTYPES[state]}
    optimizer = descend.optim.from_rule(rule)([p], **chosen, fused=fused, **more)
    for g in grads:
        if grad != param:
            p.grad_dtype = None
        p.grad = torch.tensor(g).to(DTYPES[grad])
        optimizer.step()
    kept = optimizer.state[p]
    return digest([_bits(p), *(_bits(kept[name]) for name in sorted(kept) if isinstance(kept[name], torch.Tensor))])


def _bits(tensor: torch.Tensor) -> Any:
    """A tensor's numbers for NumPy; those of 16 bits as whole numbers, with all NaN the same."""
    tensor = tensor.detach()
    if tensor.element_size() != 2:
        return tensor.numpy()
    same = torch.where(torch.isnan(tensor), torch.full_like(tensor, float("nan")), tensor)
    return same.view(torch.int16).numpy()


def cases(name: str) -> Iterator[tuple[str, Callable[[], str]]]:
    """What is stepped of one rule: how it is called, and what computes its hash."""
    rule = descend.rules.get(name)
    for label, chosen in settings(rule):
        sizes = (0, 1, 5003, 40_003) if label in ("base", "all", "cautious", "cautious-all") else (5003,)
        for dtype, size, wild in itertools.product(("float32", "float64"), sizes, (False, True)):
            if wild and size != 5003:
                continue
            for kind in (descend.engines.Reference, descend.engines.Fused):
                compute = functools.partial(on_numpy, kind, rule, chosen, dtype, wild=wild, size=size)
                yield f"numpy {kind.__name__} {name} {label} {dtype} size={size} wild={wild}", compute
        layouts = {"base": LAYOUTS, "all": LAYOUTS, "cautious-all": LAYOUTS[:2], "schedule": LAYOUTS[:2]}
        for layout, fused, wild in itertools.product(layouts.get(label, []), (None, False), (False, True)):
            compute = functools.partial(on_torch, rule, chosen, layout, fused=fused, wild=wild)
            yield f"torch fused={fused} {name} {label} {'/'.join(map(str, layout))} wild={wild}", compute


def table(only: list[str]) -> dict[str, str]:
    """Hashes by what was stepped, and how."""
    found: dict[str, str] = {}
    shipped = [name for name, rule in descend.rules.all().items() if rule.__module__.startswith("descend.")]
    for name in only or shipped:
        for what, compute in cases(name):
            try:
                found[what] = compute()
            except Exception as error:  # a setting that a version refuses is part of what it does
                found[what] = f"{type(error).__name__}: {error}"
        print(name, len(found), file=sys.stderr)
    return found


def main() -> int:
    """Write the table; with ``--before`` compare it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", type=Path, help="where to write the hashes")
    parser.add_argument("--before", type=Path, help="the other version's hashes, to compare with")
    parser.add_argument("--rules", nargs="*", default=[], help="names of rules; every shipped one by default")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    found = table(arguments.rules)
    arguments.table.write_text(json.dumps(found, indent=0))
    if arguments.before is None:
        print(f"{len(found)} hashes")
        return 0
    before = json.loads(arguments.before.read_text())
    both = [what for what in found if what in before]
    exact = [what for what in both if found[what] != before[what]]
    other = [what for what in exact if found[what].split()[-1] != before[what].split()[-1]]
    for what in other:
        print("differs:", what, "|", before[what], "|", found[what])
    print(f"{len(both)} compared, {len(other)} differ, and {len(exact) - len(other)} in which NaN they have alone")
    return bool(other)


if __name__ == "__main__":
    sys.exit(main())
