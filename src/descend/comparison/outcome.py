"""The outcome of a comparison: its data, the answer in a sentence, the table as text, everything as JSON."""

from __future__ import annotations

import dataclasses
import io
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from descend.comparison.plan import Plan, counted
from descend.comparison.runs import Run
from descend.comparison.statistics import Row, Sensitivity
from descend.comparison.workers import cores
from descend.errors import ComparisonError, MissingExtra, OptionError
from descend.intervals import Interval
from descend.plain import plain

__all__ = ["Comparison", "exportable", "listed", "number", "rate", "spread", "where"]

SCHEMA = 1
NAME_WIDTH = 14
"""How far the table may narrow a technique's name before it folds."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A finished comparison. Printed, it is its table.

    `rows` is the table, best first; `runs` every run, tuning and final; `notes` what a reader should know before
    believing the table; `answer` the outcome in a sentence. `source` is the name or file that the
    problem was loaded from, None for one made in Python.
    """

    plan: Plan
    source: str | None
    rows: tuple[Row, ...]
    sensitivity: tuple[Sensitivity, ...]
    runs: tuple[Run, ...]
    notes: tuple[str, ...]
    summary: str
    shape: dict[str, int]
    optimum: float | None
    seconds: float
    jobs: int | None
    reused: int
    finished: str
    versions: dict[str, str]
    machine: str

    @property
    def answer(self) -> str:
        """The outcome in one sentence, with the cost at which it holds."""
        return _answer(self)

    @property
    def took(self) -> str:
        """How long it took, and where."""
        return f"{self.seconds:.0f} s {where(self.jobs)}"

    def to_dict(self, *, runs: bool = True) -> dict[str, Any]:
        """Everything as JSON holds it; a miss is null."""
        return _as_json(self, runs=runs)

    def frame(self, what: str = "runs") -> Any:
        """The figures as a `pandas.DataFrame`.

        Parameters
        ----------
        what
            ``"runs"``: a row for each run, with its entry's label and batch size, and without its curve. ``"curves"``:
            a row for each look of each run. ``"rows"``: the table.
        """
        try:
            import pandas as pd
        except ImportError as error:
            if error.name != "pandas":
                raise
            raise MissingExtra("pandas", "frames", "Comparison.frame") from None
        if what == "rows":
            return pd.json_normalize([dataclasses.asdict(row) for row in self.rows], sep="_")
        if what not in ("runs", "curves"):
            raise OptionError(f"what={what!r}: 'runs', 'curves' or 'rows' is needed")
        runs = [_run_in_a_row(self.plan, run) for run in self.runs]
        if what == "runs":
            return pd.DataFrame(runs)
        names = ("label", "batch_size", "learning_rate", "seed", "phase")
        return pd.DataFrame(
            [
                {n: row[n] for n in names} | dict(zip(("examples", "loss", "metric"), look, strict=True))
                for row, run in zip(runs, self.runs, strict=True)
                for look in run.curve
            ]
        )

    def export(self, path: str | Path, what: str = "runs") -> Path:
        """Write `frame` to a file whose name ends in ``.csv``, ``.json`` or ``.parquet``; returns its path."""
        path = exportable(path)
        frame = self.frame(what)
        try:
            _EXPORTS[path.suffix](frame, path)
        except ImportError:
            raise MissingExtra("pyarrow", "frames", f"A {path.suffix} file") from None
        except OSError as error:
            raise ComparisonError(f"{str(path)!r} cannot be written: {error.strerror or error}") from error
        return path

    def save_report(self, path: str | Path) -> Path:
        """Write a report as one HTML file that needs nothing else; returns its path."""
        from descend.comparison.report import write

        return write(self, Path(path))

    def __str__(self) -> str:
        from rich.console import Console

        out = io.StringIO()
        self.show(Console(file=out, width=80, color_system=None))
        return out.getvalue().rstrip()

    def show(self, console: Any) -> None:
        """Print answer, table and notes on a rich console."""
        from rich.measure import Measurement

        console.print(self.answer, highlight=False, markup=False)
        console.print()
        table = _table(self)
        folded = max(0, max(len(row.label) for row in self.rows) - NAME_WIDTH)
        if Measurement.get(console, console.options.update(width=1000), table).maximum - folded <= console.width:
            console.print(table)
        else:
            for line in _lines(self):
                console.print(line, highlight=False, markup=False)
        if any(row.at_edge for row in self.rows):
            console.print("* at the edge of the range", highlight=False)
        untuned = [(row, row.untuned) for row in self.rows if row.untuned is not None]
        if untuned:
            console.print()
            found = [f"{row.label} {number(own.median)} at {row.own_learning_rate:g}" for row, own in untuned]
            console.print(f"Untuned, with its own learning rate: {', '.join(found)}.", highlight=False, markup=False)
        for note in self.notes:
            console.print()
            console.print(f"Note: {note}", highlight=False, markup=False)


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
    return path


