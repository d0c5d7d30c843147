"""The report: one file that says all, needs nothing, and believes nothing that is written in a label."""

import dataclasses
import html.parser
import io
import itertools
import json
import math
import re
import shlex

import numpy as np
import pytest
from click.testing import CliRunner

import descend
from descend import Entry, Problem
from descend.cli import compare as command_line
from descend.cli.app import app
from descend.comparison import Choice, Uniform
from descend.comparison.judging.results import entry_results
from descend.comparison.options import CompareOptions
from descend.comparison.planning.make_plan import make_plan
from descend.comparison.reporting import html as report
from descend.comparison.reporting.repeat import repeat
from descend.comparison.reporting.tables import leaderboard
from descend.comparison.reporting.wording import besides, duration, number
from descend.errors import OptionError

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


@pytest.fixture(scope="module")
def booth():
    """A function, two rules, no misses, a target from reference runs."""
    return descend.compare("booth", ["gd", "adam"], **OPTIONS)


def line(**options):
    return Problem(
        start=lambda rng: rng.normal(size=2),
        loss=lambda w, X, y: float(np.mean((X @ w - y) ** 2)),
        jac=lambda w, X, y: 2 * X.T @ (X @ w - y) / len(y),
        data=(X, Y),
        **options,
    )


def score():
    """A problem with data and a metric to be high."""
    return line(
        name="line",
        summary="a line through a cloud",
        metric=lambda w, X, y: -float(np.mean(np.abs(X @ w - y))),
        metric_name="score",
        higher_is_better=True,
    )


def entries():
    return [Entry("one by one", descend.GD(), 1), Entry("at once", descend.GD(), "full")]


@pytest.fixture(scope="module")
def scored():
    """A metric to be high, and a given target that some runs miss."""
    found = descend.compare(score(), entries(), **OPTIONS, target=-0.6)
    assert [0 < row.to_target.hits < 6 for row in found.rows] == [False, True]
    return found


@pytest.fixture(scope="module")
def hopeless():
    """A given target that everybody misses."""
    return descend.compare(score(), entries(), **OPTIONS, target=5.0)


@pytest.fixture(scope="module")
def studied():
    """Several studies, a second hyperparameter, batch sizes that are searched for, and seconds."""
    space = {"momentum": Uniform(0.5, 0.99), "batch_size": Choice([5, 10])}
    options = {k: v for k, v in OPTIONS.items() if k != "learning_rates"}
    return descend.compare(
        score(), ["momentum", "adam"], **options, space=space, trials=4, studies=2, timed=True, target=-1
    )


@pytest.fixture(scope="module")
def suite():
    """Five functions, one of them with a target that nobody reaches."""
    found = descend.compare_all(["booth", "beale", "quadratic", "himmelblau"], ["gd", "adam"], **OPTIONS)
    hard = descend.compare("rosenbrock", ["gd", "adam"], **OPTIONS, target=1e-30)
    return descend.Suite((*found.comparisons, hard))


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


WHICH = pytest.mark.parametrize("which", ["booth", "scored", "hopeless", "studied"])


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


# ---- several problems ---------------------------------------------------------------------------------------------


def suite_page(suite, tmp_path):
    return Page(suite.save_report(tmp_path / "suite.html").read_text(encoding="utf-8"))


def test_the_page_of_several_problems(suite, tmp_path):
    """The answer first; for each problem its target and what everyone took to it, read off the comparisons."""
    page = suite_page(suite, tmp_path)
    assert page.text.index("Which optimizer, over 5 problems?") < page.text.index(words(suite.answer))
    assert re.match(r"Of 2 techniques compared on 5 problems, \w+ was fastest overall: its median run", suite.answer)
    table = next(rows for rows in page.tables.values() if rows[0][0] == "Problem")
    assert table[0] == ["Problem", "Target", "GD", "Adam", "Best in the end"]
    for comparison, cells in zip(suite.comparisons, table[1:], strict=True):
        assert cells[0] == comparison.plan.problem
        assert cells[1] == f"loss {comparison.target.value:g}"
        for label, cell in zip(("GD", "Adam"), cells[2:4], strict=True):
            standing = next(row.to_target for row in comparison.rows if row.label == label)
            if standing.hits == 0:
                assert cell == "never"
            elif math.isinf(standing.median):
                assert cell.endswith(f"{standing.hits} of {standing.runs} runs")
            else:
                assert cell.endswith(f"{standing.median:,.0f}")
            assert ("★" in cell) == (standing.verdict == "best")
            assert ("≈" in cell) == (standing.verdict == "no clear difference")
    shares = next(rows for rows in page.tables.values() if rows[0][0] == "Technique")
    for profile, cells in zip(suite.profiles, shares[1:], strict=True):
        counts = [sum(ratio <= most for ratio in profile.ratios) for most in (1.0, 2.0, 5.0, 1e300)]
        assert cells == [profile.label, *map(str, counts)]
    for tag, attributes in page.tags:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith("#"), (tag, attributes)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert all(a["href"][1:] in ids for a in page.all("a"))
    assert len(page.all("caption")) == len(page.all("table"))


