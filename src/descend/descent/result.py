"""What a descent gives back, with SciPy's field names."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from descend.descent.fields import Fields
from descend.descent.history import History
from descend.descent.uncertain import Uncertain
from descend.stopping import Reason

__all__ = ["FitResult", "Result"]


@dataclasses.dataclass(eq=False)
class Result(Fields, Uncertain):
    """The outcome of `minimize`, a mapping of its fields: they are read as attributes or as items, as in SciPy.

    `x` is the point where a criterion that was asked for holds or, where none does, the best finite point seen; it is
    built as `x0` was. `fun` and `jac` belong to it; `x_last` is where the last step led. `nit` counts steps, `nfev`
    evaluations of the function, `njev` of its gradient, `nhev` of products with its Hessian, or of the matrix where
    that is given. `success` says whether a criterion that was asked for holds;
    `reason` is why it stopped, `message` the same for people. `method` is the rule or method that was used, and `why`
    why it was picked, if it was. `state` is what it takes to go on (``minimize(state=…)``), `runs` the results from
    each of several starts.
    """

    derived: ClassVar[tuple[str, ...]] = ("success", "status", "state")
    elsewhere: ClassVar[dict[str, str]] = {
        "allvecs": "pass history='path', and read history.path",
        "hess_inv": "covariance() computes the inverse of the Hessian at x",
    }

    x: Any
    fun: float
    jac: Any
    nit: int
    nfev: int
    njev: int
    reason: Reason
    message: str
    history: History | None
    x_last: Any
    seconds: float
    nhev: int = dataclasses.field(default=0, kw_only=True)
    method: Any = dataclasses.field(default=None, kw_only=True)
    why: str = dataclasses.field(default="", kw_only=True)
    runs: tuple[Result, ...] = dataclasses.field(default=(), kw_only=True, repr=False)
    _state: Any = dataclasses.field(default=None, kw_only=True, repr=False, compare=False)
    _errors: Any = dataclasses.field(default=None, kw_only=True, repr=False, compare=False)

    @property
    def success(self) -> bool:
        """Whether a criterion that was asked for holds."""
        return self.reason.success

    @property
    def status(self) -> int:
        """0 for success, else a number for the reason."""
        return self.reason.status

    @property
    def state(self) -> dict[str, Any] | None:
        """What it takes to go on (``minimize(state=…)``), as arrays by name: put together when it is asked for."""
        found: dict[str, Any] | None = self._state() if callable(self._state) else self._state
        return found

    def __getstate__(self) -> dict[str, Any]:
        errors = None if self._errors is None else self._errors.portable(self)
        return vars(self) | {"_state": self.state, "_errors": errors}

    def _outline(self) -> list[tuple[str, Any]]:
        """What is printed, line by line: a name and a value."""
        lines = [("message", self.message), ("reason", self.reason), ("success", self.success)]
        if self.method is not None:
            lines.append(("method", f"{self.method!r}{f' ({self.why})' if self.why else ''}"))
        return lines + [(k, getattr(self, k)) for k in ("fun", "x", "jac", "nit", "nfev", "njev", "history")]

    def __repr__(self) -> str:
        lines = self._outline()
        width = max(len(name) for name, _ in lines)
        return "\n".join(f"{name:>{width + 1}}: {_short(value)}" for name, value in lines)


@dataclasses.dataclass(repr=False, eq=False)
class FitResult(Result):
    """The outcome of `fit`: a `Result` whose `x` is the trained parameters, with what was measured on the way.

    `x` is where the last step led or, with ``keep_best``, the point with the best validation metric; `best` is the
    evaluation of that point in either case, None where nothing tells whether a higher metric is better. `fun` is the
    loss on the whole training data at `x`; `jac` is None, as no gradient over all of them is computed. `examples`
    counts gradient evaluations, `epochs` passes over the training data. Metrics are NaN where there are no such data.
    `buffers` holds what else of a torch module belongs to `x`: its buffers, and parameters that were not trained.
    `seed` is the one that it was made from. `interrupted` says whether Ctrl-C was pressed, if only while the figures of
    a finished training were measured.
    """

    examples: int
    epochs: float
    metric_name: str
    validation_metric: float
    test_metric: float
    best: Any
    buffers: Any
    seed: int = 0
    interrupted: bool = False

    def _outline(self) -> list[tuple[str, Any]]:
        metric, best = self.metric_name, self.best
        lines = [("message", self.message), ("reason", self.reason), ("success", self.success), ("fun", self.fun)]
        lines += [(name, f"{getattr(self, name)} ({metric})") for name in ("validation_metric", "test_metric")]
        if best is not None:
            lines.append(("best", f"{best.validation_metric} ({metric}) on validation data after step {best.step}"))
        names = ("x", "nit", "nfev", "njev", "examples", "epochs", "seed", "seconds", "history")
        return lines + [(name, getattr(self, name)) for name in names]

    @property
    def params(self) -> Any:
        """The trained parameters: another name for `x`."""
        return self.x

    @property
    def success(self) -> bool:
        """Whether the descent did what was asked: a criterion holds, or its budget was spent without a failure."""
        return self.reason.kind in ("converged", "spent")

    @property
    def status(self) -> int:
        """0 for success, else a number for the reason."""
        return 0 if self.success else self.reason.status


LINES, WIDTH = 6, 200
"""How much of a value is printed."""


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, (str, Reason)) else str(value)
    lines = text.splitlines()
    lines = lines if len(lines) <= LINES else [*lines[: LINES - 1], "…"]
    return "\n".join(line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…" for line in lines)
