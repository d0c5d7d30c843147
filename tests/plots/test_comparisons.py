"""Pictures of comparisons hold the right numbers, and say nothing by colour alone."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from tests.plots.drawing import curve, lines

import descend
from descend import plots
from descend.errors import OptionError
from descend.plots.styles import CONVERGED


def test_the_example_misses_some(missing):
    """The tests below need what they are about: an entry with some misses, and a rate with misses alone."""
    misses = {row.label: row.misses for row in missing.rows}
    assert 0 < misses["GD"] < 5
    assert misses["Adam"] == 0


@pytest.mark.parametrize("what", ["loss", "metric"])
def test_bands_are_order_statistics(missing, what):
    """Median and quartiles over the seeds, a miss being worse than all others from where it ended."""
    for band in plots.bands(missing, what):
        runs = [r for r in missing.runs if r.phase == "final" and r.entry == band.entry]
        looks = list(range(41))
        ranked = np.sort([curve(r, 1 if what == "loss" else 2, math.inf, looks) for r in runs], axis=0)
        assert band.examples.tolist() == looks
        np.testing.assert_array_equal(band.low, ranked[2])
        np.testing.assert_array_equal(band.median, (ranked[4] + ranked[5]) / 2)
        np.testing.assert_array_equal(band.high, ranked[7])
        assert (band.misses, band.runs) == (sum(r.miss for r in runs), 10)


def test_bands_of_a_metric_that_is_to_be_high(scored):
    """The worst of such a metric is minus infinity, and the band is of the metric's own values."""
    for band in plots.bands(scored, "metric"):
        runs = [r for r in scored.runs if r.phase == "final" and r.entry == band.entry]
        ranked = np.sort([curve(r, 2, -math.inf, band.examples.tolist()) for r in runs], axis=0)
        np.testing.assert_array_equal(band.median, ranked[3])
        np.testing.assert_array_equal(band.low, ranked[1])
        np.testing.assert_array_equal(band.high, ranked[5])
    run = next(r for r in scored.runs if r.phase == "final")
    failed = dataclasses.replace(run, miss=True, test=None, validation=None, curve=run.curve[:1])
    runs = tuple(failed if r.phase == "final" and r.entry == run.entry else r for r in scored.runs)
    band = next(b for b in plots.bands(dataclasses.replace(scored, runs=runs), "metric") if b.entry == run.entry)
    assert band.examples.tolist() == [0]


def test_curves_draw_the_bands(missing):
    """The line is the median, the area lies between the quartiles, and a miss leaves the picture at the bad side."""
    figure = plots.curves(missing)
    found = {str(b.entry): b for b in plots.bands(missing)}
    for group, trace in lines(figure).items():
        np.testing.assert_allclose(trace.y, np.maximum(found[group].median, CONVERGED))
        assert list(trace.x) == list(range(41))
    assert figure.layout.yaxis.type == "log"
    top = 10 ** figure.layout.yaxis.range[1]
    assert all(top > b.median.max() for b in found.values())
    area = next(t for t in figure.data if t.fill == "toself" and t.legendgroup == "0")
    low, high = np.array(area.y[:41]), np.array(area.y[41:][::-1])
    np.testing.assert_allclose(low, np.maximum(found["0"].low, low.min()))
    inside = np.isfinite(found["0"].high)
    np.testing.assert_allclose(high[inside], np.clip(found["0"].high[inside], low.min(), high.max()))
    assert (high[~inside] > top).all()


def test_the_legend_counts_misses(missing):
    """Who missed is said in words, in the order of the table."""
    named = [trace.name for trace in lines(plots.curves(missing)).values()]
    misses = {row.label: f" ({row.misses} of 10 missed)" if row.misses else "" for row in missing.rows}
    assert named == [row.label + misses[row.label] for row in missing.rows]


def test_a_line_stops_where_half_the_runs_are_misses(missing):
    """A median that is a miss is a gap."""
    runs = [
        dataclasses.replace(r, miss=True, test=None, validation=None, curve=r.curve[:11])
        if r.phase == "final" and r.entry == 1 and r.seed < 1005
        else r
        for r in missing.runs
    ]
    trace = lines(plots.curves(dataclasses.replace(missing, runs=tuple(runs))))["1"]
    assert all(v is not None for v in trace.y[:11])
    assert all(v is None for v in trace.y[11:])


