"""A comparison's figures as rows, of a data frame or of a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from descend.checks import one_of
from descend.comparison.planning.plan import Plan
from descend.comparison.running.runs import Run
from descend.errors import MissingExtra

if TYPE_CHECKING:
    from descend.comparison.reporting.comparison import Comparison

__all__ = ["frame", "rows_of"]


def frame(rows: Sequence[dict[str, Any]]) -> Any:
    """Rows as a `pandas.DataFrame`."""
    try:
        import pandas as pd
    except ImportError as error:
        if error.name != "pandas":
            raise
        raise MissingExtra("pandas", "frames", "Comparison.frame") from None
    return pd.DataFrame(rows)


def rows_of(comparison: Comparison, what: str) -> list[dict[str, Any]]:
    """The runs, the curves or the rows of a comparison, each as a row of a frame or a file."""
    one_of("what", what, ("runs", "curves", "rows"))
    if what == "rows":
        return [_flat(dataclasses.asdict(row)) for row in comparison.rows]
    runs = [_run_in_a_row(comparison.plan, run) for run in comparison.runs]
    _of_one_kind(runs, {name for run in comparison.runs for name in run.hyperparameters} - {"batch_size"})
    if what == "runs":
        return runs
    names = ("label", "batch_size", "lr", "seed", "phase", "study")
    return [
        {n: row[n] for n in names} | dict(zip(("examples", "loss", "metric"), point, strict=True))
        for row, run in zip(runs, comparison.runs, strict=True)
        for point in run.curve
    ]


def _flat(nested: dict[str, Any]) -> dict[str, Any]:
    """A dict of dicts as one, whose names are those on the way there."""
    found: dict[str, Any] = {}
    for name, value in nested.items():
        inner = _flat(value) if isinstance(value, dict) else None
        found |= {name: value} if inner is None else {f"{name}_{deeper}": v for deeper, v in inner.items()}
    return found


def _run_in_a_row(plan: Plan, run: Run) -> dict[str, Any]:
    entry = plan.all_entries[run.entry]
    figures = dataclasses.asdict(run)
    searched = figures.pop("hyperparameters")
    del figures["curve"]
    label = entry.label if run.phase != "reference" else f"{entry.label} (reference)"
    # A column of batch sizes has one type, also in formats that insist on it.
    size = str(searched.pop("batch_size", entry.batch_size))
    return {"label": label, "batch_size": size, "epochs": _epochs(plan, run), **searched, **figures}


def _of_one_kind(rows: Sequence[dict[str, Any]], names: Iterable[str]) -> None:
    """Write values of mixed kinds in a column, and what is no number, flag or text, as text: no format has others."""
    for name in names:
        kinds = {_kind(row[name]) for row in rows if name in row}
        if len(kinds) > 1 or "" in kinds:
            for row in rows:
                if name in row:
                    row[name] = str(row[name])


def _kind(value: Any) -> str:
    """What a column of such values is one of: flags, numbers, texts, or lists of numbers; empty for anything else."""
    if isinstance(value, tuple):
        return "numbers" if {_kind(v) for v in value} <= {"number"} else ""
    kinds = {bool: "flag", int: "number", float: "number", str: "text"}
    return kinds.get(type(value), "")


def _epochs(plan: Plan, run: Run) -> float | None:
    """Passes over the training data; None without data."""
    return None if plan.examples is None else run.examples / plan.examples
