"""Descents side by side: the same as one after the other, to the bit; Ctrl-C, threads, memory."""

import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from tests.minimization.many import STARTS, Valleys, agree
from tests.processes import PATIENCE

import descend
from descend import Reason

jax = pytest.importorskip("jax")
torch = pytest.importorskip("torch")

IMPATIENT = """
import os, random, signal, threading, time
import numpy as np, descend
from descend.descent import interrupts

interrupts.AGAIN = 0.0  # each round is pressed in anew

def fun(x):
    return np.sum((x - 1) ** 2, axis=1), 2 * (x - 1)

def press(wait, gap):
    time.sleep(wait)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(gap)
    os.kill(os.getpid(), signal.SIGINT)

def run(round, steps):
    return descend.minimize(
        fun, np.zeros(2), jac=True, starts=np.random.default_rng(round).normal(size=(39, 2)), vectorized=True,
        method=descend.GD(lr=1e-6), max_steps=steps, history=False,
    )

run(0, 0)
began = time.perf_counter()
run(0, 0)
setup = time.perf_counter() - began
random.seed(0)
kept = 0
for round in range(60):
    presser = threading.Thread(target=press, args=(random.random() * 3 * setup, random.random() * 3e-4))
    begun = False
    try:
        presser.start()
        begun = True
        result = run(round, 1000)  # Python itself loses what is raised within a destructor: it ends by its steps then
        assert all(str(run.reason) in ("interrupted", "max_steps") for run in result.runs)
        kept += 1
    except KeyboardInterrupt as pressed:  # before anything had begun, after the end, or with what there was
        kept += getattr(pressed, "result", None) is not None
    while presser.is_alive():
        try:
            presser.join()
        except KeyboardInterrupt:
            pass
    # What is interrupted within Thread.start, before it has started, stays in Python's list of threads for ever.
    assert [t for t in threading.enumerate() if t.is_alive()] == [threading.main_thread()], threading.enumerate()
print("kept", kept)
"""


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


def test_memory_bounds_how_many_go_side_by_side(monkeypatch):
    monkeypatch.setattr("descend.minimization.lockstep.PAIRS_BYTES", 5 * (80 * 2 + 30 * 32))
    many = Valleys()
    descend.minimize(many, STARTS[0], jac=True, starts=STARTS[1:], vectorized=True, method="lbfgs")
    assert max(shape[0] for shape in many.shapes) == 5
    monkeypatch.setattr("descend.minimization.lockstep.PAIRS_BYTES", 5 * (80 * 2 + 2 * 32))
    many = Valleys()
    descend.minimize(many, STARTS[0], jac=True, starts=STARTS[1:], vectorized=True, method="bfgs")
    assert max(shape[0] for shape in many.shapes) == 5


@pytest.mark.slow
def test_an_impatient_ctrl_c_never_hangs():
    """Two signals, in quick succession, at any time: what had begun is kept, no thread is left, and it ends."""
    command = [sys.executable, "-c", IMPATIENT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) >= 20
