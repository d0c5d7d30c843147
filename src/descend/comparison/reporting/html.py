"""The report: one HTML file that needs nothing else, for somebody who did not run the comparison.

`write` turns a `Comparison` into what ``report.html.j2`` shows. Text, tables and the marks in them are in the file; the
charts are Plotly figures, drawn by the script that the file carries. Everything a user has named is escaped.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from descend import plots
from descend.comparison.judging.statistics import BEST, UNCLEAR, Row, Standing, joint_confidence, pairs
from descend.comparison.planning.entries import LEARNING_RATES, described, entries_for
from descend.comparison.planning.plan import EFFORTS, EPOCHS, FROM_REFERENCE, STEPS, counted
from descend.comparison.planning.spaces import Choice, Space, tuning
from descend.comparison.reporting.comparison import (
    aim,
    besides,
    by_test,
    duration,
    evaluations,
    level,
    number,
    rate,
    spread,
    where,
)
from descend.errors import DescendError
from descend.intervals import CONFIDENCE
from descend.plots import styles as look
from descend.problems import Problem
from descend.rules import Rule

if TYPE_CHECKING:
    from descend.comparison.reporting.comparison import Comparison
    from descend.comparison.suite import Suite

__all__ = ["write", "write_suite"]

TEMPLATE, SUITE_TEMPLATE = "report.html.j2", "suite.html.j2"
QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
MISSED = "missed"
WIDE = 30.0
"""From this ratio of the largest figure to the smallest on, the table's pictures are logarithmic."""


def write(comparison: Comparison, path: Path) -> Path:
    """Write the report of a comparison as one HTML file of about 5 MB; returns its path.

    Raises `OSError` when the file cannot be written.
    """
    return _write(TEMPLATE, _context(comparison), path)


def write_suite(suite: Suite, path: Path, links: Sequence[str] = ()) -> Path:
    """Write the report of several comparisons, in the same way; `links` lead to the report of each."""
    return _write(SUITE_TEMPLATE, _suite_context(suite, links), path)


