"""Several problems side by side: the page, its folder, profiles, and what is refused before any run."""

import json
import math
import re

import numpy as np
import pytest
from tests.comparison.comparing import SMALL, TRIALS
from tests.comparison.reports import NO_TARGET, OPTIONS, Page, cloud, suite_page, words

import descend
from descend import Problem
from descend.comparison.judging.profiles import profiles
from descend.errors import ComparisonError, OptionError


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
    twins = [cloud(name="a b"), cloud(name="a/b")]
    with pytest.raises(OptionError, match="two problems would be written to 'a-b'"):
        descend.compare_all(twins, ["gd"], **NO_TARGET, out=tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OptionError, match="two problems are called 'booth'"):
        descend.compare_all(["booth", "booth"], ["gd"], **NO_TARGET)


def test_profiles_by_hand():
    """Dolan and Moré's definition on three problems; who did not take part in all has none."""
    inf = math.inf
    costs = [{"a": 10.0, "b": 20.0, "c": 1.0}, {"a": 40.0, "b": 10.0}, {"a": inf, "b": inf}]
    found = {p.label: p for p in profiles(costs)}
    assert set(found) == {"a", "b"}
    assert found["a"].ratios == (10.0, 4.0, inf)
    assert found["b"].ratios == (20.0, 1.0, inf)
    assert [found["b"].within(t) for t in (1.0, 19.0, 20.0)] == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert found["a"].steps() == ([1.0, 4.0, 10.0], pytest.approx([0.0, 1 / 3, 2 / 3]))
    assert found["a"].solved == pytest.approx(2 / 3)
    assert profiles([]) == []


def test_a_hopeless_problem_does_not_end_the_others(tmp_path):
    """It is told with its reason; where all are hopeless, there is nothing to tell but the error."""
    void = Problem(lambda rng: np.ones(2), lambda w: math.nan, lambda w: w, name="void")
    options = {**TRIALS, "budget": 40}
    suite = descend.compare_all(["booth", void, "beale"], ["gd", "adam"], **options, out=tmp_path)
    assert [c.plan.problem for c in suite.comparisons] == ["booth", "beale"]
    ((name, reason),) = suite.failures
    assert name == "void"
    assert "The loss is nan at step 0" in reason
    assert "void could not be compared: every run failed on void" in " ".join(str(suite).split())
    assert json.loads((tmp_path / "comparisons.json").read_text())["failures"] == [[name, reason]]
    with pytest.raises(ComparisonError, match="every run failed on void"):
        descend.compare_all([void], ["gd"], **options)
    with pytest.raises(OptionError, match="a list of problems is needed"):
        descend.compare_all("booth", ["gd"], **options)
    with pytest.raises(OptionError, match="two problems are called 'booth'"):
        descend.compare_all(["booth", "booth"], ["gd"], **options)


def test_a_technique_without_a_verdict_is_told():
    """Where every learning rate that was set failed, among others: a note for each such problem."""
    steep = Problem(lambda rng: rng.normal(size=2), lambda x: 5e5 * float(x @ x), lambda x: 1e6 * x, name="steep")
    suite = descend.compare_all(["booth", steep], ["gd", "adam"], **{**SMALL, "budget": 40})
    notes = [note for note in suite.notes if "no verdict" in note]
    assert notes[-1].startswith("There is no verdict on GD on steep, whose learning rates do not reach far enough")
    unjudged = [c.plan.problem for c in suite.comparisons if any(row.verdict == "no verdict" for row in c.rows)]
    assert len(notes) == len(unjudged)
