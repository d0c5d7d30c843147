"""How well models are fitted to data: who finds the minimum, knows it, and stops; `minimize.py --nist` and `--fits`.

An evaluation is a call of the loss, or of the residuals: with exact derivatives they come along uncounted, and without,
each point of a difference counts.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import fits
import machine
import nist
import numpy as np
from fits import FITS, Fit
from fitters import Answer, Watch, able, solve

import descend

Array = np.ndarray[Any, np.dtype[Any]]


# ---- NIST's regressions -----------------------------------------------------------------------------------------


def nist_fits() -> list[tuple[nist.Regression, int, Fit]]:
    """Both starts of each of NIST's regressions."""
    found = []
    for problem in nist.regressions():
        for k, start in enumerate(problem.starts):
            name, jax = f"{problem.name} {k + 1}", _jax_residuals(problem)
            made = Fit(name, problem.loss_and_gradient, start, problem.residuals, problem.jacobian, model=jax)
            found.append((problem, k, made))
    return found


def _jax_residuals(problem: nist.Regression) -> Callable[[Any], Any]:
    def residuals(b: Any) -> Any:
        import jax.numpy as jnp

        return problem.model(b, jnp) - problem.y

    return residuals


def of_nist(solvers: Sequence[str], only: Sequence[str] | None, exact: bool) -> list[dict[str, Any]]:
    """For each start and solver: digits, what it says, and its evaluations."""
    rows: list[dict[str, Any]] = []
    for problem, k, fit in nist_fits():
        if only is not None and problem.name not in only:
            continue
        found = {}
        for solver in solvers:
            if able(solver, fit, exact):
                watch, answer = solve(solver, fit, exact)
                found[solver] = _figures(watch, answer) | {"digits": problem.digits(answer.x)}
        rows.append({"name": problem.name, "start": k + 1, "exact": exact, "solvers": found})
        machine.say(f"{fit.name}, {'exact' if exact else 'differences'}")
    return rows


def _figures(watch: Watch, answer: Answer) -> dict[str, Any]:
    return {
        "success": answer.success,
        "why": answer.why,
        "evaluations": watch.count,
        "after": watch.count - watch.improved if watch.improved else None,
    }


def nist_tables(rows: Sequence[dict[str, Any]]) -> list[str]:
    """How many each solver solves, and at what price."""
    text = []
    for exact in (True, False):
        of_kind = [row for row in rows if row["exact"] == exact]
        solvers = list(dict.fromkeys(name for row in of_kind for name in row["solvers"]))
        if of_kind:
            text += [f"### NIST StRD, {len(of_kind)} starts, {'exact derivatives' if exact else 'differences'}", ""]
            text += machine.table(NIST_COLUMNS, [_nist_line(name, of_kind) for name in solvers])
            ours = [row for row in of_kind if "descend" in row["solvers"]]
            missed = [f"{r['name']} {r['start']}" for r in ours if r["solvers"]["descend"]["digits"] < 4]
            text += [f"descend misses {', '.join(missed) or 'none'}.", ""] if ours else []
    return text


NIST_COLUMNS = (
    *("", "4 digits", "6", "8", "`success` below 4"),
    *("evaluations: median", "greatest", "after the last improvement, at most"),
)


