"""What to do about a descent that has ended as it should not: it depends on its method, and on its gradient."""

from __future__ import annotations

from descend.methods import Method
from descend.objectives.autodiff import AUTODIFF
from descend.objectives.differences import DIFFERENCES
from descend.rules import Rule
from descend.stopping import Reason

__all__ = ["advice_for"]

OF_METHODS = {
    Reason.DIVERGED: "Bound the parameters, or begin elsewhere.",
    Reason.NON_FINITE: "Keep the function's argument inside its domain: by bounds, or by another start.",
}
"""What to do where a method, which has no learning rate, has failed."""
OF_DIFFERENCES = {
    Reason.LINE_SEARCH: "The gradient is by finite differences: give jac, or see whether the function is noisy.",
    Reason.STALLED: "The gradient is by finite differences: give jac, or see whether the function is noisy.",
}
"""What to do where no gradient was given."""
OF_AUTODIFF = {
    Reason.LINE_SEARCH: "See whether the function is smooth; if it is, rounding hides what is left: loosen gtol.",
}
"""What to do where the gradient need not be checked."""


def advice_for(reason: Reason, rule: Rule | Method, source: str) -> str:
    """The advice for a reason, a rule or method, and the source of the gradient."""
    found = OF_METHODS.get(reason) if isinstance(rule, Method) else None
    if found is None and source in DIFFERENCES:
        found = OF_DIFFERENCES.get(reason)
    if found is None and source in AUTODIFF:
        found = OF_AUTODIFF.get(reason)
    return reason.advice if found is None else found
