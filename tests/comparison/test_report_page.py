"""The rest of a report: how it was measured, charts as tables, misses, notes; it loads nothing and believes nothing."""

import dataclasses
import itertools
import json
import re

import numpy as np
from tests.comparison.reports import (
    HOSTILE,
    NO_TARGET,
    OPTIONS,
    Page,
    cloud,
    figures,
    read,
    words,
)

import descend
from descend import Entry, Problem
from descend.comparison import Choice, Uniform
from descend.comparison.judging.results import entry_results
from descend.comparison.reporting.wording import number


def test_how_it_was_measured(scored, tmp_path):
    """Tuning, choice, seeds, cost, misses, intervals and verdicts are explained, and the plan is given in full."""
    text = read(scored, tmp_path).text
    for phrase in (
        "Equal tuning",
        "Chosen on validation data",
        "Judged on fresh seeds",
        "100 gradient evaluations",
        "A miss counts as the worst",
        "order statistics",
        "paired and joint",
        "30 train, 10 validation",
        "score (higher is better)",
        "0.01, 0.1",
        "1000 … 1005 (6)",
        scored.plan.hash,
        scored.machine,
        f"numpy {np.__version__}",
        f"descend {descend.__version__}",
    ):
        assert phrase in text
    assert "Bonferroni" not in text


def test_verdicts_of_many_are_joint(tmp_path):
    """With more than two techniques the intervals of the differences are widened, and the report says to what."""
    found = descend.compare("booth", ["gd", "adam", "momentum"], **{**NO_TARGET, "final_seeds": 7})
    text = read(found, tmp_path).text
    assert "Bonferroni" in text
    assert "98.33 %" in text  # 1 − 0.05 / 3 pairs


def test_a_function_has_no_data(booth, tmp_path):
    """Where there are no data, the report speaks of none: no batch, no validation, no test, one chart of the loss."""
    page = read(booth, tmp_path)
    assert "function without data" in page.text
    shown = page.text[: page.text.index("How this was measured", page.text.index("The same as a table"))]
    for absent in ("Batch", "validation", "test ", "examples seen", "Validation"):
        assert absent not in shown
    assert [a["id"] for a in page.all("div") if a.get("class") == "chart"] == ["loss", "rates"]


def test_a_metric_has_its_chart(scored, tmp_path):
    """Loss, metric and learning rates: each chart with words, a caption, and the same as a table."""
    page = read(scored, tmp_path)
    charts = [a for a in page.all("div") if a.get("class") == "chart"]
    assert [a["id"] for a in charts] == ["loss", "metric", "rates"]
    assert all(a["role"] == "img" and len(a["aria-label"]) > 40 for a in charts)
    assert len(page.all("figcaption")) == 3
    assert len(page.all("caption")) == 5  # race, final, and one for each chart


def test_the_charts_as_tables(scored, tmp_path):
    """The tables beside the charts hold the medians of the final runs and of the tuning runs."""
    rows = [[words(c) for c in cells] for cells in read(scored, tmp_path).rows]
    header = next(i for i, cells in enumerate(rows) if cells[-1] == "after 100")
    at = len(rows[header]) // 2  # in the middle of the budget
    mark = int(rows[header][at].removeprefix("after "))
    assert 40 <= mark <= 60
    for row, cells in zip(scored.rows, rows[header + 1 :], strict=False):
        runs = [r for r in scored.runs if r.phase == "final" and r.entry == row.entry]
        values = [[look[1] for look in r.curve if look[0] <= mark][-1] for r in runs]
        assert cells[0] == row.label
        assert cells[at].replace("−", "-").startswith(number(float(np.median(values))))
    header = next(i for i, cells in enumerate(rows) if cells == ["Technique", "0.01", "0.1"])
    for row, cells in zip(scored.rows, rows[header + 1 :], strict=False):
        tried = scored.sensitivity[row.entry].validation
        assert [c.split()[0].replace("−", "-") for c in cells[1:]] == [number(v) for v in tried]
        assert "chosen" in cells[1 + [0.01, 0.1].index(row.learning_rate)]


def test_trials_that_share_a_learning_rate(tmp_path):
    """Where other hyperparameters differ at one rate, the table shows the best of them, and whether it was chosen."""
    space = {"lr": Choice([0.02, 0.05]), "momentum": Uniform(0.0, 0.9)}
    options = {k: v for k, v in NO_TARGET.items() if k != "learning_rates"}
    found = descend.compare("booth", ["momentum"], **options, space=space, trials=6)
    rows = [[words(c) for c in cells] for cells in read(found, tmp_path).rows]
    header = next(i for i, cells in enumerate(rows) if cells == ["Technique", "0.02", "0.05"])
    tuning = [run for run in found.runs if run.phase == "tuning"]
    assert len(tuning) == 6
    for rate, cell in zip((0.02, 0.05), rows[header + 1][1:], strict=True):
        best = min(run.validation for run in tuning if run.learning_rate == rate)
        assert cell.split()[0].replace("−", "-") == number(best)
        assert ("chosen" in cell) == (found.rows[0].learning_rate == rate)


def test_the_notes_are_there(booth, tmp_path):
    """What to know before believing the table is in the report, with a way to it from the top."""
    assert booth.notes
    page = read(booth, tmp_path)
    assert all(note in page.text for note in booth.notes)
    assert "#notes" in [a.get("href") for a in page.all("a")]