def test_an_entry_that_failed_is_named():
    """An entry without any run in the final has no line, but its name."""
    options = {"budget": 20, "tuning_seeds": 1, "final_seeds": 6, "target": "none", "jobs": 1}
    found = descend.compare("rosenbrock", ["gd", "adam"], learning_rates=[1.0], **options)
    trace = lines(plots.curves(found))["0"]
    assert trace.name == "GD (6 of 6 missed)"
    assert list(trace.x) == [None]
    assert [v is None for v in lines(plots.sensitivity(found))["0"].y] == [True]


def test_curves_of_a_metric(scored):
    """A metric that is to be high has a linear axis, and is named."""
    figure = plots.curves(scored, "metric")
    assert figure.layout.yaxis.type is None
    assert figure.layout.yaxis.title.text == "Validation score"
    best = max(float(b.high.max()) for b in plots.bands(scored, "metric"))
    assert figure.layout.yaxis.range[1] >= best


def test_a_function_is_drawn_above_its_minimum(aimed):
    """The saddle's minimum is negative and known: the picture shows the height above it, on a logarithmic axis."""
    found = aimed
    figure = plots.curves(found)
    assert figure.layout.yaxis.type == "log"
    assert figure.layout.yaxis.title.text == "Loss above its minimum"
    band = plots.bands(found)[0]
    trace = lines(figure)[str(band.entry)]
    np.testing.assert_allclose(trace.y, np.maximum(band.median + 0.25, CONVERGED))
    assert band.median[-1] == pytest.approx(-0.25)
    tried = found.sensitivity[0].validation
    np.testing.assert_allclose(lines(plots.sensitivity(found))["0"].y, np.maximum(np.array(tried) + 0.25, 1e-12))


@pytest.mark.parametrize("draw", [plots.bands, plots.curves])
def test_what_is_checked(scored, draw):
    """There is a loss and a metric, and nothing else."""
    with pytest.raises(OptionError, match="'accuracy'"):
        draw(scored, "accuracy")


def test_sensitivity_is_the_tuning(missing):
    """For each rate the median over the tuning seeds of the best metric; where runs missed, a gap and a count below."""
    figure = plots.sensitivity(missing)
    for group, trace in lines(figure).items():
        assert list(trace.x) == [0.05, 30.0]
        for rate, value in zip(trace.x, trace.y, strict=True):
            runs = [r for r in missing.runs if (r.phase, r.entry, r.learning_rate) == ("tuning", int(group), rate)]
            best = sorted(math.inf if r.validation is None else r.validation for r in runs)[1]
            assert value is None if math.isinf(best) else value == pytest.approx(max(best, 1e-12))
    below = {t.legendgroup: t for t in figure.data if t.yaxis == "y2"}
    assert list(below) == ["0"]
    missed = [r for r in missing.runs if r.phase == "tuning" and r.entry == 0 and r.learning_rate == 30.0 and r.miss]
    assert below["0"].x[-1] == 30.0
    assert below["0"].text[-1] == str(len(missed)) == "3"


def test_the_chosen_rate_has_a_ring(missing):
    """A ring lies on the point of the rate that was chosen, and the legend explains it."""
    figure = plots.sensitivity(missing)
    rings = {t.legendgroup: t for t in figure.data if t.marker.symbol == "circle-open"}
    for row in missing.rows:
        line_ = lines(figure)[str(row.entry)]
        assert rings[str(row.entry)].x == (row.learning_rate,)
        assert rings[str(row.entry)].y == (line_.y[line_.x.index(row.learning_rate)],)
    assert rings["chosen"].name == "chosen"


def aim(figure):
    """The line of the target; None if there is none."""
    return next((trace for trace in figure.data if trace.name == "target"), None)


def test_the_target_is_a_line_across(scored):
    """In the curves of the metric and over the learning rates, with a dash and a name of its own; not in the loss."""
    for figure, ends in ((plots.curves(scored, "metric"), (0, 180)), (plots.sensitivity(scored), (0.01, 0.1))):
        target = aim(figure)
        assert target.x == ends
        assert target.y == (-0.2, -0.2)
        assert target.showlegend
        assert target.line.dash == "dot"
    low, high = plots.curves(scored, "metric").layout.yaxis.range
    assert low < -0.2 < high
    assert aim(plots.curves(scored, "loss")) is None


