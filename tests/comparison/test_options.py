"""The options of a comparison: stated once, checked before any run."""

import numpy as np
import pytest
from tests.comparison.comparing import SMALL, X, Y, line

import descend
from descend.errors import OptionError, ProblemError


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
        ({"effort": "much"}, "effort='much': one of 'quick', 'default', 'thorough'"),
        ({"rules": []}, "names nothing to compare"),
        ({"rules": ["adam", "adam"]}, "two entries are called 'Adam'"),
        ({"rules": [descend.GD(lr=descend.schedules.Constant(0.1))]}, "is a schedule, but lr is what is tuned"),
    ],
    ids=str,
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
        descend.compare(line(metric=lambda w, X, y: {}["accuracy"]), **SMALL)


def test_an_output_folder_that_cannot_be_written_is_refused(tmp_path):
    """A file in its place; before anything is run."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(OptionError, match=r"taken/x' cannot be written"):
        descend.compare("booth", out=tmp_path / "taken" / "x")
