"""How many functions a minimiser solves, and with how many evaluations: descend against SciPy and others.

A function is solved at the first evaluation whose gradient has no entry beyond 1e-5, within 2,000 evaluations of value
and gradient together. Everyone is told a tolerance of 1e-5 on the gradient and none on progress, and is stopped from
outside. Prints the counts, the ratios of evaluations on functions that both solve (geometric means, with bootstrap
intervals), the misses by name, and the time an iteration takes beside the function.

    python benchmarks/minimize.py --json minimize.json --markdown minimize.md --picture minimize.html
    python benchmarks/minimize.py --sets quadratics,logistic --contenders 'descend,L-BFGS-B 10'
    python benchmarks/minimize.py --overhead
    python benchmarks/minimize.py --starts
    python benchmarks/minimize.py --read minimize.json --half second --picture minimize.html

How well models are fitted to data, with exact derivatives and with differences: NIST's nonlinear regressions, from both
starts; regressions, likelihoods and curves (fits.py), some of whose data need `pip install statsmodels`.

    python benchmarks/minimize.py --nist --json nist.json --markdown nist.md
    python benchmarks/minimize.py --fits --contenders 'descend,BFGS' --only 'Poisson;softmax' --derivatives exact
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # read when NumPy is imported

import argparse
import concurrent.futures
import json
import math
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fitters
import fitting
import machine
import numpy as np
import scipy.optimize
from minimisers import BOUNDED, CONTENDERS, USUAL, Array, Enough, Watch
from problem_set import SETS, Function, functions

import descend

RESAMPLES = 10_000


def main() -> None:
    """Measure, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS), help=f"of {','.join(SETS)}; default: all")
    parser.add_argument(
        "--contenders", help=f"of {','.join(CONTENDERS)}; default: all but those of torch and optimistix"
    )
    parser.add_argument("--most", type=int, default=60, help="dimensions of CUTEst problems, at most")
    parser.add_argument("--half", choices=("first", "second"), help="of the CUTEst problems, by every other name")
    parser.add_argument("--only", metavar="NAMES", help="functions by name, of the sets; of --fits, between semicolons")
    parser.add_argument("--without", metavar="NAMES", default="", help="functions to leave out, by name")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", metavar="FILE", help="write every figure")
    parser.add_argument("--markdown", metavar="FILE", help="write the report that is printed")
    parser.add_argument("--picture", metavar="FILE", help="write performance and data profiles as an HTML page")
    parser.add_argument("--read", metavar="FILE", help="report what --json has written, and measure nothing")
    parser.add_argument("--overhead", action="store_true", help="only the time beside the function")
    parser.add_argument("--starts", action="store_true", help="only the time of many starts, together and in turn")
    parser.add_argument("--nist", action="store_true", help="only NIST's regressions")
    parser.add_argument("--fits", action="store_true", help="only the fits to data")
    parser.add_argument("--derivatives", choices=("exact", "differences"), help="of these two; default: both")
    options = parser.parse_args()
    about = machine.describe(options.jobs)
    found: dict[str, Any] = {"machine": about}
    if options.read:
        found = json.loads(Path(options.read).read_text(encoding="utf-8"))
    text = machine.heading(found["machine"])
    if options.nist or options.fits:
        text += fitted(found, options)
    elif options.read:
        found["functions"] = [r for r in found["functions"] if _wanted(r["set"], r["place"], options.half)]
        measured = list(dict.fromkeys(name for row in found["functions"] for name in row["evaluations"]))
        contenders = machine.chosen(options.contenders or ",".join(measured), measured)
        for row in found["functions"]:
            row["evaluations"] = {name: row["evaluations"][name] for name in contenders if name in row["evaluations"]}
        text += report(found["functions"], contenders)
    elif options.overhead:
        found["overhead"] = overhead()
        text += overhead_table(found["overhead"])
    elif options.starts:
        found["starts"] = many_starts() + fitting.many_starts()
        text += starts_table(found["starts"])
    else:
        sets = machine.chosen(options.sets, SETS)
        contenders = machine.chosen(options.contenders or ",".join(USUAL), CONTENDERS)
        only = options.only.split(",") if options.only else None
        left_out = options.without.split(",")
        places = [
            (kind, i)
            for kind in sets
            for i, function in enumerate(functions(kind, options.most))
            if _wanted(kind, i, options.half)
            and function.name not in left_out
            and (only is None or function.name in only)
        ]
        found["functions"] = solve(places, contenders, options.most, options.jobs)
        text += report(found["functions"], contenders)
    print("\n".join(text))
    if options.picture:
        picture(found["functions"], contenders).write_html(options.picture, include_plotlyjs=True)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1), encoding="utf-8")
    if options.markdown:
        Path(options.markdown).write_text("\n".join(text), encoding="utf-8")


