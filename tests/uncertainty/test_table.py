"""The table of an answer: its columns fit into 80, whatever stands in them."""

import numpy as np
import pytest

from descend.uncertainty.covariance import Covariance
from descend.uncertainty.table import Row, table

ROWS = [
    Row("a", 1.5, 0.25, 1.0, "", (-np.inf, np.inf)),
    Row("b", 0.0, np.inf, 2.0, "", (0.0, np.inf)),
    Row("c", 3.0, 0.0, 3.0, "fixed", (-np.inf, np.inf)),
    Row("d", 4.0, 0.5, None, "tied", (-np.inf, np.inf)),
]
COVARIANCE = Covariance(tuple("abcd"), np.diag([0.0625, np.inf, 0.0, 0.25]))


def test_each_parameter_has_a_row():
    """Value, standard error and its share of the value, start, role; bounds stand below."""
    lines = table("Converged.", [("data points", 7)], ROWS, COVARIANCE, ["A note."]).splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert rows["a"] == ["1.5", "0.25", "16.7", "%", "1"]
    assert rows["b"] == ["0", "inf", "-", "2", "at", "bound"]
    assert rows["c"] == ["3", "-", "-", "3", "fixed"]
    assert rows["d"] == ["4", "0.5", "12.5", "%", "tied"]
    assert rows["b:"] == ["0", "to", "inf"]
    assert rows["data"] == ["points", "7"]
    assert lines[-1] == "A note."


@pytest.mark.parametrize("name", ["a" * 300, "line\nbreak", "\x1b[31mred"])
def test_wide_names_and_numbers_stay_within_80_columns(name):
    """Names are cut, steering characters spelled out, and columns left out where all would be too wide."""
    row = Row(name, -1.2345678e-300, 1.234e-300, -1.23456e-300, "tied", (-np.inf, -1.2345678e-300))
    text = table("m " * 100, [("x", 1.0)], [row, *ROWS], None, ["n " * 100])
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert "-1.2345678e-300" in text


def test_many_correlations_are_cut():
    """The largest thirty are listed, and how many more there are."""
    n = 12
    rows = [Row(f"p{i}", 1.0, 1.0, 1.0, "", (-np.inf, np.inf)) for i in range(n)]
    matrix = np.full((n, n), 0.5) + 0.5 * np.eye(n)
    text = table("", [], rows, Covariance(tuple(row.name for row in rows), matrix), [])
    assert text.count("+0.5000") == 30
    assert "and 36 more" in text
