"""The tables of a report, in HTML and in a terminal: what the runs say, in words and signs."""

import dataclasses
import io
import json
import math
import re

import numpy as np
import pytest
from tests.comparison.comparing import SMALL, line
from tests.comparison.reports import (
    NO_TARGET,
    OPTIONS,
    WHICH,
    read,
    words,
)

import descend
from descend.comparison import Choice
from descend.comparison.reporting import html as report
from descend.comparison.reporting.tables import leaderboard
from descend.comparison.reporting.wording import besides, duration, number, telling


def test_write_returns_the_path(booth, tmp_path):
    """`write` and `save_report` write the same file, where they were asked to, and return its path."""
    assert report.write(booth, tmp_path / "a.html") == tmp_path / "a.html"
    assert booth.save_report(str(tmp_path / "b.html")) == tmp_path / "b.html"
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_the_answer_comes_first(booth, tmp_path):
    """Right under the title stands the answer; everything else comes after it."""
    page = read(booth, tmp_path)
    text = page.text
    title = text.index("Which optimizer for booth?", text.index("A comparison by"))
    after = words(text[title + len("Which optimizer for booth?") :])
    assert re.sub(r"\s+", "", after).startswith(re.sub(r"\s+", "", booth.answer))


@WHICH
def test_every_row_is_there(which, tmp_path, request):
    """The table has a row for each technique: rate, median, interval, verdict with its difference, misses."""
    found = request.getfixturevalue(which)
    rows = read(found, tmp_path).cells("final")
    seeds = len(found.plan.final_seeds)
    for row in found.rows:
        cells = " | ".join(rows[row.label])
        plain = cells.replace("−", "-").replace("+", "")
        assert all(f"{rate:g}" in cells for rate in (row.learning_rates[0], row.learning_rates[-1]))
        assert number(row.test.median) in plain
        assert f"[{number(row.test.low)}, {number(row.test.high)}]" in plain
        assert row.test.verdict in cells
        assert f"{row.misses} of {seeds}" in cells
        if row.test.difference is not None:
            low, high = number(row.test.difference.low), number(row.test.difference.high)
            assert f"{number(row.test.difference.median)} [{low}, {high}]" in plain
    column = 3 if found.shape["train"] else 2
    shown = [cells[column].split()[0].replace("−", "-") for cells in rows.values()]
    medians = sorted((row.test.median for row in found.rows), reverse=found.plan.higher_is_better)
    assert shown == [number(median) for median in medians]


def needed(run, target, higher):
    """Gradient evaluations to the first look that is good enough, by a plain loop; None if there is none."""
    if run["miss"]:
        return None
    for examples, _, metric in run["curve"]:
        if metric is None:
            continue
        if (higher and metric >= target) or (not higher and metric <= target):
            return examples
    return None