def test_the_folder_of_several_problems(tmp_path):
    """Each comparison has a folder with its report, and the page beside them leads there."""
    options = {**OPTIONS, "out": tmp_path / "o"}
    told = []
    descend.compare_all(["booth", "beale"], ["gd", "adam"], **options, announce=told.append)
    page = Page((tmp_path / "o" / "report.html").read_text(encoding="utf-8"))
    links = [a["href"] for a in page.all("a") if not a["href"].startswith("#")]
    assert links == ["booth/report.html", "beale/report.html"]
    assert all((tmp_path / "o" / link).exists() for link in links)
    assert [told[0], told[2]] == ["booth (1 of 2)", "beale (2 of 2)"]
    assert json.loads((tmp_path / "o" / "comparisons.json").read_text())["schema"] == 1


def test_several_problems_without_a_target(tmp_path):
    """No race and no profile: who was best in the end is all there is, and the skip link leads to it."""
    suite = descend.compare_all(["booth", "beale"], ["gd", "adam"], **NO_TARGET)
    assert suite.profiles == []
    assert "without a target" in suite.answer
    page = suite_page(suite, tmp_path)
    assert page.all("a")[0]["href"] == "#problems"
    table = next(iter(page.tables.values()))
    assert table[0] == ["Problem", "Best in the end"]
    assert [row[1].split(",")[0] for row in table[1:]] == [
        next(row.label for row in comparison.rows if row.test.verdict == "best") for comparison in suite.comparisons
    ]
    assert "–" in str(suite)


def test_nobody_reaches_any_target(suite):
    """Then nobody is the fastest."""
    hard = descend.Suite(suite.comparisons[-1:] * 5)
    assert hard.answer.startswith("No technique reached the target in half of its runs on 5 problems")


def test_few_problems_make_nobody_the_fastest(suite, tmp_path):
    """Below five, who was first on each is said, and no profile is shown; nobody is first where nobody got there."""
    few = descend.Suite(suite.comparisons[-2:])
    first = next(r.label for r in few.comparisons[0].rows if r.to_target.verdict == "best")
    assert few.answer.startswith(f"First to the target: {first}")
    assert "; nobody on rosenbrock. 2 problems are too few to say who is fastest overall" in few.answer
    assert "within 2×" not in str(few)
    page = suite_page(few, tmp_path)
    assert page.all("a")[0]["href"] == "#problems"
    assert all(rows[0][0] != "Technique" for rows in page.tables.values())
    assert few.to_dict()["profiles"]


def test_two_problems_in_one_folder_are_refused(tmp_path):
    """Names that would be the same folder are told before the first run, as are names that are the same."""
    twins = [line(name="a b"), line(name="a/b")]
    with pytest.raises(OptionError, match="two problems would be written to 'a-b'"):
        descend.compare_all(twins, ["gd"], **NO_TARGET, out=tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OptionError, match="two problems are called 'booth'"):
        descend.compare_all(["booth", "booth"], ["gd"], **NO_TARGET)


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


# ---- misses, failures, few seeds --------------------------------------------------------------------------------


def test_misses_and_an_entry_that_failed(tmp_path):
    """A technique that no learning rate suits is in the table as failed, and why is told once, with how often."""
    found = descend.compare("rosenbrock", ["gd", "adam"], **{**OPTIONS, "learning_rates": [0.1, 1.0], "budget": 40})
    page = read(found, tmp_path)
    cells = next([words(c) for c in cells] for cells in page.rows if words(cells[0]) == "GD")
    assert cells[1:3] == ["–", "never"]
    cells = page.cells("final")["GD"]
    assert cells[1:3] == ["–", "missed"]
    assert "✕ failed" in cells
    assert "6 of 6" in cells
    assert "2 of 2 tuning runs. Diverged" in page.text
    assert "✕ not reached" in page.cells("target")["GD"]
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


