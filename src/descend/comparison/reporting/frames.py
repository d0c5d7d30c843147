"""A comparison's figures as data frames, and the files that they are exported to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descend.checks import one_of
from descend.comparison.planning.plan import Plan
from descend.comparison.running.runs import Run
from descend.errors import ComparisonError, MissingExtra, OptionError

if TYPE_CHECKING:
    from descend.comparison.reporting.comparison import Comparison

__all__ = ["exportable", "exported", "frame"]


def frame(comparison: Comparison, what: str) -> Any:
    """The runs, the curves or the rows of a comparison as a `pandas.DataFrame`."""
    try:
        import pandas as pd
    except ImportError as error:
        if error.name != "pandas":
            raise
        raise MissingExtra("pandas", "frames", "Comparison.frame") from None
    one_of("what", what, ("runs", "curves", "rows"))
    if what == "rows":
        return pd.json_normalize([dataclasses.asdict(row) for row in comparison.rows], sep="_")
    runs = [_run_in_a_row(comparison.plan, run) for run in comparison.runs]
    if what == "runs":
        return pd.DataFrame(runs)
    names = ("label", "batch_size", "lr", "seed", "phase", "study")
    return pd.DataFrame(
        [
            {n: row[n] for n in names} | dict(zip(("examples", "loss", "metric"), point, strict=True))
            for row, run in zip(runs, comparison.runs, strict=True)
            for point in run.curve
        ]
    )


_EXPORTS: dict[str, Callable[[Any, Path], Any]] = {
    ".csv": lambda frame, path: frame.to_csv(path, index=False),
    ".json": lambda frame, path: frame.to_json(path, orient="records", indent=1),
    ".parquet": lambda frame, path: frame.to_parquet(path, index=False),
}
"""How a file is written, by the end of its name."""


def exportable(path: str | Path) -> Path:
    """The path, if `Comparison.export` knows how to write such a file; raises `OptionError`."""
    path = Path(path)
    if path.suffix not in _EXPORTS:
        raise OptionError(f"{str(path)!r}: the name of the file must end in {', '.join(_EXPORTS)}")
    if not path.parent.is_dir():
        raise OptionError(f"{str(path)!r}: there is no folder {str(path.parent)!r}; make it, or choose another")
    return path


def exported(frame: Any, path: Path) -> Path:
    """Write a frame to a file; raises `ComparisonError` or `MissingExtra`."""
    try:
        _EXPORTS[path.suffix](frame, path)
    except ImportError:
        raise MissingExtra("pyarrow", "frames", f"A {path.suffix} file") from None
    except OSError as error:
        raise ComparisonError(f"{str(path)!r} cannot be written: {error.strerror or error}") from error
    return path


def _run_in_a_row(plan: Plan, run: Run) -> dict[str, Any]:
    entry = plan.all_entries[run.entry]
    figures = dataclasses.asdict(run)
    searched = figures.pop("hyperparameters")
    del figures["curve"]
    label = entry.label if run.phase != "reference" else f"{entry.label} (reference)"
    # A column of batch sizes has one type, also in formats that insist on it.
    size = str(searched.pop("batch_size", entry.batch_size))
    return {"label": label, "batch_size": size, "epochs": _epochs(plan, run), **searched, **figures}


def _epochs(plan: Plan, run: Run) -> float | None:
    """Passes over the training data; None without data."""
    return None if plan.examples is None else run.examples / plan.examples
