"""Several starts: the best of them, whatever becomes of the others."""

import gc
import itertools
import threading
import tracemalloc

import numpy as np
import pytest
import scipy.optimize
from tests.minimization.many import STARTS, Valleys
from tests.objectives.functions import SCALES

import descend
from descend import Reason
from descend.errors import ObjectiveError, OptionError, ParameterError

jax = pytest.importorskip("jax")
torch = pytest.importorskip("torch")


def test_the_best_of_several_starts():
    """All results are there; one whose function raises loses no other."""

    def fun(x):
        if x[0] > 50:
            raise ValueError("too far")
        return float(np.sum(x**2 + 10 * np.cos(2 * x))), 2 * x - 20 * np.sin(2 * x)

    starts = [np.array([60.0]), np.array([1.4]), np.array([-4.0])]
    result = descend.minimize(fun, np.array([5.0]), jac=True, starts=starts)
    assert [str(run.reason) for run in result.runs] == ["resolution", "function_raised", "resolution", "resolution"]
    assert result.fun == min(run.fun for run in result.runs if run.success)
    assert result.runs[2].fun == result.fun
    with pytest.raises(ObjectiveError, match="too far"):
        descend.minimize(fun, np.array([70.0]), jac=True, starts=[np.array([60.0])])
    with pytest.raises(ParameterError, match=r"starts\[0\] has float64\[2\] \(numpy\), x0 has float64\[1\]"):
        descend.minimize(fun, np.array([5.0]), jac=True, starts=[np.zeros(2)])
    with pytest.raises(OptionError, match="starts=3: a list of starts is needed"):
        descend.minimize(fun, np.array([5.0]), jac=True, starts=3)


@pytest.mark.parametrize("kind", ["torch", pytest.param("jax", marks=pytest.mark.slow)])
@pytest.mark.parametrize("own", [True, False], ids=["tensors", "arrays"])
@pytest.mark.parametrize("vectorized", [None, True])
def test_functions_of_torch_and_jax(kind, own, vectorized):
    """vmap takes them as they are; with vectorized=True they take rows themselves. Containers are kept."""
    calls = []
    library = torch if kind == "torch" else jax.numpy

    def fun(p, goal):
        calls.append(1)
        w = p["w"] - goal
        return library.sum(w * w * library.asarray([1.0, 30.0]), -1) + (p["b"] + w[..., 0]) ** 4

    def start(seed):
        w = np.random.default_rng(seed).normal(size=2)
        if not own:
            return {"w": w, "b": float(w[0])}
        return {"w": library.asarray(w, dtype=library.float32), "b": library.asarray(w[0], dtype=library.float32)}

    options = dict(args=(1.5,), jac=kind, starts=[start(seed) for seed in range(1, 4)], gtol=1e-4)
    together = descend.minimize(fun, start(0), vectorized=vectorized, **options)
    assert len(calls) <= max(run.nfev for run in together.runs) + 8
    assert all(run.success for run in together.runs)
    for run in together.runs:
        assert type(run.x["w"]) is type(start(0)["w"])
        assert run.x["w"].dtype == start(0)["w"].dtype
        assert np.asarray(run.x["w"]) == pytest.approx([1.5, 1.5], abs=1e-3)
    if vectorized is None:
        calls.clear()
        alone = descend.minimize(fun, start(0), vectorized=False, **options)
        assert [r.reason for r in alone.runs] == [r.reason for r in together.runs]
        assert len(calls) >= sum(run.nfev for run in alone.runs)


def test_what_vmap_cannot_take_goes_one_after_the_other():
    """A branch that depends on the parameters; and a function whose gradient vmap would have otherwise."""

    def branches(x):
        return (x**2).sum() if x[0] > 0 else (x**2).sum() + x[0] ** 4

    result = descend.minimize(branches, np.array([1.0, -2.0]), jac="torch", starts=[np.array([-3.0, 1.0])])
    assert all(run.success for run in result.runs)
    noise = itertools.count()

    def counts(x):
        return (x**2).sum() + next(noise)

    result = descend.minimize(counts, np.array([1.0, -2.0]), jac="torch", starts=[np.array([-3.0, 1.0])], max_steps=3)
    assert next(noise) - 3 == sum(run.nfev for run in result.runs)  # the trial's three, and each start's own