def _run_in_a_row(plan: Plan, run: Run) -> dict[str, Any]:
    entry = plan.entries[run.entry]
    figures = {name: value for name, value in dataclasses.asdict(run).items() if name != "curve"}
    # A column of batch sizes has one type, also in formats that insist on it.
    return {"label": entry.label, "batch_size": str(entry.batch_size), **figures}


def where(jobs: int | None) -> str:
    """Where runs are made, by so many processes; None for somebody's executor."""
    return "through an executor" if jobs is None else f"on {counted(min(jobs, cores()), 'core')}"


def number(value: float | None, digits: int = 4) -> str:
    """A figure for people: a miss as ∞ or −∞, very small and large ones in powers of ten."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.1e}"
    return f"{value:.{digits}f}".rstrip("0").rstrip(".") if value == int(value) else f"{value:.{digits}f}"


def spread(found: Interval) -> str:
    """An interval for people."""
    return f"[{number(found.low)}, {number(found.high)}]" if found.known else "too few seeds"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _answer(comparison: Comparison) -> str:
    """The outcome in one sentence, with the cost at which it holds."""
    plan, best = comparison.plan, comparison.rows[0]
    start = f"On {plan.problem}, with {plan.budget:,} gradient evaluations a run,"
    if best.verdict == "failed":
        return f"{start} every technique failed."
    figure = f"median {'test ' if comparison.shape['test'] else ''}{plan.metric} {number(best.test.median)}"
    equal = [row.label for row in comparison.rows if row.verdict == "no clear difference"]
    worse = [row.label for row in comparison.rows if row.verdict == "clearly worse"]
    unsure = [row.label for row in comparison.rows if row.verdict == "too few seeds"]
    failed = [row.label for row in comparison.rows if row.verdict == "failed"]
    text = f"{start} {best.label} came out best ({figure})"
    if equal:
        text += f", with no clear difference to {listed(equal)}"
    if worse:
        text += f"; {listed(worse)} {'was' if len(worse) == 1 else 'were'} clearly worse"
    if unsure:
        text += f"; against {listed(unsure)} there were too few seeds to tell"
    if failed:
        text += f"; {listed(failed)} failed"
    return text + "."


def _table(comparison: Comparison) -> Any:
    """The table for a terminal, as a rich renderable; fits 80 columns unless names are long."""
    from rich.table import Table
    from rich.text import Text

    metric = textwrap.fill(comparison.plan.metric, 14)
    what = f"test\n{metric}" if comparison.shape["test"] else metric
    view = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    longest = max(9, *(len(row.label) for row in comparison.rows))
    view.add_column("technique", overflow="fold", min_width=min(longest, NAME_WIDTH))
    if comparison.shape["train"]:
        view.add_column("batch", justify="right", no_wrap=True)
    view.add_column("lr", justify="right", no_wrap=True)
    view.add_column(Text(what), justify="right", min_width=max(map(len, what.splitlines())), no_wrap=True)
    view.add_column("95 % interval", justify="left", no_wrap=True)
    view.add_column("miss", justify="right", no_wrap=True)
    view.add_column("beside the best", no_wrap=True)
    for row in comparison.rows:
        cells = [row.label]
        if comparison.shape["train"]:
            cells.append(str(row.batch_size))
        cells += [rate(row), number(row.test.median), spread(row.test), f"{row.misses}/{row.runs}", row.verdict]
        view.add_row(*map(Text, cells))
    return view


def _lines(comparison: Comparison) -> Iterator[str]:
    """The table as a line for each entry, for a terminal that is too narrow for it."""
    for row in comparison.rows:
        batch = f"batch {row.batch_size}, " if comparison.shape["train"] else ""
        yield (
            f"{row.label} ({batch}lr {rate(row)}): {number(row.test.median)}, interval {spread(row.test)}, "
            f"{row.misses} of {row.runs} missed, {row.verdict}"
        )


def rate(row: Row) -> str:
    """The chosen learning rate, with a mark where it lies at the edge of the range."""
    return "–" if row.learning_rate is None else f"{row.learning_rate:g}{'*' if row.at_edge else ''}"


def _as_json(comparison: Comparison, *, runs: bool = True) -> dict[str, Any]:
    """Everything as JSON holds it; a miss is null. The schema is documented in docs/comparing.md."""
    plan = comparison.plan
    whole = {
        "schema": SCHEMA,
        "answer": comparison.answer,
        "problem": {
            "name": plan.problem,
            "summary": comparison.summary,
            "metric": plan.metric,
            "higher_is_better": plan.higher_is_better,
            "optimum": comparison.optimum,
            "examples": comparison.shape,
        },
        "plan": {"hash": plan.hash, **plan.settings()},
        "rows": plain(comparison.rows),
        "sensitivity": plain(comparison.sensitivity),
        "notes": list(comparison.notes),
        "seconds": comparison.seconds,
        "jobs": comparison.jobs,
        "reused_runs": comparison.reused,
        "finished": comparison.finished,
        "versions": comparison.versions,
        "machine": comparison.machine,
    }
    if runs:
        whole["runs"] = [dataclasses.asdict(run) for run in comparison.runs]
    return whole
