"""The figures of step.py for people: Markdown, and a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import machine

TORCH = ("torch", "torch foreach", "torch fused", "torch compiled")
ALIKE = 1e-3
"""Differences above this, in units of the largest move, are no rounding."""


def ratios(result: dict[str, Any]) -> dict[str, Any]:
    """How many times as long as descend's the others' steps take: more than 1 is a win for descend."""
    medians = {n: t["median"] for n, t in result["microseconds"].items()}
    yardsticks = {n: medians.pop(n) for n in ("copy", "add") if n in medians}
    ours = medians.pop("descend", None)
    found: dict[str, Any] = {}
    if ours is None:
        return found
    for key, names in (("fastest torch", TORCH), ("fastest peer", tuple(medians))):
        there = [n for n in names if n in medians]
        if there:
            name = min(there, key=medians.__getitem__)
            found[key] = medians[name] / ours
            found[f"{key} is"] = name
    found |= {name: medians[name] / ours for name in medians}
    moved = result["bytes_per_parameter"] * result["parameters"] / 1e3
    found["GB/s"] = moved / ours
    for name, taken in yardsticks.items():
        found |= {f"{name} GB/s": moved / taken, f"of {name}": taken / ours}
    return found


def geometric(values: Iterable[float]) -> float | None:
    """The geometric mean; None of nothing."""
    logs = [math.log(v) for v in values]
    return math.exp(sum(logs) / len(logs)) if logs else None


def markdown(found: dict[str, Any]) -> str:
    """The report."""
    memory = "; ".join(
        f"with {_count(int(n), 'thread')}, a large copy {m['copy']:.1f} GB/s, an addition in place {m['add']:.1f} GB/s"
        for n, m in found["memory"].items()
    )
    lines = ["## Time of a step", "", *machine.heading(found["machine"])]
    lines += [
        f"Medians over {found['rounds']} rounds of at least {found['milliseconds']:g} ms. Memory: {memory}.",
        "",
    ]
    results = [{**r, "ratios": ratios(r)} for r in found["results"]]
    sizes = list(dict.fromkeys(r["size"] for r in results))
    names = [n for n in found["contenders"] if any(n in r["microseconds"] for r in results)]
    lines += _summary(results, sizes, names)
    for size in sizes:
        here = [r for r in results if r["size"] == size]
        lines += [
            f"### {size}: {here[0]['parameters']:,} parameters in {_count(here[0]['tensors'], 'tensor')}",
            "",
            *_times(here, names),
            *_ratios(here),
        ]
    lines += _remarks(results, found["contenders"])
    return "\n".join(lines).rstrip() + "\n"


def _summary(results: list[dict[str, Any]], sizes: list[str], names: list[str]) -> list[str]:
    others = [n for n in names if n != "descend"]
    columns = [*others, "fastest torch", "fastest peer"]
    rows = []
    for label, chosen in [("all", sizes), *((s, [s]) for s in sizes)]:
        row = [label]
        for key in columns:
            values = [r["ratios"][key] for r in results if r["size"] in chosen and key in r["ratios"]]
            mean = geometric(values)
            row.append("" if mean is None else f"{mean:.2f} ({len(values)})")
        rows.append(row)
    judged = [r for r in results if "fastest peer" in r["ratios"]]
    lost = sorted((r for r in judged if r["ratios"]["fastest peer"] < 1), key=lambda r: r["ratios"]["fastest peer"])
    lines = [
        "### Geometric means",
        "",
        "How many times as long as descend's step another's takes; above 1, descend is faster. In brackets: over how "
        "many rules and sizes.",
        "",
        *machine.table(["size", *columns], rows),
    ]
    if judged:
        lines += [f"The fastest peer is faster than descend in {len(lost)} of {len(judged)}{':' if lost else '.'}", ""]
        lines += [
            f"- {r['rule']}, {r['size']}: {r['ratios']['fastest peer is']} takes {r['ratios']['fastest peer']:.2f} of "
            "descend's time"
            for r in lost
        ]
        lines += [""] if lost else []
    return lines


def _times(results: list[dict[str, Any]], names: list[str]) -> list[str]:
    rows = []
    for r in results:
        row = [r["rule"]]
        for name in names:
            t = r["microseconds"].get(name)
            row.append("" if t is None else f"{_round(t['median'])} ({_round(t['low'])}–{_round(t['high'])})")
        rows.append(row)
    return ["Microseconds: median (quartiles).", "", *machine.table(["rule", *names], rows)]


def _ratios(results: list[dict[str, Any]]) -> list[str]:
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "torch fused": lambda r: _ratio(r.get("torch fused")),
        "torch": lambda r: _ratio(r.get("torch")),
        "fastest torch": lambda r: _named(r, "fastest torch"),
        "fastest peer": lambda r: _named(r, "fastest peer"),
        "GB/s": lambda r: f"{r['GB/s']:.2f}" if "GB/s" in r else "",
        "copy GB/s": lambda r: f"{r['copy GB/s']:.2f}" if "copy GB/s" in r else "",
        "of the copy": lambda r: f"{100 * r['of copy']:.0f} %" if "of copy" in r else "",
        "add GB/s": lambda r: f"{r['add GB/s']:.2f}" if "add GB/s" in r else "",
        "of the add": lambda r: f"{100 * r['of add']:.0f} %" if "of add" in r else "",
    }
    rows = [
        [r["rule"], *(show(r["ratios"]) for show in list(columns.values())[:4]), str(r["bytes_per_parameter"])]
        + [show(r["ratios"]) for show in list(columns.values())[4:]]
        for r in results
    ]
    titles = [*list(columns)[:4], "bytes a parameter", *list(columns)[4:]]
    return [
        "Time of others in units of descend's; what descend moves; a copy and an addition in place of as many bytes.",
        "",
        *machine.table(["rule", *titles], rows),
    ]


def _remarks(results: list[dict[str, Any]], contenders: Sequence[str]) -> list[str]:
    """Who was left out and why, and whose numbers differ."""
    lines = []
    for name in contenders:
        why: dict[str, list[str]] = {}
        for r in results:
            if name in r["skipped"]:
                why.setdefault(r["skipped"][name], []).append(f"{r['rule']} {r['size']}")
        lines += [f"- {name}: {reason} ({_places(places, len(results))})" for reason, places in why.items()]
    lines = ["### Left out", "", *(lines or ["Nothing."]), ""]
    notes: dict[str, list[str]] = {}
    for r in results:
        for name, said in r["notes"].items():
            for text in said:
                notes.setdefault(f"{name}: {text}", []).append(f"{r['rule']} {r['size']}")
        for name, far in r["difference"].items():
            if not far <= ALIKE:
                notes.setdefault(f"{name}: after five steps its parameters are others than descend's", []).append(
                    f"{r['rule']} {r['size']}: {far:.2g} of the largest move"
                )
        if r["made_anew_each_round"]:
            notes.setdefault("contenders made anew in each round, to save memory", []).append(
                f"{r['rule']} {r['size']}"
            )
    lines += ["### Remarks", "", *(f"- {text} ({_places(places, 0)})" for text, places in notes.items())]
    return [*lines, *([] if notes else ["None."]), ""]


def _places(places: list[str], everywhere: int) -> str:
    return "everywhere" if len(places) == everywhere else ", ".join(places)


def _named(r: dict[str, Any], key: str) -> str:
    return f"{_ratio(r[key])} {r[f'{key} is']}" if key in r else ""


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _round(value: float) -> str:
    """Three digits that count."""
    digits = max(0, 2 - math.floor(math.log10(value)))
    return f"{value:,.{digits}f}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def chart(found: dict[str, Any]) -> str:
    """A page with a figure for each size: each contender's time in units of descend's, rule by rule."""
    from plotly.offline import get_plotlyjs

    from descend.plots import styles as look

    results = [{**r, "ratios": ratios(r)} for r in found["results"]]
    parts = []
    for size in dict.fromkeys(r["size"] for r in results):
        here = [r for r in results if r["size"] == size]
        figure = look.blank("", "time of a step ÷ descend's")
        shown = [1.0]
        for i, name in enumerate(n for n in found["contenders"] if n != "descend"):
            points = [(r["rule"], r["ratios"][name]) for r in here if name in r["ratios"]]
            if points:
                shown += [y for _, y in points]
                line = look.line_in(look.style(i), x=[x for x, _ in points], y=[y for _, y in points], name=name)
                figure.add_trace(line.update(mode="markers", marker_maxdisplayed=0))
        look.make_logarithmic(figure, shown)
        figure.update_xaxes(categoryorder="array", categoryarray=[r["rule"] for r in here])
        figure.add_hline(y=1.0, line={"color": look.INK, "width": 2})
        figure.add_annotation(
            x=1, xref="paper", xanchor="right", y=0, yanchor="bottom", text="descend", showarrow=False
        )
        title = f"{size}: {here[0]['parameters']:,} parameters in {_count(here[0]['tensors'], 'tensor')}"
        parts.append(f"<h2>{title}</h2>" + figure.to_html(full_html=False, include_plotlyjs=False))
    about = "".join(f"<p>{look.text(line.strip(' *'), 120)}</p>" for line in machine.heading(found["machine"]) if line)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Time of a step</title>'
        f"<style>body{{font-family:{look.FONT};color:{look.INK};max-width:70rem;margin:2rem auto}}</style>"
        f"<script>{get_plotlyjs()}</script><h1>Time of a step</h1>{about}{''.join(parts)}</html>\n"
    )