@pytest.mark.parametrize("vectorized", [None, True])
def test_one_failure_never_loses_the_rest(vectorized):
    """The function raises for one start, and is NaN for another."""

    def fun(x):
        if np.any(x[..., 0] > 50):
            raise ValueError("too far")
        with np.errstate(invalid="ignore"):
            bowl = np.sum((x - 1) ** 2, axis=-1) + 0 * np.sqrt(x[..., 1] + 30)
        return bowl, 2 * (x - 1)

    starts = [np.array(p) for p in ([2.0, 0.0], [99.0, 0.0], [0.0, -99.0], [-5.0, 3.0])]
    result = descend.minimize(fun, np.zeros(2), jac=True, starts=starts, vectorized=vectorized)
    assert [str(run.reason) for run in result.runs] == [
        "resolution", "resolution", "function_raised", "non_finite", "resolution",
    ]  # fmt: skip
    assert "ValueError: too far" in result.runs[2].message
    assert result.success
    assert result.x == pytest.approx([1.0, 1.0], abs=1e-5)
    with pytest.raises(ObjectiveError, match="too far"):
        descend.minimize(fun, starts[1], jac=True, starts=[starts[1]], vectorized=vectorized)


@pytest.mark.parametrize(
    ("fun", "options", "error", "match"),
    [
        (lambda x: (np.sum(x**2), 2 * x), {"jac": True}, ObjectiveError, r"shape \(\) for 1 start: .* a row for"),
        (lambda x: np.sum(x**2, axis=1), {"jac": "cs"}, OptionError, "complex points are evaluated one by one"),
        (lambda x: np.sum(x**2), {}, ObjectiveError, r"shape \(\) for 1 points: one real number for each"),
        (lambda x: np.sum(x**2, axis=1) + np.sum(x), {}, OptionError, "the stacked loss is not that of each alone"),
        (
            lambda x: (np.sum(x**2, axis=1) + np.sum(x), 2 * x + 1),
            {"jac": True},
            OptionError,
            "vectorized=True, but the stacked loss is not that of each alone",
        ),
        (
            lambda x: (np.array([np.sum(x**2)]), 2 * x),
            {"jac": True},
            OptionError,
            r"vectorized=True, but .* shape \(1,\)",
        ),
        (
            lambda x: (np.sum(x**2, axis=1, keepdims=True), 2 * x),
            {"jac": True},
            OptionError,
            r"vectorized=True, but .* shape \(2, 1\)",
        ),
    ],
)
def test_functions_that_do_not_take_rows_are_refused(fun, options, error, match):
    with pytest.raises(error, match=match):
        descend.minimize(fun, np.ones(3), starts=[np.zeros(3)], vectorized=True, **options)


@pytest.mark.parametrize("jac", [None, "2-point", "3-point"])
def test_differences_of_all_starts_are_one_call(jac):
    """Points of all starts go into one call, with the results of each start alone."""
    calls = []

    def many(x):
        calls.append(len(x))
        return np.sum((x - 1) ** 2 * SCALES, axis=1) + np.sum(x**4, axis=1)

    starts = np.random.default_rng(0).uniform(-2, 2, (8, len(SCALES)))
    together = descend.minimize(many, starts[0], jac=jac, starts=starts[1:], vectorized=True)
    asked, longest = sum(calls), max(run.njev for run in together.runs)
    assert asked - sum(run.nfev for run in together.runs) == 4  # of the first two starts, that it takes rows
    assert len(calls) <= 3 * longest + 4
    alone = [descend.minimize(lambda x: many(x[None])[0], start, jac=jac) for start in starts]
    for ours, theirs in zip(together.runs, alone, strict=True):
        assert ours.x == pytest.approx(theirs.x, abs=1e-5)
    short = descend.minimize(many, starts[0], jac=jac, starts=starts[1:], vectorized=True, max_evals=60)
    assert all(run.nfev <= 60 for run in short.runs)


def test_one_start_asks_for_its_differences_at_once():
    """Without further starts, in any container: a gradient is one call, or two where it was not exact enough."""
    calls = []

    def many(p):
        calls.append(len(p["b"]))
        return np.sum((p["a"] - SCALES) ** 2, axis=1) + (p["b"] + 1) ** 2

    result = descend.minimize(many, {"a": np.zeros(len(SCALES)), "b": 0.0}, vectorized=True)
    assert result.success
    assert result.x["a"] == pytest.approx(SCALES, abs=1e-6)
    assert result.runs == ()
    assert sum(calls) == result.nfev + 4
    assert len(calls) <= 3 * result.njev + 4


