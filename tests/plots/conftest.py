"""Comparisons that several tests draw; each is made once."""

import pytest
from tests.plots.drawing import line, quartic

import descend
from descend import Entry


@pytest.fixture(scope="session")
def aimed():
    """A comparison with a target from reference runs, on a function."""
    return descend.compare(
        "saddle", ["gd", "momentum"], learning_rates=[0.1, 0.3], budget=100, tuning_seeds=1, final_seeds=6, jobs=1
    )


@pytest.fixture(scope="session")
def missing():
    """A comparison in which some final runs of GD are misses, and all runs at its largest rate."""
    rules = [Entry("GD", descend.GD()), Entry("Adam", descend.Adam())]
    options = {"budget": 40, "tuning_seeds": 3, "final_seeds": 10, "target": "none", "jobs": 1}
    return descend.compare(quartic(), rules, learning_rates=[0.05, 30.0], **options)


@pytest.fixture(scope="session")
def scored():
    """A comparison on data, with a metric to be high, and a given target that some runs miss."""
    rules = [Entry("SGD", descend.GD(), 1), Entry("full", descend.GD(), "full")]
    options = {"budget": 180, "tuning_seeds": 2, "final_seeds": 7, "target": -0.2, "jobs": 1}
    found = descend.compare(line(), rules, learning_rates=[0.01, 0.1], **options)
    assert [row.to_target.hits for row in found.rows] != [7, 7]
    return found
