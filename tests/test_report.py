"""The report: one file that says all, needs nothing, and believes nothing that is written in a label."""

import dataclasses
import html.parser
import itertools
import json
import re

import numpy as np
import pytest

import descend
from descend import Entry, Problem
from descend.comparison import report, statistics
from descend.comparison.outcome import number

RNG = np.random.default_rng(3)
X = RNG.normal(size=(50, 2))
Y = X @ np.array([1.0, -2.0])
HOSTILE = "</script><script>alert('x')</script><img src=http://x.example/ onerror=alert(1)>"
VOID = {"br", "circle", "img", "input", "link", "meta", "path"}


class Page(html.parser.HTMLParser):
    """What a report holds: its tags with their attributes, the texts of scripts, the text a reader sees, by place."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.scripts, self.words, self.rows = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "script" in self.open:
            self.scripts.append(data)
        elif "style" not in self.open:
            self.words.append(data)
            if "td" in self.open or "th" in self.open:
                self.rows[-1][-1] += data

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def read(comparison, tmp_path):
    """The report of a comparison, as written to a file and parsed."""
    path = comparison.save_report(tmp_path / "report.html")
    return Page(path.read_text(encoding="utf-8"))


def words(text):
    return " ".join(text.split())


OPTIONS = {
    "learning_rates": [0.01, 0.1],
    "budget": 100,
    "tuning_seeds": 1,
    "final_seeds": 6,
    "untuned": False,
    "jobs": 1,
}


@pytest.fixture(scope="module")
def booth():
    """A function, two rules, no misses."""
    return descend.compare("booth", ["gd", "adam"], **OPTIONS)


def line(**options):
    return Problem(
        start=lambda rng: rng.normal(size=2),
        loss=lambda w, X, y: float(np.mean((X @ w - y) ** 2)),
        jac=lambda w, X, y: 2 * X.T @ (X @ w - y) / len(y),
        data=(X, Y),
        **options,
    )


@pytest.fixture(scope="module")
def scored():
    """A problem with data and a metric to be high."""
    problem = line(
        name="line",
        summary="a line through a cloud",
        metric=lambda w, X, y: -float(np.mean(np.abs(X @ w - y))),
        metric_name="score",
        higher_is_better=True,
    )
    return descend.compare(
        problem, [Entry("one by one", descend.GD(), 1), Entry("at once", descend.GD(), "full")], **OPTIONS
    )


# ---- what it says -----------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("which", ["booth", "scored"])
def test_every_row_is_there(which, tmp_path, request):
    """The table has a row for each technique: rate, median, interval, verdict with its difference, misses."""
    found = request.getfixturevalue(which)
    page = read(found, tmp_path)
    # Reversed, so that the first table with a row of that name, the result, is the one that counts.
    rows = {words(cells[0]): [words(c) for c in cells] for cells in reversed(page.rows) if len(cells) >= 6}
    for row in found.rows:
        cells = " | ".join(rows[row.label])
        plain = cells.replace("−", "-").replace("+", "")
        assert f"{row.learning_rate:g}" in cells
        assert number(row.test.median) in plain
        assert f"[{number(row.test.low)}, {number(row.test.high)}]" in plain
        assert row.verdict in cells
        assert f"{row.misses} of 6" in cells
        if row.difference is not None:
            low, high = number(row.difference.low), number(row.difference.high)
            assert f"{number(row.difference.median)} [{low}, {high}]" in plain
    order = [words(cells[0]) for cells in page.rows if len(cells) >= 6][1:]
    assert order[: len(found.rows)] == [row.label for row in found.rows]


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
    found = descend.compare("booth", ["gd", "adam", "momentum"], **{**OPTIONS, "final_seeds": 7})
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
    assert len(page.all("caption")) == 4


def test_the_charts_as_tables(scored, tmp_path):
    """The tables beside the charts hold the medians of the final runs and of the tuning runs."""
    rows = [[words(c) for c in cells] for cells in read(scored, tmp_path).rows]
    header = next(i for i, cells in enumerate(rows) if "after 60" in cells)
    at = rows[header].index("after 60")
    for row, cells in zip(scored.rows, rows[header + 1 :], strict=False):
        runs = [r for r in scored.runs if r.phase == "final" and r.entry == row.entry]
        values = [look[1] for r in runs for look in r.curve if look[0] == 60]
        assert cells[0] == row.label
        assert cells[at].replace("−", "-").startswith(number(float(np.median(values))))
    header = next(i for i, cells in enumerate(rows) if cells == ["Technique", "0.01", "0.1"])
    for row, cells in zip(scored.rows, rows[header + 1 :], strict=False):
        tried = scored.sensitivity[row.entry].validation
        assert [c.split()[0].replace("−", "-") for c in cells[1:]] == [number(v) for v in tried]
        assert "chosen" in cells[1 + [0.01, 0.1].index(row.learning_rate)]


def test_the_notes_are_there(booth, tmp_path):
    """What to know before believing the table is in the report, with a way to it from the top."""
    assert booth.notes
    page = read(booth, tmp_path)
    assert all(note in page.text for note in booth.notes)
    assert "#notes" in [a.get("href") for a in page.all("a")]


# ---- misses, failures, few seeds --------------------------------------------------------------------------------


def test_misses_and_an_entry_that_failed(tmp_path):
    """A technique that no learning rate suits is in the table as failed, and why is told once, with how often."""
    found = descend.compare("rosenbrock", ["gd", "adam"], **{**OPTIONS, "learning_rates": [0.1, 1.0], "budget": 40})
    page = read(found, tmp_path)
    cells = next([words(c) for c in cells] for cells in page.rows if words(cells[0]) == "GD")
    assert cells[1:3] == ["–", "missed"]
    assert "✕ failed" in cells
    assert "6 of 6" in cells
    assert "2 of 2 tuning runs. Diverged" in page.text
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
    table = statistics.rows(booth.plan, runs, [0.1, 0.1])
    page = read(dataclasses.replace(booth, runs=tuple(runs), rows=tuple(table)), tmp_path)
    assert "every technique failed" in page.text
    cells = [[words(c) for c in cells] for cells in page.rows]
    assert [c[2] for c in cells[1:3]] == ["missed [missed, missed]"] * 2
    assert "nan" not in page.text.lower()


def test_untuned(tmp_path):
    """Each technique's figure with its own learning rate stands with its tuned one, and how to ask for it again."""
    found = descend.compare("booth", ["gd", descend.Adam(lr=0.003)], **{**OPTIONS, "untuned": True})
    page = read(found, tmp_path)
    for row in found.rows:
        cells = next([words(c) for c in cells] for cells in page.rows if words(cells[0]) == row.label)
        assert cells[2].endswith(f"untuned, at {row.own_learning_rate:g}: {number(row.untuned.median)}")
        assert f"best in {100 * row.best_probability:.0f}" in cells[-2].replace("\N{NO-BREAK SPACE}", " ")
    assert "--no-untuned" not in page.text
    assert "descend.Adam(lr=0.003)" in page.text
    assert "--no-untuned" in read(descend.compare("booth", ["gd", "adam"], **OPTIONS), tmp_path).text


