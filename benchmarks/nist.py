"""The 27 nonlinear regressions of NIST's Statistical Reference Datasets, with their models and exact Jacobians.

Data, starts and certified answers are read from the files in `strd/`. The models are their formulas, written for any
library whose functions are called as NumPy's are, so that JAX and PyTorch can differentiate them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Model = Callable[[Any, Any, Any], Any]
"""Predictions from a library of functions, predictors and parameters."""
Derivatives = Callable[[Array, Array], "list[Array]"]
"""The predictions' derivatives by each parameter, from predictors and parameters."""

FOLDER = Path(__file__).parent / "strd"


@dataclasses.dataclass(frozen=True, eq=False)
class Regression:
    """A model, its data and its certified answer."""

    name: str
    level: str
    """Of difficulty, as NIST says: lower, average or higher."""
    x: Array
    """The predictor, of shape (observations,); of Nelson both, (2, observations)."""
    y: Array
    """The response, of shape (observations,); of Nelson its logarithm, which is what its model predicts."""
    starts: Array
    """Both starts, of shape (2, parameters), the harder one first."""
    certified: Array
    """The parameters at the minimum."""
    deviations: Array
    """Their standard deviations."""
    sum_of_squares: float
    """Of the residuals at the minimum."""
    residual_deviation: float

    @property
    def degrees(self) -> int:
        """Observations less parameters; Rat43's file says 9, where its own figures are those of 11."""
        return len(self.y) - len(self.certified)

    @property
    def names(self) -> tuple[str, ...]:
        """b1, b2, … as in NIST's formula."""
        return tuple(f"b{k + 1}" for k in range(len(self.certified)))

    def model(self, b: Any, xp: Any = np) -> Any:
        """The predictions, of shape (observations,), by the functions of NumPy, jax.numpy or torch."""
        return MODELS[self.name][0](xp, self.x, b)

    def curve(self, x: Any, *b: Any) -> Any:
        """The model as `curve_fit` wants it: predictors first, then each parameter."""
        return MODELS[self.name][0](np, np.asarray(x), b)

    def residuals(self, b: Array) -> Array:
        """Predictions less responses; not finite, without a warning, where the formula is not."""
        with np.errstate(all="ignore"):
            return np.asarray(self.model(np.asarray(b, dtype=float)) - self.y)

    def jacobian(self, b: Array) -> Array:
        """The residuals' exact derivatives, of shape (observations, parameters)."""
        with np.errstate(all="ignore"):
            columns = MODELS[self.name][1](self.x, np.asarray(b, dtype=float))
            return np.stack([np.broadcast_to(column, self.y.shape) for column in columns], axis=1)

    def loss(self, b: Array) -> float:
        """The residual sum of squares."""
        r = self.residuals(b)
        with np.errstate(all="ignore"):
            return float(r @ r)

    def loss_and_gradient(self, b: Array) -> tuple[float, Array]:
        """The residual sum of squares and its exact gradient."""
        r = self.residuals(b)
        with np.errstate(all="ignore"):
            return float(r @ r), np.asarray(2 * (r @ self.jacobian(b)))

    def digits(self, b: Array) -> float:
        """How many digits of the certified parameters all of these have: −log₁₀ of the largest relative error."""
        error = np.abs(np.asarray(b, dtype=float) / self.certified - 1)
        return 0.0 if not np.isfinite(error).all() else min(11.0, -math.log10(max(float(error.max()), 1e-11)))


@functools.cache
def regression(name: str) -> Regression:
    """A regression by NIST's name."""
    return _read((FOLDER / f"{name}.dat").read_text(encoding="ascii"))


def regressions() -> list[Regression]:
    """All 27, as `MODELS` orders them: by NIST's level of difficulty."""
    return [regression(name) for name in MODELS]


def _read(text: str) -> Regression:
    """What a file of NIST's says."""
    lines = text.splitlines()
    found = re.search(r"Data +\(lines +(\d+) to +(\d+)\)", text)
    assert found is not None
    data = np.array([[float(word) for word in line.split()] for line in lines[int(found[1]) - 1 : int(found[2])]]).T
    values = re.findall(r"^ *b\d+ *= +(\S+) +(\S+) +(\S+) +(\S+) *$", text, re.MULTILINE)
    first, second, certified, deviations = np.array(values, dtype=float).T
    name = _after("Dataset Name:", text).split()[0]
    y, *x = data
    return Regression(
        name,
        _find(r"(Lower|Average|Higher) +Level of Difficulty", text).lower(),
        x[0] if len(x) == 1 else np.array(x),
        np.log(y) if name == "Nelson" else y,
        np.array([first, second]),
        certified,
        deviations,
        float(_after("Residual Sum of Squares:", text)),
        float(_after("Residual Standard Deviation:", text)),
    )


def _after(label: str, text: str) -> str:
    return _find(re.escape(label) + r" *(.+)", text)


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found is not None, pattern
    return found[1].strip()


# ---- the models: each a formula and its derivatives by each parameter -------------------------------------------


