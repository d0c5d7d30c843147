"""Gradient descent for Python: every update rule written once, and the fairest comparison of them.

The words, used in this sense everywhere:

rule
    What one update is, such as ``descend.Adam(lr=1e-3)``: hyperparameters, names of its state, one formula.
method
    How to go down where the whole gradient is at hand, such as ``descend.LBFGS()``: a direction with a search.
engine
    Who runs a rule over memory: the reference engine is the rule itself on NumPy arrays.
problem
    Where the parameters start, the loss and its gradient, data split into train, validation and test, a metric.
descent
    The loop that takes a problem and a rule to a *result* with a *stop reason* and a *history*.
comparison
    A planned experiment over rules × learning rates × seeds. A *run* is one descent of it, the *store* its SQLite
    file.

The doors:

minimize
    From a function and a start to a result, with SciPy's field names.
least_squares, curve_fit
    From residuals, or a model and data, to a fit: as in SciPy.
fit
    From a problem to trained parameters: batch gradient descent, SGD, mini-batches.
fit_many
    The same for many learning rates and seeds, as one program.
compare
    Which rule and which learning rate, for this problem?
find_lr
    Where to look for a learning rate: the range test.

>>> import descend
>>> descend.minimize(lambda x: (x - 3) ** 2, 0.0, jac=lambda x: 2 * (x - 3), method=descend.GD(lr=0.1), max_steps=100).x
2.9999999993888893
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from descend import engines, errors, methods, objectives, problems, rules, schedules
from descend.descent.history import Evaluation, History
from descend.descent.result import FitResult, Result
from descend.errors import DescendError
from descend.methods import (
    BFGS,
    LBFGS,
    AcceleratedGradient,
    AdaptiveGradient,
    Armijo,
    BarzilaiBorwein,
    ConjugateGradient,
    LevenbergMarquardt,
    Method,
    SteepestDescent,
    TruncatedNewton,
    Wolfe,
)
from descend.minimization.minimize import minimize
from descend.problems import Problem
from descend.regression.curve_fit import CurveFit, curve_fit
from descend.regression.least_squares import least_squares
from descend.regression.result import LeastSquaresResult
from descend.rules import (
    ADOPT,
    ASGD,
    GD,
    SGD,
    AdaBelief,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Adan,
    AdEMAMix,
    Lion,
    Momentum,
    NAdam,
    Nesterov,
    RAdam,
    RMSprop,
    Rprop,
    Rule,
    Yogi,
    hyper,
)
from descend.stopping import Reason
from descend.training.fit import fit
from descend.training.fit_many import fit_many, stackable
from descend.training.lr_range_test import RangeTest, find_lr

if TYPE_CHECKING:
    from descend import optim, plots
    from descend.comparison import Choice, Comparison, Entry, LogUniform, Suite, Uniform, compare, compare_all
    from descend.engines.optax import to_optax
    from descend.problems import TorchProblem

__version__ = "0.1.0"

__all__ = [
    "ADOPT",
    "ASGD",
    "BFGS",
    "GD",
    "LBFGS",
    "SGD",
    "AcceleratedGradient",
    "AdEMAMix",
    "AdaBelief",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Adan",
    "AdaptiveGradient",
    "Armijo",
    "BarzilaiBorwein",
    "Choice",
    "Comparison",
    "ConjugateGradient",
    "CurveFit",
    "DescendError",
    "Entry",
    "Evaluation",
    "FitResult",
    "History",
    "LeastSquaresResult",
    "LevenbergMarquardt",
    "Lion",
    "LogUniform",
    "Method",
    "Momentum",
    "NAdam",
    "Nesterov",
    "Problem",
    "RAdam",
    "RMSprop",
    "RangeTest",
    "Reason",
    "Result",
    "Rprop",
    "Rule",
    "SteepestDescent",
    "Suite",
    "TorchProblem",
    "TruncatedNewton",
    "Uniform",
    "Wolfe",
    "Yogi",
    "compare",
    "compare_all",
    "curve_fit",
    "engines",
    "errors",
    "find_lr",
    "fit",
    "fit_many",
    "hyper",
    "least_squares",
    "methods",
    "minimize",
    "objectives",
    "optim",
    "plots",
    "problems",
    "rules",
    "schedules",
    "stackable",
    "to_optax",
]


def __getattr__(name: str) -> Any:
    # What needs an optional or a slow package is loaded when it is asked for.
    if name in ("Choice", "Comparison", "Entry", "LogUniform", "Suite", "Uniform", "compare", "compare_all"):
        return getattr(importlib.import_module("descend.comparison"), name)
    if name == "TorchProblem":
        return problems.TorchProblem
    if name == "to_optax":
        return _to_optax()
    if name in ("optim", "plots"):
        return importlib.import_module(f"descend.{name}")
    raise AttributeError(f"module 'descend' has no attribute {name!r}")


def _to_optax() -> Any:
    try:
        from descend.engines.optax import to_optax
    except ImportError as error:
        if error.name not in ("jax", "optax"):
            raise
        raise errors.MissingExtra(error.name, "optax", "descend.to_optax") from None
    return to_optax


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
