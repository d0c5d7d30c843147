"""The options of a comparison: stated once, checked before any run."""

import dataclasses
import inspect
import logging
import re
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
import pytest
from tests.comparison.comparing import SMALL, X, Y, line

import descend
from descend.comparison.options import EFFORTS, CompareOptions
from descend.errors import OptionError, ProblemError


def test_compare_has_the_options_of_the_dataclass():
    """The same names and defaults, in the same order; only problem and rules come beside them."""
    parameters = inspect.signature(descend.compare).parameters.values()
    named = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert list(named.items()) == [(f.name, f.default) for f in dataclasses.fields(CompareOptions)]
    assert [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY] == ["problem", "rules"]


def test_compare_passes_each_option_on(monkeypatch):
    """None is left out, and none is swapped for another one."""
    passed = []

    class Stopped(Exception):
        pass

    def stop(problem, rules, options):
        passed.append(options)
        raise Stopped

    monkeypatch.setattr("descend.comparison.experiment.Experiment", stop)
    given = {
        "learning_rates": (0.1,), "space": {}, "trials": 1, "batch_size": 3, "budget": 4, "target": 0.5,
        "tuning_seeds": 5, "final_seeds": 6, "studies": 7, "effort": "quick", "untuned": False, "timed": True,
        "jobs": 8, "out": Path("o"), "fresh": True, "announce": print, "progress": max,
        "leaders": min,
    }  # fmt: skip
    # Where an executor makes a run, nothing can end it: the two options exclude each other.
    for both in ({"executor": Executor(), "max_run_seconds": None}, {"executor": None, "max_run_seconds": 9.0}):
        with pytest.raises(Stopped):
            descend.compare("booth", **given | both)
        assert {f.name: getattr(passed[-1], f.name) for f in dataclasses.fields(CompareOptions)} == given | both


def test_the_docstring_says_the_defaults():
    """What `descend.compare` documents of its defaults is what they are."""
    text = inspect.getdoc(descend.compare)
    usual = EFFORTS["default"]
    for name in ("trials", "tuning_seeds", "final_seeds", "studies"):
        about = re.search(rf"^{name}\n((?:    .*\n)+)", text, flags=re.MULTILINE)[1]
        assert f"Default {getattr(usual, name)}." in about, name
    for field in dataclasses.fields(CompareOptions):
        assert re.search(rf"^{field.name}\n    ", text, flags=re.MULTILINE), field.name
        if isinstance(field.default, bool):
            about = re.search(rf"^{field.name}\n((?:    .*\n)+)", text, flags=re.MULTILINE)[1]
            assert f"Default {field.default}." in " ".join(about.split()), field.name


def test_options_are_numbers_of_python():
    """Learning rates ascend, each once; NumPy's numbers become Python's, so that they can be hashed and written."""
    found = CompareOptions(learning_rates=np.array([0.1, 0.01, 0.1]), budget=np.int64(5), untuned=np.True_, target=1)
    assert found.learning_rates == (0.01, 0.1)
    assert [type(v) for v in (found.budget, found.untuned, found.target)] == [int, bool, float]
    assert CompareOptions(learning_rates=0.1).learning_rates == (0.1,)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.budget = 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"jobs": 0}, "jobs=0: a whole number ≥ 1 is needed"),
        ({"trials": 0}, "trials=0: a whole number ≥ 1 is needed"),
        ({"fresh": 1}, "fresh=1: True or False is needed"),
        ({"batch_size": 9999}, "larger than the training data"),
        ({"budgt": 10}, "option 'budgt' is not known; did you mean 'budget'?"),
        ({"announce": "loud"}, "announce='loud': a function is needed"),
        ({"rules": ["adm"]}, "unknown rule 'adm'"),
    ],
    ids=str,
)
def test_several_problems_are_refused_before_any_work(options, words, tmp_path):
    """No problem is run, and no folder made, if an option is wrong for any of them."""
    ran = []
    slow = line(loss=lambda w, X, y: ran.append(1) or 0.0)
    settings = {**SMALL, "announce": ran.append, "out": tmp_path / "o", **options}
    with pytest.raises(ValueError, match=re.escape(words)):
        descend.compare_all([slow, "digits"], **settings)
    assert ran == []
    assert not (tmp_path / "o").exists()


def test_what_is_announced_goes_to_the_log(caplog):
    """Without `announce`, the plan is logged; the package itself prints nothing."""
    with caplog.at_level(logging.INFO, logger="descend"):
        descend.compare("booth", ["gd"], **{**SMALL, "budget": 20})
    assert any("1 technique × 2 trials × 2 seeds" in record.message for record in caplog.records)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"learning_rates": []}, "learning_rates is empty"),
        ({"learning_rates": [0.1, -1.0]}, r"-1\.0 is not a number > 0"),
        ({"learning_rates": ["a"]}, "'a' is not a number"),
        ({"budget": 0}, "budget=0"),
        ({"budget": 30}, "budget=30 does not pay for one step of Batch GD, which sees 60 examples"),
        ({"batch_size": 70}, "batch_size=70 is larger than the training data"),
        ({"tuning_seeds": 0}, "tuning_seeds=0"),
        ({"final_seeds": 1.5}, r"final_seeds=1\.5"),
        ({"jobs": 0}, "jobs=0"),
        ({"max_run_seconds": 0}, "max_run_seconds=0: a number of seconds > 0 is needed"),
        ({"max_run_seconds": 5, "executor": Executor()}, "cannot be ended where that makes it; leave one of them out"),
        ({"effort": "much"}, "effort='much': one of 'quick', 'default', 'thorough'"),
        ({"rules": []}, "names nothing to compare"),
        ({"rules": ["adam", "adam"]}, "two entries are called 'Adam'"),
        ({"rules": [descend.GD(lr=descend.schedules.Constant(0.1))]}, "is a schedule, but lr is what is tuned"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_a_bad_option_is_refused_by_name(options, match):
    """Option, value, what is allowed, before anything is run."""
    with pytest.raises(OptionError, match=match):
        descend.compare(line(), **{**SMALL, **options})


def test_a_problem_without_validation_or_test_data_is_refused():
    """There would be nothing to choose on, or nothing to judge by."""
    with pytest.raises(ProblemError, match="has no validation data"):
        descend.compare(line(data=None, train=(X, Y)), **SMALL)
    with pytest.raises(ProblemError, match="has no test data"):
        descend.compare(line(data=None, train=(X, Y), validation=(X, Y)), **SMALL)


def test_a_broken_problem_says_so_before_any_run():
    """A gradient of the wrong shape, a metric that raises."""
    with pytest.raises(ProblemError, match=r"line: jac gave shape \(3,\)"):
        descend.compare(line(jac=lambda w, X, y: np.ones(3)), **SMALL)
    with pytest.raises(ProblemError, match="raised KeyError"):
        descend.compare(line(metric=lambda w, X, y: {}["accuracy"], metric_name="error"), **SMALL)


def test_an_output_folder_that_cannot_be_written_is_refused(tmp_path):
    """A file in its place; before anything is run."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(OptionError, match=r"taken/x' cannot be written"):
        descend.compare("booth", out=tmp_path / "taken" / "x")