def test_the_target_is_drawn_above_the_minimum(aimed):
    """Where the axis begins at a known minimum, so does the target."""
    for figure in (plots.curves(aimed), plots.sensitivity(aimed)):
        np.testing.assert_allclose(aim(figure).y, [aimed.target.value + 0.25] * 2)
        assert aim(figure).y[0] > 0


def test_a_target_far_off_does_not_stretch_the_picture(scored, missing):
    """A target that lies outside of the picture is not drawn in it, and without one there is no line."""
    far = dataclasses.replace(scored, target=descend.comparison.judging.target.Target(1e6))
    assert aim(plots.curves(far, "metric")) is None
    assert plots.curves(far, "metric").layout.yaxis.range == plots.curves(scored, "metric").layout.yaxis.range
    assert aim(plots.curves(missing)) is None
    assert aim(plots.sensitivity(missing)) is None


def test_what_diverges_leaves_the_picture(missing):
    """A median that grows beyond all bounds does not press the others into a stripe: the axis ends above the start."""
    runs = []
    for run in missing.runs:
        if run.phase == "final" and run.entry == 0:
            grown = [[at, value * 10.0**at, value * 10.0**at] for at, value, _ in run.curve]
            run = dataclasses.replace(run, curve=grown, miss=False)  # noqa: PLW2901
        runs.append(run)
    figure = plots.curves(dataclasses.replace(missing, runs=tuple(runs)))
    start = max(float(b.median[0]) for b in plots.bands(missing))
    assert start < 10 ** figure.layout.yaxis.range[1] < 1e5 * start


def test_several_studies_have_a_ring_each():
    """What each study chose has a ring, on the point of its rate."""
    options = {"budget": 100, "tuning_seeds": 1, "final_seeds": 6, "target": "none", "jobs": 1}
    found = descend.compare("booth", ["gd"], trials=4, studies=2, **options)
    figure = plots.sensitivity(found)
    ring = next(t for t in figure.data if t.marker.symbol == "circle-open" and t.legendgroup == "0")
    assert sorted(set(ring.x)) == found.rows[0].learning_rates
    assert len(lines(figure)["0"].x) == 8


def test_profiles_are_stairs():
    """For each factor, the share of the problems that an entry solved within it, by a plain count."""
    options = {"budget": 100, "tuning_seeds": 1, "final_seeds": 6, "jobs": 1, "learning_rates": [0.01, 0.1]}
    suite = descend.compare_all(["booth", "beale", "quadratic"], ["gd", "momentum"], **options)
    costs = {"GD": [], "Momentum": []}
    for comparison in suite.comparisons:
        for row in comparison.rows:
            looks = row.to_target.median / comparison.plan.evaluate_every
            costs[row.label].append(math.inf if math.isinf(looks) else max(1, math.floor(looks)))
    best = [min(both) for both in zip(*costs.values(), strict=True)]
    figure = plots.profiles(suite)
    assert [trace.name for trace in figure.data] == ["GD", "Momentum"]
    for trace in figure.data:
        assert trace.line.shape == "hv"
        assert trace.x[0] == 1.0
        for factor, share in zip(trace.x, trace.y, strict=True):
            solved = [c <= factor * b * (1 + 1e-12) for c, b in zip(costs[trace.name], best, strict=True) if b < 1e300]
            assert share == pytest.approx(sum(solved) / 3)
    assert figure.layout.xaxis.range[1] > math.log10(max(max(t.x[:-1]) for t in figure.data))


def test_profiles_though_the_first_problem_has_no_target():
    """A first comparison without a target, and with another entry, takes no part, and breaks nothing."""
    options = {"budget": 60, "tuning_seeds": 1, "final_seeds": 6, "jobs": 1, "learning_rates": [0.01]}
    first = descend.compare("booth", ["adam"], target="none", **options)
    second = descend.compare("beale", ["gd", "momentum"], target=1e9, **options)
    assert [t.name for t in plots.profiles(descend.Suite((first, second))).data] == ["GD", "Momentum"]


def test_no_two_entries_look_alike():
    """Colour and marker together tell 56 entries apart; neighbours differ in colour, dash and marker each."""
    styles = [plots.style(i) for i in range(56)]
    assert len({(s.colour, s.marker) for s in styles}) == 56
    for before, after in itertools.pairwise(styles):
        assert before.colour != after.colour
        assert before.dash != after.dash
        assert before.marker != after.marker
