"""Comparisons that several tests of reports read; each is made once."""

import pytest
from tests.comparison.reports import OPTIONS, entries, score

import descend
from descend.comparison import Choice, Uniform


@pytest.fixture(scope="session")
def booth():
    """A function, two rules, no misses, a target from reference runs."""
    return descend.compare("booth", ["gd", "adam"], **OPTIONS)


@pytest.fixture(scope="session")
def scored():
    """A metric to be high, and a given target that some runs miss."""
    found = descend.compare(score(), entries(), **OPTIONS, target=-0.6)
    assert [0 < row.to_target.hits < 6 for row in found.rows] == [False, True]
    return found


@pytest.fixture(scope="session")
def hopeless():
    """A given target that everybody misses."""
    return descend.compare(score(), entries(), **OPTIONS, target=5.0)


@pytest.fixture(scope="session")
def studied():
    """Several studies, a second hyperparameter, batch sizes that are searched for, and seconds."""
    space = {"momentum": Uniform(0.5, 0.99), "batch_size": Choice([5, 10])}
    options = {k: v for k, v in OPTIONS.items() if k != "learning_rates"}
    return descend.compare(
        score(), ["momentum", "adam"], **options, space=space, trials=4, studies=2, timed=True, target=-1
    )


@pytest.fixture(scope="session")
def suite():
    """Five functions, one of them with a target that nobody reaches."""
    found = descend.compare_all(["booth", "beale", "quadratic", "himmelblau"], ["gd", "adam"], **OPTIONS)
    hard = descend.compare("rosenbrock", ["gd", "adam"], **OPTIONS, target=1e-30)
    return descend.Suite((*found.comparisons, hard))