def test_too_few_seeds(tmp_path):
    """With too few seeds there is no interval and no verdict, and the report says so instead of leaving a hole."""
    found = descend.compare("booth", ["gd", "adam"], **{**OPTIONS, "final_seeds": 3})
    page = read(found, tmp_path)
    cells = next([words(c) for c in cells] for cells in page.rows if words(cells[0]) == found.rows[1].label)
    assert any(c.endswith("too few seeds") for c in cells[2:3])
    assert any(c.startswith("? too few seeds") for c in cells)


def test_one_entry_alone(tmp_path):
    """One technique at one learning rate is still a report."""
    found = descend.compare("booth", ["gd"], **{**OPTIONS, "learning_rates": [0.1]})
    page = read(found, tmp_path)
    assert "1 learning rate from 1 seed" in page.text
    assert "★ best" in page.text


# ---- nothing is loaded, nothing is believed ---------------------------------------------------------------------


def figures(page):
    """The figures that the page carries, as data."""
    return json.loads(next(text for text in page.scripts if text.startswith('{"loss":')))


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
    problem = line(
        name=HOSTILE,
        summary=HOSTILE,
        metric=lambda w, X, y: float(np.mean((X @ w - y) ** 2)),
        metric_name=HOSTILE,
    )
    plain = Page(line_report(line(name="line"), "GD", tmp_path))
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


