"""Wording: a comparison's figures and its outcome in words, as the terminal, the report and the JSON have them."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from descend.comparison.judging.results import EntryResult
from descend.comparison.judging.standings import (
    BEST,
    FAILED,
    NO_VERDICT,
    NOT_REACHED,
    TOO_FEW,
    UNCLEAR,
    WORSE,
    Standing,
)
from descend.comparison.judging.target import Target
from descend.comparison.phrases import counted, listed
from descend.comparison.planning.plan import Plan
from descend.comparison.planning.stretches import searched_further
from descend.engines import usable_cores
from descend.intervals import Interval

if TYPE_CHECKING:
    from descend.comparison.reporting.comparison import Comparison

__all__ = [
    "aim",
    "answer",
    "batch",
    "besides",
    "duration",
    "evaluations",
    "figure",
    "level",
    "number",
    "percent",
    "rate",
    "short_evaluations",
    "signed",
    "signed_evaluations",
    "spell_test",
    "spread",
    "standing_in_test",
    "standing_to_target",
    "telling",
    "where",
]

MISSED = "missed"
RESOLVED = 1e-7
"""The relative difference from which on two figures of a column are shown as two."""
MOST_DIGITS = 4
"""How many digits more than usual that may take."""
_VERDICTS = (UNCLEAR, WORSE, TOO_FEW, FAILED, NOT_REACHED, NO_VERDICT)


def where(jobs: int | None) -> str:
    """Where runs are made: on how many cores, or through an executor if `jobs` is None."""
    return "through an executor" if jobs is None else f"on {counted(min(jobs, usable_cores()), 'core')}"


def number(value: float | None, digits: int = 4, more: int = 0) -> str:
    """A figure with four digits: a miss as ∞ or −∞, very small and large ones in powers of ten; or with some `more`."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value != 0 and abs(value) >= 1e5:
        return f"{value:.{3 + more}e}"
    if value != 0 and abs(value) < 1e-3:
        return f"{value:.{1 + more}e}"
    text = f"{value:.{digits + more}f}"
    return text.rstrip("0").rstrip(".") if value == int(value) else text


def telling(values: Iterable[float | None]) -> Callable[[float | None], str]:
    """`number` with as many digits as it takes to tell figures apart that stand in one column.

    >>> list(map(telling([1.23456e11, 1.23462e11]), [1.23456e11, 1.23462e11]))
    ['1.23456e+11', '1.23462e+11']
    """
    known = sorted({value for value in values if value is not None and math.isfinite(value)})
    apart = [(a, b) for a, b in itertools.pairwise(known) if b - a > RESOLVED * max(abs(a), abs(b))]
    for more in range(MOST_DIGITS):
        if all(float(number(a, more=more)) != float(number(b, more=more)) for a, b in apart):
            return functools.partial(number, more=more)
    return functools.partial(number, more=MOST_DIGITS)


def spell_test(comparison: Comparison) -> Callable[[float | None], str]:
    """How the test figures of a comparison are written: the medians of its entries can be told apart."""
    return telling(row.test.median for row in comparison.rows)


def spread(found: Interval, spell: Callable[[float | None], str] = number) -> str:
    """An interval in brackets."""
    return f"[{spell(found.low)}, {spell(found.high)}]" if found.known else "too few seeds"


def evaluations(value: float | None) -> str:
    """A number of gradient evaluations; never reached is ∞."""
    return "–" if value is None or math.isnan(value) else "∞" if math.isinf(value) else f"{value:,.0f}"


def short_evaluations(value: float | None) -> str:
    """A number of gradient evaluations without a thousands separator, for a narrow column."""
    return evaluations(value).replace(",", "")


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds >= 0.001 else "under 1 ms"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def answer(comparison: Comparison) -> str:
    """The outcome in a sentence or two, with the cost at which it holds."""
    plan, target = comparison.plan, comparison.target
    start = f"On {plan.problem}, with {plan.budget:,} gradient evaluations a run{_searched_further(plan)},"
    first = comparison.by_test[0]
    if not first.test.hits:
        return f"{start} every technique failed."
    if math.isinf(first.test.median):
        return f"{start} half of the runs of every technique failed, or more."
    test = "test " if comparison.shape["test"] else ""
    figure = f"median {test}{plan.metric}"
    reached = spell_test(comparison)(first.test.median)
    if not comparison.ranked_by_target or target is None:
        outcome = _clauses(comparison, standing_in_test, "clearly worse", "failed")
        if target is not None:
            start += f" no technique reached {aim(comparison, target)} in half of its runs;"
        return f"{start} {first.label} came out best ({figure} {reached}){outcome}."
    best = comparison.rows[0]
    took = f"median {evaluations(standing_to_target(best).median)} evaluations"
    outcome = _clauses(comparison, standing_to_target, "clearly later", "never got there")
    last = f"{first.label} had the best {figure} ({reached})"
    quality = _clauses(comparison, standing_in_test, "clearly worse", "failed")
    first_there = f"{best.label} was first to reach {aim(comparison, target)} ({took})"
    return f"{start} {first_there}{outcome}. At the end {last}{quality}."


