"""When a descent stops, and why: a reason with advice, never a shrug."""

from __future__ import annotations

import dataclasses
import enum
import functools

from descend.checks import count, optional, real, seconds, tolerance

__all__ = ["Criteria", "Reason", "bound"]

DIVERGENCE = 1e8
"""A descent has diverged when its loss exceeds this many times max(1, |first loss|)."""


def bound(first: float) -> float:
    """How much a loss may grow from the first one before its descent has diverged."""
    return DIVERGENCE * max(1.0, abs(first))


class Reason(enum.Enum):
    """Why a descent stopped. Each has a `kind`, a sentence, and advice.

    Kinds: ``converged`` (a criterion that was asked for holds or, where none was, no lower point can be told),
    ``spent`` (a budget is used up), ``asked`` (a callback or the user stopped it), ``failed``.
    """

    GRADIENT = "gradient", "converged", "Converged: the gradient is within gtol.", ""
    VALUE = "value", "converged", "Converged: the loss changes by less than ftol.", ""
    STEP = "step", "converged", "Converged: the steps are shorter than xtol.", ""
    TARGET = "target", "converged", "Converged: the target is reached.", ""
    RESOLUTION = "resolution", "converged", "Converged: no lower point can be told.", ""
    MAX_STEPS = "max_steps", "spent", "Stopped: all steps are spent.", "Raise max_steps, or loosen the tolerance."
    MAX_EVALS = "max_evals", "spent", "Stopped: all evaluations are spent.", "Raise max_evals, or loosen the tolerance."
    MAX_SECONDS = "max_seconds", "spent", "Stopped: the time is spent.", "Raise max_seconds, or loosen the tolerance."
    NO_PROGRESS = (
        "no_progress",
        "spent",
        "Stopped early: the validation metric has stopped improving.",
        "Raise patience to go on for longer.",
    )
    CALLBACK = "callback", "asked", "Stopped: the callback asked for it.", ""
    INTERRUPTED = "interrupted", "asked", "Interrupted.", "This is the result so far; run again to go further."
    DIVERGED = (
        "diverged",
        "failed",
        "Diverged: the loss has grown beyond all bounds.",
        "Lower the learning rate; a tenth is a good next try.",
    )
    NON_FINITE = (
        "non_finite",
        "failed",
        "Stopped: a value is not finite.",
        "Lower the learning rate, or keep the function's argument inside its domain.",
    )
    LINE_SEARCH = (
        "line_search",
        "failed",
        "Stopped: no lower point was found.",
        "Check the gradient (check_gradient=True); if it is right, rounding hides what is left: loosen gtol.",
    )
    STALLED = (
        "stalled",
        "failed",
        "Stopped: the loss has stopped falling.",
        "See whether the function is smooth there, and its gradient exact; if so, loosen the tolerance.",
    )
    UNBOUNDED = (
        "unbounded",
        "failed",
        "Stopped: the loss falls without end.",
        "Bound the parameters, or see whether the sign of the function is right.",
    )
    FUNCTION_RAISED = (
        "function_raised",
        "failed",
        "Stopped: the function failed.",
        "Mend the function; the history up to there is kept.",
    )
    KILLED = (
        "killed",
        "failed",
        "Stopped: the process died.",
        "It ran out of memory, or was killed; use fewer jobs if memory is short.",
    )
    OVERDUE = (
        "overdue",
        "failed",
        "Stopped: the run took longer than it may.",
        "See what it waits for, or raise max_run_seconds.",
    )

    def __init__(self, code: str, kind: str, sentence: str, advice: str) -> None:
        self.code = code
        self.kind = kind
        self.sentence = sentence
        self.advice = advice

    @property
    def success(self) -> bool:
        """Whether a criterion that was asked for holds or, where none was, no lower point can be told."""
        return self.kind == "converged"

    @property
    def status(self) -> int:
        """SciPy's status number: 0 for success, else the position of the reason in this enum."""
        return 0 if self.success else list(Reason).index(self)

    def message(self, detail: str = "", advice: str | None = None) -> str:
        """The sentence, what was seen, and the advice: that for the case at hand, where there is one."""
        return " ".join(part for part in (self.sentence, detail, self.advice if advice is None else advice) if part)

    def __str__(self) -> str:
        return self.code

    def __repr__(self) -> str:
        return f"<Reason.{self.name}>"


@dataclasses.dataclass(frozen=True)
class Criteria:
    """What a descent is asked to stop at. None switches a criterion off.

    `gtol` bounds the largest absolute gradient entry; `ftol` the change of the loss in one step, relative to
    max(1, |loss|); `xtol` the largest change of a parameter in one step, relative to max(1, largest |parameter|).
    `target` is a loss: reached when the loss is at most that (at least, when climbing).
    """

    gtol: float | None = None
    ftol: float | None = None
    xtol: float | None = None
    target: float | None = None
    max_steps: int | None = None
    max_evals: int | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("gtol", "ftol", "xtol"):
            optional(tolerance, name, getattr(self, name))
        optional(count, "max_steps", self.max_steps, at_least=0)
        optional(count, "max_evals", self.max_evals)
        optional(seconds, "max_seconds", self.max_seconds)
        optional(real, "target", self.target, otherwise="None for no target")

    @functools.cached_property
    def has_tolerance(self) -> bool:
        """Whether anything but a budget can end the descent."""
        return any(v is not None for v in (self.gtol, self.ftol, self.xtol, self.target))

    @functools.cached_property
    def limits_evaluations(self) -> bool:
        """Whether a budget can run out between two evaluations of one step."""
        return self.max_evals is not None or self.max_seconds is not None
