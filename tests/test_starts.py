"""Several starts: one after the other and side by side give the same, one failure loses nothing, Ctrl-C ends all."""

import gc
import itertools
import signal
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest
import scipy.optimize

import descend
from descend import Reason
from descend.errors import ObjectiveError, OptionError, ParameterError

jax = pytest.importorskip("jax")
torch = pytest.importorskip("torch")

STARTS = [np.array([a, b]) for a in (-1.2, 0.5, 2.0) for b in (-1.0, 1.0, 3.0)]


class Valleys:
    """Rosenbrock's function of one point or, row by row, of many, with the same bits; it notes how it is called."""

    def __init__(self):
        self.shapes = []

    def __call__(self, x):
        self.shapes.append(x.shape)
        a, b = x[..., 0], x[..., 1]
        hill, short = b - a * a, 1 - a
        gradient = np.stack([-400 * a * hill - 2 * short, 200 * hill], axis=-1)
        return 100 * hill * hill + short * short, gradient


def agree(together, alone):
    """Each start came to the same to the bit, by as many evaluations."""
    assert len(together.runs) == len(alone.runs)
    for a, b in zip(together.runs, alone.runs, strict=True):
        assert a.reason is b.reason
        assert (a.nit, a.nfev, a.njev) == (b.nit, b.nfev, b.njev)
        assert np.array_equal(a.x, b.x)
    assert together.fun == min(run.fun for run in together.runs if run.reason is not Reason.FUNCTION_RAISED)


@pytest.mark.parametrize(
    "method",
    ["auto", "bfgs", "cg", "bb", "acceleratedgradient", "adaptivegradient", "steepestdescent", descend.Adam(lr=0.1)],
    ids=str,
)
def test_together_is_as_one_after_the_other_to_the_bit(method):
    """A function that takes rows: as many calls as the longest descent has looks, and nobody's bits are changed."""
    one, many = Valleys(), Valleys()
    options = dict(jac=True, method=method, starts=STARTS[1:], gtol=1e-6, max_steps=300)
    alone = descend.minimize(one, STARTS[0], **options)
    together = descend.minimize(many, STARTS[0], vectorized=True, **options)
    agree(together, alone)
    longest = sorted(run.nfev for run in together.runs)[-1]
    assert len(many.shapes) <= longest + 5  # to see whether it takes rows
    assert len(one.shapes) == sum(run.nfev for run in alone.runs)
    assert max(shape[0] for shape in many.shapes) == len(STARTS)


def test_more_starts_than_go_side_by_side():
    """Others begin where one has ended; the order of results is that of the starts, and no thread is left."""
    before = threading.active_count()
    rng = np.random.default_rng(0)
    starts = list(rng.normal(size=(150, 2)) * 2)
    many = Valleys()
    together = descend.minimize(many, starts[0], jac=True, starts=starts[1:], vectorized=True, history="path")
    alone = descend.minimize(Valleys(), starts[0], jac=True, starts=starts[1:], history="path")
    agree(together, alone)
    assert max(shape[0] for shape in many.shapes) == 64
    for run, start in zip(together.runs, starts, strict=True):
        assert np.array_equal(run.history.path[0], start)
    assert threading.active_count() == before


@pytest.mark.parametrize("kind", ["torch", "jax"])
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

    options = dict(args=(1.5,), jac=kind, starts=[start(seed) for seed in range(1, 9)], gtol=1e-4)
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
        "gradient", "gradient", "function_raised", "non_finite", "gradient",
    ]  # fmt: skip
    assert "ValueError: too far" in result.runs[2].message
    assert result.success
    assert result.x == pytest.approx([1.0, 1.0], abs=1e-5)
    with pytest.raises(ObjectiveError, match="too far"):
        descend.minimize(fun, starts[1], jac=True, starts=[starts[1]], vectorized=vectorized)


def test_a_function_that_raises_on_the_way_is_asked_for_each():
    """The batch that holds the bad point is asked again one by one; the others' bits are as if it had not been."""
    seen = []

    def fun(x):
        if np.any((x[..., 0] > 0.9) & (x[..., 1] < 0)):
            raise ValueError("here")
        seen.append(len(x))
        return Valleys()(x)

    def single(x):
        return tuple(part[0] for part in fun(x[None]))

    starts = [np.array(p) for p in ([-1.2, 1.0], [0.2, -0.5], [0.8, -0.3], [1.5, 2.0])]
    together = descend.minimize(fun, starts[0], jac=True, starts=starts[1:], vectorized=True, method="bb")
    alone = descend.minimize(single, starts[0], jac=True, starts=starts[1:], method="bb")
    agree(together, alone)
    assert any(run.reason is Reason.FUNCTION_RAISED for run in alone.runs)
    assert 1 in seen


