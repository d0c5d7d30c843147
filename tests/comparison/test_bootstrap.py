"""The bootstrap of a median, against resamples drawn and counted."""

import collections
import itertools
import math
import statistics

import numpy as np
import pytest
import scipy.stats

import descend
from descend.comparison.judging.bootstrap import difference, resampled_median
from descend.comparison.judging.standings import standings
from descend.intervals import interval


def test_the_interval_of_a_difference_is_a_bootstrap():
    """Against a bootstrap written as a loop, at the percentiles that a table of Student's t gives."""
    import random

    rng = np.random.default_rng(5)
    minus = rng.normal(0.3, 1.0, size=10)
    draw = random.Random(2)
    medians = sorted(statistics.median(draw.choices(list(minus), k=10)) for _ in range(20_000))
    tail = statistics.NormalDist().cdf(-math.sqrt(10 / 9) * 2.2622)  # Student's t for 95 % and 9 degrees of freedom
    found = difference(minus, 0.95)
    assert found.median == pytest.approx(statistics.median(minus))
    assert found.low == pytest.approx(medians[int(tail * 20_000)], abs=0.1)
    assert found.high == pytest.approx(medians[int((1 - tail) * 20_000)], abs=0.1)
    wide = difference(minus, 0.9976)
    assert wide.low <= found.low <= found.high <= wide.high


def test_the_interval_of_a_difference_is_that_of_ever_more_resamples():
    """The exact bootstrap distribution against SciPy's draws, and every resample of four values counted."""
    values = np.array([3.0, -1.0, 2.0, 10.0])
    medians, weights = resampled_median(values)
    counts = collections.Counter(statistics.median(draw) for draw in itertools.product(values, repeat=4))
    for median in counts:
        assert weights[medians == median].sum() == pytest.approx(counts[median] / 4**4, rel=1e-12)
    rng = np.random.default_rng(0)
    for n in (9, 10, 20):
        values = rng.normal(size=n)
        medians, weights = resampled_median(values)
        assert weights.sum() == pytest.approx(1.0)
        drawn = scipy.stats.bootstrap((values,), np.median, n_resamples=100_000, rng=rng).bootstrap_distribution
        for share in (0.025, 0.1, 0.5, 0.9):
            assert np.mean(drawn <= np.quantile(drawn, share)) == pytest.approx(
                weights[medians <= np.quantile(drawn, share)].sum(), abs=0.006
            )
    assert not np.isnan(resampled_median(rng.normal(size=1000))[1]).any()
    many = rng.normal(size=3000)
    found = difference(many, 0.95)
    assert (found.low, found.high) == (interval(many).low, interval(many).high)


@pytest.mark.parametrize("confidence", [0.95, 0.9976])
def test_a_verdict_does_not_depend_on_the_order_of_the_seeds(confidence):
    """One of ten seeds the other way round: the same interval wherever it stands, and zero within it."""
    minus = np.array([-0.5, *np.linspace(1.0, 1.8, 9)])
    found = {difference(np.roll(minus, k), confidence) for k in range(10)}
    assert len(found) == 1
    if confidence > 0.99:
        assert found.pop().low == -0.5


def test_differences_of_misses():
    """Two misses are level, one is infinitely worse; +∞ and −∞ in the middle give no finite figure."""
    inf = math.inf
    assert difference(np.zeros(10), 0.95) == descend.comparison.Interval(0.0, 0.0, 0.0)
    found = difference(np.array([inf] * 4 + [1.0] * 6), 0.95)
    assert (found.median, found.low, found.high) == (1.0, 1.0, inf)
    assert difference(np.array([inf] * 5 + [-inf] * 5), 0.95).median == inf
    same = standings([[inf] * 10, [inf] * 10], [0] * 10)
    assert [s.verdict for s in same] == ["failed", "failed"]
