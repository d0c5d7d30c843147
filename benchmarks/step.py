"""How long one step of an optimizer takes: descend.optim against torch.optim and other libraries.

Every rule is stepped over parameters of several sizes by every contender that is installed, each in a process of its
own. Contenders take turns: each round times all of them, in an order that rotates, and figures are medians over rounds.
Gradients are fixed but for their sign, which is flipped between timings so that no state decays to zero. Needs PyTorch;
the peers are optional (pip install '.[benchmarks]'). The machine should do nothing else meanwhile.

    python benchmarks/step.py --json step.json --markdown step.md --chart step.html
    python benchmarks/step.py --rules adam,sgd --sizes tiny,1M --quick
    python benchmarks/step.py --same-memory --sizes resnet,gpt,50M --contenders 'descend,torch,torch fused'
    python benchmarks/step.py --before ../earlier --contenders 'descend,descend before' --sizes tiny,1M,gpt
    python benchmarks/step.py --from step.json --markdown step.md
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import machine
from round_robin import Left, Seat

SHARE_OF_MEMORY = 0.7


def _mlp() -> list[tuple[int, ...]]:
    return [(64, 64), (64,), (64, 64), (64,), (10, 64), (10,)]


def _resnet() -> list[tuple[int, ...]]:
    """ResNet-50 with 5/8 of its channels and ten classes, the last layer without bias."""
    width, before = 40, 40
    shapes: list[tuple[int, ...]] = [(40, 3, 7, 7), (40,), (40,)]
    for depth in (3, 4, 6, 3):
        for block in range(depth):
            convolutions = [(width, before, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            if block == 0:
                convolutions.append((4 * width, before, 1, 1))
            for shape in convolutions:
                shapes += [shape, shape[:1], shape[:1]]
            before = 4 * width
        width *= 2
    return [*shapes, (10, before)]


def _gpt() -> list[tuple[int, ...]]:
    """GPT-2 with layers half as wide, for 4,096 tokens of context."""
    d = 384
    block = [(d,), (d,), (3 * d, d), (3 * d,), (d, d), (d,), (d,), (d,), (4 * d, d), (4 * d,), (d, 4 * d), (d,)]
    return [(50257, d), (4096, d), *(12 * block), (d,), (d,)]


SIZES = {
    "tiny": _mlp(),
    "1M": [(1_000_000,)],
    "resnet": _resnet(),
    "gpt": _gpt(),
    "50M": [(50_000_000,)],
}
BEFORE = "descend before"
SAME = {"gd"}
"""Rules that step as another one does, with another default; measured when named."""


def main() -> None:
    """Measure or read, and report."""
    arguments = _arguments()
    read = arguments.read and Path(arguments.read).read_text(encoding="utf-8")
    found = json.loads(read) if read else measure(arguments)
    import step_report

    text = step_report.markdown(found)
    print(text)
    if arguments.markdown:
        Path(arguments.markdown).write_text(text, encoding="utf-8")
    if arguments.chart:
        Path(arguments.chart).write_text(step_report.chart(found), encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", help="such as adam,sgd; default: all")
    parser.add_argument("--sizes", help=f"of {','.join(SIZES)}; default: all")
    parser.add_argument("--contenders", help="such as 'descend,torch fused'; default: all")
    parser.add_argument("--rounds", type=int, help="default: 9; with --quick: 3")
    parser.add_argument("--milliseconds", type=float, help="of one timing at least; default: 20; with --quick: 2")
    parser.add_argument(
        "--same-memory",
        action="store_true",
        help="all optimizers of PyTorch's kind in one process, on the same parameters, gradients and state",
    )
    parser.add_argument("--threads", type=int, help="cores to keep to; default: all")
    parser.add_argument(
        "--before", metavar="FOLDER", help="a checkout of another commit, which takes part as 'descend before'"
    )
    parser.add_argument(
        "--quick", action="store_true", help="few short rounds on tiny and 1M, nothing compiled by torch"
    )
    parser.add_argument("--json", metavar="FILE", help="write every figure, also while measuring")
    parser.add_argument("--markdown", metavar="FILE", help="write the report that is printed")
    parser.add_argument("--chart", metavar="FILE", help="write a picture, in HTML")
    parser.add_argument("--from", dest="read", metavar="FILE", help="measure nothing: report what --json wrote")
    return parser.parse_args()


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every figure, as --json writes it."""
    threads = machine.use_threads(arguments.threads)
    about = machine.describe(threads)
    machine.say(f"load average {about['load_average']}, {threads} threads; importing")
    from contenders import MAKERS, YARDSTICKS

    import descend

    quick = arguments.quick
    before = arguments.before and str(Path(arguments.before).resolve() / "src")
    unusual = {"torch compiled": quick, "Optax": arguments.same_memory, BEFORE: before is None}
    names = _chosen(arguments.contenders, MAKERS, [n for n in MAKERS if not unusual.get(n)])
    if arguments.same_memory and "Optax" in names:
        raise SystemExit("--same-memory: Optax keeps its arrays in JAX's memory; leave it out of --contenders")
    rules = _chosen(arguments.rules, descend.rules.all(), [n for n in descend.rules.all() if n not in SAME])
    sizes = _chosen(arguments.sizes, SIZES, ["tiny", "1M"] if quick else list(SIZES))
    rounds = arguments.rounds or (3 if quick else 9)
    seconds = (arguments.milliseconds or (2.0 if quick else 20.0)) / 1e3
    found: dict[str, Any] = {
        "machine": about,
        "rounds": rounds,
        "milliseconds": seconds * 1e3,
        "contenders": names,
        "memory": {str(n): _memory(n, quick) for n in sorted({1, threads})},
        "results": [],
    }
    if BEFORE in names and (before is None or arguments.same_memory):
        raise SystemExit(f"{BEFORE!r} needs --before FOLDER, and a process of its own: leave --same-memory out")
    patience = 1800.0  # torch.compile takes minutes over many tensors
    seats = {
        name: Seat(name, threads, patience, source=before if name == BEFORE else None) for name in (*names, *YARDSTICKS)
    }
    if arguments.same_memory:
        seats |= {name: Seat(name, threads, patience, beside=seats[names[0]]) for name in names[1:]}
    for size in sizes:
        for rule in rules:
            began = time.perf_counter()
            result = _measure_one(rule, SIZES[size], seats, rounds, seconds, arguments.same_memory)
            found["results"].append({"rule": rule, "size": size, **result})
            machine.say(f"{size} {rule}: {time.perf_counter() - began:.1f} s")
            if arguments.json:
                Path(arguments.json).write_text(json.dumps(found, indent=1), encoding="utf-8")
    for seat in seats.values():
        seat.end()
    return found


