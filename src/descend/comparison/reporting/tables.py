"""Tables of a comparison for a terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.comparison.judging.results import EntryResult
from descend.comparison.judging.standings import Standing
from descend.comparison.planning.plan import Plan
from descend.comparison.reporting.wording import (
    aim,
    batch,
    besides,
    duration,
    number,
    rate,
    short_evaluations,
    spell_test,
    spread,
    standing_in_test,
    standing_to_target,
)
from descend.comparison.running.runs import Run
from descend.printable import say

if TYPE_CHECKING:
    from descend.comparison.reporting.comparison import Comparison

__all__ = ["leaderboard", "print_comparison", "print_rows"]

NAME_WIDTH = 14
"""How far the table may narrow a technique's name, if no word of it is longer."""


def print_comparison(comparison: Comparison, console: Any) -> None:
    """Print answer, tables and notes on a rich console."""
    say(console, comparison.answer)
    for measure in (_to_target(comparison), _quality(comparison)):
        if measure is not None:
            say(console, "")
            _print_table(comparison, measure, console)
    if any(row.at_edge for row in comparison.rows):
        say(console, "* at the edge of the range")
    for line in _asides(comparison):
        say(console, f"\n{line}")
    for note in comparison.notes:
        say(console, f"\nNote: {note}")


@dataclasses.dataclass(frozen=True)
class _Measure:
    """A measure that entries are judged by, as a table shows it."""

    name: str
    count: str
    standing: Callable[[EntryResult], Standing]
    spell: Callable[[float | None], str]
    hits: bool
    rows: list[EntryResult]


def _to_target(comparison: Comparison) -> _Measure | None:
    """The first figure, where there is a target."""
    if comparison.target is None or any(row.to_target is None for row in comparison.rows):
        return None
    name = f"Gradient evaluations to {aim(comparison, comparison.target)}"
    return _Measure(name, "hit", standing_to_target, short_evaluations, True, list(comparison.rows))


def _quality(comparison: Comparison) -> _Measure:
    """The second figure, or the only one."""
    name = f"{'test ' if comparison.shape['test'] else ''}{comparison.plan.metric}"
    spell = spell_test(comparison)
    return _Measure(name[:1].upper() + name[1:], "miss", standing_in_test, spell, False, comparison.by_test)


def leaderboard(plan: Plan, runs: Sequence[Run]) -> Any:
    """The best median of each entry so far, as a rich renderable, for the time while runs are being made."""
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
        view.add_row(plan.all_entries[entry].label, f"{lr:g}", number(plan.metric_of(cost)), str(n))
    return view


def _print_table(comparison: Comparison, measure: _Measure, console: Any) -> None:
    """A table, or a line for each entry where the terminal is too narrow for it."""
    from rich.measure import Measurement

    say(console, measure.name, style="bold")
    folded = max(0, max(len(row.label) for row in comparison.rows) - _name_width(comparison))
    for gap in (2, 1):
        table = _table(comparison, measure, gap)
        if Measurement.get(console, console.options.update(width=1000), table).maximum - folded <= console.width:
            console.print(table)
            return
    for line in _lines(comparison, measure):
        say(console, line)


def _name_width(comparison: Comparison) -> int:
    """How far the table may narrow the names: their words stay whole."""
    labels = [row.label for row in comparison.rows]
    words = max(len(word) for label in labels for word in label.split())
    return max(len("technique"), min(max(map(len, labels)), max(NAME_WIDTH, words)))


def _asides(comparison: Comparison) -> Iterator[str]:
    """The lines below the tables."""
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


def _table(comparison: Comparison, measure: _Measure, gap: int) -> Any:
    """A table for a terminal, as a rich renderable; fits 80 columns unless names are long."""
    from rich.table import Table
    from rich.text import Text

    view = Table(box=None, header_style="bold", pad_edge=False, padding=(0, gap, 0, 0))
    view.add_column("technique", min_width=_name_width(comparison))
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
            cells.append(batch(row))
        counted_ = found.hits if measure.hits else found.runs - found.hits
        cells += [rate(row), measure.spell(found.median), spread(found.interval, measure.spell) if found.hits else "–"]
        view.add_row(*map(Text, [*cells, f"{counted_}/{found.runs}", found.verdict]))
    return view


def _lines(comparison: Comparison, measure: _Measure) -> Iterator[str]:
    """The table as a line for each entry, for a terminal that is too narrow for a table."""
    for row in measure.rows:
        found = measure.standing(row)
        size = f"batch {batch(row)}, " if comparison.shape["train"] else ""
        much = f"{found.hits} of {found.runs} hit" if measure.hits else f"{row.misses} of {row.runs} missed"
        interval = f"interval {spread(found.interval, measure.spell)}, " if found.hits else ""
        yield f"{row.label} ({size}lr {rate(row)}): {measure.spell(found.median)}, {interval}{much}, {found.verdict}"


def print_rows(
    console: Any, head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Collection[int] = ()
) -> None:
    """Print rows of texts as a table, `numbers` to the right; as lines where a terminal is too narrow for its words."""
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    view = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for i, name in enumerate(head):
        longest = max(len(word) for text in (name, *(row[i] for row in rows)) for word in text.split())
        right = i in numbers
        view.add_column(name, justify="right" if right else "left", no_wrap=right or i == 0, min_width=longest)
    for row in rows:
        view.add_row(*map(Text, row))
    if Measurement.get(console, console.options.update(width=1000), view).minimum <= console.width:
        console.print(view)
        return
    for first, *others in rows:
        say(console, f"{first}: {', '.join(f'{name} {text}' for name, text in zip(head[1:], others, strict=True))}")