def test_misses_and_an_entry_that_failed(tmp_path):
    """A technique that none of the given learning rates suits: no verdict, and why is told once, with how often."""
    found = descend.compare("rosenbrock", ["gd", "adam"], **{**OPTIONS, "learning_rates": [0.1, 1.0], "budget": 40})
    page = read(found, tmp_path)
    cells = next([words(c) for c in cells] for cells in page.rows if words(cells[0]) == "GD")
    assert cells[1:3] == ["–", "never"]
    cells = page.cells("final")["GD"]
    assert cells[1:3] == ["–", "missed"]
    assert "? no verdict" in cells
    assert "6 of 6" in cells
    assert "2 of 2 tuning runs. Diverged" in page.text
    assert "? no verdict" in page.cells("target")["GD"]
    assert "nan" not in page.text.lower()


def test_some_misses(tmp_path):
    """Some runs missed: they are counted in the table, the legend and the notes, and their reason is given."""
    problem = Problem(
        name="quartic",
        start=lambda rng: 3 * rng.normal(size=1),
        loss=lambda x: float(np.sum(x**4)),
        jac=lambda x: 4 * x**3,
    )
    options = {"learning_rates": [0.05], "budget": 40, "tuning_seeds": 3, "final_seeds": 10, "jobs": 1}
    found = descend.compare(problem, ["gd", "adam"], **options)
    row = next(row for row in found.rows if row.label == "GD")
    assert 0 < row.misses < 10
    page = read(found, tmp_path)
    assert f"{row.misses} of 10 final runs. Diverged" in page.text
    assert "cross at the edge" in page.text
    assert f"GD ({row.misses} of 10 missed)" in json.dumps(figures(page))


def test_every_technique_failed(booth, tmp_path):
    """When all final runs are misses, the report says that, and has no figure where there is none."""
    runs = [
        dataclasses.replace(r, miss=True, validation=None, test=None, curve=r.curve[:1]) if r.phase == "final" else r
        for r in booth.runs
    ]
    table = entry_results(booth.plan, runs, [({"lr": 0.1},)] * 2, booth.target.value)
    page = read(dataclasses.replace(booth, runs=tuple(runs), rows=tuple(table)), tmp_path)
    assert "every technique failed" in page.text
    assert [cells[2] for cells in page.cells("final").values()] == ["missed [missed, missed]"] * 2
    assert [cells[2] for cells in page.cells("target").values()] == ["never"] * 2
    assert "nan" not in page.text.lower()


def test_untuned(tmp_path):
    """Each technique's figure with its own learning rate stands with its tuned one, and how to ask for it again."""
    found = descend.compare("booth", ["gd", descend.Adam(lr=0.003)], **{**OPTIONS, "untuned": True})
    page = read(found, tmp_path)
    for row in found.rows:
        cells = page.cells("final")[row.label]
        assert cells[2].endswith(f"untuned, at {row.own_learning_rate:g}: {number(row.untuned.median)}")
        assert f"best in {100 * row.test.best_probability:.0f}" in cells[-2].replace("\N{NO-BREAK SPACE}", " ")
    assert "--no-untuned" not in page.text
    assert "descend.Adam(lr=0.003)" in page.text
    assert "--no-untuned" in read(descend.compare("booth", ["gd", "adam"], **OPTIONS), tmp_path).text


def test_too_few_seeds(tmp_path):
    """With too few seeds there is no interval and no verdict, and the report says so instead of leaving a hole."""
    found = descend.compare("booth", ["gd", "adam"], **{**OPTIONS, "final_seeds": 3})
    page = read(found, tmp_path)
    for table in ("target", "final"):
        cells = page.cells(table)[found.rows[1].label]
        assert any(c.endswith("too few seeds") for c in cells[2:3])
        assert any(c.startswith("? too few seeds") for c in cells)


def test_one_entry_alone(tmp_path):
    """One technique at one learning rate is still a report."""
    found = descend.compare("booth", ["gd"], **{**NO_TARGET, "learning_rates": [0.1]})
    page = read(found, tmp_path)
    assert "1 trial from 1 seed" in page.text
    assert "the same number of trials, 1 learning rate, each from the same seed." in page.text
    assert "★ best" in page.text


def test_it_needs_nothing_else(scored, tmp_path):
    """No attribute of the page points anywhere but into the page; Plotly is in it, once."""
    page = read(scored, tmp_path)
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert attributes.get(name, "#").startswith("#"), (tag, attributes)
    assert not page.all("link")
    assert sum("plotly.js v" in text for text in page.scripts) == 1
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


def test_everything_is_escaped(tmp_path):
    """A problem, a summary, a metric or a label that holds markup is shown as it is, and does nothing."""
    problem = cloud(
        name=HOSTILE,
        summary=HOSTILE,
        metric=lambda w, X, y: float(np.mean((X @ w - y) ** 2)),
        metric_name=HOSTILE,
        higher_is_better=False,
    )
    plain = Page(line_report(cloud(name="line"), "GD", tmp_path))
    page = Page(line_report(problem, HOSTILE, tmp_path))
    assert len(page.all("script")) == len(plain.all("script"))
    assert not page.all("img")
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
    assert HOSTILE in page.text
    names = [trace["name"] for trace in figures(page)["loss"]["data"] if trace.get("showlegend")]
    assert all("<script" not in name and "<img" not in name for name in names)


def line_report(problem, label, tmp_path):
    found = descend.compare(problem, [Entry(label, descend.GD(), "full"), Entry("b", descend.GD(), 10)], **OPTIONS)
    return found.save_report(tmp_path / "hostile.html").read_text(encoding="utf-8")


def test_it_can_be_read_without_seeing(scored, tmp_path):
    """A language, one h1 and no heading level left out, scopes, captions, a skip link to something that exists."""
    page = read(scored, tmp_path)
    assert page.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert page.all("a")[0]["class"] == "skip"
    assert all(a["href"][1:] in ids for a in page.all("a"))
    named = [a.get("aria-labelledby") for _, a in page.tags if a.get("aria-labelledby")]
    assert set(named) <= set(ids)