def _saturation(xp: Any, x: Any, b: Any) -> Any:
    return b[0] * (1 - xp.exp(-b[1] * x))


def _saturation_derivatives(x: Array, b: Array) -> list[Array]:
    e = np.exp(-b[1] * x)
    return [1 - e, b[0] * x * e]


def _misra1b(_: Any, x: Any, b: Any) -> Any:
    return b[0] * (1 - (1 + b[1] * x / 2) ** -2)


def _misra1b_derivatives(x: Array, b: Array) -> list[Array]:
    u = 1 + b[1] * x / 2
    return [1 - u**-2, b[0] * x * u**-3]


def _misra1c(_: Any, x: Any, b: Any) -> Any:
    return b[0] * (1 - (1 + 2 * b[1] * x) ** -0.5)


def _misra1c_derivatives(x: Array, b: Array) -> list[Array]:
    u = 1 + 2 * b[1] * x
    return [1 - u**-0.5, b[0] * x * u**-1.5]


def _misra1d(_: Any, x: Any, b: Any) -> Any:
    return b[0] * b[1] * x / (1 + b[1] * x)


def _misra1d_derivatives(x: Array, b: Array) -> list[Array]:
    u = 1 + b[1] * x
    return [b[1] * x / u, b[0] * x / u**2]


def _chwirut(xp: Any, x: Any, b: Any) -> Any:
    return xp.exp(-b[0] * x) / (b[1] + b[2] * x)


def _chwirut_derivatives(x: Array, b: Array) -> list[Array]:
    u = b[1] + b[2] * x
    f = np.exp(-b[0] * x) / u
    return [-x * f, -f / u, -x * f / u]


def _exponentials(xp: Any, x: Any, b: Any) -> Any:
    return b[0] * xp.exp(-b[1] * x) + b[2] * xp.exp(-b[3] * x) + b[4] * xp.exp(-b[5] * x)


def _exponentials_derivatives(x: Array, b: Array) -> list[Array]:
    found = []
    for k in (0, 2, 4):
        e = np.exp(-b[k + 1] * x)
        found += [e, -b[k] * x * e]
    return found


def _peaks(xp: Any, x: Any, b: Any) -> Any:
    first = b[2] * xp.exp(-((x - b[3]) ** 2) / b[4] ** 2)
    second = b[5] * xp.exp(-((x - b[6]) ** 2) / b[7] ** 2)
    return b[0] * xp.exp(-b[1] * x) + first + second


def _peaks_derivatives(x: Array, b: Array) -> list[Array]:
    e = np.exp(-b[1] * x)
    found = [e, -b[0] * x * e]
    for k in (2, 5):
        u = x - b[k + 1]
        e = np.exp(-(u**2) / b[k + 2] ** 2)
        found += [e, 2 * b[k] * e * u / b[k + 2] ** 2, 2 * b[k] * e * u**2 / b[k + 2] ** 3]
    return found


def _power(_: Any, x: Any, b: Any) -> Any:
    return b[0] * x ** b[1]


def _power_derivatives(x: Array, b: Array) -> list[Array]:
    p = x ** b[1]
    return [p, b[0] * np.log(x) * p]


def _rational(degree: int) -> tuple[Model, Derivatives]:
    """A quotient of two polynomials of one degree, the lower one beginning with 1."""

    def model(_: Any, x: Any, b: Any) -> Any:
        upper = sum(b[k] * x**k for k in range(degree + 1))
        return upper / (1 + sum(b[degree + k] * x**k for k in range(1, degree + 1)))

    def derivatives(x: Array, b: Array) -> list[Array]:
        lower = 1 + sum(b[degree + k] * x**k for k in range(1, degree + 1))
        f = model(np, x, b)
        return [x**k / lower for k in range(degree + 1)] + [-f * x**k / lower for k in range(1, degree + 1)]

    return model, derivatives


def _mgh09(_: Any, x: Any, b: Any) -> Any:
    return b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3])


def _mgh09_derivatives(x: Array, b: Array) -> list[Array]:
    upper, lower = x**2 + x * b[1], x**2 + x * b[2] + b[3]
    f = b[0] * upper / lower
    return [upper / lower, b[0] * x / lower, -f * x / lower, -f / lower]


def _mgh10(xp: Any, x: Any, b: Any) -> Any:
    return b[0] * xp.exp(b[1] / (x + b[2]))


def _mgh10_derivatives(x: Array, b: Array) -> list[Array]:
    u = x + b[2]
    e = np.exp(b[1] / u)
    return [e, b[0] * e / u, -b[0] * b[1] * e / u**2]


def _mgh17(xp: Any, x: Any, b: Any) -> Any:
    return b[0] + b[1] * xp.exp(-x * b[3]) + b[2] * xp.exp(-x * b[4])


def _mgh17_derivatives(x: Array, b: Array) -> list[Array]:
    first, second = np.exp(-x * b[3]), np.exp(-x * b[4])
    return [np.ones_like(x), first, second, -b[1] * x * first, -b[2] * x * second]


def _roszman(xp: Any, x: Any, b: Any) -> Any:
    return b[0] - b[1] * x - xp.arctan(b[2] / (x - b[3])) / math.pi