def _nist_line(name: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    found = [row["solvers"][name] for row in rows if name in row["solvers"]]
    counts = [figures["evaluations"] for figures in found]
    after = [figures["after"] for figures in found if figures["after"] is not None]
    return [
        name,
        *(str(sum(figures["digits"] >= least for figures in found)) for least in (4, 6, 8)),
        str(sum(figures["success"] and figures["digits"] < 4 for figures in found)),
        f"{statistics.median(counts):,.0f}",
        f"{max(counts):,}",
        f"{max(after):,}" if after else "",
    ]


# ---- fits to data -----------------------------------------------------------------------------------------------


def of_fits(solvers: Sequence[str], only: Sequence[str] | None, exact: bool) -> list[dict[str, Any]]:
    """For each fit and solver: the loss it ends with, what it says, and its evaluations."""
    rows: list[dict[str, Any]] = []
    for name in FITS if only is None else [name for name in FITS if name in only]:
        problem = fits.fit(name)
        found = {}
        for solver in solvers:
            if able(solver, problem, exact):
                watch, answer = solve(solver, problem, exact)
                loss = problem.loss_and_gradient(answer.x)[0]
                found[solver] = _figures(watch, answer) | {"loss": loss, "x": answer.x.tolist()}
        rows.append({"name": name, "n": len(problem.start), "exact": exact, "solvers": found})
        machine.say(f"{name}, {'exact' if exact else 'differences'}")
    return rows


def lowest(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The lowest loss known of each fit: the best that anyone found, by either derivatives, polished."""
    found: dict[str, float] = {}
    for name in dict.fromkeys(row["name"] for row in rows):
        ends = [figures for row in rows if row["name"] == name for figures in row["solvers"].values()]
        best = min((e for e in ends if math.isfinite(e["loss"])), key=lambda e: e["loss"])
        found[name] = _polished(fits.fit(name), np.array(best["x"]))
    return found


def _polished(problem: Fit, x: Array) -> float:
    """The loss after Newton's steps, with Hessians by central differences of exact gradients, while it falls."""
    loss, g = problem.loss_and_gradient(x)
    for _ in range(20):
        steps = 1e-5 * np.maximum(np.abs(x), 1e-8)
        columns = [
            (problem.loss_and_gradient(x + s)[1] - problem.loss_and_gradient(x - s)[1]) / (2 * s.sum())
            for s in np.diag(steps)
        ]
        size = np.sqrt(np.abs(np.diag(columns)) + 1e-300)
        hessian = (np.array(columns) + np.array(columns).T) / 2 / np.outer(size, size)
        trial = x - np.linalg.lstsq(hessian, g / size, rcond=None)[0] / size
        if problem.ends is not None:
            trial = np.clip(trial, *problem.ends)
        lower, slope = problem.loss_and_gradient(trial)
        if not lower < loss:
            break
        x, loss, g = trial, lower, slope
    return loss


def fits_tables(rows: Sequence[dict[str, Any]]) -> list[str]:
    """How far each solver ends above the lowest loss known, relative to it, and with how many evaluations."""
    best, text = lowest(rows), []
    for exact in (True, False):
        of_kind = [row for row in rows if row["exact"] == exact]
        solvers = list(dict.fromkeys(name for row in of_kind for name in row["solvers"]))
        if of_kind:
            columns = ["", "parameters", *solvers]
            lines = [[row["name"], str(row["n"]), *(_cell(row, s, best) for s in solvers)] for row in of_kind]
            text += [f"### {len(of_kind)} fits, {'exact derivatives' if exact else 'differences'}", ""]
            text += [*machine.table(SUMMARY, [_summary(name, of_kind, best) for name in solvers])]
            text += [CELLS, "", *machine.table(columns, lines)]
    return text


CLOSE = 1e-8
SUMMARY = (
    "",
    "fits",
    f"within {CLOSE:.0e}",
    "`success` beyond it",
    "evaluations: median",
    "after the last improvement",
)


def _summary(name: str, rows: Sequence[dict[str, Any]], best: dict[str, float]) -> list[str]:
    """How many fits a solver ends close to the lowest loss known, and with how many evaluations."""
    mine = [row for row in rows if name in row["solvers"]]
    close = [above(row, name, best) <= CLOSE for row in mine]
    found = [row["solvers"][name] for row in mine]
    after = [figures["after"] for figures in found if figures["after"] is not None]
    return [
        *(name, str(len(mine)), str(sum(close))),
        str(sum(figures["success"] and not near for figures, near in zip(found, close, strict=True))),
        f"{statistics.median(figures['evaluations'] for figures in found):,.0f}",
        f"at most {max(after):,}" if after else "",
    ]


CELLS = "Loss above the lowest known, relative; evaluations, and of these after the last improvement; – no success."


def above(row: dict[str, Any], solver: str, best: dict[str, float]) -> float:
    """By how much a solver's loss lies above the lowest known, relative to that."""
    low = best[row["name"]]
    return max(0.0, (row["solvers"][solver]["loss"] - low) / max(abs(low), 1e-300))


def _cell(row: dict[str, Any], solver: str, best: dict[str, float]) -> str:
    if solver not in row["solvers"]:
        return ""
    figures, far = row["solvers"][solver], above(row, solver, best)
    after = "" if figures["after"] is None else f" ({figures['after']:,})"
    return f"{'' if figures['success'] else '– '}{far:.0e}; {figures['evaluations']:,}{after}"


# ---- least squares from many starts -----------------------------------------------------------------------------


def many_starts(number: int = 64, rounds: int = 5) -> list[dict[str, Any]]:
    """Seconds for least squares in JAX from many starts of NIST's Gauss1, together and in turn."""
    import jax

    jax.config.update("jax_enable_x64", True)
    problem = nist.regression("Gauss1")
    x, y, model = jax.numpy.asarray(problem.x), jax.numpy.asarray(problem.y), nist.MODELS["Gauss1"][0]
    residuals = jax.jit(lambda b: model(jax.numpy, x, b) - y)
    spread = np.random.default_rng(0).uniform(0.9, 1.1, (number, len(problem.certified)))
    starts = [jax.numpy.asarray(problem.certified * row) for row in spread]
    times: dict[str, list[float]] = {"together": [], "in turn": []}
    for round in range(rounds + 1):
        for name, taken in times.items():
            began = time.perf_counter()
            if name == "together":
                runs = descend.least_squares(residuals, starts[0], starts=starts[1:], history=False).runs
            else:
                runs = [descend.least_squares(residuals, start, history=False) for start in starts]
            if round:  # the first one loads and compiles
                taken.append(time.perf_counter() - began)
    evaluations = sum(run.nfev for run in runs)
    seconds = {name: machine.spread(t) for name, t in times.items()}
    return [{"library": "jax, least squares", "starts": number, "evaluations": evaluations, "seconds": seconds}]
