"""The report: one HTML file that needs nothing else, for readers who did not run the comparison.

`write` turns a `Comparison` into what ``report.html.j2`` shows. Text, tables and the marks in them are in the file; the
charts are Plotly figures, drawn by the script that the file carries. Everything a user has named is escaped.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descend import plots
from descend.comparison.judging.standings import joint_confidence, pairs
from descend.comparison.phrases import counted
from descend.comparison.planning.spaces import describe_space
from descend.comparison.reporting.charts import charts, transparent
from descend.comparison.reporting.html_tables import suite_cell, target_rows, test_rows, test_scale
from descend.comparison.reporting.repeat import repeat, rule_in_python
from descend.comparison.reporting.wording import aim, duration, level, number, percent, where
from descend.comparison.running.written import replaced
from descend.intervals import CONFIDENCE
from descend.plots import styles
from descend.printable import printable

if TYPE_CHECKING:
    from descend.comparison.reporting.comparison import Comparison
    from descend.comparison.suite import Suite

__all__ = ["write", "write_suite"]

TEMPLATE, SUITE_TEMPLATE = "report.html.j2", "suite.html.j2"


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
        finalize=lambda value: printable(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters["whole"] = _whole
    page = pages.get_template(template).render(**_page(), **context, plotly=get_plotlyjs())
    with replaced(path) as beside:
        beside.write_text(page, encoding="utf-8")
    return path


def _page() -> dict[str, Any]:
    """What every page is given."""
    return {
        "dark": _json(styles.DARK),
        "light": {"ink": styles.INK, "muted": styles.MUTED, "grid": styles.GRID, "paper": styles.PAPER},
        "night": {k: styles.DARK[getattr(styles, k.upper())] for k in ("ink", "muted", "grid", "paper")},
    }


def _suite_context(suite: Suite, links: Sequence[str]) -> dict[str, Any]:
    """Everything the template of several comparisons is given."""
    last, found = suite.comparisons[-1], suite.profiles if suite.enough else []
    labels = list(dict.fromkeys(entry.label for c in suite.comparisons for entry in c.plan.entries))
    figures = {"profiles": json.loads(transparent(plots.profiles(suite)).to_json())} if found else {}
    reached = ", ".join(f"{p.label} {percent(p.solved)}" for p in found)
    return {
        "suite": suite,
        "last": last,
        "finished": _when(last.finished),
        "version": last.versions.get("descend", ""),
        "profiles": found,
        "alt": f"Performance profiles. Share of the problems whose target was reached: {reached}.",
        "labels": labels,
        "with_target": bool(suite.with_target),
        "table": [
            {
                "problem": c.plan.problem,
                "target": "–" if c.target is None else f"{c.plan.metric} {c.target.value:g}".replace(" -", " −"),
                "cells": [suite_cell({row.label: row for row in c.rows}.get(label)) for label in labels],
                "last": level(c.by_test, lambda row: row.test.verdict),
                "answer": c.answer,
                "link": link,
            }
            for c, link in zip(suite.comparisons, links or [""] * len(suite.comparisons), strict=True)
        ],
        "json": _json(figures),
    }


def _context(comparison: Comparison) -> dict[str, Any]:
    """Everything the template is given."""
    plan, data, entries = comparison.plan, bool(comparison.shape["train"]), len(comparison.plan.entries)
    figures = charts(comparison)
    command, python = repeat(comparison)
    return {
        "comparison": comparison,
        "plan": plan,
        "data": data,
        "what": f"test {plan.metric}" if comparison.shape["test"] else plan.metric,
        "rows": test_rows(comparison),
        "target_rows": target_rows(comparison),
        "target": None if comparison.target is None else _target(comparison),
        "timed": any(row.seconds is not None for row in comparison.rows),
        "trials": counted(plan.all_trials, "trial"),
        "tuning_seeds": len(plan.tuning_seeds) // plan.studies,
        "scale": test_scale(comparison)[1],
        "figures": figures,
        "json": _json({f["id"]: json.loads(f["figure"].to_json()) for f in figures}),
        "anything_missed": any(row.misses for row in comparison.rows),
        "failures": _failures(comparison),
        "confidence": percent(CONFIDENCE),
        "joint": percent(joint_confidence(entries)),
        "risk": percent(1 - CONFIDENCE),
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
                "rule": rule_in_python(e.rule),
                "batch_size": e.batch_size,
                "space": "; ".join(f"{name} {describe_space(space)}" for name, space in (e.space or {}).items()),
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
            f"budget, reached {number(target.reference)}, and the target is {percent(1 - target.share)} of the way "
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


def _failures(comparison: Comparison) -> list[dict[str, Any]]:
    """Why runs failed: final runs, and the tuning runs of an entry that has no final runs."""
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
    """The plan and the machine, for the list at the end."""
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
        ("Budget", f"{plan.budget:,} gradient evaluations a run ({of}), evaluated every {plan.evaluate_every:,}"),
        (
            "Trials",
            f"{plan.all_trials} for each technique{f', in each of {plan.studies} studies' * (plan.studies > 1)}",
        ),
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


def _when(stamp: str) -> str:
    return datetime.datetime.fromisoformat(stamp).strftime("%-d %B %Y, %H:%M UTC")
