"""The outcome of a comparison: its data, the answer in a sentence, the table as text, everything as JSON."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from descend.comparison.judging.notes import listed
from descend.comparison.judging.statistics import (
    BEST,
    FAILED,
    NOT_REACHED,
    TOO_FEW,
    UNCLEAR,
    WORSE,
    Row,
    Sensitivity,
    Standing,
)
from descend.comparison.planning.plan import Plan, counted
from descend.comparison.planning.target import Target
from descend.comparison.running.runs import Run
from descend.comparison.running.workers import cores
from descend.errors import ComparisonError, MissingExtra, OptionError
from descend.intervals import Interval
from descend.jsonable import plain

__all__ = [
    "Comparison",
    "aim",
    "besides",
    "by_test",
    "duration",
    "evaluations",
    "exportable",
    "exported",
    "leaderboard",
    "level",
    "number",
    "rate",
    "spread",
    "where",
]

SCHEMA = 2
_VERDICTS = (UNCLEAR, WORSE, TOO_FEW, FAILED, NOT_REACHED)
NAME_WIDTH = 14
"""How far the table may narrow a technique's name before it folds."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A finished comparison. Printed, it is its table.

    `target` is what counted as good enough, None if there was no target; `rows` is the table, best first; `runs` every
    run; `notes` what a reader should know before believing the table; `answer` the outcome in a sentence or two.
    `source` is the name or file that the problem was loaded from, None for one made in Python.
    """

    plan: Plan
    source: str | None
    target: Target | None
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
        """The outcome in a sentence or two, with the cost at which it holds."""
        return _answer(self)

    @property
    def races(self) -> bool:
        """Whether the table is in the order of who reached the target first; else of the test metric."""
        return self.rows[0].to_target is not None and math.isfinite(self.rows[0].to_target.median)

    @property
    def took(self) -> str:
        """How long it took, and where."""
        return f"{duration(self.seconds)} {where(self.jobs)}"

    def runs_of(self, entry: int, phase: str = "final") -> list[Run]:
        """The runs of one entry in one phase, by its position in the plan."""
        return [run for run in self.runs if run.phase == phase and run.entry == entry]

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
        names = ("label", "batch_size", "lr", "seed", "phase", "study")
        return pd.DataFrame(
            [
                {n: row[n] for n in names} | dict(zip(("examples", "loss", "metric"), look, strict=True))
                for row, run in zip(runs, self.runs, strict=True)
                for look in run.curve
            ]
        )

    def export(self, path: str | Path, what: str = "runs") -> Path:
        """Write `frame` to a file whose name ends in ``.csv``, ``.json`` or ``.parquet``; returns its path."""
        return exported(self.frame(what), exportable(path))

    def save_report(self, path: str | Path) -> Path:
        """Write a report as one HTML file that needs nothing else; returns its path."""
        from descend.comparison.reporting.html import write

        return write(self, Path(path))

    def __str__(self) -> str:
        from rich.console import Console

        out = io.StringIO()
        self.show(Console(file=out, width=80, color_system=None))
        return out.getvalue().rstrip()

    def show(self, console: Any) -> None:
        """Print answer, tables and notes on a rich console."""

        def say(text: str) -> None:
            console.print(text, highlight=False, markup=False)

        say(self.answer)
        for measure in (_to_target(self), _quality(self)):
            if measure is not None:
                say("")
                _print_table(self, measure, console)
        if any(row.at_edge for row in self.rows):
            say("* at the edge of the range")
        for line in _asides(self):
            say(f"\n{line}")
        for note in self.notes:
            say(f"\nNote: {note}")


@dataclasses.dataclass(frozen=True)
class _Measure:
    """One of the two figures that entries are judged by, as a table shows it."""

    name: str
    count: str
    standing: Callable[[Row], Standing]
    spell: Callable[[float | None], str]
    hits: bool
    rows: list[Row]


def _to_target(comparison: Comparison) -> _Measure | None:
    """The first figure, where there is a target."""
    if comparison.target is None or any(row.to_target is None for row in comparison.rows):
        return None
    name = f"Gradient evaluations to {aim(comparison, comparison.target)}"
    return _Measure(name, "hit", _standing_to_target, _in_table, True, list(comparison.rows))


def _quality(comparison: Comparison) -> _Measure:
    """The second figure, or the only one."""
    name = f"{'test ' if comparison.shape['test'] else ''}{comparison.plan.metric}"
    return _Measure(name[:1].upper() + name[1:], "miss", _standing_in_test, number, False, by_test(comparison))


def _standing_to_target(row: Row) -> Standing:
    assert row.to_target is not None
    return row.to_target


def _standing_in_test(row: Row) -> Standing:
    return row.test


def by_test(comparison: Comparison) -> list[Row]:
    """The rows in the order of the test metric."""
    cost = comparison.plan.cost
    return sorted(comparison.rows, key=lambda row: (row.test.verdict != BEST, cost(row.test.median)))


def leaderboard(plan: Plan, runs: Sequence[Run]) -> Any:
    """Who leads while runs are being made, as a rich renderable: the best median of each entry so far."""
    from rich.table import Table

    groups: dict[tuple[int, tuple[tuple[str, Any], ...]], list[float]] = {}
    for run in runs:
        if run.phase != "untuned":
            cost = plan.cost(run.test if run.test is not None else run.validation)
            groups.setdefault((run.entry, tuple(run.hyperparameters.items())), []).append(cost)
    best: dict[int, tuple[float, int, float]] = {}
    for (entry, point), costs in groups.items():
        found = float(np.median(costs)), len(costs), float(dict(point)["lr"])
        best[entry] = min(best.get(entry, found), found, key=lambda f: f[0])
    view = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name, justify in (("so far", "left"), ("lr", "right"), (plan.metric, "right"), ("runs", "right")):
        view.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for entry, (cost, n, lr) in sorted(best.items(), key=lambda item: item[1][0]):
        view.add_row(plan.everyone[entry].label, f"{lr:g}", number(plan.metric_of(cost)), str(n))
    return view


def _print_table(comparison: Comparison, measure: _Measure, console: Any) -> None:
    """A table, or a line for each entry where the terminal is too narrow for it."""
    from rich.measure import Measurement

    console.print(measure.name, highlight=False, markup=False, style="bold")
    folded = max(0, max(len(row.label) for row in comparison.rows) - NAME_WIDTH)
    for gap in (2, 1):
        table = _table(comparison, measure, gap)
        if Measurement.get(console, console.options.update(width=1000), table).maximum - folded <= console.width:
            console.print(table)
            return
    for line in _lines(comparison, measure):
        console.print(line, highlight=False, markup=False)


def _asides(comparison: Comparison) -> Iterator[str]:
    """What stands below the tables."""
    others = [f"{row.label} {', '.join(found)}" for row in comparison.rows if (found := besides(row))]
    if others:
        yield f"Chosen besides: {'; '.join(others)}."
    untuned = [(row, row.untuned) for row in comparison.rows if row.untuned is not None]
    if untuned:
        found = [f"{row.label} {number(own.median)} at {row.own_learning_rate:g}" for row, own in untuned]
        yield f"Untuned, with its own learning rate: {', '.join(found)}."
    timed = [(row, row.seconds) for row in comparison.rows if row.seconds is not None]
    if timed:
        alone = [f"{row.label} {duration(took.median)}" for row, took in timed]
        yield f"A run with no other beside it takes: {', '.join(alone)}."


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
    entry = plan.everyone[run.entry]
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


def spread(found: Interval, spell: Callable[[float | None], str] = number) -> str:
    """An interval for people."""
    return f"[{spell(found.low)}, {spell(found.high)}]" if found.known else "too few seeds"


def evaluations(value: float | None) -> str:
    """A number of gradient evaluations for people; never reached is ∞."""
    return "–" if value is None or math.isnan(value) else "∞" if math.isinf(value) else f"{value:,.0f}"


def _in_table(value: float | None) -> str:
    """The same where there is little room."""
    return evaluations(value).replace(",", "")


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds >= 0.001 else "under 1 ms"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _answer(comparison: Comparison) -> str:
    """The outcome in a sentence or two, with the cost at which it holds."""
    plan, target = comparison.plan, comparison.target
    start = f"On {plan.problem}, with {plan.budget:,} gradient evaluations a run,"
    first = by_test(comparison)[0]
    if first.test.verdict == FAILED:
        return f"{start} every technique failed."
    if math.isinf(first.test.median):
        return f"{start} half of the runs of every technique failed, or more."
    test = "test " if comparison.shape["test"] else ""
    figure = f"median {test}{plan.metric}"
    reached = number(first.test.median)
    if not comparison.races or target is None:
        outcome = _clauses(comparison, _standing_in_test, "clearly worse", "failed")
        if target is not None:
            start += f" no technique reached {aim(comparison, target)} in half of its runs;"
        return f"{start} {first.label} came out best ({figure} {reached}){outcome}."
    best = comparison.rows[0]
    took = f"median {evaluations(_standing_to_target(best).median)} evaluations"
    outcome = _clauses(comparison, _standing_to_target, "clearly later", "never got there")
    last = f"{first.label} had the best {figure} ({reached})"
    quality = _clauses(comparison, _standing_in_test, "clearly worse", "failed")
    first_there = f"{best.label} was first to reach {aim(comparison, target)} ({took})"
    return f"{start} {first_there}{outcome}. At the end {last}{quality}."


def aim(comparison: Comparison, target: Target) -> str:
    """The target with what it is a value of."""
    return f"{'validation ' if comparison.shape['train'] else ''}{comparison.plan.metric} {target.value:g}"


def _clauses(comparison: Comparison, standing: Callable[[Row], Standing], worse: str, failed: str) -> str:
    """What is said of the others, beside the best."""
    by = {v: [r.label for r in comparison.rows if standing(r).verdict == v] for v in _VERDICTS}
    text = f", with no clear difference to {listed(by[UNCLEAR])}" if by[UNCLEAR] else ""
    if by[WORSE]:
        text += f"; {listed(by[WORSE])} {'was' if len(by[WORSE]) == 1 else 'were'} {worse}"
    if by[TOO_FEW]:
        text += f"; against {listed(by[TOO_FEW])} there were too few seeds to tell"
    never = by[FAILED] + by[NOT_REACHED]
    return text + (f"; {listed(never)} {failed}" if never else "")


def _table(comparison: Comparison, measure: _Measure, gap: int) -> Any:
    """A table for a terminal, as a rich renderable; fits 80 columns unless names are long."""
    from rich.table import Table
    from rich.text import Text

    view = Table(box=None, header_style="bold", pad_edge=False, padding=(0, gap, 0, 0))
    longest = max(9, *(len(row.label) for row in comparison.rows))
    view.add_column("technique", overflow="fold", min_width=min(longest, NAME_WIDTH))
    if comparison.shape["train"]:
        view.add_column("batch", justify="right", no_wrap=True)
    view.add_column("lr", justify="right", no_wrap=True)
    view.add_column("median", justify="right", no_wrap=True)
    view.add_column("95 % interval", justify="left", no_wrap=True)
    view.add_column(measure.count, justify="right", no_wrap=True)
    view.add_column("beside the best", no_wrap=True)
    for row in measure.rows:
        found = measure.standing(row)
        cells = [row.label]
        if comparison.shape["train"]:
            cells.append(_batch(row))
        counted_ = found.hits if measure.hits else found.runs - found.hits
        cells += [rate(row), measure.spell(found.median), spread(found.interval, measure.spell) if found.hits else "–"]
        view.add_row(*map(Text, [*cells, f"{counted_}/{found.runs}", found.verdict]))
    return view


def _batch(row: Row) -> str:
    """The batch size, or those of several studies, where there is little room."""
    return str(row.batch_size).replace(" / ", "/")


def _lines(comparison: Comparison, measure: _Measure) -> Iterator[str]:
    """The table as a line for each entry, for a terminal that is too narrow for it."""
    for row in measure.rows:
        found = measure.standing(row)
        batch = f"batch {_batch(row)}, " if comparison.shape["train"] else ""
        much = f"{found.hits} of {found.runs} hit" if measure.hits else f"{row.misses} of {row.runs} missed"
        interval = f"interval {spread(found.interval, measure.spell)}, " if found.hits else ""
        yield f"{row.label} ({batch}lr {rate(row)}): {measure.spell(found.median)}, {interval}{much}, {found.verdict}"


def rate(row: Row, mark: str = "*") -> str:
    """The learning rate that was chosen, or the range of those of several studies, marked at the edge of the range."""
    rates = row.learning_rates
    if not rates:
        return "–"
    return f"{rates[0]:g}{f'–{rates[-1]:g}' if len(rates) > 1 else ''}{mark if row.at_edge else ''}"


def besides(row: Row) -> list[str]:
    """What was chosen beside learning rate and batch size: a name with its value, or those of several studies."""
    found: dict[str, list[Any]] = {}
    for point in row.chosen:
        for name, value in (point or {}).items():
            if name not in ("lr", "batch_size") and value not in found.setdefault(name, []):
                found[name].append(value)
    return [f"{name} {_span(values)}" for name, values in found.items()]


def _span(values: Sequence[Any]) -> str:
    """Numbers as the range they span, anything else one after the other."""
    if any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in values):
        return "/".join(map(str, values))
    return "–".join(f"{v:g}" for v in dict.fromkeys((min(values), max(values))))


def level(rows: Sequence[Row], verdict: Callable[[Row], str]) -> str:
    """Who is best, and who shows no clear difference to it."""
    best = [row.label for row in rows if verdict(row) == BEST]
    return ", ".join([*best, *[f"≈\N{NO-BREAK SPACE}{row.label}" for row in rows if verdict(row) == UNCLEAR]]) or "–"


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
        "target": plain(comparison.target),
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
        whole["runs"] = plain(comparison.runs)
    return whole
