"""The outcome of a comparison: its data, the answer in a sentence, everything as JSON."""

from __future__ import annotations

import dataclasses
import io
import math
from pathlib import Path
from typing import Any

from descend.comparison.judging.choice import Sensitivity
from descend.comparison.judging.results import EntryResult
from descend.comparison.judging.standings import BEST
from descend.comparison.judging.target import Target
from descend.comparison.phrases import counted
from descend.comparison.planning.plan import Plan
from descend.comparison.reporting.exports import exportable, exported
from descend.comparison.reporting.frames import frame, rows_of
from descend.comparison.reporting.tables import print_comparison
from descend.comparison.reporting.wording import answer, duration, where
from descend.comparison.running.runs import Run
from descend.jsonable import jsonable
from descend.printable import preformatted

__all__ = ["Comparison"]

SCHEMA = 2


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison:
    """A finished comparison. Printed, it is its table; in a notebook it shows it.

    `target` is what counted as good enough, None if there was no target; `rows` is the table, best first; `runs` every
    run; `notes` what a reader should know before believing the table; `answer` the outcome in a sentence or two.
    `paired` says whether the same seed gave every entry the same start, as far as that was seen. `source` is the name
    or file that the problem was loaded from, None for one made in Python.
    """

    plan: Plan
    source: str | None
    target: Target | None
    rows: tuple[EntryResult, ...]
    sensitivity: tuple[Sensitivity, ...]
    runs: tuple[Run, ...]
    notes: tuple[str, ...]
    summary: str
    shape: dict[str, int]
    optimum: float | None
    paired: bool
    seconds: float
    jobs: int | None
    reused: int
    finished: str
    versions: dict[str, str]
    machine: str
    max_run_seconds: float | None = None

    @property
    def answer(self) -> str:
        """The outcome in a sentence or two, with the cost at which it holds."""
        return answer(self)

    @property
    def ranked_by_target(self) -> bool:
        """Whether the rows are in the order of the evaluations to the target; else of the test metric."""
        return self.rows[0].to_target is not None and math.isfinite(self.rows[0].to_target.median)

    @property
    def by_test(self) -> list[EntryResult]:
        """The rows in the order of the test metric."""
        cost = self.plan.cost
        return sorted(self.rows, key=lambda row: (row.test.verdict != BEST, cost(row.test.median)))

    @property
    def took(self) -> str:
        """How long it took, and where."""
        return f"{duration(self.seconds)} {where(self.jobs)}"

    def runs_of(self, entry: int, phase: str = "final") -> list[Run]:
        """The runs of one entry in one phase, by its position in the plan."""
        return [run for run in self.runs if run.phase == phase and run.entry == entry]

    def to_dict(self, *, runs: bool = True) -> dict[str, Any]:
        """Everything as JSON holds it; a miss is null. The guide to comparing documents the fields."""
        plan = self.plan
        whole = {
            "schema": SCHEMA,
            "answer": self.answer,
            "problem": {
                "name": plan.problem,
                "summary": self.summary,
                "metric": plan.metric,
                "higher_is_better": plan.higher_is_better,
                "optimum": self.optimum,
                "examples": self.shape,
            },
            "plan": {"hash": plan.hash, **plan.settings()},
            "target": jsonable(self.target),
            "rows": jsonable(self.rows),
            "sensitivity": jsonable(self.sensitivity),
            "notes": list(self.notes),
            "paired": self.paired,
            "seconds": self.seconds,
            "jobs": self.jobs,
            "max_run_seconds": self.max_run_seconds,
            "reused_runs": self.reused,
            "finished": self.finished,
            "versions": self.versions,
            "machine": self.machine,
        }
        if runs:
            whole["runs"] = jsonable(self.runs)
        return whole

    def frame(self, what: str = "runs") -> Any:
        """The figures as a `pandas.DataFrame`.

        Parameters
        ----------
        what
            ``"runs"``: a row for each run, with its entry's label and batch size, and without its curve. ``"curves"``:
            a row for each evaluation of each run. ``"rows"``: the table.
        """
        return frame(rows_of(self, what))

    def export(self, path: str | Path, what: str = "runs") -> Path:
        """Write what `frame` has to a file whose name ends in ``.csv``, ``.json`` or ``.parquet``; returns its path.

        In a CSV file, a text that a spreadsheet would take for a formula begins with an apostrophe.
        """
        return exported(rows_of(self, what), exportable(path))

    def save_report(self, path: str | Path) -> Path:
        """Write a report as one HTML file that needs nothing else; returns its path."""
        from descend.comparison.reporting.html import write

        return write(self, Path(path))

    def __str__(self) -> str:
        from rich.console import Console

        out = io.StringIO()
        self.show(Console(file=out, width=80, color_system=None))
        return out.getvalue().rstrip()

    def __repr__(self) -> str:
        return (
            f"<Comparison of {counted(len(self.rows), 'technique')}, {counted(len(self.runs), 'run')}: {self.answer}>"
        )

    def _repr_html_(self) -> str:
        return preformatted(str(self))

    def show(self, console: Any) -> None:
        """Print answer, tables and notes on a rich console."""
        print_comparison(self, console)