def _roszman_derivatives(x: Array, b: Array) -> list[Array]:
    u = x - b[3]
    squares = math.pi * (u**2 + b[2] ** 2)
    return [np.ones_like(x), -x, -u / squares, -b[2] / squares]


def _enso(xp: Any, x: Any, b: Any) -> Any:
    year, first, second = (2 * math.pi * x / period for period in (12, b[3], b[6]))
    annual = b[0] + b[1] * xp.cos(year) + b[2] * xp.sin(year)
    return annual + b[4] * xp.cos(first) + b[5] * xp.sin(first) + b[7] * xp.cos(second) + b[8] * xp.sin(second)


def _enso_derivatives(x: Array, b: Array) -> list[Array]:
    year = 2 * math.pi * x / 12
    found = [np.ones_like(x), np.cos(year), np.sin(year)]
    for k in (3, 6):
        angle = 2 * math.pi * x / b[k]
        cos, sin = np.cos(angle), np.sin(angle)
        found += [(b[k + 1] * sin - b[k + 2] * cos) * angle / b[k], cos, sin]
    return found


def _nelson(xp: Any, x: Any, b: Any) -> Any:
    return b[0] - b[1] * x[0] * xp.exp(-b[2] * x[1])


def _nelson_derivatives(x: Array, b: Array) -> list[Array]:
    e = x[0] * np.exp(-b[2] * x[1])
    return [np.ones_like(e), -e, b[1] * x[1] * e]


def _eckerle(xp: Any, x: Any, b: Any) -> Any:
    return b[0] / b[1] * xp.exp(-0.5 * ((x - b[2]) / b[1]) ** 2)


def _eckerle_derivatives(x: Array, b: Array) -> list[Array]:
    u = (x - b[2]) / b[1]
    e = np.exp(-0.5 * u**2) / b[1]
    return [e, b[0] * e * (u**2 - 1) / b[1], b[0] * e * u / b[1]]


def _rat42(xp: Any, x: Any, b: Any) -> Any:
    return b[0] / (1 + xp.exp(b[1] - b[2] * x))


def _rat42_derivatives(x: Array, b: Array) -> list[Array]:
    e = np.exp(b[1] - b[2] * x)
    slope = -b[0] * e / (1 + e) ** 2
    return [1 / (1 + e), slope, -x * slope]


def _rat43(xp: Any, x: Any, b: Any) -> Any:
    return b[0] / (1 + xp.exp(b[1] - b[2] * x)) ** (1 / b[3])


def _rat43_derivatives(x: Array, b: Array) -> list[Array]:
    e = np.exp(b[1] - b[2] * x)
    unit = (1 + e) ** (-1 / b[3])
    slope = -b[0] * unit * e / (1 + e) / b[3]
    return [unit, slope, -x * slope, b[0] * unit * np.log1p(e) / b[3] ** 2]


def _bennett(_: Any, x: Any, b: Any) -> Any:
    return b[0] * (b[1] + x) ** (-1 / b[2])


def _bennett_derivatives(x: Array, b: Array) -> list[Array]:
    u = b[1] + x
    p = u ** (-1 / b[2])
    return [p, -b[0] * p / (u * b[2]), b[0] * p * np.log(u) / b[2] ** 2]


MODELS: dict[str, tuple[Model, Derivatives]] = {
    "Misra1a": (_saturation, _saturation_derivatives),
    "Chwirut2": (_chwirut, _chwirut_derivatives),
    "Chwirut1": (_chwirut, _chwirut_derivatives),
    "Lanczos3": (_exponentials, _exponentials_derivatives),
    "Gauss1": (_peaks, _peaks_derivatives),
    "Gauss2": (_peaks, _peaks_derivatives),
    "DanWood": (_power, _power_derivatives),
    "Misra1b": (_misra1b, _misra1b_derivatives),
    "Kirby2": _rational(2),
    "Hahn1": _rational(3),
    "Nelson": (_nelson, _nelson_derivatives),
    "MGH17": (_mgh17, _mgh17_derivatives),
    "Lanczos1": (_exponentials, _exponentials_derivatives),
    "Lanczos2": (_exponentials, _exponentials_derivatives),
    "Gauss3": (_peaks, _peaks_derivatives),
    "Misra1c": (_misra1c, _misra1c_derivatives),
    "Misra1d": (_misra1d, _misra1d_derivatives),
    "Roszman1": (_roszman, _roszman_derivatives),
    "ENSO": (_enso, _enso_derivatives),
    "MGH09": (_mgh09, _mgh09_derivatives),
    "Thurber": _rational(3),
    "BoxBOD": (_saturation, _saturation_derivatives),
    "Rat42": (_rat42, _rat42_derivatives),
    "MGH10": (_mgh10, _mgh10_derivatives),
    "Eckerle4": (_eckerle, _eckerle_derivatives),
    "Rat43": (_rat43, _rat43_derivatives),
    "Bennett5": (_bennett, _bennett_derivatives),
}
"""The formulas by NIST's names."""