def _chosen(given: str | None, known: Any, default: list[str]) -> list[str]:
    return default if given is None else machine.chosen(given, known)


def _memory(threads: int, quick: bool) -> dict[str, float]:
    """GB/s read and written by a copy and by an addition in place, far larger than the cache."""
    import torch
    from contenders import YARDSTICKS

    torch.set_num_threads(threads)
    moved = (128 if quick else 1024) * 2**20
    found = {}
    for name, kind in YARDSTICKS.items():
        yardstick = kind(moved)
        taken = []
        for _ in range(10):
            began = time.perf_counter()
            yardstick.step()
            taken.append(time.perf_counter() - began)
        found[name] = moved / machine.spread(taken[1:])["median"] / 1e9
    return found


# ---- one rule, one size -----------------------------------------------------------------------------------------


def _measure_one(
    name: str, shapes: list[tuple[int, ...]], seats: dict[str, Seat], rounds: int, seconds: float, together: bool
) -> dict[str, Any]:
    from contenders import YARDSTICKS

    import descend
    from descend.engines.native.formats import Layout

    state = len(descend.rules.get(name)().kept_state())
    parameters = sum(map(math.prod, shapes))
    each = Layout("float32", "float32", ("float32",) * state).bytes
    what = {"rule": name, "shapes": shapes, "moved": each * parameters, "together": together}
    # Parameter, gradient, state, and what some need for a moment.
    resident = together or 4 * parameters * (5 + state) * len(seats) < SHARE_OF_MEMORY * machine.free_bytes()
    there, skipped, notes, after, start = dict(seats), {}, {}, {}, None
    timings: dict[str, list[float]] = {n: [] for n in seats}

    def ask(seat: Seat, question: str, **details: Any) -> Any:
        try:
            return seat.ask(question, **details)
        except Left as error:
            skipped[seat.name] = str(error)
            there.pop(seat.name, None)
            return None

    for n, seat in seats.items():
        told = ask(seat, "ready", **what)
        if told is not None and n not in YARDSTICKS:
            start, after[n] = told["start"], told["after"]
            notes |= {n: told["notes"]} if told["notes"] else {}
        if told is not None and not resident:
            ask(seat, "drop")
    for number in range(rounds):
        order = list(there.values())
        shift = number % len(order)
        for seat in order[shift:] + order[:shift]:
            if not resident and ask(seat, "ready", **what) is None:
                continue
            taken = ask(seat, "time", seconds=seconds)
            if taken is not None:
                timings[seat.name].append(taken * 1e6)
            if taken is not None and not resident:
                ask(seat, "drop")
    for seat in list(there.values()):
        ask(seat, "drop")
    return {
        "parameters": parameters,
        "tensors": len(shapes),
        "bytes_per_parameter": each,
        "made_anew_each_round": not resident,
        "microseconds": {n: {**machine.spread(v), "rounds": v} for n, v in timings.items() if n not in skipped},
        "skipped": skipped,
        "notes": notes,
        "difference": {} if together else _differences(after, start),
    }


def _differences(after: dict[str, Any], start: Any) -> dict[str, float]:
    """How far from descend's parameters another contender's are after five steps, in units of the largest move."""
    if "descend" not in after:
        return {}
    ours = after["descend"]
    largest = float(abs(ours - start).max())
    return {n: float(abs(x - ours).max()) / largest for n, x in after.items() if n != "descend"}


if __name__ == "__main__":
    main()