def _searched_further(plan: Plan) -> str:
    """Whose learning rates were searched for beyond the usual range, and how far."""
    told = searched_further(s for added in plan.stretches for s in added)
    parts = [f"of {whose} searched {how_far}" for whose, how_far in told]
    return f", and learning rates {' and '.join(parts)}" if told else ""


def _unjudged(rows: Sequence[EntryResult]) -> str:
    """The clause on entries that no verdict is given on, and why."""
    failed = [row.label for row in rows if not row.learning_rates]
    edge = [row.label for row in rows if row.learning_rates]
    why = [f"{listed(failed)}, whose every trial failed"] if failed else []
    why += [f"{listed(edge)}, whose best learning rate lies at the edge of what was tried"] if edge else []
    return f"; there is no verdict on {', nor on '.join(why)}" if why else ""


def aim(comparison: Comparison, target: Target) -> str:
    """The target with what it is a value of."""
    return f"{'validation ' if comparison.shape['train'] else ''}{comparison.plan.metric} {target.value:g}"


def _clauses(comparison: Comparison, standing: Callable[[EntryResult], Standing], worse: str, failed: str) -> str:
    """The clauses on all entries but the best."""
    by = {v: [r.label for r in comparison.rows if standing(r).verdict == v] for v in _VERDICTS}
    text = f", with no clear difference to {listed(by[UNCLEAR])}" if by[UNCLEAR] else ""
    if by[WORSE]:
        text += f"; {listed(by[WORSE])} {'was' if len(by[WORSE]) == 1 else 'were'} {worse}"
    if by[TOO_FEW]:
        text += f"; against {listed(by[TOO_FEW])} there were too few seeds to tell"
    never = by[FAILED] + by[NOT_REACHED]
    text += f"; {listed(never)} {failed}" if never else ""
    return text + _unjudged([row for row in comparison.rows if row.label in by[NO_VERDICT]])


def standing_to_target(row: EntryResult) -> Standing:
    """The standing by the gradient evaluations to the target, where there is one."""
    assert row.to_target is not None
    return row.to_target


def standing_in_test(row: EntryResult) -> Standing:
    """The standing by the test metric."""
    return row.test


def batch(row: EntryResult) -> str:
    """The batch size, or those of several studies, for a narrow column."""
    return str(row.batch_size).replace(" / ", "/")


def rate(row: EntryResult, mark: str = "*") -> str:
    """The chosen learning rate, or the range of those of several studies, with a mark at the edge of the range."""
    rates = row.learning_rates
    if not rates:
        return "–"
    return f"{rates[0]:g}{f'–{rates[-1]:g}' if len(rates) > 1 else ''}{mark if row.at_edge else ''}"


def besides(row: EntryResult) -> list[str]:
    """The hyperparameters that were chosen beside learning rate and batch size: names with values."""
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


def level(rows: Sequence[EntryResult], verdict: Callable[[EntryResult], str]) -> str:
    """The entries that are best, and those that show no clear difference to them."""
    best = [row.label for row in rows if verdict(row) == BEST]
    return ", ".join([*best, *[f"≈\N{NO-BREAK SPACE}{row.label}" for row in rows if verdict(row) == UNCLEAR]]) or "–"


def figure(value: float | None, spell: Callable[[float | None], str] = number) -> str:
    """A figure in the report: with a true minus sign, and a miss in a word."""
    return spell(value).replace("-", "−") if value is not None and math.isfinite(value) else MISSED


def signed_evaluations(value: float | None) -> str:
    """A difference in gradient evaluations."""
    if value is None or not math.isfinite(value):
        return "+∞" if value is None or value > 0 else "−∞"
    return f"{value:+,.0f}".replace("-", "−") if value else "0"


def signed(value: float | None) -> str:
    """A difference with its sign; one to a miss is infinite."""
    if value is None or math.isnan(value):
        return MISSED
    size = number(abs(value)).replace("-", "−")
    return size if value == 0 else f"{'+' if value > 0 else '−'}{size}"


def percent(share: float) -> str:
    """A share as a percentage."""
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + "\N{NO-BREAK SPACE}%"