@pytest.mark.parametrize(
    ("fun", "options", "error", "match"),
    [
        (lambda x: (np.sum(x**2), 2 * x), {"jac": True}, ObjectiveError, r"shape \(\) for 1 start: .* a row for"),
        (lambda x: np.sum(x**2, axis=1), {}, OptionError, r"finite differences \(2-point\): give jac"),
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


def test_options_that_make_no_sense_are_refused():
    valley, before = Valleys(), threading.active_count()
    with pytest.raises(OptionError, match="vectorized=True is about several starts"):
        descend.minimize(valley, STARTS[0], jac=True, vectorized=True)
    with pytest.raises(OptionError, match="vectorized='yes': True, False, or None"):
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


@pytest.mark.parametrize("where", ["function", "callback", "signal"])
def test_ctrl_c_ends_all_and_keeps_what_was_found(where, capsys):
    """Raised where the function is, in a callback, or sent to the process: what had begun is in the result."""
    valley, calls = Valleys(), []
    before = threading.active_count()

    def fun(x):
        calls.append(1)
        if len(calls) == 12:
            if where == "function":
                raise KeyboardInterrupt
            if where == "signal":
                signal.raise_signal(signal.SIGINT)
        return valley(x)

    def callback(point):
        if where == "callback" and point.nit == 4:
            raise KeyboardInterrupt

    result = descend.minimize(fun, STARTS[0], jac=True, starts=STARTS[1:], vectorized=True, callback=callback)
    assert len(result.runs) == len(STARTS)
    assert any(run.reason is Reason.INTERRUPTED for run in result.runs)
    assert all(np.isfinite(run.fun) and run.nit >= 1 for run in result.runs)
    assert len(calls) < 25
    assert threading.active_count() == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    capsys.readouterr()


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_where_few_threads_can_be_had(monkeypatch, threads):
    """As many go side by side as there are threads; without any, one after the other."""
    start, begun = threading.Thread.start, []

    def scarce(thread):
        if sum(t.is_alive() for t in begun) >= threads:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    many = Valleys()
    together = descend.minimize(many, STARTS[0], jac=True, starts=STARTS[1:], vectorized=True)
    monkeypatch.undo()
    agree(together, descend.minimize(Valleys(), STARTS[0], jac=True, starts=STARTS[1:]))
    assert max(shape[0] for shape in many.shapes) == max(threads, 2)  # two, to see whether it takes rows


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
    assert [str(run.reason) for run in nothing.runs] == ["non_finite", "gradient"]


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


def test_seconds_are_for_all_that_go_side_by_side():
    def slow(x):
        time.sleep(0.005)
        return x.sum(axis=1), np.ones_like(x)

    starts = np.zeros((199, 2))
    options = dict(jac=True, starts=starts, max_seconds=0.3, method=descend.GD(lr=0.1), vectorized=True)
    result = descend.minimize(slow, np.zeros(2), **options)
    assert len(result.runs) == 200
    assert all(run.reason is Reason.MAX_SECONDS for run in result.runs)
    assert sum(run.nfev == 0 for run in result.runs) == 200 - 64


def test_callbacks_and_the_function_run_where_minimize_was_called():
    """Whatever belongs to the caller's thread is at hand, and dtypes are those of its context."""
    threads = set()

    def fun(x):
        threads.add(threading.current_thread())
        return jax.numpy.sum((x - 1) ** 2)

    with jax.enable_x64(True):
        result = descend.minimize(
            fun, jax.numpy.zeros(2), starts=[jax.numpy.ones(2) * 3],
            callback=lambda point: threads.add((threading.current_thread(), point.x.dtype.name)) or False,
        )  # fmt: skip
        assert result.x.dtype == result.runs[1].x.dtype == "float64"
    assert threads == {threading.main_thread(), (threading.main_thread(), "float64")}


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
    assert [str(run.reason) for run in result.runs] == ["gradient", "function_raised", "gradient"]


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


def test_memory_bounds_how_many_go_side_by_side(monkeypatch):
    monkeypatch.setattr("descend.minimization.lockstep.PAIRS_BYTES", 5 * (80 * 2 + 30 * 32))
    many = Valleys()
    descend.minimize(many, STARTS[0], jac=True, starts=STARTS[1:], vectorized=True)
    assert max(shape[0] for shape in many.shapes) == 5


IMPATIENT = """
import os, random, signal, threading, time
import numpy as np, descend

def fun(x):
    return np.sum((x - 1) ** 2, axis=1), 2 * (x - 1)

def press(wait, gap):
    time.sleep(wait)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(gap)
    os.kill(os.getpid(), signal.SIGINT)

random.seed(0)
kept = 0
for round in range(60):
    presser = threading.Thread(target=press, args=(random.random() * 0.02, random.random() * 3e-4))
    begun = False
    try:
        presser.start()
        begun = True
        result = descend.minimize(
            fun, np.zeros(2), jac=True, starts=np.random.default_rng(round).normal(size=(39, 2)), vectorized=True,
            method=descend.GD(lr=1e-6), max_steps=1000, history=False,
        )  # Python itself loses what is raised within a destructor: such a round ends by its steps
        assert all(str(run.reason) in ("interrupted", "max_steps") for run in result.runs)
        kept += 1
    except KeyboardInterrupt:  # before anything had begun, or after the end
        pass
    while presser.is_alive():
        try:
            presser.join()
        except KeyboardInterrupt:
            pass
    assert threading.active_count() == 1, threading.enumerate()
print("kept", kept)
"""


def test_an_impatient_ctrl_c_never_hangs():
    """Two signals, in quick succession, at any time: what had begun is kept, no thread is left, and it ends."""
    done = subprocess.run([sys.executable, "-c", IMPATIENT], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) >= 20


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