def test_options_that_make_no_sense_are_refused():
    valley, before = Valleys(), threading.active_count()
    with pytest.raises(OptionError, match="vectorized='yes': True or False is needed, or None"):
        descend.minimize(valley, STARTS[0], jac=True, starts=STARTS[1:], vectorized="yes")
    with pytest.raises(OptionError, match="gtol=-1"):
        descend.minimize(valley, STARTS[0], jac=True, starts=STARTS[1:], vectorized=True, gtol=-1)
    assert threading.active_count() == before


def test_budgets_bounds_and_callbacks_are_each_ones_own():
    """No start looks more often than it may; callbacks come from one descent at a time, in the order of the starts."""
    points = []
    options = dict(jac=True, starts=STARTS[1:], vectorized=True, bounds=([-2.0, -2.0], [0.5, 3.0]))
    result = descend.minimize(Valleys(), STARTS[0], max_evals=7, callback=points.append, **options)
    assert all(run.nfev == 7 for run in result.runs if run.reason is Reason.MAX_EVALS)
    assert any(run.reason is Reason.MAX_EVALS for run in result.runs)
    first = [point.x for point in points[: len(STARTS)]]
    assert np.array_equal(first, np.clip(STARTS, [-2.0, -2.0], [0.5, 3.0]))
    assert all(point.x[0] <= 0.5 for point in points)
    stopped = descend.minimize(Valleys(), STARTS[0], callback=lambda point: point.nit == 1, **options)
    assert {run.nit for run in stopped.runs} == {1}
    assert all(run.reason is Reason.CALLBACK for run in stopped.runs)


@pytest.mark.parametrize("vectorized", [None, True])
@pytest.mark.parametrize("check_gradient", [True, False])
def test_no_look_is_outside_the_bounds(vectorized, check_gradient):
    """Neither that which tries whether it takes rows, nor the check of the gradient; starts may lie outside."""
    looks = []

    def fun(x):
        looks.append(np.atleast_2d(x).copy())
        return np.sum(np.sqrt(x) + (x - 3) ** 2, axis=-1)

    def jac(x):
        with np.errstate(divide="ignore"):
            return 0.5 / np.sqrt(x) + 2 * (x - 3)

    options = dict(jac=jac, bounds=([0.25, 0.5], [1.0, 0.5]), check_gradient=check_gradient, gtol=1e-6)
    result = descend.minimize(
        fun, np.array([9.0, 9.0]), starts=[np.array([-5.0, 7.0])], vectorized=vectorized, **options
    )
    looks = np.concatenate(looks)
    assert np.all((looks >= [0.25, 0.5]) & (looks <= [1.0, 0.5]))
    assert all(run.success for run in result.runs)


def test_rows_that_are_mixed_are_noticed_whatever_their_size():
    """One of the first starts is NaN, or so large that the other's error is small beside it."""

    def mixed(x):
        losses = np.where(x[:, 0] > 50, np.nan, np.sum((x - 1) ** 2, axis=1))
        return losses + (len(x) - 1) * x[::-1, 0] ** 2, 2 * (x - 1)

    def slightly(x):
        return np.sum((x - 1) ** 2, axis=1) + 0.1 * abs(x.mean() - x.mean(axis=1)), 2 * (x - 1)

    for fun, first in ((mixed, 60.0), (slightly, 1e12)):
        with pytest.raises(OptionError, match="vectorized=True, but the stacked loss is not that of each alone"):
            descend.minimize(fun, np.full(2, first), jac=True, starts=[np.full(2, 3.0)], vectorized=True)
    nothing = descend.minimize(
        lambda x: (np.where(x[:, 0] > 50, np.nan, np.sum((x - 1) ** 2, axis=1)), 2 * (x - 1)),
        np.full(2, 60.0), jac=True, starts=[np.zeros(2)], vectorized=True,
    )  # fmt: skip
    assert [str(run.reason) for run in nothing.runs] == ["non_finite", "resolution"]


