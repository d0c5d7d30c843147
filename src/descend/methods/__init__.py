"""How to go down where the whole gradient is at hand: quasi-Newton methods, conjugate gradients, line searches.

A rule steps by one gradient, and suits noisy ones. A method looks further: it searches along its direction for a lower
point, and learns from how the gradient changes on the way.

>>> from descend import methods
>>> sorted(methods.registry())[:4]
['acceleratedgradient', 'adaptivegradient', 'barzilaiborwein', 'bfgs']
"""

from __future__ import annotations

from descend.errors import MethodError
from descend.methods.base import LineObjective, Method, MethodRun, registry
from descend.methods.conjugate import ConjugateGradient
from descend.methods.first_order import AcceleratedGradient, AdaptiveGradient, BarzilaiBorwein, SteepestDescent
from descend.methods.levenberg_marquardt import LevenbergMarquardt
from descend.methods.newton import TruncatedNewton
from descend.methods.quasi_newton import BFGS, LBFGS
from descend.methods.searches import Armijo, Search, Wolfe
from descend.rules.registry import spelling

__all__ = [
    "BFGS",
    "LBFGS",
    "AcceleratedGradient",
    "AdaptiveGradient",
    "Armijo",
    "BarzilaiBorwein",
    "ConjugateGradient",
    "LevenbergMarquardt",
    "LineObjective",
    "Method",
    "MethodError",
    "MethodRun",
    "Search",
    "SteepestDescent",
    "TruncatedNewton",
    "Wolfe",
    "known",
    "registry",
]

ALIASES = {
    "bb": "barzilaiborwein",
    "cg": "conjugategradient",
    "lbfgsb": "lbfgs",
    "lm": "levenbergmarquardt",
    "newtoncg": "truncatednewton",
    "trustkrylov": "truncatednewton",
    "trustncg": "truncatednewton",
}
"""What SciPy and the literature call some of them."""


def known(name: str) -> type[Method] | None:
    """The method of that name, in any spelling; None if there is none."""
    short = spelling(name)
    named = registry(residuals=True)
    return named.get(short) or named.get(ALIASES.get(short, short))