def middle(figures_):
    """The median, a miss being later than everything else."""
    ordered = sorted(figures_, key=lambda v: (v is None, v))
    n = len(ordered)
    pair = [ordered[(n - 1) // 2], ordered[n // 2]]
    return None if None in pair else sum(pair) / 2


@WHICH
def test_the_race_is_what_the_runs_say(which, tmp_path, request):
    """Evaluations to the target, read off the curves of the runs in the JSON: medians, hits, order."""
    found = request.getfixturevalue(which)
    whole = json.loads(json.dumps(found.to_dict()))
    target, higher = whole["target"]["value"], whole["problem"]["higher_is_better"]
    rows = read(found, tmp_path).cells("target")
    medians = []
    for row in whole["rows"]:
        runs = [r for r in whole["runs"] if r["phase"] == "final" and r["entry"] == row["entry"]]
        took = [needed(run, target, higher) for run in runs]
        hits, median = sum(t is not None for t in took), middle(took)
        assert row["to_target"]["hits"] == hits
        assert row["to_target"]["median"] == median
        assert row["to_target"]["runs"] == len(runs) == len(found.plan.final_seeds)
        cells = rows[row["label"]]
        assert cells[-1] == f"{hits} of {len(runs)}"
        figure = cells[2 + bool(found.shape["train"])].replace("\N{NO-BREAK SPACE}", " ")
        never = "never" if hits == 0 else f"> {found.plan.budget:,}"
        assert figure.startswith(never if median is None else f"{median:,.0f}")
        medians.append(math.inf if median is None else median)
    assert medians == sorted(medians)
    assert list(rows) == [row["label"] for row in whole["rows"]]


def test_a_target_from_reference_runs(booth, tmp_path):
    """The target lies so far between where the reference runs began and what they reached, as the report says."""
    target = booth.target
    assert target.value == pytest.approx(target.reference + target.share * (target.start - target.reference), rel=1e-3)
    text = read(booth, tmp_path).text.replace("\N{NO-BREAK SPACE}", " ")
    assert f"The target is loss {target.value:g}." in text
    assert f"99.9 % of the way there from the start ({number(target.start)})" in text
    assert "was first to reach loss" in booth.answer


def test_a_target_that_everybody_misses(hopeless, tmp_path):
    """Nobody is first: that is said in the answer and in the race, and the figure at the end ranks."""
    assert not hopeless.ranked_by_target
    assert "no technique reached validation score 5 in half of its runs; one by one came out best" in hopeless.answer
    page = read(hopeless, tmp_path)
    for cells in page.cells("target").values():
        assert cells[3] == "never"
        assert "✕ not reached" in cells
        assert cells[-1] == "0 of 6"
    text = str(hopeless)
    assert text.count("not reached") == 2
    assert text.count("0/6") == 4
    assert "No technique reached the target of 5 in half of its runs" in words(text)


def test_without_a_target(tmp_path):
    """No target: one table, and no word of a race."""
    found = descend.compare("booth", ["gd", "adam"], **NO_TARGET)
    page = read(found, tmp_path)
    assert "target" not in page.tables
    assert "target" not in page.text.replace("--target none", "")
    assert page.all("a")[0]["href"] == "#result"
    assert "target" not in str(found)


@pytest.mark.parametrize(
    ("verdict", "in_race", "at_the_end"),
    [
        ("best", "★ best", "★ best"),
        ("clearly worse", "↓ clearly worse", "↓ clearly worse"),
        ("no clear difference", "≈ no clear difference", "≈ no clear difference"),
        ("too few seeds", "? too few seeds", "? too few seeds"),
        ("failed", "✕ not reached", "✕ failed"),
    ],
)
def test_verdicts_have_a_sign_and_words(booth, tmp_path, verdict, in_race, at_the_end):
    """Each verdict is said in words and by a sign, not by colour alone; in a race nobody fails by being late."""
    last = booth.rows[-1]
    late = "not reached" if verdict == "failed" else verdict
    changed = dataclasses.replace(
        last,
        to_target=dataclasses.replace(last.to_target, verdict=late),
        test=dataclasses.replace(last.test, verdict=verdict),
    )
    found = dataclasses.replace(booth, rows=(*booth.rows[:-1], changed))
    page = read(found, tmp_path)
    assert any(cell.startswith(in_race) for cell in page.cells("target")[last.label])
    assert any(cell.startswith(at_the_end) for cell in page.cells("final")[last.label])
    race, _, end = str(found).partition("\nLoss\n")
    assert in_race[2:] in race
    assert at_the_end[2:] in end


def test_several_studies_are_a_range(studied, tmp_path):
    """What the studies chose is shown as the range it spans, in the report and in the terminal."""
    page, text = read(studied, tmp_path), str(studied)
    for row in studied.rows:
        rates = sorted({point["lr"] for point in row.chosen})
        assert len(rates) > 1
        spelled = f"{rates[0]:g}–{rates[-1]:g}"
        assert page.cells("target")[row.label][2].startswith(spelled)
        assert page.cells("final")[row.label][2].startswith(spelled)
        assert text.count(spelled) >= 2
    assert "in each of 2 studies" in page.text
    assert "each from the same seed. That was done 2 times over" in page.text


def test_what_else_was_chosen_is_named(studied, tmp_path):
    """Hyperparameters beside the learning rate, with their values; the batch size in its column."""
    page, text = read(studied, tmp_path), words(str(studied))
    found = next(row for row in studied.rows if row.label == "Momentum")
    values = sorted({point["momentum"] for point in found.chosen})
    spelled = "momentum " + "–".join(dict.fromkeys(f"{v:g}" for v in (values[0], values[-1])))
    assert spelled in page.cells("target")["Momentum"][2]
    assert spelled in page.cells("final")["Momentum"][2]
    assert f"Chosen besides: Momentum {spelled}." in text
    sizes = " / ".join(sorted({str(point["batch_size"]) for point in found.chosen}))
    assert page.cells("final")["Momentum"][1] == sizes
    assert "momentum" not in page.cells("target")["Adam"][2]
    one = descend.compare("booth", ["momentum"], **{**NO_TARGET, "final_seeds": 1}, space={"momentum": Choice([0.75])})
    assert "Chosen besides: Momentum momentum 0.75." in str(one)
    assert besides(dataclasses.replace(found, chosen=({"lr": 1.0, "nesterov": True}, None))) == ["nesterov True"]


def test_seconds_are_shown(studied, booth, tmp_path):
    """--time: what a run takes alone, in the terminal and in the race; nothing of it where nobody asked."""
    page, text = read(studied, tmp_path), words(str(studied))
    assert "A run with no other beside it takes:" in text
    for row in studied.rows:
        spelled = duration(row.seconds.median)
        assert f"{row.label} {spelled}" in text
        assert f"{spelled} a run" in page.cells("target")[row.label][3]
    assert "Seconds are of runs that were made with no other beside them." in page.text
    assert "Time is not compared" in read(booth, tmp_path).text
    assert "a run" not in " ".join(cell for row in read(booth, tmp_path).cells("target").values() for cell in row)


def test_tables_fit_eighty_columns(scored):
    """Names of ten letters, five digits of evaluations, misses, ten seeds: tables and no line above 80 columns."""
    long = [
        dataclasses.replace(
            row,
            label=f"Mini-batc{i}",
            batch_size="full",
            chosen=({"lr": 0.0032},),
            at_edge=True,
            to_target=dataclasses.replace(
                row.to_target,
                median=21560.0,
                low=10234.0,
                high=math.inf,
                hits=10,
                runs=10,
                verdict="no clear difference",
            ),
            test=dataclasses.replace(row.test, median=0.9653, low=0.9611, high=0.97, verdict="no clear difference"),
        )
        for i, row in enumerate(scored.rows)
    ]
    text = str(dataclasses.replace(scored, rows=tuple(long)))
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("technique") == 2
    assert "21560" in text
    assert "…" not in text.partition("Note")[0]
    several = [dataclasses.replace(row, chosen=({"lr": 0.0032}, {"lr": 0.0056})) for row in long]
    text = str(dataclasses.replace(scored, rows=tuple(several)))
    assert text.count("technique") == 2
    assert "0.0032–0.0056*" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_leaderboard(scored):
    """While runs are made: each entry's best median so far, best first, with its rate and the runs it rests on."""
    from rich.console import Console

    tuning = [run for run in scored.runs if run.phase == "tuning"]
    best = {}
    for entry in range(2):
        values = {
            rate: float(np.median([r.validation for r in tuning if (r.entry, r.learning_rate) == (entry, rate)]))
            for rate in (0.01, 0.1)
        }
        rate = max(values, key=values.get)
        best[scored.plan.entries[entry].label] = (values[rate], f"{rate:g}", number(values[rate]))
    console = Console(file=io.StringIO(), width=80)
    console.print(leaderboard(scored.plan, tuning))
    header, *lines = console.file.getvalue().splitlines()
    assert header.split() == ["so", "far", "lr", "score", "runs"]
    order = sorted(best, key=lambda label: -best[label][0])
    assert [line.split() for line in lines] == [[*label.split(), *best[label][1:], "1"] for label in order]
    failed = [dataclasses.replace(run, miss=True, validation=None) for run in tuning]
    console = Console(file=io.StringIO(), width=80)
    console.print(leaderboard(scored.plan, failed))
    assert console.file.getvalue().count("−∞") == 2
    console.print(leaderboard(scored.plan, []))


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.9694, 0.9722], ["0.9694", "0.9722"]),
        ([0.96941, 0.96943], ["0.96941", "0.96943"]),
        ([0.9694, 0.9694], ["0.9694", "0.9694"]),
        ([0.9694, 0.9694 * (1 + 1e-9)], ["0.9694", "0.9694"]),
        ([1.2345e11, 1.2349e11], ["1.234e+11", "1.235e+11"]),
        ([1.23456e11, 1.23462e11, math.inf], ["1.23456e+11", "1.23462e+11", "∞"]),
        ([4200.0, 123456.0], ["4200", "1.235e+05"]),
        ([1.21e-5, 1.24e-5], ["1.21e-05", "1.24e-05"]),
        ([0.00121, 0.00124, None], ["0.00121", "0.00124", "–"]),
        ([-2.00001e7, -2.00002e7], ["-2.00001e+07", "-2.00002e+07"]),
        ([1.0, 1.0 + 1e-6], ["1", "1.000001"]),
    ],
    ids=range(11),
)  # fmt: skip
def test_figures_of_a_column_have_the_digits_that_tell_them_apart(values, shown):
    """Four where that is enough, whatever the size; what differs by rounding alone is not told apart."""
    assert list(map(telling(values), values)) == shown


