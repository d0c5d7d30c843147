"""What tests of reports share: problems, a parser of pages, and pages of comparisons."""

import dataclasses
import html.parser
import json

import numpy as np
import pytest

import descend
from descend import Entry, Problem

RNG = np.random.default_rng(3)


X = RNG.normal(size=(50, 2))


Y = X @ np.array([1.0, -2.0])


HOSTILE = "</script><script>alert('x')</script><img src=http://x.example/ onerror=alert(1)>"


VOID = {"br", "circle", "img", "input", "link", "meta", "path"}


class Page(html.parser.HTMLParser):
    """What a report holds: its tags with their attributes, the texts of scripts, the text a reader sees, by place."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.scripts, self.words, self.rows, self.tables = [], [], [], [], [], {}
        self.feed(text)
        self.close()
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.tables[self.table] = []
        if tag == "tr":
            self.rows.append([])
            self.tables[self.table].append(self.rows[-1])
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

    @property
    def table(self):
        """The name of the table that was opened last: its id, or its place."""
        return self.all("table")[-1].get("id", len(self.all("table")))

    def cells(self, table):
        """The body of a table: the words of each row's cells, by technique."""
        return {words(row[0]): [words(cell) for cell in row] for row in self.tables[table][1:]}


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


NO_TARGET = {**OPTIONS, "target": "none"}


def cloud(**options):
    return Problem(
        start=lambda rng: rng.normal(size=2),
        loss=lambda w, X, y: float(np.mean((X @ w - y) ** 2)),
        jac=lambda w, X, y: 2 * X.T @ (X @ w - y) / len(y),
        data=(X, Y),
        **options,
    )


def score():
    """A problem with data and a metric to be high."""
    return cloud(
        name="line",
        summary="a line through a cloud",
        metric=lambda w, X, y: -float(np.mean(np.abs(X @ w - y))),
        metric_name="score",
        higher_is_better=True,
    )


def entries():
    return [Entry("one by one", descend.GD(), 1), Entry("at once", descend.GD(), "full")]


WHICH = pytest.mark.parametrize("which", ["booth", "scored", "hopeless", "studied"])


def suite_page(suite, tmp_path):
    return Page(suite.save_report(tmp_path / "suite.html").read_text(encoding="utf-8"))


def figures(page):
    """The figures that the page carries, as data."""
    return json.loads(next(text for text in page.scripts if text.startswith(('{"loss":', '{"profiles":'))))


def plan_of(comparison, **changes):
    return dataclasses.replace(comparison, plan=dataclasses.replace(comparison.plan, **changes))