def _write(template: str, context: dict[str, Any], path: Path) -> Path:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    pages = Environment(
        loader=PackageLoader("descend.comparison.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters["whole"] = _whole
    page = pages.get_template(template).render(**_page(), **context, plotly=get_plotlyjs())
    path.write_text(page, encoding="utf-8")
    return path


def _page() -> dict[str, Any]:
    """What every page is given."""
    return {
        "dark": _json(look.DARK),
        "light": {"ink": look.INK, "muted": look.MUTED, "grid": look.GRID, "paper": look.PAPER},
        "night": {k: look.DARK[getattr(look, k.upper())] for k in ("ink", "muted", "grid", "paper")},
    }


def _suite_context(suite: Suite, links: Sequence[str]) -> dict[str, Any]:
    """Everything the template of several comparisons is given."""
    last, found = suite.comparisons[-1], suite.profiles if suite.enough else []
    labels = list(dict.fromkeys(entry.label for c in suite.comparisons for entry in c.plan.entries))
    figures = {"profiles": json.loads(_bare(plots.profiles(suite)).to_json())} if found else {}
    reached = ", ".join(f"{p.label} {_percent(p.solved)}" for p in found)
    return {
        "suite": suite,
        "last": last,
        "finished": _when(last.finished),
        "version": last.versions.get("descend", ""),
        "profiles": found,
        "alt": f"Performance profiles. Share of the problems whose target was reached: {reached}.",
        "labels": labels,
        "raced": bool(suite.raced),
        "table": [
            {
                "problem": c.plan.problem,
                "target": "–" if c.target is None else f"{c.plan.metric} {c.target.value:g}".replace(" -", " −"),
                "cells": [_cell({row.label: row for row in c.rows}.get(label)) for label in labels],
                "last": level(by_test(c), lambda row: row.test.verdict),
                "answer": c.answer,
                "link": link,
            }
            for c, link in zip(suite.comparisons, links or [""] * len(suite.comparisons), strict=True)
        ],
        "json": _json(figures),
    }


def _cell(row: Row | None) -> str:
    """What an entry took to the target, or how many runs reached it, with a mark for its verdict."""
    if row is None or row.to_target is None:
        return "–"
    found = row.to_target
    mark = {BEST: "★ ", UNCLEAR: "≈ "}.get(found.verdict, "")
    if math.isfinite(found.median):
        return mark + evaluations(found.median)
    return f"{mark}{found.hits} of {found.runs} runs" if found.hits else "never"


def _context(comparison: Comparison) -> dict[str, Any]:
    """Everything the template is given."""
    plan, data = comparison.plan, bool(comparison.shape["train"])
    figures = _figures(comparison)
    entries = len(plan.entries)
    command, python = _repeat(comparison)
    return {
        "comparison": comparison,
        "plan": plan,
        "data": data,
        "what": f"test {plan.metric}" if comparison.shape["test"] else plan.metric,
        "rows": _rows(comparison),
        "race": _race(comparison),
        "target": None if comparison.target is None else _target(comparison),
        "timed": any(row.seconds is not None for row in comparison.rows),
        "trials": counted(plan.trials, "trial"),
        "tuning_seeds": len(plan.tuning_seeds) // plan.studies,
        "scale": _scale(comparison)[1],
        "figures": figures,
        "json": _json({f["id"]: json.loads(f["figure"].to_json()) for f in figures}),
        "anything_missed": any(row.misses for row in comparison.rows),
        "failures": _failures(comparison),
        "confidence": _percent(CONFIDENCE),
        "joint": _percent(joint_confidence(entries)),
        "risk": _percent(1 - CONFIDENCE),
        "pairs": pairs(entries),
        "settings": _settings(comparison),
        "command": command,
        "python": python,
        "finished": _when(comparison.finished),
        "version": comparison.versions.get("descend", ""),
        "source": comparison.source,
        "entries": [
            {
                "label": e.label,
                "rule": _spelled(e.rule),
                "batch_size": e.batch_size,
                "space": "; ".join(f"{name} {described(where)}" for name, where in (e.space or {}).items()),
            }
            for e in comparison.plan.entries
        ],
    }


def _target(comparison: Comparison) -> dict[str, str]:
    """The target in words."""
    target = comparison.target
    assert target is not None
    how = "It was given."
    if target.reference is not None and target.start is not None and target.share is not None:
        how = (
            f"It was set by runs that take no part in the comparison: the best of Momentum and Adam, with twice the "
            f"budget, reached {number(target.reference)}, and the target is {_percent(1 - target.share)} of the way "
            f"there from the start ({number(target.start)})."
        )
    return {"what": aim(comparison, target), "how": how}


def _whole(text: str) -> Any:
    """Text, escaped, whose numbers are not broken at the end of a line."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"(?<!\S)\S*\d[.e]\S+", r'<span class="whole">\g<0></span>', str(escape(text))))


def _json(value: Any) -> Any:
    """A value as JSON that may stand in a script element: nothing in it can end the element."""
    from markupsafe import Markup

    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(text)


# ---- the table --------------------------------------------------------------------------------------------------


def _rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The rows of the table of test figures as text, each with the marks of its picture."""
    place, _ = _scale(comparison)
    shown = []
    for row in by_test(comparison):
        runs = comparison.runs_of(row.entry)
        shown.append(
            {
                **_named(row),
                "untuned": _untuned(row),
                "median": _figure(row.test.median),
                "interval": spread(row.test.interval, _figure) if runs else "",
                "standing": row.test,
                "difference": _difference(row.test, _signed),
                "share": _share(row.test),
                "dots": [place(r.test) for r in runs if r.test is not None],
                "line": _ends(row, place, comparison.plan.higher_is_better),
                "missed": (0 if comparison.plan.higher_is_better else 100) if row.misses else None,
                "middle": place(row.test.median) if math.isfinite(row.test.median) else None,
            }
        )
    return shown


def _race(comparison: Comparison) -> list[dict[str, Any]]:
    """The rows of the table of who reached the target when; none without a target."""
    target, higher = comparison.target, comparison.plan.higher_is_better
    shown = []

    def reached(value: float | None) -> str:
        finite = value is not None and math.isfinite(value)
        return evaluations(value) if finite else f">\N{NO-BREAK SPACE}{comparison.plan.budget:,}"

    for row in comparison.rows if target is not None else ():
        standing = row.to_target
        assert standing is not None
        assert target is not None
        finals = comparison.runs_of(row.entry)
        times = [r.reached(target.value, higher)[1] / comparison.plan.budget for r in finals if not r.miss]
        middle, ends = standing.median / comparison.plan.budget, (standing.low, standing.high)
        line = [min(1.0, e / comparison.plan.budget) for e in ends if e is not None]
        size = comparison.plan.examples
        shown.append(
            {
                **_named(row),
                "standing": standing,
                "median": reached(standing.median) if standing.hits else "never",
                "epochs": f"{standing.median / size:.3g} passes" if size and math.isfinite(standing.median) else "",
                "interval": spread(standing.interval, reached) if standing.hits else "",
                "difference": _difference(standing, _signed_evaluations),
                "share": _share(standing),
                "dots": [5 + 90 * t for t in times if math.isfinite(t)],
                "line": [5 + 90 * e for e in line] if len(line) == 2 and standing.hits else None,
                "missed": 100 if standing.hits < standing.runs else None,
                "middle": 5 + 90 * middle if math.isfinite(middle) else None,
                "seconds": "" if row.seconds is None else duration(row.seconds.median),
            }
        )
    return shown


def _named(row: Row) -> dict[str, Any]:
    return {
        "row": row,
        "key": _key(plots.style(row.entry)),
        "rate": rate(row, ""),
        "others": besides(row),
        "untuned": "",
        "epochs": "",
        "seconds": "",
    }


def _share(standing: Standing) -> str:
    return "" if not standing.hits else f"best in {_percent(round(standing.best_probability, 2))} of resamples"


def _untuned(row: Row) -> str:
    """What the entry reached with its own learning rate."""
    return "" if row.untuned is None else f"untuned, at {row.own_learning_rate:g}: {_figure(row.untuned.median)}"


def _figure(value: float | None) -> str:
    return number(value).replace("-", "−") if value is not None and math.isfinite(value) else MISSED


def _difference(standing: Standing, spell: Callable[[float | None], str]) -> str:
    """The difference to the best with its interval, where there is one."""
    if standing.difference is None or not standing.hits:
        return ""
    interval = f" {spread(standing.difference, spell)}" if standing.difference.known else ""
    return spell(standing.difference.median) + interval


def _signed_evaluations(value: float | None) -> str:
    """A difference in gradient evaluations."""
    if value is None or not math.isfinite(value):
        return "+∞" if value is None or value > 0 else "−∞"
    return f"{value:+,.0f}".replace("-", "−") if value else "0"


def _signed(value: float | None) -> str:
    """A difference with its sign; one to a miss is infinite."""
    if value is None or math.isnan(value):
        return MISSED
    size = number(abs(value)).replace("-", "−")
    return size if value == 0 else f"{'+' if value > 0 else '−'}{size}"


def _scale(comparison: Comparison) -> tuple[Callable[[float], float], dict[str, Any]]:
    """Where a test figure lies in the table's pictures, 0 to 100; and what stands at the ends."""
    shift = plots.above_minimum(comparison, "metric")
    values = np.array([r.test for r in comparison.runs if r.phase == "final" and r.test is not None], dtype=float)
    if not values.size:
        return (lambda _: 50.0), {"low": "", "high": "", "log": False}
    above = np.maximum(values - shift, look.CONVERGED)
    wide = float(above.max()) > WIDE * float(above.min())
    log = wide and not comparison.plan.higher_is_better and look.logarithmic(values - shift)

    def height(value: float) -> float:
        return math.log10(max(value - shift, look.CONVERGED)) if log else value

    low, high = height(float(values.min())), height(float(values.max()))

    def place(value: float) -> float:
        return round(5 + 90 * (height(value) - low) / (high - low), 2) if high > low else 50.0

    clamped = log and shift == 0 and float(values.min()) < look.CONVERGED
    least = f"≤\N{NO-BREAK SPACE}{look.CONVERGED:.0e}".replace("-", "−") if clamped else _figure(float(values.min()))
    return place, {"low": least, "high": _figure(float(values.max())), "log": log}


def _ends(row: Row, place: Callable[[float], float], higher: bool) -> tuple[float, float] | None:
    """The ends of the interval's line; one that is a miss lies at the bad edge."""
    if row.test.low is None or row.test.high is None:
        return None
    bad = 0.0 if higher else 100.0
    low, high = (place(v) if math.isfinite(v) else bad for v in (row.test.low, row.test.high))
    return (low, high) if high > low or math.isfinite(row.test.median) else None


_SHAPES = {
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "square": "M-3.5-3.5h7v7h-7z",
    "diamond": "M0-5L5 0L0 5L-5 0z",
    "triangle-up": "M0-4.6L4.4 3.4H-4.4z",
    "triangle-down": "M0 4.6L4.4-3.4H-4.4z",
    "cross": "M-1.6-4.6h3.2v3h3v3.2h-3v3h-3.2v-3h-3v-3.2h3z",
    "x": "M-2.2-4.4L0-2.2L2.2-4.4L4.4-2.2L2.2 0L4.4 2.2L2.2 4.4L0 2.2L-2.2 4.4L-4.4 2.2L-2.2 0L-4.4-2.2z",
}


def _key(drawn: plots.Style) -> dict[str, str]:
    """A line and a marker as SVG has them."""
    colour = "currentColor" if drawn.colour == look.INK else drawn.colour
    return {
        "colour": colour,
        "dash": "none" if drawn.dash == "solid" else drawn.dash.replace("px", ""),
        "shape": _SHAPES[drawn.marker],
    }


# ---- the charts, and the same as tables ---------------------------------------------------------------------------


def _figures(comparison: Comparison) -> list[dict[str, Any]]:
    """The charts in their order, each with words and a table that say the same."""
    plan, data = comparison.plan, bool(comparison.shape["train"])
    seeds = f"{len(plan.final_seeds)} fresh seeds"
    reading = (
        f"The line is the median over {seeds}; the band holds the middle half of the runs (between the quartiles)."
    )
    if any(row.misses for row in comparison.rows):
        reading += " A run that failed counts as the worst from where it ended: a line stops once half the runs have."
    loss = "validation loss" if data else "loss"
    reading += " The table above counts each run at its best look."
    shown = [_curve(comparison, "loss", "How the loss fell", loss, reading)]
    if plan.metric != "loss":
        verb = "rose" if plan.higher_is_better else "fell"
        title = f"How the {plan.metric} {verb}"
        if plan.higher_is_better:
            reading += " The axis begins above the first climb."
        shown.append(_curve(comparison, "metric", title, f"validation {plan.metric}" if data else plan.metric, reading))
    shown.append(_rates(comparison))
    return shown


def _curve(comparison: Comparison, what: plots.What, title: str, name: str, reading: str) -> dict[str, Any]:
    plan, found = comparison.plan, plots.bands(comparison, what)
    looks = sorted({int(e) for band in found for e in band.examples})
    marks = sorted({max(e for e in looks if e <= round(q * plan.budget)) for q in QUARTERS}) if looks else []
    cells = []
    for band in found:
        seen = [_at(band, mark) for mark in marks]
        cells.append((band.label, [(_figure(m), f"{_figure(lo)} … {_figure(hi)}") for lo, m, hi in seen]))
    last = [f"{label} {figures[-1][0]}" for label, figures in cells if figures]
    figure = _bare(plots.curves(comparison, what))
    if any(look.CONVERGED in line.y for line in figure.data):
        reading += f" What is below {look.CONVERGED:g} has converged, and is drawn there."
    return {
        "id": what,
        "title": title,
        "figure": figure,
        "alt": f"Line chart of the {name} against gradient evaluations. At the end: {', '.join(last)}.",
        "caption": reading,
        "table": f"Median {name} with quartiles, in the course of the budget",
        "columns": [f"after {mark:,}" for mark in marks],
        "cells": cells,
    }


def _at(band: plots.Band, mark: int) -> tuple[float, float, float]:
    """Low, median and high at the last look no later than `mark`."""
    i = int(np.searchsorted(band.examples, mark, side="right")) - 1
    return (float(band.low[i]), float(band.median[i]), float(band.high[i])) if i >= 0 else (math.nan,) * 3


def _rates(comparison: Comparison) -> dict[str, Any]:
    plan, data = comparison.plan, bool(comparison.shape["train"])
    name = f"validation {plan.metric}" if data else plan.metric
    seeds = counted(len(plan.tuning_seeds), "seed")
    crosses = "; crosses below count the runs that failed" if any(any(s.misses) for s in comparison.sensitivity) else ""
    by_entry = {s.entry: s for s in comparison.sensitivity}
    columns = sorted({rate for s in comparison.sensitivity for rate in s.learning_rates})
    cells = []
    for row in comparison.rows:
        found = by_entry[row.entry]
        each: dict[float, tuple[str, str]] = {}
        for x in found.learning_rates:  # trials that differ in other hyperparameters may share a rate
            here = [i for i, rate_ in enumerate(found.learning_rates) if rate_ == x]
            reached = [v for v in (found.validation[i] for i in here) if v is not None]
            best = (max if plan.higher_is_better else min)(reached, default=None)
            chosen_here = any(found.hyperparameters[i] in row.chosen for i in here)
            n = sum(found.misses[i] for i in here)
            each[x] = _figure(best), " · ".join([*["chosen"] * chosen_here, *[f"{n} missed"] * bool(n)])
        cells.append((row.label, [each.get(x, ("–", "")) for x in columns]))
    wide = [
        f"{row.label} {' … '.join(f'{end:g}' for end in dict.fromkeys(found.good))}"
        for row in comparison.rows
        if (found := by_entry[row.entry]).good is not None
    ]
    good = f" Learning rates that reach the target: {'; '.join(wide)}." if wide else ""
    chosen = [f"{r.label} {r.learning_rate:g}" for r in comparison.rows if r.learning_rate is not None]
    return {
        "id": "rates",
        "title": "How much the learning rate matters",
        "figure": _bare(plots.sensitivity(comparison)),
        "alt": f"Line chart of the best {name} against the learning rate, on a logarithmic axis. "
        f"Chosen: {', '.join(chosen)}.",
        "caption": f"The best {name} of each tuning run, median over {seeds}. A wide, flat stretch forgives a wrong "
        f"guess; a narrow one does not. A ring marks what was chosen{crosses}.{good}",
        "table": f"Median best {name} by learning rate",
        "columns": [f"{rate:g}" for rate in columns],
        "cells": cells,
    }


def _bare(figure: Any) -> Any:
    """A figure that lets the page shine through."""
    return figure.update_layout(paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)")


# ---- what failed, what was set, how to repeat it --------------------------------------------------------------------


def _failures(comparison: Comparison) -> list[dict[str, Any]]:
    """Why runs failed that count: final runs, and the tuning runs of an entry that no learning rate suits."""
    found = []
    for row in comparison.rows:
        phase = "final" if row.learning_rate is not None else "tuning"
        runs = comparison.runs_of(row.entry, phase)
        for reason in sorted({r.reason for r in runs if r.miss}):
            missed = [r for r in runs if r.miss and r.reason == reason]
            failure = {"label": row.label, "missed": len(missed), "runs": len(runs), "phase": phase}
            found.append({**failure, "message": missed[0].message})
    return found


def _settings(comparison: Comparison) -> list[tuple[str, str]]:
    """The plan and where it was carried out, for the list at the end."""
    plan, shape = comparison.plan, comparison.shape
    settings = [("Problem", f"{plan.problem}: {comparison.summary}" if comparison.summary else plan.problem)]
    if shape["train"]:
        sizes = ", ".join(f"{shape[part]:,} {part}" for part in ("train", "validation", "test"))
        settings.append(("Examples", sizes))
    better = "higher" if plan.higher_is_better else "lower"
    settings.append(("Metric", f"{plan.metric} ({better} is better)"))
    if comparison.optimum is not None:
        settings.append(("Lowest possible loss", f"{comparison.optimum:.6g}"))
    of = "examples seen" if shape["train"] else "of the function"
    before = f", {comparison.reused:,} of them from before" if comparison.reused else ""
    settings += [
        ("Budget", f"{plan.budget:,} gradient evaluations a run ({of}), a look every {plan.evaluate_every:,}"),
        ("Trials", f"{plan.trials} for each technique{f', in each of {plan.studies} studies' * (plan.studies > 1)}"),
        ("Tuning seeds", _seeds(plan.tuning_seeds)),
        ("Final seeds", _seeds(plan.final_seeds)),
        ("Runs", f"{len(comparison.runs):,}{before}"),
        ("Plan", plan.hash),
        ("Duration", f"{duration(comparison.seconds)} {where(comparison.jobs)}"),
        ("Machine", comparison.machine),
        ("Versions", ", ".join(f"{name} {version}" for name, version in comparison.versions.items())),
    ]
    return settings


def _seeds(seeds: Sequence[int]) -> str:
    return f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} … {seeds[-1]} ({len(seeds)})"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + "\N{NO-BREAK SPACE}%"


def _when(stamp: str) -> str:
    return datetime.datetime.fromisoformat(stamp).strftime("%-d %B %Y, %H:%M UTC")


def _repeat(comparison: Comparison) -> tuple[str | None, str]:
    """The command that makes the same comparison, None where the command line cannot say it; and the call in Python."""
    plan, size, source = comparison.plan, comparison.shape["train"], comparison.source
    usual = EFFORTS["default"]
    rates = None if plan.learning_rates is None else list(plan.learning_rates)
    numbers = {
        "trials": (plan.trials, usual.trials if rates is None else plan.trials),
        "budget": (plan.budget, EPOCHS * size or STEPS),
        "target": (plan.target, FROM_REFERENCE),
        "tuning_seeds": (len(plan.tuning_seeds) // plan.studies, usual.tuning_seeds),
        "final_seeds": (len(plan.final_seeds) // plan.studies, usual.final_seeds),
        "studies": (plan.studies, usual.studies),
    }
    changed = {name: value for name, (value, default) in numbers.items() if value != default}
    words, command = _entry_options(comparison), None
    if source is not None and words is not None:
        parts = ["descend", "compare", source, *words]
        if rates is not None:
            parts += ["--lr", ",".join(f"{r:g}" if float(f"{r:g}") == r else repr(r) for r in rates)]
        for name, value in changed.items():
            parts += [f"--{name.replace('_', '-')}", str(value)]
        parts += ["--no-untuned"] * (not plan.untuned) + ["--time"] * plan.timed
        command = shlex.join(parts)
    call = [repr(source) if source is not None else "problem", f"[\n{_entries(comparison)}    ]"]
    call += [] if rates is None else [f"learning_rates={rates}"]
    call += [f"{name}={value!r}" for name, value in changed.items()]
    call += ["untuned=False"] * (not plan.untuned) + ["timed=True"] * plan.timed
    python = "import descend\n\ndescend.compare(\n" + "".join(f"    {part},\n" for part in call) + ")"
    return command, python


def _entry_options(comparison: Comparison) -> list[str] | None:
    """The options of the command line that name the entries; None where it has none that do."""
    plan, size = comparison.plan, comparison.shape["train"]
    alike = Problem(start=lambda _: 0.0, loss=lambda *_: 0.0, train=[np.zeros(size)] if size else None)
    wanted = plan.settings()["entries"]
    names = [entry.rule.name for entry in plan.entries]
    searched: dict[str, Space] = {}
    for entry in plan.entries:
        searched |= {n: s for n, s in (entry.space or {}).items() if (n, s) != ("lr", LEARNING_RATES)}
    tuned = [word for name, space in searched.items() for word in ("--tune", f"{name}={tuning(space)}")]
    for rules in (None, names):
        for batch in (None, *{entry.batch_size for entry in plan.entries}):
            try:
                entries = entries_for(alike, rules, batch, searched)
            except DescendError:
                continue
            if dataclasses.replace(plan, entries=entries).settings()["entries"] == wanted:
                words = [] if rules is None else ["--rules", ",".join(names)]
                return words + ([] if batch is None or not size else ["--batch-size", str(batch)]) + tuned
    return None


def _entries(comparison: Comparison) -> str:
    """The entries as Python, a line each."""
    lines = []
    for entry in comparison.plan.entries:
        prefix = "descend." if type(entry.rule).__module__.startswith("descend.") else ""
        batch = f", {entry.batch_size!r}" if comparison.shape["train"] else ""
        space = "" if dict(entry.space or {}) == {"lr": LEARNING_RATES} else f", space={_space(entry.space or {})}"
        lines.append(f"        descend.Entry({entry.label!r}, {prefix}{_spelled(entry.rule)}{batch}{space}),\n")
    return "".join(lines)


def _space(space: Mapping[str, Space]) -> str:
    """A search space as Python."""
    spelled = []
    for name, part in space.items():
        arguments = list(part.values) if isinstance(part, Choice) else f"{part.low!r}, {part.high!r}"
        spelled.append(f"{name!r}: descend.{type(part).__name__}({arguments})")
    return f"{{{', '.join(spelled)}}}"


def _spelled(rule: Rule) -> str:
    """A rule with the hyperparameters that are not at their default; its own learning rate is the untuned one."""
    fields = [f for f in dataclasses.fields(rule) if getattr(rule, f.name) != f.default]
    return f"{type(rule).__name__}({', '.join(f'{f.name}={getattr(rule, f.name)!r}' for f in fields)})"