def test_large_figures_are_told_apart_in_every_table(tmp_path):
    """Losses of 1e11 that differ in the sixth digit: in the answer, in the terminal's table and in the report."""
    problem = descend.Problem(
        name="high", start=lambda rng: rng.normal(size=2), loss=lambda x: 1.23456e11 + 1e6 * float(x @ x),
        jac=lambda x: 2e6 * x,
    )  # fmt: skip
    found = descend.compare(problem, ["gd", "adam"], **{**OPTIONS, "learning_rates": [1e-8, 1e-7], "target": "none"})
    medians = [telling(row.test.median for row in found.rows)(row.test.median) for row in found.rows]
    assert len(set(medians)) == 2
    page = read(found, tmp_path)
    for row, median in zip(found.rows, medians, strict=True):
        assert median in str(found)
        assert page.cells("final")[row.label][2].startswith(median)
    assert medians[0] in words(found.answer)


def test_results_are_short_in_a_notebook():
    """The last line of a cell shows the answer, or the table as HTML, and not every figure of every run."""
    label = "<b>Adam</b> & \x1b[31m"
    suite = descend.compare_all([line(), "booth"], ["gd", descend.Entry(label, "adam")], **SMALL)
    for found in (suite, *suite.comparisons):
        assert found.answer in repr(found)
        assert len(repr(found)) < 1000
        page = found._repr_html_()
        assert page.startswith("<pre>")
        assert found is suite or "&lt;b&gt;Adam&lt;/b&gt; &amp; " in page
        assert not {"<b>", "\x1b"} & {page[i : i + n] for n in (1, 3) for i in range(len(page))}
    found = suite.comparisons[0]
    assert repr(found).startswith("<Comparison of 2 techniques, ")
    assert repr(found.plan).startswith("<Plan of a comparison on line: 2 techniques × 2 trials")
    assert repr(found.runs[0]) == (
        f"<Run of entry 0 at lr=0.01, seed 0, tuning: max_steps, validation {found.runs[0].validation:g}>"
    )
    for part in (*found.rows, *found.sensitivity, *found.plan.entries):
        assert len(repr(part)) < 2000