# ---- nothing is loaded, nothing is believed ---------------------------------------------------------------------


def figures(page):
    """The figures that the page carries, as data."""
    return json.loads(next(text for text in page.scripts if text.startswith(('{"loss":', '{"profiles":'))))


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
    command, _ = repeat(booth)
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


@pytest.mark.parametrize(
    "options",
    [
        "--tune momentum=0.5..0.99 --tune batch_size=16,32 --trials 4 --target 0.9 --studies 2 --time",
        "--tune lr=0.001..1.0:log --tune nesterov=False --rules gd,momentum",
        "--target -0.5 --no-untuned --batch-size 16",
        "--target none --thorough",
        "--quick --target 1e-05",
    ],
)
def test_the_command_makes_the_same_plan(booth, options):
    """Whatever was asked for, the command in the report asks for the same: both make one plan."""
    plans = []

    def stop(problem, rules=None, **wanted):
        plans.append(make_plan(descend.problems.load(problem), rules, CompareOptions(**wanted), problem))
        raise KeyboardInterrupt

    def run(command):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(command_line, "compare", stop)
            CliRunner().invoke(app, shlex.split(command)[1:])
        return plans[-1]

    first = run(f"descend compare breast-cancer {options}")
    found = dataclasses.replace(booth, plan=first, source="breast-cancer", shape={"train": first.examples})
    command, python = repeat(found)
    assert command is not None
    again = run(command)
    assert len(plans) == 2
    assert again.hash == first.hash
    plans.clear()
    with pytest.raises(KeyboardInterrupt):
        eval(python.partition("\n\n")[2].replace("descend.compare", "stop"), {"descend": descend, "stop": stop})
    assert plans[0].hash == first.hash


def test_the_shortest_command():
    """What is at its default is not repeated."""
    problem = descend.problems.load("breast-cancer")
    found = descend.compare(
        "breast-cancer", learning_rates=[0.1], budget=problem.size, tuning_seeds=1, final_seeds=1, jobs=1
    )
    command, _ = repeat(found)
    assert command == f"descend compare breast-cancer --lr 0.1 --budget {problem.size} --tuning-seeds 1 --final-seeds 1"
    default = plan_of(
        found,
        learning_rates=None,
        trials=16,
        budget=20 * problem.size,
        tuning_seeds=(0, 1, 2),
        final_seeds=tuple(range(1000, 1010)),
    )
    assert repeat(default)[0] == "descend compare breast-cancer"
    batched = [
        dataclasses.replace(e, batch_size=16 if e.batch_size == 32 else e.batch_size) for e in found.plan.entries
    ]
    assert repeat(plan_of(default, entries=tuple(batched)))[0] == "descend compare breast-cancer --batch-size 16"


def test_python_where_the_command_line_has_no_words(scored, tmp_path):
    """Entries with names and batch sizes of their own are repeated in Python, and the code makes the same plan."""
    command, python = repeat(scored)
    assert command is None
    assert "descend.Entry('one by one', descend.GD(), 1)" in python
    assert "problem," in python
    found = descend.compare("booth", [Entry("mine", descend.Adam(betas=(0.8, 0.99)))], **OPTIONS)
    command, python = repeat(found)
    assert command is None
    assert "Adam(betas=(0.8, 0.99))" in read(found, tmp_path).text
    again = eval(python.partition("\n\n")[2], {"descend": descend})
    assert again.plan.hash == found.plan.hash


def test_where_the_problem_came_from(booth):
    """A problem from a file is repeated with its path; one that was made in Python can only be repeated there."""
    found = dataclasses.replace(booth)
    found = dataclasses.replace(found, source="my problems/booth.py")
    command, python = repeat(found)
    assert command.startswith("descend compare 'my problems/booth.py' --rules gd,adam")
    assert "'my problems/booth.py'," in python
    found = dataclasses.replace(found, source=None)
    command, python = repeat(found)
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
    assert duration(seconds) == text
