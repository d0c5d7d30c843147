"""Runs made together, timed alone, and foretold by the pilot."""

import contextlib
import dataclasses
import sqlite3
import statistics
import time

import numpy as np
import pytest
from tests.comparison.comparing import TRIALS, line

import descend
from descend import Problem
from descend.comparison.running.bundles import Bundler
from descend.comparison.running.pilot import Pilot


def test_timed_runs_are_made_one_at_a_time():
    """Three more runs of each, in turns, which say what the final ones said; nothing is claimed without them."""
    alive, together = [0], []

    def loss(w, X, y):
        alive[0] += 1
        together.append(alive[0])
        value = float(np.mean((X @ w - y) ** 2))
        alive[0] -= 1
        return value

    found = descend.compare(line(loss=loss), ["gd", "adam"], **TRIALS, timed=True, target="none")
    timed = [r for r in found.runs if r.phase == "timing"]
    assert [(r.entry, r.seed) for r in timed] == [(e, s) for s in (1000, 1001, 1002) for e in (0, 1)]
    finals = {(r.entry, r.seed): r.test for r in found.runs if r.phase == "final"}
    assert all(r.test == finals[r.entry, r.seed] for r in timed)
    assert set(together) == {1}
    for row in found.rows:
        assert row.seconds.median == statistics.median(r.seconds for r in timed if r.entry == row.entry)
    assert "A run with no other beside it takes" in str(found)
    untimed = descend.compare(line(), ["gd", "adam"], **TRIALS, target="none")
    assert all(row.seconds is None for row in untimed.rows)


def test_the_pilot_foretells_the_time():
    """About right for runs that sleep: steps × sleep, over the processes; and it says so before the first run."""
    slept = []

    def loss(w):
        began = time.perf_counter()
        time.sleep(0.002)
        slept.append(time.perf_counter() - began)
        return float(w @ w)

    slow = Problem(lambda rng: rng.normal(size=2), loss, lambda w: 2 * w, name="slow")
    said = []
    options = {**TRIALS, "budget": 40, "trials": 6, "final_seeds": 8, "target": "none"}
    found = descend.compare(slow, ["gd"], **options, announce=said.append)
    tasks = list(found.plan.tuning())
    bundles = Bundler(slow, found.plan).bundles(tasks)
    slept.clear()
    estimated = Pilot(slow, found.plan).estimate(bundles, jobs=2)
    expected = len(tasks) * statistics.mean(slept) * (40 + 41)  # for each step, and for the evaluation after it
    assert estimated == pytest.approx(expected / 2, rel=0.5)
    assert "about" in said[0]
    quick = []
    descend.compare("booth", ["gd"], **options, announce=quick.append)
    assert "about" not in quick[0]


def stacking(**options):
    """The linear problem with functions that take many runs at once."""

    def loss_and_grad(w, X, y):
        residual = (X @ w[..., None])[..., 0] - y
        return (residual**2).mean(axis=-1), 2 * (np.swapaxes(X, -1, -2) @ residual[..., None])[..., 0] / y.shape[-1]

    return line(
        loss=lambda w, X, y: loss_and_grad(w, X, y)[0], jac=None, loss_and_grad=loss_and_grad, stacks=True, **options
    )


def test_stacked_runs_are_the_runs():
    """The same comparison with runs made together and one at a time: figures to rounding, choices and order alike."""
    together, alone = (descend.compare(problem, **TRIALS, target=1.0) for problem in (stacking(), line()))
    assert [row.label for row in together.rows] == [row.label for row in alone.rows]
    assert [row.chosen for row in together.rows] == [row.chosen for row in alone.rows]
    for one, other in zip(together.runs, alone.runs, strict=True):
        assert (one.hyperparameters, one.seed, one.miss, one.reason) == (
            other.hyperparameters, other.seed, other.miss, other.reason
        )  # fmt: skip
        assert one.examples == other.examples
        if not one.miss:
            assert one.validation == pytest.approx(other.validation, rel=1e-9)


def test_bundles_do_not_depend_on_what_is_finished(tmp_path):
    """Half the runs deleted, and another number of processes: the identical table, to the bit."""
    path = tmp_path / "stacks.py"
    path.write_text(
        "import numpy as np, descend\n"
        "A = np.diag([1.0, 10.0])\n"
        "def both(w):\n"
        "    slope = (A @ w[..., None])[..., 0]\n"
        "    return 0.5 * (w * slope).sum(axis=-1), slope\n"
        "problem = descend.Problem(lambda rng: rng.normal(size=2), loss_and_grad=both, stacks=True)\n"
    )
    options = {**TRIALS, "target": "none", "out": tmp_path / "o"}
    first = descend.compare(path, ["gd", "adam"], **options)
    with contextlib.closing(sqlite3.connect(tmp_path / "o" / "runs.sqlite")) as db, db:
        db.execute("DELETE FROM runs WHERE rowid % 3")
    again = descend.compare(path, ["gd", "adam"], **{**options, "jobs": 2})
    assert 0 < again.reused < len(first.runs)
    assert again.rows == first.rows
    strip = [dataclasses.replace(r, seconds=0.0) for r in first.runs]
    assert [dataclasses.replace(r, seconds=0.0) for r in again.runs] == strip


def test_what_is_not_stacked_says_why():
    """Once, before the runs, with who is meant where that is not everybody."""
    said = []
    descend.compare(line(), ["gd", "adam"], **TRIALS, target="none", announce=said.append)
    told = [text for text in said if "one at a time" in text]
    assert told == ["Runs are made one at a time: the problem has no stacked gradient (stacks=True declares one)."]
    said.clear()
    descend.compare(stacking(), ["gd", "adam"], **TRIALS, target="none", announce=said.append)
    assert not any("one at a time" in text for text in said)


def test_a_stacked_run_that_raises_is_found():
    """A loss that raises from some starts: these runs are misses with their reason, and their neighbours are made."""
    first = {seed: np.random.default_rng(seed).uniform(0.0, 2.0, size=2)[1] for seed in (0, *range(1000, 1012))}

    def loss(w):
        if np.any(w[..., 1] > first[0] + 1e-9):
            raise RuntimeError("out of bounds")
        return (w**2).sum(axis=-1)

    problem = Problem(lambda rng: rng.uniform(0.0, 2.0, size=2), loss, lambda w: 2 * w, name="raises", stacks=True)
    options = {**TRIALS, "budget": 20, "final_seeds": 12, "learning_rates": [0.01], "trials": 1}
    found = descend.compare(problem, ["gd"], **options, target="none")
    missed = {r.seed for r in found.runs if r.miss and r.phase == "final"}
    assert missed == {seed for seed, at in first.items() if at > first[0]}
    assert 0 < len(missed) < 12
    assert all("out of bounds" in r.message for r in found.runs if r.miss)
