"""Which method minimises: the one that was named or, for "auto", one whose memory there should be room for."""

from __future__ import annotations

import warnings
from typing import Any

from descend import rules
from descend.errors import MethodError, did_you_mean
from descend.methods import BFGS, LBFGS, BarzilaiBorwein, ConjugateGradient, Method, TruncatedNewton, known, registry
from descend.minimization.options import MethodLike
from descend.parameters.bounds import Bounds
from descend.parameters.memory import Memory
from descend.rules import Rule, resolve
from descend.rules.registry import PACKAGE, own_rules, rule_named, spelling

__all__ = ["PAIRS_BYTES", "chosen", "named", "unused"]

SCIPYS = {
    "COBYLA": "for constraints, without gradients",
    "COBYQA": "for constraints, without gradients",
    "Nelder-Mead": "which needs no gradient",
    "Powell": "which needs no gradient",
    "SLSQP": "for constraints",
    "TNC": "a truncated Newton method for bounds",
    "dogleg": "which factorises Hessians",
    "trust-constr": "for constraints",
    "trust-exact": "which factorises Hessians",
}
"""SciPy's methods that have no name here, and what each is for."""

FEW = 100
"""Parameters for which "auto" takes BFGS, at most: its matrices take n² arithmetic a step, and save evaluations."""
PAIRS_BYTES, LEAST_PAIRS = 4 * 2**30, 5
"""What the pairs of "auto" may take, as may descents side by side; below how many pairs it takes another method."""


def chosen(
    method: MethodLike | None, memory: Memory, bounds: Bounds | None, *, hessian: bool = False
) -> tuple[Rule | Method, str]:
    """The rule or method that was named, or picked, and why; raises `MethodError` or `RuleError`.

    `hessian` says that the Hessian is given, or products with it.
    """
    if method is None or (isinstance(method, str) and method.strip().lower() == "auto"):
        if hessian and bounds is None:
            return TruncatedNewton(), "TruncatedNewton, as products with the Hessian are given"
        return _automatic(memory, bounds)
    found = named(method)
    if bounds is not None and isinstance(found, Method) and not found.takes_bounds:
        able = [name for name, made in registry().items() if made.takes_bounds]
        raise MethodError(
            f"{type(found).__name__} cannot keep to bounds; use a rule, or {', '.join(map(repr, sorted(able)))}"
        )
    return found, ""


def unused(rule: Rule | Method, argument: str) -> None:
    """Say that a rule or method makes no use of a Hessian that was given by an argument."""
    warnings.warn(
        f"{type(rule).__name__} does not use the Hessian ({argument}); leave it out, or use method='truncatednewton'",
        RuntimeWarning,
        stacklevel=6,
    )


def named(method: Any) -> Rule | Method:
    """The rule or method that is given as itself, by its class, or by its name; raises `MethodError`, `RuleError`."""
    found: Any = _method_named(method) if isinstance(method, str) else method
    if isinstance(found, type) and issubclass(found, Method) and found.name in registry(residuals=True):
        found = found()
    if isinstance(found, Method):
        if found.needs_residuals:
            raise MethodError(f"{type(found).__name__} needs residuals: use descend.least_squares(residuals, x0)")
        return found
    if isinstance(method, str):
        if rule_named(method) is None:
            raise _unknown(method)
    elif not (isinstance(method, Rule) or (isinstance(method, type) and issubclass(method, Rule))):
        raise MethodError(
            f"method={method!r} is neither a method nor a rule: pass one such as descend.LBFGS() or "
            "descend.Adam(lr=1e-3), or a name such as 'auto'"
        )
    return resolve(method)


def _unknown(name: str) -> MethodError:
    """What is said of a name that means nothing here, be it one of SciPy's methods."""
    theirs = {spelling(method): method for method in SCIPYS}.get(spelling(name))
    if theirs is not None:
        return MethodError(
            f"method={name!r} is a method of SciPy's, {SCIPYS[theirs]}: write "
            f"scipy.optimize.minimize(fun, x0, method={theirs!r}, …), or use 'auto' here"
        )
    names = ["auto", *registry(), *rules.all()]
    return MethodError(f"unknown method or rule {name!r}: {did_you_mean(spelling(name), names)}")


def _method_named(name: str) -> type[Method] | None:
    """The method of that name; None if there is none, or if it is shipped and the user has a rule of that name."""
    found = known(name)
    shipped = found is not None and found.__module__.partition(".")[0] == PACKAGE
    return None if shipped and spelling(name) in own_rules() else found


def _automatic(memory: Memory, bounds: Bounds | None) -> tuple[Method, str]:
    """BFGS for few parameters, and why; else L-BFGS, with the pairs that there is room for, or what needs none."""
    many = "1 parameter has" if memory.size == 1 else f"{memory.size:,} parameters have"
    if bounds is None and memory.size <= FEW:
        return BFGS(), f"BFGS, as {many} a whole gradient"
    usual = LBFGS()
    of_a_pair = LBFGS.bytes_of_a_pair(memory.size, bounded=bounds is not None)
    pairs = PAIRS_BYTES // of_a_pair
    if pairs >= usual.memory:
        return usual, f"LBFGS, as {many} a whole gradient"
    room = f"{usual.memory} pairs of {memory.size:,} parameters would take {usual.memory * of_a_pair / 2**30:.1f} GiB"
    if pairs >= LEAST_PAIRS:
        return LBFGS(memory=pairs), f"LBFGS(memory={pairs}), as {room}"
    least: Method = ConjugateGradient() if bounds is None else BarzilaiBorwein()
    return least, f"{type(least).__name__}, which keeps no pairs, as {room}"
