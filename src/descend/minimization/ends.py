"""What `minimize` and `least_squares` do alike around their descents: how they end for the caller, budgets, counts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from descend.descent.interrupts import Interrupts, interruptible
from descend.descent.result import Result
from descend.errors import ObjectiveError, OptionError, StateError

__all__ = ["freed", "reading_counts", "require_enough", "result_of"]


class Costly(Protocol):
    """An objective that knows how many evaluations one derivative takes."""

    source: str

    @property
    def cost(self) -> int:
        """How many evaluations a derivative takes, with that of the point."""


def result_of(outcome_of: Callable[[Interrupts], Any]) -> Any:
    """The result that a descent comes to, while Ctrl-C is a question; raises the error or interrupt that ended it."""
    outcome = interruptible(outcome_of)
    if isinstance(outcome, Result):
        return outcome
    raise outcome from outcome.__cause__


def freed(error: ObjectiveError) -> ObjectiveError:
    """The error without the frames that it went through, and what they hold; those of the user's are on its cause."""
    error.__context__ = None
    return error.with_traceback(None)


def require_enough(max_evals: int | None, objective: Costly, derivative: str) -> None:
    """Raise `OptionError` where a budget is below one derivative, which is called a gradient or a Jacobian."""
    if max_evals is not None and max_evals < objective.cost:
        raise OptionError(
            f"max_evals={max_evals} does not pay for one {derivative}, which takes {objective.cost} evaluations "
            f"({objective.source}): raise it, or give jac"
        )


@contextlib.contextmanager
def reading_counts() -> Iterator[None]:
    """Raise `StateError` where the counts of a state are read, and it has none."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"state= has no count of evaluations ({type(error).__name__}: {error})") from error