def fitted(found: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """Measure, or read, who fits NIST's regressions or the models of fits.py; the report."""
    kind = "nist" if options.nist else "fits"
    measure, report = {
        "nist": (fitting.of_nist, fitting.nist_tables),
        "fits": (fitting.of_fits, fitting.fits_tables),
    }[kind]
    usual = fitters.SOLVERS if options.read else fitters.USUAL
    solvers = machine.chosen(options.contenders or ",".join(usual), fitters.SOLVERS)
    if options.read:
        for row in found[kind]:
            row["solvers"] = {name: row["solvers"][name] for name in solvers if name in row["solvers"]}
    else:
        only = options.only.split(";" if kind == "fits" else ",") if options.only else None
        exact = [True, False] if options.derivatives is None else [options.derivatives == "exact"]
        found[kind] = [row for way in exact for row in measure(solvers, only, way)]
    return report(found[kind])


# ---- who solves what --------------------------------------------------------------------------------------------


def solve(places: Sequence[tuple[str, int]], contenders: Sequence[str], most: int, jobs: int) -> list[dict[str, Any]]:
    """For each function, by its set and place there, the evaluations of each contender; None for a miss."""
    parts = 16 * jobs
    found: list[dict[str, Any]] = []
    with concurrent.futures.ProcessPoolExecutor(jobs) as pool:
        tasks = [pool.submit(_share, list(places[k::parts]), list(contenders), most) for k in range(parts)]
        for done in concurrent.futures.as_completed(tasks):
            found += done.result()
            machine.say(f"{len(found)} of {len(places)} functions")
    order = {name: i for i, name in enumerate(places)}
    return sorted(found, key=lambda row: order[row["set"], row["place"]])


def _wanted(kind: str, place: int, half: str | None) -> bool:
    return not kind.startswith("cutest") or half is None or place % 2 == (half == "second")


def _share(places: list[tuple[str, int]], contenders: list[str], most: int) -> list[dict[str, Any]]:
    rows = []
    for kind in dict.fromkeys(kind for kind, _ in places):
        wanted = {place for other, place in places if other == kind}
        for place, function in enumerate(functions(kind, most)):
            if place in wanted:
                row = {"set": kind, "place": place, "name": function.name, "n": len(function.start)}
                able = [c for c in contenders if function.ends is None or c in BOUNDED]
                rows.append(row | {"evaluations": {c: evaluations(function, c) for c in able}})
    return rows


def evaluations(function: Function, contender: str) -> int | None:
    """What it took a contender to solve a function; None if it did not."""
    watch = Watch(function)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            CONTENDERS[contender](watch, function.start.copy())
        except Enough:
            pass
        except Exception as error:  # a minimiser that fails has not solved it
            if not isinstance(error.__cause__, Enough):
                machine.say(f"{function.name}: {contender} raised {type(error).__name__}: {error}")
    return watch.solved


def report(rows: list[dict[str, Any]], contenders: Sequence[str]) -> list[str]:
    """The figures as Markdown."""
    text = []
    for kind in dict.fromkeys(row["set"] for row in rows):
        of_set = [row for row in rows if row["set"] == kind]
        text += _set_report(kind, of_set, _measured(of_set, contenders))
    return text


def _measured(rows: list[dict[str, Any]], contenders: Sequence[str]) -> list[str]:
    """Those that were asked for all functions."""
    return [name for name in contenders if all(name in row["evaluations"] for row in rows)]


def _set_report(kind: str, rows: list[dict[str, Any]], contenders: Sequence[str]) -> list[str]:
    ours = contenders[0]
    lines = []
    for name in contenders:
        counts = [row["evaluations"][name] for row in rows]
        line = [name, str(sum(c is not None for c in counts))]
        both = [
            row["evaluations"][ours] / row["evaluations"][name]
            for row in rows
            if row["evaluations"][ours] is not None and row["evaluations"][name] is not None
        ]
        lines.append([*line, *(ratio(both) if name != ours and both else ["", ""]), *_within(rows, name)])
    columns = ["", "solved", f"evaluations of {ours}, of its", "both", "within 1×", "2×", "5×"]
    found = [f"### {kind}: {len(rows)} functions", "", *machine.table(columns, lines)]
    missed = [row["name"] for row in rows if row["evaluations"][ours] is None]
    if missed:
        others = [n for n in missed if any(r["evaluations"][c] for r in rows if r["name"] == n for c in contenders)]
        found += [f"{ours} misses {', '.join(missed)}; of these, somebody solves {', '.join(others) or 'none'}.", ""]
    return found


def ratio(ratios: Sequence[float]) -> list[str]:
    """A geometric mean with its bootstrap interval at 95 %, and of how many."""
    logs = np.log(ratios)
    drawn = np.random.default_rng(0).integers(len(logs), size=(RESAMPLES, len(logs)))
    low, high = np.exp(np.quantile(logs[drawn].mean(axis=1), [0.025, 0.975]))
    return [f"{math.exp(float(logs.mean())):.3f}× [{low:.3f}, {high:.3f}]", str(len(ratios))]


def _within(rows: list[dict[str, Any]], name: str) -> list[str]:
    """The performance profile: on how many functions it took at most so many times what the best one took."""
    shares = []
    for factor in (1.0, 2.0, 5.0):
        count = 0
        for row in rows:
            best = min((c for c in row["evaluations"].values() if c is not None), default=None)
            mine = row["evaluations"][name]
            count += mine is not None and best is not None and mine <= factor * best
        shares.append(f"{count}/{len(rows)}")
    return shares


def picture(rows: list[dict[str, Any]], contenders: Sequence[str]) -> Any:
    """Performance profiles (Dolan and Moré 2002) and data profiles (Moré and Wild 2009), by evaluations."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    from descend.plots.styles import style

    contenders = _measured(rows, contenders)
    titles = ("within so many times the fewest evaluations", "within so many evaluations, of n + 1 each")
    figure = make_subplots(1, 2, shared_yaxes=True, subplot_titles=titles)
    best = [min((c for c in row["evaluations"].values() if c is not None), default=None) for row in rows]
    for k, name in enumerate(contenders):
        mine = [row["evaluations"][name] for row in rows]
        ratios = sorted(m / b for m, b in zip(mine, best, strict=True) if m is not None and b is not None)
        costs = sorted(m / (row["n"] + 1) for m, row in zip(mine, rows, strict=True) if m is not None)
        for column, values, least in ((1, ratios, 1.0), (2, costs, 0.1)):
            shares = [i / len(rows) for i in range(len(values) + 1)]
            line = go.Scatter(
                x=[least, *values], y=shares, name=name, legendgroup=name, showlegend=column == 1, mode="lines",
                line={"shape": "hv", "dash": style(k).dash, "color": style(k).colour},
            )  # fmt: skip
            figure.add_trace(line, 1, column)
    figure.update_xaxes(type="log", range=[0, 1], row=1, col=1)
    figure.update_xaxes(type="log", row=1, col=2)
    figure.update_yaxes(title=f"share of {len(rows)} functions", tickformat=".0%", range=[0, 1], row=1, col=1)
    return figure.update_layout(template="plotly_white", width=1100, height=450, margin={"t": 40, "b": 40})


# ---- the time beside the function -------------------------------------------------------------------------------


def overhead(sizes: Sequence[int] = (2, 1000), rounds: int = 7) -> list[dict[str, Any]]:
    """Microseconds an iteration on a chain of valleys, less what the function itself takes; they take turns."""
    names = ["descend", "descend bfgs", "L-BFGS-B 10", "L-BFGS-B 30", "BFGS"]
    rows = []
    for n in sizes:
        times: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(rounds):
            for name in names:
                steps = 20 if name == "BFGS" and n > 100 else 400
                times[name].append(_an_iteration(name, n, steps))
        rows.append({"n": n, "microseconds": {name: machine.spread(t) for name, t in times.items()}})
    return rows


def _an_iteration(name: str, n: int, most: int) -> float:
    """Microseconds that an iteration takes beside the function, on Rosenbrock's function or a chain of it."""
    spent, calls, steps = 0.0, 0, 0
    x0 = np.tile([-1.2, 1.0], n // 2)

    def fun(x: Array) -> tuple[float, Array]:
        nonlocal spent, calls
        began = time.perf_counter()
        calls += 1
        found = scipy.optimize.rosen(x), scipy.optimize.rosen_der(x)
        spent += time.perf_counter() - began
        return found

    methods = {"descend": "lbfgs", "descend bfgs": "bfgs"}
    began = time.perf_counter()
    while steps < most:
        if name in methods:
            result = descend.minimize(
                fun, x0, jac=True, method=methods[name], gtol=1e-300, max_steps=min(most, 30 if n == 2 else most),
                history=False,
            )  # fmt: skip
        else:
            options = {"gtol": 1e-300, "maxiter": min(most, 30 if n == 2 else most)}
            if name.startswith("L-BFGS-B"):
                options |= {"maxcor": int(name.split()[1]), "ftol": 0.0, "maxfun": 10**6}
            result = scipy.optimize.minimize(fun, x0, jac=True, method=name.split(maxsplit=1)[0], options=options)
        steps += result.nit
    return 1e6 * (time.perf_counter() - began - spent) / steps


def overhead_table(rows: list[dict[str, Any]]) -> list[str]:
    """Medians, and the ratio to each peer's."""
    names = list(rows[0]["microseconds"])
    lines = []
    for row in rows:
        medians = {name: figures["median"] for name, figures in row["microseconds"].items()}
        lines.append([str(row["n"]), *(f"{medians[name]:,.1f}" for name in names)])
    return ["### Microseconds an iteration beside the function", "", *machine.table(["n", *names], lines)]


# ---- many starts ------------------------------------------------------------------------------------------------


def many_starts(number: int = 64, rounds: int = 5) -> list[dict[str, Any]]:
    """Seconds for L-BFGS's 60 steps from many starts of a small network, together and in turn."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(200, 5))
    goal = np.sin(data @ rng.normal(size=5))
    starts = [
        {"w": rng.normal(size=(5, 8)), "b": np.zeros(8), "v": rng.normal(size=8) / math.sqrt(8)} for _ in range(number)
    ]
    rows = []
    for library in ("torch", "jax"):
        network = _network(library, data, goal)
        times: dict[str, list[float]] = {"together": [], "in turn": []}
        for round in range(rounds + 1):
            for name, vectorized in (("together", None), ("in turn", False)):
                began = time.perf_counter()
                result = descend.minimize(
                    network, starts[0], jac=library, starts=starts[1:], vectorized=vectorized, max_steps=60,
                    history=False,
                )  # fmt: skip
                if round:  # the first one loads and compiles
                    times[name].append(time.perf_counter() - began)
        evaluations = sum(run.nfev for run in result.runs)
        spread = {name: machine.spread(t) for name, t in times.items()}
        rows.append({"library": library, "starts": number, "evaluations": evaluations, "seconds": spread})
    return rows


def _network(library: str, data: Array, goal: Array) -> Callable[[Any], Any]:
    if library == "torch":
        import torch

        inputs, outputs, xp = torch.from_numpy(data), torch.from_numpy(goal), torch
    else:
        import jax

        jax.config.update("jax_enable_x64", True)
        inputs, outputs, xp = jax.numpy.asarray(data), jax.numpy.asarray(goal), jax.numpy

    def network(p: Any) -> Any:
        return xp.mean((xp.tanh(inputs @ p["w"] + p["b"]) @ p["v"] - outputs) ** 2)

    return network if library == "torch" else jax.jit(network)


def starts_table(rows: list[dict[str, Any]]) -> list[str]:
    """Medians, and how many times as long one after the other takes."""
    lines = []
    for row in rows:
        together, turn = (row["seconds"][name]["median"] for name in ("together", "in turn"))
        found = [row["library"], str(row["starts"]), f"{row['evaluations']:,}"]
        lines.append([*found, f"{together:.2f}", f"{turn:.2f}", f"{turn / together:.1f}×"])
    columns = ["gradients by", "starts", "evaluations", "seconds, side by side", "in turn", "ratio"]
    return ["### Many starts", "", *machine.table(columns, lines)]


if __name__ == "__main__":
    main()