# ---- to repeat it -----------------------------------------------------------------------------------------------


def plan_of(comparison, **changes):
    return dataclasses.replace(comparison, plan=dataclasses.replace(comparison.plan, **changes))


def test_the_command_repeats_it(booth, tmp_path):
    """The command in the report, given to the command line, makes a comparison of the same plan."""
    from typer.testing import CliRunner

    from descend.cli import app

    command, _ = report._repeat(booth)
    assert (
        command == "descend compare booth --rules gd,adam --lr 0.01,0.1 --budget 100 --tuning-seeds 1 --final-seeds 6 "
        "--no-untuned"
    )
    assert command in read(booth, tmp_path).text
    arguments = [*command.split()[1:], "--out", str(tmp_path / "again"), "--jobs", "1"]
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 0, ran.output
    again = json.loads((tmp_path / "again" / "comparison.json").read_text())
    assert again["plan"]["hash"] == booth.plan.hash


def test_the_shortest_command():
    """What is at its default is not repeated."""
    problem = descend.problems.load("breast-cancer")
    found = descend.compare(
        "breast-cancer", learning_rates=[0.1], budget=problem.size, tuning_seeds=1, final_seeds=1, jobs=1
    )
    command, _ = report._repeat(found)
    assert command == f"descend compare breast-cancer --lr 0.1 --budget {problem.size} --tuning-seeds 1 --final-seeds 1"
    default = plan_of(
        found,
        learning_rates=descend.comparison.plan.LEARNING_RATES,
        budget=20 * problem.size,
        tuning_seeds=(0, 1, 2),
        final_seeds=tuple(range(1000, 1010)),
    )
    assert report._repeat(default)[0] == "descend compare breast-cancer"
    batched = [
        dataclasses.replace(e, batch_size=16 if e.batch_size == 32 else e.batch_size) for e in found.plan.entries
    ]
    assert (
        report._repeat(plan_of(default, entries=tuple(batched)))[0] == "descend compare breast-cancer --batch-size 16"
    )


def test_python_where_the_command_line_has_no_words(scored, tmp_path):
    """Entries with names and batch sizes of their own are repeated in Python, and the code makes the same plan."""
    command, python = report._repeat(scored)
    assert command is None
    assert "descend.Entry('one by one', descend.GD(), 1)" in python
    assert "problem," in python
    found = descend.compare("booth", [Entry("mine", descend.Adam(betas=(0.8, 0.99)))], **OPTIONS)
    command, python = report._repeat(found)
    assert command is None
    assert "Adam(betas=(0.8, 0.99))" in read(found, tmp_path).text
    again = eval(python.partition("\n\n")[2], {"descend": descend})
    assert again.plan.hash == found.plan.hash


def test_where_the_problem_came_from(booth):
    """A problem from a file is repeated with its path; one that was made in Python can only be repeated there."""
    found = dataclasses.replace(booth)
    found = dataclasses.replace(found, source="my problems/booth.py")
    command, python = report._repeat(found)
    assert command.startswith("descend compare 'my problems/booth.py' --rules gd,adam")
    assert "'my problems/booth.py'," in python
    found = dataclasses.replace(found, source=None)
    command, python = report._repeat(found)
    assert command is None
    assert "    problem,\n" in python


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "under 1 ms"),
        (0.0123, "0.012 s"),
        (9.87, "9.9 s"),
        (61.4, "61 s"),
        (133.2, "2 min 13 s"),
        (7300, "2 h 1 min"),
    ],
)
def test_durations(seconds, text):
    """A duration is as exact as a reader needs it."""
    assert report._duration(seconds) == text