def test_messages_name_the_function_that_is_at_fault():
    def losses(x):
        return np.sum(x**2, axis=1)

    def slopes(x):
        raise ValueError("no slope")

    with pytest.raises(ObjectiveError, match="jac 'slopes' raised ValueError: no slope"):
        descend.minimize(losses, np.ones(2), jac=slopes, starts=[np.zeros(2)], vectorized=True)


def test_lists_of_losses_and_gradients_are_rows():
    result = descend.minimize(
        lambda x: np.sum((x - 1) ** 2, axis=1).tolist(), np.zeros(2), jac=lambda x: (2 * (x - 1)).tolist(),
        starts=[np.ones(2), np.full(2, 7.0)], vectorized=True,
    )  # fmt: skip
    assert all(run.x == pytest.approx([1.0, 1.0], abs=1e-5) for run in result.runs)


@pytest.mark.parametrize(
    ("x0", "starts", "match"),
    [
        ({"a": 1.0}, [{"b": 2.0}], r"starts\[0\] has .*\['b'\] .*, x0 has .*\['a'\]"),
        (torch.zeros(2), np.zeros((1, 2)), r"starts\[0\] has .*numpy.*, x0 has .*torch"),
        (np.zeros(2), np.array(3.0), "a list of starts is needed"),
        (np.zeros(2), "ab", "a list of starts is needed"),
    ],
)
def test_starts_of_another_make_are_refused(x0, starts, match):
    with pytest.raises((ParameterError, OptionError), match=match):
        descend.minimize(lambda x: 0.0, x0, starts=starts)


@pytest.mark.parametrize("options", [{"gtol": -1}, {"method": "nope"}, {"history": "x"}, {"bounds": (1, 0)}])
@pytest.mark.parametrize("vectorized", [None, True])
def test_options_are_judged_before_anything_is_run(options, vectorized):
    calls = []
    with pytest.raises(descend.errors.DescendError):
        descend.minimize(calls.append, np.zeros(2), jac=True, starts=[np.ones(2)], vectorized=vectorized, **options)
    assert not calls


def test_the_check_of_a_gradient_loses_no_start():
    def fun(x):
        if x[0] > 5:
            raise ValueError("far")
        return (x[0] - 1) ** 2

    options = dict(jac=lambda x: 2 * (x - 1), check_gradient=True)
    result = descend.minimize(fun, np.array([0.0]), starts=[np.array([9.0]), np.array([2.0])], **options)
    assert [str(run.reason) for run in result.runs] == ["resolution", "function_raised", "resolution"]


def test_results_keep_no_rows_of_others():
    """A result holds what belongs to its own start alone; and going on from its state is as from any other."""
    n, starts = 1000, list(np.random.default_rng(0).normal(size=(40, 1000)))
    scales = np.logspace(0, 2, n)
    starts = [start * 10.0 ** (-i / 4) for i, start in enumerate(starts)]  # each ends at another time
    options = dict(jac=True, method="bb", max_steps=60, gtol=1e-3)

    def fun(x):
        return 0.5 * np.sum(scales * x * x, axis=-1), scales * x

    held = {}
    for vectorized in (False, True):
        tracemalloc.start()
        result = descend.minimize(fun, starts[0], starts=starts[1:], vectorized=vectorized, **options)
        gc.collect()
        held[vectorized] = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    assert held[True] < 1.2 * held[False]
    more = descend.minimize(fun, starts[0], state=result.runs[0].state, jac=True, method="bb", max_steps=70)
    assert more.nit == 70


def test_rules_that_climb():
    result = descend.minimize(
        lambda x: (-np.sum((x - 1) ** 2, axis=-1), -2 * (x - 1)), np.zeros(2), jac=True,
        method=descend.GD(lr=0.1, maximize=True), starts=[np.full(2, 5.0)], vectorized=True, max_steps=5,
    )  # fmt: skip
    assert result.fun == max(run.fun for run in result.runs)


def test_scipy_passes_them_on():
    found = scipy.optimize.minimize(
        Valleys(), STARTS[0], jac=True, method=descend.LBFGS(), options={"starts": STARTS[1:], "vectorized": True}
    )
    assert len(found.runs) == len(STARTS)
    assert found.x == pytest.approx(1.0, abs=1e-4)
